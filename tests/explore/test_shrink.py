"""Shrinking: never larger, the same bug, nothing left to do, and a schedule that replays by itself."""

from __future__ import annotations

from itertools import islice, pairwise

import pytest

from slabactors.actors import choose, spawn
from slabactors.errors import NondeterminismError, ReplayDiverged
from slabactors.explore.bounded import search_bounded
from slabactors.explore.campaign import Found, search
from slabactors.explore.fewest import Budget, Fewest
from slabactors.explore.finding import signature
from slabactors.explore.replay import replay
from slabactors.explore.runs import Runs, observed
from slabactors.explore.shrink import Shrunken, replayed, shrink, shrink_schedule
from slabactors.explore.strategy import FollowRecord
from slabactors.scenario import find
from tests.explore.micro import Micro
from tests.explore.programs import PROGRAMS, SmallProgram, World, adder, broken, bystander

SLABS = [
    ("dead-cache/rmdir-races-last-free", "v5"),
    ("dead-cache/rmdir-races-last-free", "verify-dead"),
    ("dead-cache/rmdir-races-last-free", "v5-dead-after-queueing"),
    ("dead-cache/root-destroyed", "v5"),
    ("dead-cache/root-destroyed", "v5-dead-never-set"),
    ("dead-cache/root-destroyed", "v5-init-at-creation"),
    ("dead-cache/memory-pressure", "v5"),
    ("dead-cache/creation-races-rmdir", "v5"),
    ("dead-cache/freed-later", "pre-patch"),
]


def bugs_of(program, *, runs: int, seed: int) -> list[Found]:
    """What some random runs of a program find."""
    *_, result = search(program, runs=runs, seed=seed)
    return list(result.found.values())


def size_of(program, found: Found) -> tuple[int, ...]:
    """How large the run is in which a bug was found."""
    history, execution = observed(program, FollowRecord(found.record), None)
    events = [event for event in history.events if execution.outcome.culprit is not None or event.act == 1]
    switches = sum(after.path is not before.path for before, after in pairwise(events))
    return sum(event.preempts for event in events), len(found.record), switches


def check(program, found: Found, fewest: Fewest | None = None) -> Shrunken:
    """Everything that shrinking promises, for one bug."""
    fewest = fewest or Fewest(program)
    small = shrink(program, found.record, found.signature, fewest=fewest)
    assert signature(small.outcome) == found.signature
    assert small.size[:3] <= size_of(program, found)

    # It is a schedule by itself: strict replay shows the same bug, at its last step if it broke at a step.
    again = replay(program, small.decisions)
    assert signature(again.outcome) == found.signature
    assert again.outcome.bug.message == small.outcome.bug.message
    assert replayed(program, small.decisions).size == small.size
    if small.outcome.culprit is not None and small.outcome.error is None:
        assert again.outcome.deliveries == len(small.decisions)

    # And there is nothing left to do.
    twice = shrink_schedule(program, small.decisions, found.signature, fewest=fewest)
    assert twice.size == small.size
    assert twice.decisions == small.decisions
    assert twice.minimum == small.minimum
    return small


@pytest.mark.slow
@pytest.mark.parametrize(("target", "lifecycle"), SLABS)
def test_bugs_of_the_machine_shrink(target, lifecycle):
    """Every bug that 200 random runs find; in each of these stories, more than 1 in 10 runs shows one."""
    program = find(target).bind(lifecycle_name=lifecycle)
    found = bugs_of(program, runs=200, seed=1)
    assert found
    fewest = Fewest(program, executions=1500)
    for bug in found:
        check(program, bug, fewest)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", PROGRAMS)
def test_bugs_of_any_program_shrink(name, seed):
    """Choices, naps, locks, told messages, timers and exceptions shrink as well.

    The rarest is hit by 1 in 64 random runs: 800 miss it with p < 1e-5.
    """
    program = PROGRAMS[name]
    found = bugs_of(program, runs=800, seed=seed)
    assert found
    for bug in found:
        check(program, bug)


def test_what_has_nothing_to_do_with_it_goes():
    """Of the bystander's six steps none is left, and one preemption shows that a variable changes between two reads.

    1 in 5 random runs shows it: 100 miss it with p < 1e-9.
    """
    program = PROGRAMS["unrepeatable"]
    for seed in range(5):
        (found,) = bugs_of(program, runs=100, seed=seed)
        small = check(program, found)
        assert [one.operation for one in small.decisions] == ["read_a", "read_a", "set_a", "read_a"]
        assert {one.actor for one in small.decisions} == {"x"}
        assert small.preemptions == 1


def test_only_the_choices_that_matter_are_kept():
    """Of a run with a nap and choices, the schedule has the two choices that free and no step of the bystander."""
    program = PROGRAMS["chosen free"]
    for seed in range(5):
        found = next(one for one in bugs_of(program, runs=300, seed=seed) if one.signature.startswith("use-after-free"))
        small = check(program, found)
        assert [one.value for one in small.decisions if one.value is not None] == [2, 1]
        assert sum(one.actor == "y" for one in small.decisions) == 1


