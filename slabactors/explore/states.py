"""Exhaustive search over states: every step from every state once, however many ways lead there.

States are few where traces are many: a hundred ways to take pages from a counter come to the same few states.  Each run
follows the steps that lead to a state not looked at yet, goes on from there, and ends where it comes to a state that
has been seen (by its `slabactors.explore.fingerprint.Fingerprint`), to a bug, or to rest.  Nothing is reduced, so
nothing has to be known about which steps commute.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from slabactors.actors import Actor, Operation
from slabactors.actors.footprint import Reach
from slabactors.explore.fingerprint import Fingerprint, NoFingerprint
from slabactors.runtime.guided import ARM, GuidedSimulation
from slabactors.runtime.simulated import SimPath, Simulation
from slabactors.runtime.step import CHOOSE, Decision


@dataclass(slots=True)
class StateStatistics:
    """How a search over states went.

    Attributes:
        executions: runs from the beginning.
        states: distinct states seen.
        transitions: steps taken from them.
        deliveries: steps in all runs, those that lead to where a run goes on included.
        depth: the most steps of one run.
    """

    executions: int = 0
    states: int = 0
    transitions: int = 0
    deliveries: int = 0
    depth: int = 0


@dataclass(slots=True)
class Fork:
    """A state on the way to where the search is, or a ``choose()`` between two of them.

    Attributes:
        options: the paths whose step may be taken, by key; or the values.
        index: which of them is being explored.
        state: its fingerprint; None for a choice.
    """

    options: list[str] | list[int]
    index: int = 0
    state: bytes | None = None


class States:
    """The guide of a `GuidedSimulation` that takes every step from every state once, depth first.

    Use it for one run after another until `advance` says that nothing is left.

    Args:
        orders: tell states apart before which locks were taken in other orders.
    """

    name = "states"
    forced = True
    reduces = False

    def __init__(self, *, orders: bool = True) -> None:
        self.orders = orders
        self.stack: list[Fork] = []
        self.statistics = StateStatistics()
        self.seen: set[bytes] = set()
        self.error: NoFingerprint | None = None
        self._fingerprint = Fingerprint(orders=orders)
        self.follow(None)

    def follow(self, simulation: Simulation | None) -> None:
        """The run that is about to start."""
        self.exhausted = False
        self.complete = False
        self.decisions: list[Decision] = []
        """The schedule of the run at hand."""
        self._simulation = simulation
        self._depth = 0
        self._steps = 0

    def pick(self, enabled: Sequence[SimPath]) -> SimPath:
        """The second act is not explored."""
        return enabled[0]

    def choose(self, count: int) -> int:
        """Unused: a guide is asked by ``choose_for``."""
        return 0

    def next(self, enabled: Sequence[SimPath]) -> SimPath | None:
        """The next path of the run; None where it comes to a bug, or to a state that has been seen."""
        simulation = self._simulation
        assert isinstance(simulation, GuidedSimulation)
        if simulation.broken:
            return None
        by_key = {path.key: path for path in enabled}
        if self._depth == len(self.stack):
            state = self._state(simulation)
            if state is None or state in self.seen:
                return None
            self.seen.add(state)
            self.stack.append(Fork(self._in_order(by_key), state=state))
        fork = self.stack[self._depth]
        self._depth += 1
        return by_key[fork.options[fork.index]]  # type: ignore[index]

    @staticmethod
    def _in_order(by_key: dict[str, SimPath]) -> list[str]:
        return sorted(by_key, key=lambda key: by_key[key].id)

    def _state(self, simulation: Simulation) -> bytes | None:
        try:
            return self._fingerprint.of(simulation)
        except NoFingerprint as error:
            self.error = error  # raised by who searches: a simulation takes it for one of the program
            return None

    def choose_for(self, path: SimPath, count: int) -> int:
        """The value of this run; all of them are explored in the end."""
        if self._depth == len(self.stack):
            self.stack.append(Fork(list(range(count))))
        fork = self.stack[self._depth]
        self._depth += 1
        value = fork.options[fork.index]
        assert isinstance(value, int)
        self.decisions.append(Decision(path.key, CHOOSE, "", value))
        return value

    def delivered(
        self, path: SimPath, operation: Operation, actor: Actor, reach: Reach, *, timer: bool, barrier: bool
    ) -> None:
        """Write down the step."""
        self._steps += 1
        if operation is not ARM:
            self.decisions.append(Decision(path.key, operation.name, actor.name))

    def resumed(self) -> None:
        """Nothing to be learnt from that."""

    def finished(self, simulation: GuidedSimulation) -> None:
        """Nothing moves any more."""
        if simulation.broken:
            return
        if self._depth == len(self.stack):
            state = self._state(simulation)
            if state is not None:
                self.seen.add(state)
        self.exhausted = True
        self.complete = True

    def advance(self) -> bool:
        """Back to the deepest state with a step left to take; false when there is none."""
        statistics = self.statistics
        statistics.executions += 1
        statistics.deliveries += self._steps
        statistics.depth = max(statistics.depth, self._steps)
        while self.stack:
            fork = self.stack[-1]
            if fork.state is not None:
                statistics.transitions += 1
            fork.index += 1
            if fork.index < len(fork.options):
                break
            self.stack.pop()
        statistics.states = len(self.seen)
        return bool(self.stack)

    def progress(self) -> float:
        """An estimate of the explored share: as if all steps from a state led to equally much."""
        share = 1.0
        done = 0.0
        for fork in self.stack:
            done += share * fork.index / len(fork.options)
            share /= len(fork.options)
        return done
