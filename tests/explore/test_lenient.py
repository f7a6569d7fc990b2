"""Lenient replay follows what fits, counts what does not, and ends in a run that replays strictly."""

from __future__ import annotations

from random import Random

import pytest

from slabactors.actors import Spawn, choose, parallel, sleep
from slabactors.errors import ReplayDiverged
from slabactors.explore.finding import signature
from slabactors.explore.lenient import STRAY_MAX, LenientStrategy, replay_leniently, schedule_of
from slabactors.explore.prefix import explore_from, whole_schedule
from slabactors.explore.replay import Fair, record, replay
from slabactors.explore.strategy import STRATEGIES, RandomWalk
from slabactors.runtime.simulated import Simulation
from slabactors.runtime.step import Decision, Ending, Step, TimePolicy
from slabactors.scenario import find
from tests.explore.programs import PROGRAMS, SmallProgram, World

STORY = "dead-cache/rmdir-races-last-free"


def made(program, seed: int) -> tuple[list[Decision], str | None]:
    """The schedule of one random run, and what it showed."""
    steps: list[Step] = []
    execution = program.execute(RandomWalk(seed), observer=steps.append)
    shown = None if execution.outcome.bug is None else signature(execution.outcome)
    return schedule_of(execution, steps), shown


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_schedule_that_fits_is_followed_to_its_end(name):
    """Nothing is skipped or added, and it ends as strict replay does."""
    for seed in range(30):
        decisions, shown = made(PROGRAMS[name], seed)
        execution, strategy = replay_leniently(PROGRAMS[name], decisions)
        assert (strategy.followed, strategy.skipped, strategy.added) == (len(decisions), 0, 0)
        strict = replay(PROGRAMS[name], decisions).outcome
        assert execution.outcome.deliveries == strict.deliveries
        found = None if execution.outcome.bug is None else signature(execution.outcome)
        assert found == (None if strict.bug is None else signature(strict))
        if shown is not None:
            assert found == shown


def test_whatever_is_done_to_a_schedule_it_is_followed_as_far_as_it_fits():
    """Dropped, doubled, swapped and foreign decisions: every run ends, its counts add up, and it replays strictly."""
    program = find(STORY).bind()
    random = Random(2)
    bugs = 0
    for seed in range(60):
        decisions, _ = made(program, seed)
        for _ in range(random.randrange(1, 6)):
            at = random.randrange(len(decisions))
            match random.randrange(4):
                case 0:
                    del decisions[at]
                case 1:
                    decisions.insert(at, decisions[random.randrange(len(decisions))])
                case 2:
                    decisions[at], decisions[0] = decisions[0], decisions[at]
                case _:
                    decisions[at] = Decision("nobody.9", "somersault", "nothing")
        steps: list[Step] = []
        execution, strategy = replay_leniently(program, decisions, observer=steps.append)
        outcome = execution.outcome
        assert outcome.ending is not Ending.BOUND
        assert 0 < strategy.followed <= len(decisions)
        assert 0 <= strategy.skipped <= len(decisions) - strategy.followed
        again = replay(program, schedule_of(execution, steps)).outcome
        assert (again.bug is None) == (outcome.bug is None)
        if outcome.bug is not None:
            bugs += 1
            assert signature(again) == signature(outcome)
    assert bugs > 5


def follow(main, decisions, then=None) -> tuple[LenientStrategy, list[str]]:
    """Follow a schedule; the strategy, and path and operation of every step."""
    steps: list[Step] = []
    strategy = LenientStrategy(decisions, then)
    simulation = Simulation(strategy, observer=steps.append, time=TimePolicy.RECORDED)
    strategy.follow(simulation)
    simulation.run(main)
    return strategy, [f"{step.path.name} {step.operation.name}" for step in steps]


def pair(world: World, *, new: bool = False, name: str = "b"):
    async def a() -> None:
        await world.x.read_a()
        if new:
            await world.x.read_b()
        await world.x.write_a()

    async def b() -> None:
        await world.y.read_a()
        await world.y.write_a()

    return parallel(Spawn(a(), name="a"), Spawn(b(), name=name))


A = [Decision("main.0/a.0", "read_a", "x"), Decision("main.0/a.0", "write_a", "x")]
B = [Decision("main.0/b.1", "read_a", "y"), Decision("main.0/b.1", "write_a", "y")]


def test_a_step_that_the_schedule_does_not_have_is_taken_when_its_path_is_due():
    """The path's next decision is kept, and followed after it."""
    strategy, steps = follow(pair(World(None), new=True), [B[0], A[0], A[1], B[1]])
    assert steps == ["b read_a", "a read_a", "a read_b", "a write_a", "b write_a"]
    assert (strategy.followed, strategy.skipped, strategy.added) == (4, 0, 1)


def test_a_step_that_the_program_does_not_have_any_more_is_skipped():
    """The path goes on with its next one, at that one's place."""
    gone = Decision("main.0/a.0", "copy", "x")
    strategy, steps = follow(pair(World(None)), [A[0], gone, B[0], A[1], B[1]])
    assert steps == ["a read_a", "b read_a", "a write_a", "b write_a"]
    assert (strategy.followed, strategy.skipped, strategy.added) == (4, 1, 0)


def test_a_path_that_was_renumbered_takes_its_own_place():
    """Another key, the same role, the same step: it is taken for the one that is not there."""
    moved = [Decision("main.0/b.7", one.operation, one.actor) for one in B]
    strategy, steps = follow(pair(World(None)), [*moved, *A])
    assert steps == ["b read_a", "b write_a", "a read_a", "a write_a"]
    assert (strategy.followed, strategy.skipped) == (4, 0)