def test_of_a_deadlock_the_step_is_kept_after_which_it_comes_by_itself():
    """One path takes its lock and is preempted; whoever is next, the two wait for each other in the end."""
    program = PROGRAMS["deadlock"]
    for seed in range(5):
        (found,) = bugs_of(program, runs=100, seed=seed)
        small = check(program, found)
        assert small.outcome.culprit is None
        assert [one.operation for one in small.decisions] == ["lock"]
        assert (small.preemptions, small.minimum) == (1, True)
        assert [event.operation.name for event in small.history.events].count("lock") == 2


def test_the_founding_patchs_first_bug_shrinks_to_what_a_changelog_could_show():
    """Whatever run it was found in, the uninitialised work item takes 13 steps and one preemption."""
    program = find("dead-cache/rmdir-races-last-free").bind(lifecycle_name="v5")
    wanted = "uninitialised-work: queueing of an uninitialised work item by free"
    # 1 in 70 random runs shows it: 1200 miss it with p < 1e-7.
    for seed in range(3):
        found = next(one for one in bugs_of(program, runs=1200, seed=seed) if one.signature == wanted)
        small = check(program, found)
        assert (small.size[:2], small.minimum) == ((1, 13), True)


def test_a_record_of_another_run_is_refused():
    """A record that shows no bug, or another one, is not shrunk to what it does not show."""
    program = PROGRAMS["lost update"]
    (found,) = bugs_of(program, runs=100, seed=0)
    with pytest.raises(NondeterminismError, match="showed 'property: an addition was lost"):
        shrink(program, found.record, "property: something else")
    small = shrink(program, found.record, found.signature)
    with pytest.raises(NondeterminismError, match="showed 'property: an addition was lost"):
        shrink_schedule(program, small.decisions, "property: something else")
    with pytest.raises(ReplayDiverged, match=r"step \d+ expected"):
        shrink_schedule(program, small.decisions[1:], found.signature)


def test_a_schedule_that_shows_no_bug_is_refused():
    """A schedule cut short is carried on fairly; when that does not break, there is nothing to shrink."""
    program = PROGRAMS["chosen free"]
    found = next(one for one in bugs_of(program, runs=300, seed=0) if one.signature.startswith("use-after-free"))
    small = shrink(program, found.record, found.signature)
    with pytest.raises(NondeterminismError, match="showed no bug"):
        shrink_schedule(program, small.decisions[:1], found.signature)


@pytest.mark.slow
def test_the_micro_problem_shrinks_to_its_minimum_in_thirty_replays():
    """Whatever run of 50 it was found in: 16 steps, one preemption, six switches; and no schedule has none.

    More than 1 in 6 random runs shows the bug: 100 miss it with p < 1e-7.
    """
    program = Micro("v5", 3, 3)
    fewest = Fewest(program)
    for seed in range(50):
        (found,) = bugs_of(program, runs=100, seed=seed)
        budget = Budget(replays=30)
        small = shrink(program, found.record, found.signature, budget=budget, fewest=fewest)
        assert small.size[:3] == (1, 16, 6)
        assert small.minimum
        assert small.replays == budget.spent <= 30


def test_without_a_proof_the_same_schedule_is_found_and_nothing_is_claimed():
    """Where every schedule is too many, those near the one at hand are looked at."""
    program = Micro("v5", 3, 3)
    (found,) = bugs_of(program, runs=100, seed=0)
    small = shrink(program, found.record, found.signature, fewest=Fewest(program, executions=0))
    assert (small.size[:3], small.minimum, small.proof) == ((1, 16, 6), False, 0)


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_number_of_preemptions_is_that_of_a_search_by_preemptions(name):
    """What a finding says to be the minimum is the bound at which a search by preemptions first meets the bug."""
    program = PROGRAMS[name]
    *_, searched = search_bounded(program, bound=4, runs=4000)
    assert searched.exhausted >= 2
    for bug in bugs_of(program, runs=800, seed=0):
        small = shrink(program, bug.record, bug.signature)
        assert small.minimum
        assert searched.first_bound[bug.signature] == small.preemptions


def test_a_search_by_preemptions_is_the_proof_for_what_it_has_found():
    """Nothing is explored again to say that a bug needs as many preemptions as it was found with."""
    program = Micro("v5", 2, 2)
    *_, searched = search_bounded(program, bound=1)
    (found,) = searched.result.found.values()
    small = shrink(program, found.record, found.signature, fewest=Fewest.of(program, searched))
    assert (small.preemptions, small.minimum, small.proof) == (1, True, 0)


