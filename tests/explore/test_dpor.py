"""Exhaustive search against exact counts and against brute force."""

from __future__ import annotations

from math import factorial

import pytest

from slabactors.explore.count import count
from slabactors.runtime.step import TimePolicy
from tests.explore import counted as programs
from tests.explore.counted import ActorProgram, Explored, random_program, values

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
