"""Mutants of the search itself: each breaks a count that is known, so that no line of it is there for nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from slabactors.explore import dpor
from slabactors.explore.dpor import Dpor
from slabactors.explore.happens_before import Dep, Recorder
from tests.explore import counted
from tests.explore.counted import COUNTING, ActorProgram, Explored, random_program

ORACLES: dict[str, tuple[Callable[[], ActorProgram], int]] = {
    "counter": (lambda: counted.counter(3), 36),
    "readers": (lambda: counted.readers(3), 8),
    "last_zero": (lambda: counted.last_zero(3), 12),
    "branching": (lambda: counted.branching(), 5),
    "fan_in": (lambda: counted.fan_in(2, 2), 6),
    "patch": (lambda: counted.patch(), 29),
}


def differs(monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether some oracle's count, or the absence of blocked and repeated runs, is not as it should be."""
    for make, traces in ORACLES.values():
        try:
            explored = Explored(make(), most=2000)
        except (OverflowError, AssertionError, IndexError, KeyError, StopIteration):
            return True
        if len(explored.traces) != traces or len(set(explored.traces)) != traces:
            return True
        if explored.dpor.statistics.blocked:
            return True
    return False


def test_the_search_as_it_is_differs_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """The baseline of the mutants below."""
    assert not differs(monkeypatch)


def test_reads_that_conflict_run_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the refinement that two reads commute."""
    monkeypatch.setattr(Dep, "conflicts", lambda self, other: self.actor == other.actor != "")
    assert differs(monkeypatch)


def test_writes_that_commute_lose_traces(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dependence that is forgotten."""
    monkeypatch.setattr(Dep, "conflicts", lambda self, other: False)
    assert differs(monkeypatch)


def test_without_sleep_sets_traces_are_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was explored is forgotten."""
    original = Dpor._inherit

    def forgets(self: Dpor):
        return {}, original(self)[1]

    monkeypatch.setattr(Dpor, "_inherit", forgets)
    monkeypatch.setattr(Dpor, "_is_initial", lambda self, dep, sequence: False)
    assert differs(monkeypatch)


def test_without_the_rule_for_guards_traces_are_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that can wait is raced against its nearest conflict only, as in the textbook: the patch loses traces."""
    original = Dpor._races

    def textbook(self: Dpor, event, index):
        guarded, event.guarded = event.guarded, False
        try:
            yield from original(self, event, index)
        finally:
            event.guarded = guarded

    monkeypatch.setattr(Dpor, "_races", textbook)
    explored = Explored(counted.patch())
    lost = len(set(explored.traces)) < 29
    if not lost:
        # The distilled patch may be found all the same; programs with locks and waits are not.
        lost = any(_traces(seed, textbook=True) < _traces(seed) for seed in range(60))
    assert lost


def _traces(seed: int, *, textbook: bool = False) -> int:
    if textbook:
        return len(set(Explored(random_program(seed)).traces))
    with pytest.MonkeyPatch.context() as original:
        original.setattr(Dpor, "_races", ORIGINAL_RACES)
        return len(set(Explored(random_program(seed)).traces))


ORIGINAL_RACES = Dpor._races


def test_without_what_waits_in_vain_traces_are_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """What still waits when a run is over is not raced: some random programs lose traces."""
    wanted = [len(set(Explored(random_program(seed)).traces)) for seed in range(80)]
    monkeypatch.setattr(dpor, "_in_vain", lambda path: False)
    found = [len(set(Explored(random_program(seed)).traces)) for seed in range(80)]
    assert any(less < more for less, more in zip(found, wanted, strict=True))


def test_causes_that_are_taken_for_races_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step is not ordered after what led to it, not even after the one before it on its own path."""
    monkeypatch.setattr(Recorder, "_causes", lambda self, key, path: [])
    assert differs(monkeypatch)


def test_wakeup_sequences_that_are_cut_short_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the second step of a race is planned, and not what has to run before it."""
    original = Dpor._insert
    monkeypatch.setattr(Dpor, "_insert", lambda self, tree, sequence: original(self, tree, sequence[-1:]))
    assert differs(monkeypatch)


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Callable[..., bool]:
    """Breaks a part of the search, and says whether that shows in programs that count down."""
    programs = [random_program(seed, COUNTING) for seed in (*range(40), 224, 382)]
    wanted = [Explored(program).traces for program in programs]

    def differs_with(owner: type, name: str, value: object) -> bool:
        monkeypatch.setattr(owner, name, value)
        for program, traces in zip(programs, wanted, strict=True):
            try:
                found = Explored(program, most=10 * len(traces) + 10).traces
            except (OverflowError, AssertionError, IndexError, KeyError):
                return True
            if len(found) != len(traces) or set(found) != set(traces):
                return True
        return False

    return differs_with


def test_programs_that_count_down_are_explored_alike_twice(counting) -> None:
    """The baseline of the mutants below."""
    assert not counting(Dep, "after", Dep.after)


def test_sleepers_that_never_notice_an_emptied_counter_are_noticed(counting) -> None:
    """A sleeping step goes on sleeping when another has taken what it would have left."""
    assert counting(Dep, "after", lambda self, other: self)


def test_sequences_that_empty_a_counter_together_are_noticed(counting) -> None:
    """A step is taken to commute with all that count down, however much they take together."""
    assert counting(Dep, "shares_counter", lambda self, other: False)


def test_a_footprint_that_is_taken_from_the_other_order_is_noticed(counting) -> None:
    """A step that is planned before another keeps the small footprint that it had after it."""
    assert counting(Dpor, "_as_reversed", staticmethod(lambda event: event.dep))


def test_planned_steps_that_sleep_are_not_run_again(counting) -> None:
    """Without the look at what sleeps, traces are repeated."""
    assert counting(Dpor, "_is_redundant", lambda self, frame: False)
