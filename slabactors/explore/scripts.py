"""Two ways of following a schedule that shrinking needs: with what does not fit left out, and with paths that run on.

Nothing found this way counts before a strict replay has shown it again.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Collection, Sequence
from typing import Final

from slabactors.explore.replay import ReplayStrategy
from slabactors.runtime.simulated import SimPath, Simulation, Strategy
from slabactors.runtime.step import Decision

NOBODY: Final = SimPath(-1, None)
"""Picked when nobody can move, which is asked only to hear a schedule complain."""


class SkippingStrategy:
    """Follows a schedule, leaves out what does not fit, and goes on fairly at its end.

    A delivery fits when its path is enabled and asks for this operation of this actor.  In a program with other
    settings a path may be called otherwise; then one of the same role takes its place.  Values of ``choose()`` are
    matched path by path, in order; one that is too large is made the largest there is, and one that is missing is 0.

    Args:
        decisions: the schedule.
        after: picks the steps after its end; everybody in turn, one step each, by default.

    Attributes:
        made: deliveries of the schedule that were made.
    """

    forced = True
    name = "skipping"

    def __init__(self, decisions: Sequence[Decision], after: Strategy | None = None) -> None:
        self._deliveries = deque(decision for decision in decisions if decision.value is None)
        self._values: dict[str, deque[int]] = {}
        for decision in decisions:
            if decision.value is not None:
                self._values.setdefault(decision.path, deque()).append(decision.value)
        self._after = after or ReplayStrategy(())
        self._simulation: Simulation | None = None
        self._stands_for: dict[str, str] = {}
        """For paths that the schedule calls otherwise: how it calls them."""
        self.made = 0

    def follow(self, simulation: Simulation) -> None:
        """The run that is about to start."""
        self._simulation = simulation

    @property
    def exhausted(self) -> bool:
        """Nothing of the schedule is left."""
        return not self._deliveries

    def pick(self, enabled: Sequence[SimPath]) -> SimPath:
        """The path of the first delivery left that fits; none at all when nobody can move, which ends the schedule."""
        by_key = {self._stands_for.get(path.key, path.key): path for path in enabled}
        while self._deliveries:
            decision = self._deliveries.popleft()
            path = by_key.get(decision.path) or self._in_place_of(decision, enabled)
            if path is not None and _fits(path, decision):
                self.made += 1
                return path
        return self._after.pick(enabled) if enabled else NOBODY

    def choose_for(self, path: SimPath, count: int) -> int:
        """The next value that this path chose in the schedule."""
        values = self._values.get(self._stands_for.get(path.key, path.key))
        return min(values.popleft(), count - 1) if values else 0

    def choose(self, count: int) -> int:
        """Unused: a script is asked by ``choose_for``."""
        return 0

    def _in_place_of(self, decision: Decision, enabled: Sequence[SimPath]) -> SimPath | None:
        """A path that could be the one of a decision, if this run has none that is called so."""
        paths = self._simulation.paths if self._simulation is not None else []
        role = _role(decision.path)
        found = [path for path in enabled if _role(path.key) == role and _fits(path, decision)]
        if not found or decision.path in self._stands_for.values() or any(one.key == decision.path for one in paths):
            return None
        self._stands_for[found[0].key] = decision.path
        return found[0]


def _role(key: str) -> str:
    """What a path does and who started it, without which of several it is."""
    return re.sub(r"\W?\d+", "", key)


class Staying:
    """Stays with a path until it waits, then with the oldest that can move; timers only when nobody else can."""

    name = "staying"

    def __init__(self) -> None:
        self._current = ""

    def pick(self, enabled: Sequence[SimPath]) -> SimPath:
        """The same path again, if it can move."""
        awake = [path for path in enabled if path.deadline is None]
        if awake:
            chosen = min(awake, key=lambda path: (path.key != self._current, path.id))
        else:
            chosen = min(enabled, key=lambda path: (path.deadline, path.id))
        self._current = chosen.key
        return chosen

    def choose(self, count: int) -> int:
        """The first value."""
        return 0


def _fits(path: SimPath, decision: Decision) -> bool:
    operation, actor, _ = path.request
    return operation.name == decision.operation and actor.name == decision.actor


class RunOnStrategy(ReplayStrategy):
    """Follows a schedule strictly, but lets a path that it needs no more run on until it waits, instead of leaving it.

    At the end of the schedule, whoever runs goes on until he waits, and so on, timers only when nobody else can move:
    so the run shows how many preemptions a schedule needs, not counting those that only make it shorter.

    Args:
        decisions: the schedule.
        left: keys of paths that are left where the schedule leaves them.
    """

    name = "run on"

    def __init__(self, decisions: Sequence[Decision], left: Collection[str] = ()) -> None:
        super().__init__(decisions)
        self._left = left
        self._to_come: dict[str, int] = {}
        for decision in decisions:
            if decision.value is None:
                self._to_come[decision.path] = self._to_come.get(decision.path, 0) + 1
        self._running = ""
        self._after = Staying()

    def pick(self, enabled: Sequence[SimPath]) -> SimPath:
        """Who runs on, else the path whose turn it is.

        Raises:
            ReplayDiverged: it cannot move now, or would do something else.
        """
        if self._running and not self._to_come.get(self._running) and self._running not in self._left:
            for path in enabled:
                if path.key == self._running and path.deadline is None:
                    return path
        if self.exhausted:
            path = self._after.pick(enabled)
        else:
            path = super().pick(enabled)
            self._to_come[path.key] -= 1
        self._running = path.key
        return path

    def choose_for(self, path: SimPath, count: int) -> int:
        """What this path chose at this point; 0 where the schedule has nothing more of it.

        Raises:
            ReplayDiverged: it chose nothing here, or something that it cannot choose now.
        """
        return super().choose_for(path, count) if self._programs.get(path.key) else 0
