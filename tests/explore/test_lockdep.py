"""What lockdep reports does not depend on how the orders of a program are searched."""

from __future__ import annotations

import anyio
import pytest

from slabactors.actors import Actor, Interrupt, Locks, join, operation, start
from slabactors.errors import Kind
from slabactors.explore.by_states import ByStates
from slabactors.explore.count import count
from slabactors.explore.finding import signature
from slabactors.explore.program import Execution
from slabactors.explore.verify import verify
from slabactors.runtime.live import LiveRuntime
from tests.explore.locking import Lock, LockingProgram, Plan, random_program
from tests.support import run_paths

STEPS_MAX = 1_500
"""Partial runs of brute force; larger programs are skipped."""


def reported(execution: Execution) -> frozenset[str]:
    """What one execution of a guided search shows."""
    broken = execution.simulation.broken
    if broken:
        return frozenset(signature(one.outcome) for one in broken)
    bug = execution.outcome.bug
    return frozenset() if bug is None else frozenset([signature(execution.outcome)])


def by_brute_force(program: LockingProgram) -> set[str]:
    """What all interleavings show, one by one."""
    seen = count(program, observe=reported, merge=False, steps_max=STEPS_MAX).outcomes
    return {name for outcome in seen for name in outcome}


def lock_orders(names: set[str]) -> set[str]:
    return {name for name in names if name.startswith(Kind.LOCK_ORDER.value)}


def compare(seed: int) -> set[str]:
    """Brute force and every search of a random program; what they found, when it is the same."""
    program = random_program(seed)
    wanted = by_brute_force(program)
    for search, symmetry in (("dpor", False), ("states", False), ("states", True), ("auto", True)):
        *_, result = verify(program, search=search, symmetry=symmetry)
        assert result.exhaustive, (seed, search)
        found = set(result.found)
        # A bug that another one led to is not reported, and which came first searches tell in their own ways.
        assert lock_orders(found) == lock_orders(wanted), (seed, search, result.search)
        assert bool(found) == bool(wanted), (seed, search, result.search)
        assert found <= wanted, (seed, search, result.search)
    return wanted


@pytest.mark.parametrize("block", range(4))
def test_every_search_reports_what_brute_force_reports(block: int) -> None:
    """Forty random programs of locks, works, cancels, flushes and interrupts a block."""
    kinds: dict[str, int] = {}
    skipped = 0
    for seed in range(40 * block, 40 * block + 40):
        try:
            found = compare(seed)
        except OverflowError:
            skipped += 1
            continue
        for name in found:
            kind = name.partition(":")[0]
            kinds[kind] = kinds.get(kind, 0) + 1
    assert skipped < 30
    assert kinds["lock-order"] > 0
    assert kinds["deadlock"] > 0
    assert kinds["sleep-in-atomic"] > 0


# -- each rule by itself -----------------------------------------------------------------------------------------------


def found_in(*paths: Plan, works: dict[str, Plan] | None = None, context: str = "") -> set[str]:
    """What an exhaustive search finds in some paths."""
    *_, result = verify(LockingProgram([(context, path) for path in paths], works or {}), search="dpor")
    return set(result.found)


AB: Plan = [("with", "a", [("with", "b", [])])]
BA: Plan = [("with", "b", [("with", "a", [])])]
CIRCLE = "lock-order: a -> b -> a"


def test_two_orders_are_reported_although_nobody_ever_waits() -> None:
    """One path takes both, one after the other."""
    assert found_in([*AB, *BA]) == {CIRCLE}
    assert found_in([*AB, *AB]) == set()


def test_two_orders_in_two_paths_are_a_deadlock_in_one_order_and_a_report_in_another() -> None:
    """Both are found, each by itself."""
    found = found_in(AB, BA)
    assert CIRCLE in found
    assert any(name.startswith("deadlock") for name in found)


def test_a_circle_goes_through_as_many_locks_as_it_takes() -> None:
    """The shortest one is told, from the first of its locks on."""
    around: Plan = [("with", "c", [("with", "a", [])]), ("with", "b", [("with", "c", [])]), *AB]
    assert found_in(around) == {"lock-order: a -> b -> c -> a"}
    assert found_in([*around, *BA]) == {CIRCLE}


def test_locks_of_one_class_are_not_taken_in_each_other() -> None:
    """Two instances of one class have no order that lockdep knows."""
    assert found_in([("with", "a", [("with", "a#2", [])])]) == {"lock-order: a inside a"}


def test_trying_waits_for_nobody_and_holds_all_the_same() -> None:
    """A trylock ends no circle, and begins one."""
    tries: Plan = [("try", "b", [])]
    assert found_in([*AB, ("with", "b", [("try", "a", [])])]) == set()
    assert found_in([*AB, ("try", "b", [("with", "a", [])])]) == {CIRCLE}
    assert found_in([("with", "a", tries)]) == set()


def test_a_lock_that_was_not_got_is_not_held() -> None:
    """The path goes on without it, and may take others."""
    assert found_in([("with", "b", [("try", "b", [])]), ("with", "a", []), *AB]) == set()


