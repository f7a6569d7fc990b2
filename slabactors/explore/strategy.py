"""Strategies: who is next, of all that could be."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from slabactors.runtime.simulated import SimPath, Simulation


class RandomWalk:
    """Every enabled message is as likely as any other.

    Args:
        seed: anything printable; strings are seeded by their digest, so the stream is the same everywhere.
    """

    name = "random"

    def __init__(self, seed: int | str) -> None:
        self.random = Random(f"slabactors {seed}").random

    def pick(self, enabled: Sequence[SimPath]) -> SimPath:
        """Any of them."""
        return enabled[int(self.random() * len(enabled))]

    def choose(self, count: int) -> int:
        """Any value."""
        return int(self.random() * count)


class RoundRobin:
    """No choice at all: whoever has waited longest.  The null driver that benchmarks compare with."""

    name = "first-in-first-out"

    def __init__(self) -> None:
        self._turn = 0

    def pick(self, enabled: Sequence[SimPath]) -> SimPath:
        """The next in a circle."""
        self._turn += 1
        return enabled[self._turn % len(enabled)]

    def choose(self, count: int) -> int:
        """Always the first."""
        return 0


class FollowRecord:
    """Repeats a record of the same program made in the same process: path numbers, and ``-1 - value`` for choices.

    Steps at which there was nothing to choose are in the record too, so the position is that of the simulation.
    """

    name = "record"

    def __init__(self, record: Sequence[int]) -> None:
        self._record = record
        self._simulation: Simulation | None = None

    def follow(self, simulation: Simulation) -> None:
        """The run that repeats the record."""
        self._simulation = simulation

    def _next(self) -> int:
        assert self._simulation is not None
        return self._record[len(self._simulation.record)]

    def pick(self, enabled: Sequence[SimPath]) -> SimPath:
        """The path that was picked then."""
        wanted = self._next()
        return next(path for path in enabled if path.id == wanted)

    def choose(self, count: int) -> int:
        """The value that was chosen then."""
        return -1 - self._next()


STRATEGIES = {"random": RandomWalk}
"""Strategies of `explore`, by name."""
