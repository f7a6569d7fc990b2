"""Fingerprints: what tells two states apart, and what does not."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from slabactors.actors import Actor, Clock, operation, parallel, sleep
from slabactors.explore.fingerprint import Fingerprint, NoFingerprint
from slabactors.runtime.guided import GuidedSimulation
from slabactors.runtime.simulated import Simulation
from slabactors.runtime.step import TimePolicy


class Cell(Actor):
    """Holds anything."""

    reports = ("told",)

    def __init__(self, name: str = "cell", value: Any = 0) -> None:
        super().__init__(name)
        self.value = value
        self.told = 0

    @operation(writes="value")
    def put(self, value: Any) -> None:
        """``put``."""
        self.value = value

    @operation(writes="told")
    def tell(self) -> None:
        """``tell``."""
        self.told += 1

    @operation(reads="value")
    def get(self) -> Any:
        """``get``."""
        return self.value


class Follow:
    """A guide that takes the steps of the paths named, takes a fingerprint there, and ends the run."""

    forced = True
    exhausted = True

    def __init__(self, order: list[str]) -> None:
        self.order = list(order)
        self.taken: bytes | None = None
        self.simulation: Simulation | None = None

    def next(self, enabled):
        if not self.order:
            self.finished(self.simulation)
            return None
        wanted = self.order.pop(0)
        return next(path for path in enabled if path.name == wanted)

    def pick(self, enabled):
        return enabled[0]

    def choose(self, count):
        return 0

    choose_for = None

    def delivered(self, *args, **kwargs):
        pass

    def resumed(self):
        pass

    def finished(self, simulation):
        if self.taken is None:
            self.taken = Fingerprint().of(simulation)


def state(main: Callable[[Cell, Clock], Coroutine[Any, Any, Any]], *order: str, value: Any = 0) -> bytes:
    """The fingerprint after some steps, each by the name of its path."""
    guide = Follow(list(order))
    simulation = GuidedSimulation(guide, time=TimePolicy.QUIESCENT)
    guide.simulation = simulation
    cell = Cell(value=value)
    simulation.run(main(cell, simulation.clock), at_rest=lambda: cell and None)
    assert guide.taken is not None
    return guide.taken


async def two_writers(cell: Cell, clock: Clock) -> None:
    async def one(value: int) -> None:
        await cell.put(value)
        await cell.put(7)

    async def other() -> None:
        await cell.put(7)

    await parallel(one(1), other())


def test_two_ways_to_one_state_have_one_fingerprint() -> None:
    """Both orders of two writes of the same value, with the same left to do."""
    assert state(two_writers, "one", "one", "other") == state(two_writers, "one", "other", "one")
    assert state(two_writers, "one", "other") != state(two_writers, "other", "one")


def test_the_position_in_a_loop_over_equal_things_counts() -> None:
    """The loop's variable is the same each time round: only the iterator, which has no name, is further."""

    async def main(cell: Cell, clock: Clock) -> None:
        for one in [5, 5, 5]:
            await cell.put(one)

    assert state(main, "main") != state(main, "main", "main")


def test_half_an_expression_counts() -> None:
    """What was read before an await in the same expression lies on the stack and nowhere else."""

    async def main(cell: Cell, clock: Clock) -> None:
        other = Cell("other")
        await cell.put(await cell.get() + await other.get())

    assert state(main, "main", value=1) != state(main, "main", value=2)


def test_which_variable_is_bound_counts() -> None:
    """The same value under another name is another state."""

    def story(first: bool):
        async def main(cell: Cell, clock: Clock) -> None:
            if first:
                one = 3
            else:
                other = 3
            await cell.get()
            await cell.put(one if first else other)

        return main

    assert state(story(True)) != state(story(False))


@pytest.mark.parametrize(("one", "other"), [(1, True), (1, 1.0), ("a", b"a"), ((1,), [1]), ({1: 2}, {2: 1}), ([], ())])
def test_values_of_different_types_are_different_states(one: Any, other: Any) -> None:
    """Though Python calls some of them equal."""

    async def main(cell: Cell, clock: Clock) -> None:
        await cell.get()

    assert state(main, value=one) != state(main, value=other)


def test_one_list_twice_is_not_two_equal_lists() -> None:
    """Who holds the same list sees what is done to it."""

    async def main(cell: Cell, clock: Clock) -> None:
        await cell.get()

    shared: list[int] = []
    assert state(main, value=(shared, shared)) != state(main, value=([], []))


def test_time_counts_from_now_and_reports_do_not_count() -> None:
    """Who sleeps ten jiffies each time round is where it was, though an actor has counted the rounds."""

    async def ticking(cell: Cell, clock: Clock) -> None:
        while True:
            await cell.tell()
            await sleep(10)

    # One round is three steps: it tells, falls asleep, wakes.
    assert state(ticking, "main") == state(ticking, *["main"] * 4)
    assert state(ticking, "main") != state(ticking, *["main"] * 3)


@pytest.mark.parametrize("value", [re.match("a", "a"), memoryview(b"a")])
def test_what_cannot_be_looked_into_is_refused(value: Any) -> None:
    """It could change without being seen to."""

    async def main(cell: Cell, clock: Clock) -> None:
        await cell.get()

    simulation = GuidedSimulation(guide := Follow([]))
    guide.simulation = simulation
    guide.finished = lambda simulation: None
    taken: list[str] = []

    def look(enabled):
        with pytest.raises(NoFingerprint) as refused:
            Fingerprint().of(simulation)
        taken.append(str(refused.value))

    guide.next = look
    simulation.run(main(Cell(value=value), simulation.clock))
    assert type(value).__qualname__ in taken[0]