def test_a_run_that_was_not_played_to_its_end_proves_nothing():
    """Where a schedule with few preemptions goes on for ever, it is not known what it would have shown."""

    async def story(world: World) -> None:
        async def spin() -> None:
            while not await world.y.read_a():
                pass

        for path in (spin(), bystander(world.x, 2), adder(world.y)):
            await spawn(path)
        if await world.x.read_b() == 1:
            raise broken("half of it")

    program = SmallProgram(story, steps_max=60)
    (found,) = bugs_of(program, runs=200, seed=0)
    small = shrink(program, found.record, found.signature)
    assert small.preemptions == 1
    assert not small.minimum


def test_choices_are_made_as_low_as_they_can_be():
    """Any value from 2 on breaks it, and any of another one does not matter: 2 and 0 are shown."""

    async def story(world: World) -> None:
        await choose(5)
        if await choose(9) >= 2:
            await world.x.free()
        await world.x.write_a()

    for seed in range(5):
        (found,) = bugs_of(SmallProgram(story), runs=30, seed=seed)
        small = check(SmallProgram(story), found)
        assert [one.value for one in small.decisions if one.value is not None] == [0, 2]


# -- bugs that no step has ---------------------------------------------------------------------------------------------


def test_what_every_run_shows_needs_no_schedule():
    """A dead cache that is never destroyed, because nobody does that, is shown by taking everybody in turn."""
    program = find("dead-cache/freed-later").bind(lifecycle_name="pre-patch")
    (found,) = bugs_of(program, runs=3, seed=0)
    small = check(program, found)
    assert small.decisions == []
    assert (small.preemptions, small.minimum) == (0, True)
    assert small.history.events


def test_a_lost_wakeup_keeps_only_what_loses_it():
    """Of about 40 steps those up to where the last page goes; that whoever released it looks too early comes next."""
    program = find("dead-cache/emptied").bind(lifecycle_name="v5-dead-after-queueing")
    # 1 in 9 runs of the portfolio shows it: 400 miss it with p < 1e-20.
    *_, result = search(program, strategy="portfolio", runs=400, seed=0)
    (found,) = result.found.values()
    small = check(program, found)
    assert small.outcome.culprit is None
    assert small.size[0] == 1
    assert len(small.decisions) < len(found.record)
    assert small.decisions[-1].operation == "sub_and_test"
    assert small.history.events[len(small.decisions)].operation.name == "is_dead"


# -- what it may cost --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("replays", [0, 1, 2, 3, 5, 8, 13])
@pytest.mark.parametrize("name", ["unrepeatable", "chosen free", "deadlock", "left over"])
def test_when_the_budget_is_spent_the_best_so_far_is_given(name, replays):
    """A schedule that shows the bug, however little may be spent; two replays are needed for any."""
    program = PROGRAMS[name]
    for bug in bugs_of(program, runs=300, seed=0):
        budget = Budget(replays=replays)
        fewest = Fewest(program, executions=0)
        small = shrink(program, bug.record, bug.signature, budget=budget, fewest=fewest)
        assert signature(replay(program, small.decisions).outcome) == bug.signature
        assert small.size[:3] <= size_of(program, bug)
        assert budget.spent <= max(2, replays) + 1  # what could be followed is followed strictly before it is left


@pytest.mark.parametrize("budget", [Budget(seconds=0), Budget(stop=lambda: True)], ids=["late", "told to stop"])
def test_it_ends_when_time_is_up_or_it_is_told_to(budget):
    """Two replays, and no proof."""
    program = find("dead-cache/root-destroyed").bind(lifecycle_name="v5")
    fewest = Fewest(program)
    bug = bugs_of(program, runs=200, seed=1)[0]
    small = shrink(program, bug.record, bug.signature, budget=budget, fewest=fewest)
    assert signature(replay(program, small.decisions).outcome) == bug.signature
    assert fewest.executions == 0
    assert not small.minimum


def test_what_is_given_was_replayed_strictly(monkeypatch):
    """No schedule is given that was not followed step for step before, whatever found it."""
    followed = []
    strictly = Runs.strictly

    def noted(self, decisions):
        followed.append(list(decisions))
        return strictly(self, decisions)

    monkeypatch.setattr(Runs, "strictly", noted)
    for name in ("lost update", "chosen free", "deadlock", "alarmed"):
        for bug in bugs_of(PROGRAMS[name], runs=300, seed=0):
            assert shrink(PROGRAMS[name], bug.record, bug.signature).decisions in followed


def test_the_number_of_replays_is_bounded():
    """Some tens are enough, whatever the bug; those of the proof are counted by themselves."""
    program = find("dead-cache/root-destroyed").bind(lifecycle_name="v5")
    fewest = Fewest(program)
    for bug in islice(bugs_of(program, runs=200, seed=1), 5):
        assert shrink(program, bug.record, bug.signature, fewest=fewest).replays <= 40
