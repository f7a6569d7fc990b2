"""The search by traces in shares: together they are the whole, and no trace is in two of them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from slabactors.explore.count import count
from slabactors.explore.happens_before import trace_key
from slabactors.explore.shares import SharedDpor, depth_for
from slabactors.explore.verify import verify
from slabactors.explore.verify_parallel import verify_parallel
from slabactors.runtime.guided import GuidedSimulation
from slabactors.runtime.step import TimePolicy
from slabactors.scenario import find
from tests.explore import counted
from tests.explore.counted import COUNTING, KINDS, TAKING, Explored, random_program
from tests.explore.micro import Micro


def explored(program, depth: int, shares: int, time: TimePolicy | None = None) -> list[frozenset]:
    """The traces of all shares, one after the other."""
    traces = []
    for share in range(shares):
        guide = SharedDpor(depth, share, shares)
        more = True
        while more:
            program.execute(guide, time=time, driver=GuidedSimulation)
            if guide.complete:
                traces.append(trace_key(guide.events))
            more = guide.advance()
        assert guide.statistics.blocked == 0
    return traces


@pytest.mark.parametrize(("depth", "shares"), [(1, 2), (2, 3), (4, 2), (12, 2)])
@pytest.mark.parametrize(
    "program",
    [counted.counter(3), counted.readers(3), counted.last_zero(3), counted.branching(), counted.patch()],
    ids=["counter", "readers", "last_zero", "branching", "patch"],
)
def test_the_shares_of_known_programs_are_the_whole(program, depth: int, shares: int) -> None:
    """As many traces as in one search, and the same."""
    wanted = Explored(program).traces
    found = explored(program, depth, shares)
    assert len(found) == len(wanted)
    assert set(found) == set(wanted)


@pytest.mark.parametrize("kinds", [KINDS, COUNTING, TAKING], ids=["all", "counting", "taking"])
def test_the_shares_of_random_programs_are_the_whole(kinds: dict[str, int]) -> None:
    """Against brute force, under both policies, for one, two and three steps that are not reduced."""
    checked = 0
    for seed in [*range(60), 180, 370, 924, 1179, 5030, 7062, 7098, 7248]:
        time = [TimePolicy.QUIESCENT, TimePolicy.ADVERSARIAL][seed % 2]
        program = random_program(seed, kinds)
        try:
            exact = count(program, time=time, steps_max=700).traces
        except OverflowError:
            continue
        for depth, shares in ((1, 2), (2, 2), (3, 3)):
            found = explored(program, depth, shares, time)
            assert len(found) == len(set(found)), f"random_program({seed}) repeats a trace, depth {depth}"
            assert set(found) == exact, f"random_program({seed}), depth {depth}"
            checked += 1
    assert checked > 60


def test_shares_that_cover_by_what_others_run_lose_traces(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant: what sleeps since the leaf covers as much as what was explored here."""
    from slabactors.explore.dpor import Dpor

    monkeypatch.setattr(SharedDpor, "_is_covered", Dpor._is_covered)
    lost = 0
    for seed in (180, 370, 924, 1179):
        program = random_program(seed, [KINDS, COUNTING, TAKING][seed % 3])
        lost += len(explored(program, 1, 2)) < len(Explored(program).traces)
    assert lost


def test_there_are_leaves_enough_for_all_shares_where_there_can_be() -> None:
    """The depth grows until there are; a program with one trace has one leaf at any depth."""
    assert depth_for(Micro("fixed", 4, 1), None, 2) > 1
    assert depth_for(counted.ping_pong(3), None, 2) >= 1


@pytest.mark.slow
@pytest.mark.parametrize("lifecycle", ["v5", "repaired"])
def test_two_processes_verify_as_one(lifecycle: str) -> None:
    """The same executions, bugs, and how often each was met."""
    program = find("dead-cache/rmdir-races-last-free").bind(lifecycle_name=lifecycle)
    *_, one = verify(program)
    *_, two = verify_parallel(program, jobs=2)
    assert (two.statistics.executions, two.exhaustive, two.verdict) == (
        one.statistics.executions,
        True,
        one.verdict,
    )
    assert {name: found.count for name, found in two.found.items()} == {
        name: found.count for name, found in one.found.items()
    }
    assert two.sometimes == one.sometimes


def test_any_executor_runs_the_shares_and_a_limit_ends_them() -> None:
    """Threads here; given up, nothing is said to be verified."""
    with ThreadPoolExecutor(2) as executor:
        *_, whole = verify_parallel(Micro("naive", 3, 1), executor=executor)
        assert (whole.statistics.executions, whole.exhaustive) == (110, True)
        *_, cut = verify_parallel(Micro("naive", 3, 1), executor=executor, runs=1)
    assert not cut.exhaustive or cut.statistics.executions == 110
