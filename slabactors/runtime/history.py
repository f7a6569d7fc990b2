"""The history of one simulated run: its events, and which of them happened before which others.

An event happens before another when it is by the same path, or started it, or the path was waited for, or when their
footprints meet in a cell of the same actor that one of them writes, and so on transitively.  A set of events closed
under "happens before" is itself the beginning of a possible run; that is what shrinking rests on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from slabactors.actors import Actor, Operation
from slabactors.runtime.simulated import SimPath, Simulation
from slabactors.runtime.step import Step


@dataclass(slots=True)
class Event:
    """One step with what it depends on.

    Attributes:
        index: position in the run.
        now: virtual time after it, in jiffies.
        path: who took it.
        operation: what was delivered.
        actor: to whom.
        args: with which arguments.
        reply: what came back; `MISSING` for the step at which the run broke.
        act: 1 or 2.
        choices: what ``choose()`` returned between this step and the next, with who chose.
        causes: indices of events that directly happen before it.
        conflicts: those of `causes` that are by other paths and meet it in a cell.
        past: mask of the indices of all events that happen before it.
        preempts: the path of the step before could have gone on.
    """

    index: int
    now: int
    path: SimPath
    operation: Operation
    actor: Actor
    args: tuple[Any, ...]
    reply: Any
    act: int
    choices: list[tuple[SimPath, int]] = field(default_factory=list)
    causes: list[int] = field(default_factory=list)
    conflicts: list[int] = field(default_factory=list)
    past: int = 0
    preempts: bool = False


MISSING: Any = object()
"""The reply of a step that broke the run instead of replying."""


@dataclass(slots=True)
class _Cells:
    """Who touched one actor last: the writes since they were all covered, and the reads since the last write."""

    touches: list[tuple[int, int, int]] = field(default_factory=list)
    """``(event, reads, writes)``, oldest first."""


class History:
    """Collects the events of a run: pass it as the observer of a `Simulation`, and the simulation to `follow`."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.initial_choices: list[tuple[SimPath, int]] = []
        """What was chosen before the first step."""
        self._known_choices = 0
        self._simulation: Simulation | None = None
        self._known_paths = 0
        self._starter: dict[SimPath, tuple[int, ...]] = {}
        self._last: dict[SimPath, int] = {}
        self._cells: dict[Actor, _Cells] = {}
        self._clock = _Cells()

    def follow(self, simulation: Simulation) -> None:
        """The simulation whose steps are to come."""
        self._simulation = simulation

    def __call__(self, step: Step) -> None:
        """Observe one step."""
        self.learn()
        path = step.path
        assert isinstance(path, SimPath)
        event = Event(len(self.events), step.now, path, step.operation, step.actor, step.args, step.reply, step.act)
        event.preempts = step.preempts
        self._append(event)

    def broke(self, path: SimPath, act: int) -> None:
        """The run ended with a bug at this path's pending step, which was never observed."""
        self.learn()
        operation, actor, args = path.request
        simulation = self._simulation
        assert simulation is not None
        event = Event(len(self.events), simulation.clock.now, path, operation, actor, args, MISSING, act)
        event.preempts = simulation.preempts
        self._append(event)

    def learn(self) -> None:
        """Look at what the step before has led to: choices made, and new paths.

        Paths made since are of the step before, but for timers: those the step at hand has just armed.
        """
        simulation = self._simulation
        assert simulation is not None
        choosers = simulation.choosers
        if self._known_choices < len(choosers):
            values = [-1 - number for number in simulation.record if number < 0]
            made = list(zip(choosers, values, strict=True))[self._known_choices :]
            (self.events[-1].choices if self.events else self.initial_choices).extend(made)
            self._known_choices = len(choosers)
        current = len(self.events)
        for path in simulation.paths[self._known_paths :]:
            # Also after its spawner's own last step, which may have waited for another path since.
            own = () if path.parent is None else (*self._starter.get(path.parent, ()), self._last.get(path.parent, -1))
            self._starter[path] = (current if path.timer is not None else current - 1, *own)
        self._known_paths = len(simulation.paths)

    def _append(self, event: Event) -> None:
        index, path = event.index, event.path
        causes: set[int] = set()
        conflicts: set[int] = set()
        before = self._last.get(path)
        if before is None:
            causes.update(starter for starter in self._starter.get(path, ()) if 0 <= starter < index)
        else:
            causes.add(before)
        causes.update(self._last[child] for child in path.joined() if child in self._last)
        reads, writes, *_ = event.operation.footprint
        own = {index}
        for actor in _touched(event):
            for other in self._meet(self._cells.setdefault(actor, _Cells()), index, reads, writes):
                if self.events[other].path is not path:
                    conflicts.add(other)
        if event.operation.clock:
            for other in self._meet(self._clock, index, -1, -1):
                if self.events[other].path is not path:
                    conflicts.add(other)
        causes |= conflicts
        causes -= own
        for cause in causes:
            event.past |= self.events[cause].past | (1 << cause)
        event.causes = sorted(causes)
        event.conflicts = sorted(conflicts - own)
        self.events.append(event)
        self._last[path] = index

    @staticmethod
    def _meet(cells: _Cells, index: int, reads: int, writes: int) -> list[int]:
        met = [
            event
            for event, other_reads, other_writes in cells.touches
            if writes & (other_reads | other_writes) or other_writes & reads
        ]
        if writes == -1:
            cells.touches.clear()
        cells.touches.append((index, reads, writes))
        return met


def _touched(event: Event) -> list[Actor]:
    """The actors in whose memory a step meets others: its own, and for a free all that is embedded in it."""
    return event.actor.family() if event.operation.frees else [event.actor]


def past_of(events: list[Event], index: int) -> list[int]:
    """Indices of all events that happen before one, and its own, in order."""
    mask = events[index].past | (1 << index)
    return [position for position in range(len(events)) if mask >> position & 1]
