"""Racing pairs: what is said of the other order is what came of really running it."""

from __future__ import annotations

import pytest

from slabactors.actors import join, spawn
from slabactors.explore.campaign import search
from slabactors.explore.racing import RacingPair, decisive, racing_pairs
from slabactors.explore.replay import replay
from slabactors.explore.shrink import Shrunken, replayed, shrink
from slabactors.runtime.history import MISSING
from slabactors.scenario import find
from tests.explore.micro import Micro
from tests.explore.programs import PROGRAMS, SmallProgram, World, broken


def shrunken_bugs(program, *, runs: int = 300, seed: int = 0) -> list[Shrunken]:
    """What some random runs find, shrunken."""
    *_, result = search(program, runs=runs, seed=seed)
    return [shrink(program, found.record, found.signature) for found in result.found.values()]


def named(pair: RacingPair) -> tuple[str, str, str | None]:
    """The operations of a pair, and what their other order shows."""
    return pair.first.operation.name, pair.second.operation.name, pair.reversed


@pytest.mark.parametrize("name", PROGRAMS)
def test_both_steps_meet_in_an_actor_and_are_by_different_paths(name):
    """No pair is of one path, or of steps that have nothing to do with each other."""
    for small in shrunken_bugs(PROGRAMS[name]):
        for pair in racing_pairs(PROGRAMS[name], small):
            assert pair.first.path.key != pair.second.path.key
            assert (
                pair.first.actor.name == pair.second.actor.name or "timer" in pair.first.path.key + pair.second.path.key
            )
            assert pair.to_come or pair.first.index < pair.second.index


def test_the_write_between_two_reads_is_the_race():
    """It changed between two reads: with the write after the second one, or before the first, it did not."""
    program = PROGRAMS["unrepeatable"]
    (small,) = shrunken_bugs(program)
    pairs = racing_pairs(program, small)
    assert [named(pair) for pair in pairs] == [("set_a", "read_a", None), ("read_a", "set_a", None)]
    write_first, read_first = pairs
    assert write_first.difference.was is write_first.second
    assert (write_first.difference.was.reply, write_first.difference.instead.reply) == (1, 0)
    assert read_first.difference.was is read_first.first
    assert (read_first.difference.was.reply, read_first.difference.instead.reply) == (0, 1)
    assert decisive(pairs, "whatever") is write_first


def test_a_step_that_was_still_to_come_can_be_the_other_half():
    """Looked at before it was there: the path that would have made it was left in the middle of that."""

    async def story(world: World) -> None:
        async def maker() -> None:
            await world.y.write_a()
            await world.x.write_a()

        async def looker() -> None:
            if await world.y.read_a() and not await world.x.read_a():
                raise broken("announced before it was there")

        for task in [await spawn(maker()), await spawn(looker())]:
            await join(task)

    program = SmallProgram(story)
    (small,) = shrunken_bugs(program)
    # The step that broke had a reply: what is wrong is seen by the path's own code.
    assert small.history.events[-1].reply is not MISSING
    assert named(racing_pairs(program, small)[-1]) == ("write_a", "read_a", None)


def test_of_an_uninitialised_work_it_is_the_initialisation_that_came_too_late():
    """The founding patch's simplest bug: queueing by the free came before INIT_DELAYED_WORK() of the removal."""
    program = find("dead-cache/rmdir-races-last-free").bind(lifecycle_name="v5")
    *_, result = search(program, runs=1200, seed=0)  # 1 in 70 random runs shows it
    wanted = "uninitialised-work: queueing of an uninitialised work item by free"
    small = shrink(program, result.found[wanted].record, wanted)
    pairs = racing_pairs(program, small)
    assert [named(pair) for pair in pairs] == [("test_and_set_pending", "init", None), ("set_dead", "is_dead", None)]
    assert [pair.to_come for pair in pairs] == [True, False]
    assert pairs[0].first.index == len(small.decisions) - 1
    # What is said to change first does: the step gets through.
    assert (pairs[0].difference.was.reply, pairs[0].difference.instead.reply) == (MISSING, True)


def test_another_order_may_show_another_bug():
    """A use after free that comes a step earlier or later is another one; the pair says which."""
    program = find("dead-cache/rmdir-races-last-free").bind(lifecycle_name="v5")
    *_, result = search(program, runs=600, seed=0)  # 1 in 4 random runs shows it
    wanted = "freed-active-work: free of an active work item by kworker"
    small = shrink(program, result.found[wanted].record, wanted)
    found = [named(pair) for pair in racing_pairs(program, small)]
    assert found[0] == (
        "test_and_set_pending",
        "free",
        "use-after-free: work.test_and_set_pending after free by free",
    )
    assert ("sub_and_test", "no_pages", None) in found
    assert decisive(racing_pairs(program, small), wanted).reversed is None


def test_the_same_pairs_are_found_in_the_schedule_of_a_file():
    """What why says of a file is what the search said of the bug."""
    program = Micro("v5", 2, 2)
    (small,) = shrunken_bugs(program)
    again = replayed(program, small.decisions)
    assert [named(pair) for pair in racing_pairs(program, again)] == [
        named(pair) for pair in racing_pairs(program, small)
    ]


def test_of_a_deadlock_it_is_the_order_of_the_locks():
    """Had one of them both locks before the other took its first, nobody would wait."""
    program = PROGRAMS["deadlock"]
    (small,) = shrunken_bugs(program)
    pairs = racing_pairs(program, small)
    assert all(pair.reversed is None for pair in pairs)
    assert len(pairs) <= 2


def test_where_nothing_races_there_is_no_pair():
    """A path that breaks by itself, whatever others do."""

    async def story(world: World) -> None:
        await world.x.write_a()
        raise broken("always")

    program = SmallProgram(story)
    (small,) = shrunken_bugs(program, runs=3)
    assert racing_pairs(program, small) == []
    assert decisive([], "whatever") is None


def test_few_runs_are_needed():
    """As many orders are tried as are asked for, and no more once one of them does not break."""
    program = Micro("v5", 3, 3)
    (small,) = shrunken_bugs(program, runs=100)
    runs = []
    execute = Micro.execute

    class Counted(Micro):
        def execute(self, *arguments, **options):
            runs.append(1)
            return execute(self, *arguments, **options)

    counted = Counted("v5", 3, 3)
    for bound in (0, 1, 3):
        runs.clear()
        racing_pairs(counted, small, runs=bound)
        assert len(runs) == bound
    runs.clear()
    first = racing_pairs(counted, small, until_decisive=True)
    assert first[-1].reversed is None
    assert len(runs) <= 6
    assert replay(program, small.decisions).outcome.bug is not None
