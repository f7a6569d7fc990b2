"""Searches within a bound: exactly the schedules that cost no more, and what each bug needs."""

from __future__ import annotations

from itertools import count

import pytest

from slabactors.errors import NondeterminismError
from slabactors.explore.bounded import Bounded, DelayBounded, PreemptionBounded, search_bounded
from slabactors.explore.happens_before import Event, dep_of, trace_key
from slabactors.runtime.step import Step, TimePolicy
from slabactors.scenario import find
from tests.explore import counted as programs
from tests.explore.counted import ActorProgram
from tests.explore.programs import PROGRAMS, SmallProgram, World, broken


def explored(program: ActorProgram, strategy: Bounded) -> tuple[int, int]:
    """How many schedules there are within a bound, and how many traces they show."""
    runs = 0
    traces = set()
    while True:
        events: list[Event] = []

        def observe(step: Step, events: list[Event] = events) -> None:
            events.append(Event(dep_of(step.path.key, step.operation, step.actor), False, 0, 0, []))

        program.execute(strategy, observer=observe)
        runs += 1
        traces.add(trace_key(events))
        if not strategy.advance():
            return runs, len(traces)


PREEMPTIONS = {
    "patch": (programs.patch(), [(3, 3), (22, 18), (80, 25), (161, 29)]),
    "counter(3)": (programs.counter(3), [(6, 6), (24, 24), (60, 36), (90, 36)]),
    "last_zero(4)": (programs.last_zero(4), [(120, 28), (1166, 28)]),
}
DELAYS = {
    "patch": (programs.patch(), [(1, 1), (7, 6), (35, 20), (89, 26), (170, 29)]),
    "counter(3)": (programs.counter(3), [(1, 1), (5, 5), (15, 14), (30, 24), (49, 32)]),
    "last_zero(4)": (programs.last_zero(4), [(1, 1), (8, 5), (38, 11), (133, 18), (356, 22)]),
}


@pytest.mark.parametrize("name", PREEMPTIONS)
def test_as_many_schedules_and_traces_as_known_at_each_number_of_preemptions(name: str) -> None:
    """Numbers that another method gave."""
    program, expected = PREEMPTIONS[name]
    assert [explored(program, PreemptionBounded(bound)) for bound in range(len(expected))] == expected


@pytest.mark.parametrize("name", DELAYS)
def test_as_many_schedules_and_traces_as_known_at_each_number_of_delays(name: str) -> None:
    """Numbers that another method gave."""
    program, expected = DELAYS[name]
    assert [explored(program, DelayBounded(bound)) for bound in range(len(expected))] == expected


@pytest.mark.parametrize(("by", "enough"), [(PreemptionBounded, 3), (DelayBounded, 9)])
def test_a_bound_says_when_it_has_cut_nothing(by: type[Bounded], enough: int) -> None:
    """Three paths that read and write one variable: from some bound on all 90 schedules are there, and none is cut."""
    program = programs.counter(3)
    for bound in (enough - 1, enough):
        strategy = by(bound)
        schedules, _ = explored(program, strategy)
        assert (schedules == 90, strategy.cut) == (bound == enough, bound < enough)


def test_without_delays_the_round_is_played() -> None:
    """Each path runs until it waits or ends, the oldest first, and then the next in the round."""
    order: list[str] = []
    execution = programs.ping_pong(2).execute(DelayBounded(0), observer=lambda step: order.append(step.path.key))
    assert execution.outcome.bug is None
    assert order == ["main.0/ping.0"] + ["main.0/pong.1"] * 2 + ["main.0/ping.0"] * 2 + ["main.0/pong.1"] * 2 + [
        "main.0/ping.0"
    ]


@pytest.mark.parametrize("name", ["chosen free, quiescent", "told", "guarded"])
@pytest.mark.parametrize("by", [PreemptionBounded, DelayBounded])
def test_choices_cost_nothing(name: str, by: type[Bounded]) -> None:
    """A program that breaks does so within few of either, whatever it chooses, sends or waits for."""
    *_, found = search_bounded(PROGRAMS[name], bound=4, by=by)
    assert found.verdict == "broken"
    assert min(found.first_bound.values()) <= 2


def test_a_search_by_delays_finds_each_bug_at_the_fewest_that_show_it() -> None:
    """The story that needs one preemption for its first bug needs no more than some delays."""
    program = find("dead-cache/rmdir-races-last-free").bind()
    *_, found = search_bounded(program, bound=2, by=DelayBounded, time=TimePolicy.QUIESCENT)
    assert (found.exhausted, found.complete, found.verdict) == (2, False, "broken")
    assert sorted(found.first_bound.values())[0] == 1


def test_a_program_that_does_not_repeat_itself_is_refused() -> None:
    """Before anything is claimed about its schedules."""
    runs = count(1)

    async def breaks(world: World) -> None:
        await world.x.read_a()
        if next(runs) == 2:
            raise broken("it is the second run")

    with pytest.raises(NondeterminismError, match="the same schedule ran twice"):
        list(search_bounded(SmallProgram(breaks), bound=1))


def test_a_path_that_sleeps_is_left_for_nothing() -> None:
    """Its timer could fire early; going on with another path preempts nobody, as the run is recorded, too."""
    program = find("catalogue/freed-after-the-shrink").bind(lifecycle_name="v3.8")
    *_, found = search_bounded(program, bound=0)
    assert found.first_bound == {"zombie: empty dead cache never destroyed": 0}


def test_a_search_ends_at_the_first_bug_that_is_wanted_and_collects_others_on_the_way() -> None:
    """Whatever is found at the bound that ends it: none cheaper shows what is wanted."""
    program = find("dead-cache/rmdir-races-last-free").bind(lifecycle_name="v5")
    *_, everything = search_bounded(program, bound=1)
    last = next(name for name, bound in everything.first_bound.items() if bound == 1 and "is_dead" in name)
    *_, found = search_bounded(program, bound=1, wanted=lambda name: name == last)
    assert list(found.result.found)[-1] == last
    assert found.result.executions == everything.result.found[last].execution + 1 < everything.result.executions
    assert not found.result.finished
    assert found.exhausted == 0
