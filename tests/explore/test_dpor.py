"""Exhaustive search against exact counts and against brute force."""

from __future__ import annotations

from collections.abc import Hashable
from math import factorial

import pytest

from slabactors.explore.count import count
from slabactors.explore.program import Execution
from slabactors.runtime.step import TimePolicy
from tests.explore import counted as programs
from tests.explore.counted import COUNTING, LATE, TAKING, ActorProgram, Explored, random_program, values
from tests.explore.micro import Micro

ORACLES = [
    *[(f"counter({n})", programs.counter(n), factorial(n) ** 2) for n in (1, 2, 3, 4)],
    *[(f"readers({n})", programs.readers(n), 2**n) for n in (1, 2, 3, 6)],
    ("last_zero(2)", programs.last_zero(2), 5),
    ("last_zero(3)", programs.last_zero(3), 12),
    ("last_zero(4)", programs.last_zero(4), 28),
    ("last_zero(5)", programs.last_zero(5), 64),
    ("branching", programs.branching(), 5),
    *[
        (f"fan_in({n}, {k})", programs.fan_in(n, k), factorial(n * k) // factorial(k) ** n)
        for n, k in ((2, 1), (3, 1), (4, 1), (2, 2), (3, 2), (2, 3))
    ],
    ("crossed", programs.crossed(), 4),
    ("remote_counter(2)", programs.remote_counter(2), 6),
    ("remote_counter(3)", programs.remote_counter(3), 90),
    ("disjoint(5)", programs.disjoint(5), 1),
    ("ping_pong(3)", programs.ping_pong(3), 1),
    ("patch", programs.patch(), 29),
]


@pytest.mark.parametrize(("name", "program", "traces"), ORACLES, ids=[name for name, _, _ in ORACLES])
def test_one_execution_a_trace(name: str, program: ActorProgram, traces: int) -> None:
    """As many executions as there are traces, all distinct, and none that everything enabled was asleep in."""
    explored = Explored(program)
    assert len(set(explored.traces)) == traces
    assert len(explored.traces) == traces
    assert explored.dpor.statistics.blocked == 0


@pytest.mark.parametrize(
    ("name", "program", "interleavings"),
    [
        ("counter(2)", programs.counter(2), 6),
        ("counter(3)", programs.counter(3), 90),
        ("readers(2)", programs.readers(2), 30),
        ("readers(3)", programs.readers(3), 630),
        ("last_zero(2)", programs.last_zero(2), 35),
        ("branching", programs.branching(), 69),
        ("patch", programs.patch(), 313),
    ],
)
def test_the_exact_counter_agrees_with_known_numbers(name: str, program: ActorProgram, interleavings: int) -> None:
    """Interleavings without merging, traces with it."""
    every = count(program, merge=False)
    assert every.runs == interleavings
    assert count(program).traces == every.traces


def check(program: ActorProgram, time: TimePolicy) -> int:
    """Compare a search with brute force; how many traces there are."""
    exact = count(program, observe=values, time=time, steps_max=4000)
    explored = Explored(program, time=time)
    missed = exact.traces - set(explored.traces)
    extra = set(explored.traces) - exact.traces
    assert not missed, f"{len(missed)} of {len(exact.traces)} traces missed"
    assert not extra
    assert len(explored.traces) == len(set(explored.traces)), "a trace was run twice"
    assert explored.outcomes == exact.outcomes
    assert explored.dpor.statistics.blocked == 0
    return len(exact.traces)


@pytest.mark.parametrize("time", [TimePolicy.QUIESCENT, TimePolicy.ADVERSARIAL])
@pytest.mark.parametrize("block", range(5))
def test_random_programs_lose_and_repeat_no_trace(block: int, time: TimePolicy) -> None:
    """Fifty random programs a block, with locks, waits, timers, tells, spawns, choices and frees."""
    seen = 0
    for seed in range(50 * block, 50 * block + 50):
        try:
            seen += check(random_program(seed), time)
        except OverflowError:
            continue
        except AssertionError as error:
            raise AssertionError(f"random_program({seed}), {time}: {error}") from error
    assert seen > 200


@pytest.mark.parametrize("block", range(4))
def test_random_programs_that_count_down_lose_and_repeat_no_trace(block: int) -> None:
    """Fifty random programs a block whose operations meet fewer cells in some states than in others."""
    seen = 0
    for seed in range(50 * block, 50 * block + 50):
        try:
            seen += check(random_program(seed, COUNTING), TimePolicy.QUIESCENT)
        except OverflowError:
            continue
        except AssertionError as error:
            raise AssertionError(f"random_program({seed}, COUNTING): {error}") from error
    assert seen > 400


@pytest.mark.parametrize("time", [TimePolicy.QUIESCENT, TimePolicy.ADVERSARIAL, TimePolicy.UNTIMED])
def test_random_programs_with_deferrable_timers_lose_and_repeat_no_trace(time: TimePolicy) -> None:
    """Sixty random programs in which timers go on that nobody waits for, and somebody may hang for that."""
    seen = 0
    for seed in range(60):
        try:
            seen += check(random_program(seed, LATE), time)
        except OverflowError:
            continue
        except AssertionError as error:
            raise AssertionError(f"random_program({seed}, LATE), {time}: {error}") from error
    assert seen > 200


@pytest.mark.parametrize("seed", [1571, 2205])
def test_what_was_planned_behind_a_step_that_met_less_than_it_might_is_not_lost(seed: int) -> None:
    """Programs in which a planned sequence comes to nothing new, after others were taken to be covered by it."""
    assert check(random_program(seed, TAKING), TimePolicy.QUIESCENT)


@pytest.mark.parametrize(
    ("variant", "cpus", "traces"), [("fixed", 2, 19), ("fixed", 3, 26), ("v5", 2, 22), ("v5", 3, 30), ("naive", 2, 81)]
)
def test_the_micro_problem_takes_one_execution_a_trace(variant: str, cpus: int, traces: int) -> None:
    """Frees that miss the last object commute: the traces grow with the number of CPUs, not with their orders."""
    program = Micro(variant, cpus, 1)
    exact = count(program, observe=_seen)
    explored = Explored(program, observe=_seen)
    assert len(explored.traces) == traces
    assert set(explored.traces) == exact.traces
    assert explored.outcomes == exact.outcomes
    assert explored.dpor.statistics.blocked == 0


def _seen(execution: Execution) -> Hashable:
    cache = execution.world
    return cache.destroyed, cache.nr, tuple(sorted(one.outcome.bug.clause for one in execution.simulation.broken))
