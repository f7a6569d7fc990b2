"""A budget in steps: the same on any machine, also where an execution is as long as a run may be."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from slabactors.explore.program import Driver, Execution, Program
from slabactors.runtime.simulated import Simulation, Strategy
from slabactors.runtime.step import Observer, TimePolicy

__all__ = ["Metered"]


class Metered:
    """A program that counts the steps of all its executions.

    Args:
        program: what is run.
        steps_max: how many steps there are for it.
        stop: says so when everything is to end at once.
    """

    def __init__(self, program: Program, steps_max: int, stop: Callable[[], bool]) -> None:
        self._program = program
        self._left = steps_max
        self._stop = stop

    def spent(self) -> bool:
        """Whether a search is to end: the steps are used up, or it was told to stop."""
        return self._left <= 0 or self._stop()

    @property
    def sometimes(self) -> Sequence[str]:
        """As the program's."""
        return self._program.sometimes

    def execute(
        self,
        strategy: Strategy,
        *,
        observer: Observer | None = None,
        time: TimePolicy | None = None,
        driver: Driver = Simulation,
    ) -> Execution:
        """Run once, and count."""
        execution = self._program.execute(strategy, observer=observer, time=time, driver=driver)
        self._left -= execution.outcome.deliveries
        return execution

    def reached(self, execution: Execution) -> Sequence[bool]:
        """As the program's."""
        return self._program.reached(execution)

    def dispose(self, execution: Execution) -> None:
        """As the program's."""
        self._program.dispose(execution)
