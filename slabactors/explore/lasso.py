"""Loops without an end: work that is done again and again and gets nowhere.

When a run is over because its time is up, what it did last may be what it would do for ever.  Its second act is fair
and goes by rule, so two moments with the same state prove it: what lies between them comes again and again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from slabactors.errors import ReplayDiverged
from slabactors.explore.fingerprint import Fingerprint, NoFingerprint
from slabactors.explore.program import Program
from slabactors.explore.replay import replay
from slabactors.runtime.history import Event, History
from slabactors.runtime.simulated import SimPath, Simulation
from slabactors.runtime.step import WAKE, Decision, Step


@dataclass(frozen=True, slots=True)
class Lasso:
    """A run that never ends.

    Attributes:
        prefix: how many steps come before the loop.
        loop: the steps of one round.
        jiffies: how much virtual time one round takes.
    """

    prefix: int
    loop: list[Event]
    jiffies: int


class _Watch:
    """Observes a run, and compares its states after each timer of the second act."""

    def __init__(self) -> None:
        self.history = History()
        self.lasso: Lasso | None = None
        self._fingerprint = Fingerprint(counts=False, orders=False)
        self._seen: dict[bytes, tuple[int, int]] = {}
        self._simulation: Simulation | None = None

    def follow(self, simulation: Simulation) -> None:
        """The run that is about to start."""
        self._simulation = simulation
        self.history.follow(simulation)

    def __call__(self, step: Step) -> None:
        """Observe one step."""
        self.history(step)
        if self.lasso is not None or step.act == 1 or not isinstance(step.path, SimPath):
            return
        # A timer gives nobody a reply, so all that is to come follows from the state.
        if step.path.timer is None and step.operation is not WAKE:
            return
        assert self._simulation is not None
        state = self._fingerprint.of(self._simulation)
        index = len(self.history.events)
        before = self._seen.setdefault(state, (index, step.now))
        if before[0] != index:
            self.lasso = Lasso(before[0], self.history.events[before[0] : index], step.now - before[1])


def lasso(program: Program, decisions: Sequence[Decision]) -> Lasso | None:
    """The loop that a run comes to after a schedule has ended; None when it comes to rest, or cannot be told.

    Args:
        program: what to run.
        decisions: the schedule.
    """
    watch = _Watch()
    try:
        execution = replay(program, decisions, observer=watch)
    except (ReplayDiverged, NoFingerprint):
        return None
    if isinstance(execution.outcome.error, NoFingerprint):
        return None
    return watch.lasso