def test_a_path_of_another_role_does_not_take_a_place():
    """It moves when the schedule is through, or has nothing for anybody."""
    strategy, steps = follow(pair(World(None), name="c"), [*B, *A])
    assert steps[:2] == ["a read_a", "a write_a"]
    assert (strategy.followed, strategy.skipped) == (2, 2)


def test_the_rest_of_a_schedule_that_nobody_follows_is_given_up():
    """After so many steps that it does not have, what comes next is the other strategy's."""
    world = World(None)

    async def spinner() -> None:
        for _ in range(STRAY_MAX + 50):
            await world.x.read_a()

    async def late() -> None:
        await world.y.read_a()

    strategy, steps = follow(parallel(spinner(), late()), [Decision("nobody.0", "read_a", "z"), *B])
    assert len(steps) == STRAY_MAX + 51
    assert (strategy.followed, strategy.skipped, strategy.exhausted) == (0, 3, True)


def test_in_between_steps_are_fair_whatever_goes_on_after_the_end():
    """A timer is not early because the schedule has nothing for those who are awake."""
    for seed in range(30):
        world = World(None)

        async def sleeper() -> None:
            await sleep(1000)

        async def worker(box) -> None:
            for _ in range(5):
                await box.read_a()

        _, steps = follow(
            parallel(sleeper(), worker(world.x), worker(world.y)), [Decision("a.0", "nothing", "x")], RandomWalk(seed)
        )
        assert steps[-1] == "sleeper wake"


def test_choices_are_followed_where_they_can_be():
    """A value that is not among the alternatives any more is skipped; where there is none, the first is taken."""
    got: list[int] = []
    world = World(None)

    async def main() -> None:
        for _ in range(3):
            got.append(await choose(4))
            await world.x.read_a()

    read = Decision("main.0", "read_a", "x")
    values = [Decision("main.0", "choose", "", value) for value in (3, 9)]
    strategy, _ = follow(main(), [values[0], read, values[1], read])
    assert got == [3, 0, 0]
    assert (strategy.followed, strategy.skipped, strategy.added) == (3, 1, 0)


def test_a_bug_leaves_the_rest_of_the_schedule_unseen_not_skipped():
    """What the run did not live to see was not passed over."""
    program = find(STORY).bind()
    for seed in range(100):
        decisions, shown = made(program, seed)
        if shown is not None:
            break
    more = [*decisions, *[Decision("main.2/free.1", "read_slot", "dentry")] * 5]
    _, strategy = replay_leniently(program, more)
    assert (strategy.followed, strategy.skipped) == (len(decisions), 0)


@pytest.mark.parametrize("then", [None, *STRATEGIES])
def test_one_strategy_serves_one_run_after_another(then):
    """It begins anew with each, as every strategy does."""
    program = find(STORY).bind(lifecycle_name="repaired")
    decisions, _ = made(program, 1)
    strategy = LenientStrategy(decisions[:10], then and STRATEGIES[then](0), program.scenario.time)
    for _ in range(3):
        assert program.execute(strategy, time=TimePolicy.RECORDED).outcome.bug is None
        assert (strategy.followed, strategy.skipped) == (10, 0)


def test_an_empty_schedule_is_the_other_strategy():
    """Nothing to follow: the same run as without it."""
    program = find(STORY).bind(lifecycle_name="repaired")
    execution, strategy = replay_leniently(program, [], RandomWalk(5), time=TimePolicy.QUIESCENT)
    assert (strategy.followed, strategy.skipped, strategy.exhausted) == (0, 0, True)
    assert execution.outcome.ending is Ending.DONE


# -- on from a prefix --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_run_begins_with_the_prefix_and_keeps_to_the_clock_after_it(strategy):
    """What is found has a schedule that begins with it, and shows its bug again."""
    program = find(STORY).bind()
    decisions, _ = made(program, 3)
    prefix = decisions[:12]
    *_, result = explore_from(program, prefix, time=program.scenario.time, strategy=strategy, runs=150)
    assert (result.executions, result.finished) == (150, True)
    assert result.found
    for found in result.found.values():
        whole = whole_schedule(program, prefix, found, time=program.scenario.time)
        assert whole[:12] == prefix
        assert signature(replay(program, whole).outcome) == found.signature


def test_a_timer_is_not_early_after_the_prefix_where_time_is_quiescent():
    """The prefix may have any order of timers; what follows has that of its policy."""

    async def story(world: World) -> None:
        async def nap() -> None:
            await sleep(1000)
            await world.y.write_a()

        async def worker() -> None:
            for _ in range(5):
                await world.x.write_a()
            assert world.y.a == 0, "woke too early"

        await parallel(nap(), worker())

    program = SmallProgram(story)
    prefix = [Decision("main.0/worker.1", "write_a", "x")]
    verdicts = {}
    for time in (TimePolicy.QUIESCENT, TimePolicy.ADVERSARIAL):
        *_, result = explore_from(program, prefix, time=time, runs=100)
        verdicts[time] = result.verdict
    assert verdicts == {TimePolicy.QUIESCENT: "clean", TimePolicy.ADVERSARIAL: "broken"}


def test_a_prefix_that_does_not_fit_is_refused():
    """By the first run, with the step."""
    program = find(STORY).bind()
    with pytest.raises(ReplayDiverged, match="step 0 expected nobody"):
        list(explore_from(program, [Decision("nobody.0", "lock", "m")], time=TimePolicy.QUIESCENT))


def test_the_fair_strategy_gives_everybody_a_turn():
    """By age, one step each, timers when nobody else can move."""
    steps: list[Step] = []
    simulation = Simulation(Fair(), observer=steps.append)
    simulation.run(pair(World(None)))
    assert [step.path.name for step in steps] == ["a", "b", "a", "b"]
    assert [one.path for one in record(simulation, steps)] == ["main.0/a.0", "main.0/b.1"] * 2
