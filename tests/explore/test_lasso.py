"""Loops without an end."""

from __future__ import annotations

import pytest

from slabactors.actors import Actor, Clock, Spawn, Timed, operation
from slabactors.explore.campaign import search
from slabactors.explore.lasso import lasso
from slabactors.explore.shrink import shrink
from slabactors.kernel.jiffies import HZ
from slabactors.kernel.workqueue import Work
from slabactors.scenario import find


def looping(lifecycle: str, *settings: str):
    """The loop of a story's first finding, found by a random search."""
    program = find("dead-cache/emptied").bind(lifecycle_name=lifecycle, settings=list(settings))
    *_, result = search(program, runs=50)
    (found,) = result.found.values()
    return lasso(program, shrink(program, found.record, found.signature).decisions)


def test_work_that_queues_itself_and_gets_nowhere_is_a_loop() -> None:
    """The worker that never shrinks: a round takes a minute and its slack, and begins and ends with the timer."""
    found = looping("v5-no-shrink")
    assert found is not None
    assert found.jiffies // HZ == 60
    names = [event.operation.name for event in found.loop]
    assert names[-1] == "expire"
    assert {"take", "no_pages", "test_and_set_pending", "add_timer"} <= set(names)
    assert found.prefix > 0


def test_a_cache_that_is_forgotten_is_no_loop() -> None:
    """Before the founding patch nothing moves any more: there is no loop to tell of."""
    assert looping("pre-patch") is None


def test_a_loop_that_changes_something_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """When what the work counts is part of the state, no two rounds are the same."""
    monkeypatch.setattr(Work, "counts", ())
    assert looping("v5-no-shrink") is None


class Ticker(Timed):
    """Goes off every second, and counts down from three before it only repeats itself."""

    def __init__(self, clock: Clock) -> None:
        super().__init__("ticker", clock)
        self.left = 3

    @operation(clock=True)
    def start(self) -> None:
        """``start``."""
        self.deadline = self.clock.now + HZ

    @operation(clock=True)
    def again(self) -> None:
        """``again``."""
        self.left = max(0, self.left - 1)
        self.deadline = self.clock.now + HZ

    def on_expiry(self):
        async def tick() -> None:
            await self.again()

        return Spawn(tick(), name="tick")


class Looked(Actor):
    """Something for the main path to do."""

    @operation
    def look(self) -> None:
        """``look``."""


def test_the_prefix_is_as_long_as_something_still_changes() -> None:
    """Three rounds count down; the loop begins after them, and a round of it takes a second."""
    from slabactors.explore.program import Execution, prepared
    from slabactors.runtime.simulated import Simulation

    class Program:
        sometimes = ()

        def execute(self, strategy, *, observer=None, time=None, driver=Simulation):
            simulation = prepared(driver, strategy, observer, time=time, settle_jiffies=20 * HZ)
            ticker = Ticker(simulation.clock)

            async def main() -> None:
                await ticker.start()

            return Execution(simulation, simulation.run(main(), at_rest=lambda: ticker and None), ticker)

        def reached(self, execution):
            return []

        def dispose(self, execution):
            pass

    found = lasso(Program(), [])
    assert found is not None
    assert found.jiffies == HZ
    assert [event.operation.name for event in found.loop] == ["again", "expire"]
    # start, then expire and again three times, then the expiry at which nothing is left to count.
    assert found.prefix == 8
