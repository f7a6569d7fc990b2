"""What a search searches: something that can be run again and again, each time from the same beginning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from slabactors.runtime.simulated import Simulation, Strategy
from slabactors.runtime.step import Observer, Outcome, TimePolicy

__all__ = ["Driver", "Execution", "Program", "prepared"]


@dataclass(slots=True)
class Execution:
    """One run of a program.

    Attributes:
        simulation: the driver, with the record of every choice.
        outcome: how it ended.
        world: what the program was run on, for properties; disposed of by `Program.dispose`.
    """

    simulation: Simulation
    outcome: Outcome
    world: Any


Driver = Callable[..., Simulation]
"""Makes a simulation: a `Simulation` or one of its subclasses, with the same arguments."""


def prepared(driver: Driver, strategy: Strategy, observer: Observer | None, **options: Any) -> Simulation:
    """A simulation that is about to start; the strategy and the observer are told, if they have a ``follow`` method.

    Args:
        driver: makes it.
        strategy: picks its steps.
        observer: called after each step.
        options: of the simulation.
    """
    simulation = driver(strategy, observer=observer, **options)
    for listener in (strategy, observer):
        follow = getattr(listener, "follow", None)
        if follow is not None:
            follow(simulation)
    return simulation


class Program(Protocol):
    """A scenario with its parameters, bound to a lifecycle and a machine."""

    @property
    def sometimes(self) -> Sequence[str]:
        """What at least one run of a search must reach, as sentences."""
        ...

    def execute(
        self,
        strategy: Strategy,
        *,
        observer: Observer | None = None,
        time: TimePolicy | None = None,
        driver: Driver = Simulation,
    ) -> Execution:
        """Run once.

        Args:
            strategy: picks the steps.
            observer: called after each step; one with a ``follow`` method is told the simulation first.
            time: overrides the program's own policy.
            driver: makes the simulation.
        """
        ...

    def reached(self, execution: Execution) -> Sequence[bool]:
        """Which of `sometimes` a run has reached."""
        ...

    def dispose(self, execution: Execution) -> None:
        """Let go of a run's world."""
        ...