def test_who_waits_for_a_work_takes_what_the_work_takes() -> None:
    """Flushing under a mutex that the work takes, whether the work runs at that time or not."""
    works: dict[str, Plan] = {"p": [("with", "a", [])]}
    flushes: Plan = [("with", "a", [("flush", "p", None)])]
    assert "lock-order: a -> wp -> a" in found_in([("queue", "p", None)], flushes, works=works)
    assert found_in([("queue", "p", None), ("flush", "p", None)], works=works) == set()
    # Nobody has seen the work run, so nobody knows what it takes.
    assert found_in(flushes, works=works) == set()


@pytest.mark.parametrize(
    ("plan", "context", "clause"),
    [
        ([("with", "a", [])], "a softirq", "a.lock in a softirq"),
        ([("flush", "p", None)], "an interrupt", "wp.flush in an interrupt"),
        ([("spin", "a", [("with", "b", [])])], "", "b.lock with a spinlock held"),
        ([("spin", "a", [("might_sleep", "", None)])], "", "might_sleep() with a spinlock held"),
    ],
)
def test_nobody_sleeps_where_he_must_not(plan: Plan, context: str, clause: str) -> None:
    """Mutexes, flushes and whoever says that he may sleep; in interrupts, softirqs and under spinlocks."""
    assert found_in(plan, context=context) == {f"sleep-in-atomic: {clause} by path"}


@pytest.mark.parametrize("plan", [[("spin", "a", []), ("with", "b", [])], [("with", "a", [("spin", "b", [])])]])
def test_spinlocks_are_taken_under_mutexes_and_given_back_before_them(plan: Plan) -> None:
    """None of that is a sleep in atomic context."""
    assert found_in(plan) == set()


class Semaphore(Actor):
    """Readers and writers."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.readers = 0
        self.lock_class = name

    @operation(shares=True, writes="readers")
    def down_read(self) -> None:
        """``down_read``."""
        self.readers += 1

    @operation(releases=True, writes="readers")
    def up_read(self) -> None:
        """``up_read``."""
        self.readers -= 1

    def _unused(self) -> bool:
        return self.readers == 0

    def _itself(self) -> Semaphore:
        return self

    @operation(guard=_unused, waits_for=_itself, reads="readers")
    def drain(self) -> None:
        """``wait_for_completion``."""


def test_what_is_shared_is_ordered_and_named_in_a_circle() -> None:
    """A reader who takes a mutex, and a remover who waits for readers with it held, as sysfs has them."""
    lock, file = Lock("slab_mutex"), Semaphore("file")

    async def reads() -> None:
        await file.down_read()
        await lock.lock()
        await lock.unlock()
        await file.up_read()

    async def removes() -> None:
        await lock.lock()
        await file.drain()
        await lock.unlock()

    one_after_the_other, _ = run_paths(reads(), removes())
    assert one_after_the_other.bug is not None
    seen = {one_after_the_other.bug.clause}
    for seed in range(40):
        lock, file = Lock("slab_mutex"), Semaphore("file")
        bug = run_paths(reads(), removes(), seed=seed)[0].bug
        assert bug is not None
        seen.add(bug.clause)
        if bug.kind is Kind.DEADLOCK:
            assert "in a circle: " in bug.message
            assert "reads" in bug.message.partition("in a circle: ")[2]
    assert seen == {"file -> slab_mutex -> file", "waits for Lock.lock, Semaphore.drain"}


# -- why states have to know -------------------------------------------------------------------------------------------


FORGETFUL = LockingProgram(
    [("", BA), ("", [("if", "", AB), ("set", "", None)]), ("", [("set", "", None)])],
    {},
)
"""Whether the second path takes its locks depends on who was first, and before its last step nothing tells."""


@pytest.mark.parametrize("search", ["dpor", "states", "auto"])
def test_two_ways_to_one_state_are_told_apart_by_what_was_locked(search: str) -> None:
    """The end is the same, and one of the ways to it has something to report."""
    *_, result = verify(FORGETFUL, search=search)
    assert CIRCLE in result.found


def test_states_that_forget_what_was_locked_lose_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: the pairs do not belong to the state."""
    monkeypatch.setattr(Locks, "edges", lambda self: frozenset())
    *_, result = verify(FORGETFUL, search="states")
    assert CIRCLE not in result.found


def test_a_search_by_states_that_never_begins_again_loses_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: it does not notice that the pairs of all steps have a circle."""
    monkeypatch.setattr(ByStates, "_orders_matter", lambda self, locks: False)
    *_, result = verify(FORGETFUL, search="states")
    assert CIRCLE not in result.found


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_live_run_reports_the_same(backend: str) -> None:
    """The driver of live runs keeps the same book, and asks the same at its end."""
    one, other = Lock("a"), Lock("b")

    async def main() -> None:
        for first, second in ((one, other), (other, one)):
            await first.lock()
            await second.lock()
            await second.unlock()
            await first.unlock()

    outcome = anyio.run(LiveRuntime().run, main(), backend=backend)
    assert outcome.bug is not None
    assert (outcome.bug.kind, outcome.bug.clause) == (Kind.LOCK_ORDER, "a -> b -> a")


def test_a_live_run_notices_a_sleep_in_an_interrupt() -> None:
    """At the step that would sleep, before it does."""
    lock = Lock("a")

    async def main() -> None:
        await join(await start(Interrupt(lock.lock(), name="handler")))

    outcome = anyio.run(LiveRuntime().run, main())
    assert outcome.bug is not None
    assert (outcome.bug.kind, outcome.bug.clause) == (Kind.SLEEP_IN_ATOMIC, "a.lock in an interrupt")
    assert not lock.taken
