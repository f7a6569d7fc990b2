"""What happened before what in the run at hand, in terms that hold from run to run.

Everything is by name: the key of a path, the name of an actor.  Two runs that begin alike name the same things alike,
so what a step of one run depends on can be compared with a step of another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from slabactors.actors import Actor, Operation
from slabactors.actors.footprint import Reach
from slabactors.runtime.simulated import SimPath, Simulation

Elem = tuple[str, int | None]
"""A process of a wakeup sequence, by the key of its path; with the value, for what ``choose()`` returned."""


NOWHERE = Reach(0, 0)
"""What a choice meets."""


@dataclass(slots=True)
class Dep:
    """What a step depends on, in terms that hold from run to run.

    Attributes:
        elem: whose step it is.
        actor: the name of the actor that the step is taken at; empty for a choice.
        reach: which cells of it.
        embedded: for a step that frees, the names of what goes with the object.
        clock: it reads or sets the clock.
    """

    elem: Elem
    actor: str = ""
    reach: Reach = NOWHERE
    embedded: tuple[str, ...] = ()
    clock: bool = False

    def conflicts(self, other: Dep) -> bool:
        """Whether two steps of different paths meet somewhere."""
        if self.actor == other.actor and self.reach.conflicts(other.reach):
            return True
        if self.clock and other.clock:
            return True
        return other.actor in self.embedded or self.actor in other.embedded

    def shares_counter(self, other: Dep) -> bool:
        """Whether both count the same counter down."""
        return self.actor == other.actor and bool(self.reach.counter & other.reach.counter)

    def after(self, other: Dep) -> Dep | None:
        """The same step when another has come first with which it does not conflict; None when they do after all.

        They do when both take from a counter and nothing would be left.
        """
        if not other.reach.takes or not self.shares_counter(other):
            return self
        left = self.reach.left - other.reach.takes
        return replace(self, reach=self.reach._replace(left=left)) if left > 0 else None


def dep_of(key: str, operation: Operation, actor: Actor, reach: Reach | None = None) -> Dep:
    """The dependences of a delivery; with its footprint whatever the state unless what it meets is given."""
    embedded: tuple[str, ...] = ()
    if operation.frees and actor.embedded:
        embedded = tuple(member.name for member in actor.family()[1:])
    return Dep((key, None), actor.name, reach or operation.footprint, embedded, operation.clock)


@dataclass(slots=True)
class Event:
    """One step of the run at hand.

    Attributes:
        dep: what it depends on.
        guarded: it could have had to wait.
        past: mask of the events that happen before it.
        causal: mask of those of them that it could not have come before: its path's own, and what led to it.
        conflicts: the earlier steps of others that it meets in a cell, and that did not lead to it; in order.
        name: of the operation.
        whole: with the footprint that the step has whatever the state, when it was taken with a smaller one.
    """

    dep: Dep
    guarded: bool
    past: int
    causal: int
    conflicts: list[int]
    name: str = ""
    whole: Dep | None = None


class Recorder:
    """Writes down the events of one guided run after another; the part that every exhaustive guide shares."""

    forced = True

    def __init__(self) -> None:
        self.begin(None)

    def begin(self, simulation: Simulation | None) -> None:
        """Forget the run before."""
        self.exhausted = False
        self.events: list[Event] = []
        self._last: dict[str, int] = {}
        self._woken: dict[SimPath, list[int]] = {}
        self._known = 0
        self._barrier = -1
        self._touching: dict[str, list[int]] = {}
        """For each actor, the events at it, and those that freed it with what holds it."""
        self._clocked: list[int] = []
        self._simulation = simulation

    def follow(self, simulation: Simulation) -> None:
        """The run that is about to start."""
        self.begin(simulation)

    def pick(self, enabled: Sequence[SimPath]) -> SimPath:
        """The second act is not explored."""
        return enabled[0]

    def choose(self, count: int) -> int:
        """Unused: a guide is asked by ``choose_for``."""
        return 0

    def write(self, dep: Dep, path: SimPath, *, guarded: bool, barrier: bool) -> Event:
        """The next event of the run."""
        event = self.event(dep, path, guarded=guarded, barrier=barrier)
        if barrier:
            self._barrier = len(self.events)
        index = len(self.events)
        self._last[dep.elem[0]] = index
        for name in (dep.actor, *dep.embedded):
            self._touching.setdefault(name, []).append(index)
        if dep.clock:
            self._clocked.append(index)
        self.events.append(event)
        return event

    def resumed(self) -> None:
        """Write down who was started by the step."""
        self._learn_paths()

    def event(self, dep: Dep, path: SimPath, *, guarded: bool, barrier: bool) -> Event:
        """What a step would be if it came next.

        Args:
            dep: what it depends on.
            path: whose step it is.
            guarded: it can wait for a guard, or for time.
            barrier: time passes in it because nothing else can move.
        """
        causes = list(range(len(self.events))) if barrier else self._causes(dep.elem[0], path)
        causal = 0
        for cause in causes:
            causal |= self.events[cause].past | (1 << cause)
        past = causal
        if self._barrier >= 0:
            # Not causal: what waited for its guard when time passed might have gone on before, in another order.
            past |= self.events[self._barrier].past | (1 << self._barrier)
        conflicts = []
        for index in self._candidates(dep):
            earlier = self.events[index]
            if earlier.dep.elem[0] != dep.elem[0] and earlier.dep.conflicts(dep):
                past |= earlier.past | (1 << index)
                if not causal >> index & 1:
                    conflicts.append(index)
        return Event(dep, guarded, past, causal, conflicts)

    def _candidates(self, dep: Dep) -> Sequence[int]:
        """The events that a step could meet, by what they touch; in order."""
        here = self._touching.get(dep.actor, [])
        if not dep.embedded and not dep.clock:
            return here
        found = set(here)
        for name in dep.embedded:
            found.update(self._touching.get(name, ()))
        if dep.clock:
            found.update(self._clocked)
        return sorted(found)

    def _causes(self, key: str, path: SimPath) -> list[int]:
        """What a path's step comes after, whatever the schedule: its own last one, what woke it, whom it joined."""
        causes = []
        if key in self._last:
            causes.append(self._last[key])
        causes.extend(self._woken.get(path, ()))
        if path.joins:  # few paths wait for others, and this is asked of every step
            causes.extend(self._last[child.key] for child in path.joined() if child.key in self._last)
        return causes

    def _learn_paths(self) -> None:
        """Paths and timers that the last step has made."""
        simulation = self._simulation
        assert simulation is not None
        if self.events:
            for path in simulation.paths[self._known :]:
                # After the step at hand, and after all that its spawner's own next step would come after: the step may
                # be that of another path, for which the spawner was only waiting.
                parent = path.parent
                before = [] if parent is None else self._causes(parent.key, parent)
                self._woken[path] = [len(self.events) - 1, *before]
        self._known = len(simulation.paths)


def trace_key(events: Sequence[Event]) -> frozenset[tuple[object, ...]]:
    """What two runs have in common that differ only in the order of independent steps: each step with those it met.

    Args:
        events: of one run, or of the beginning of one.
    """
    names: list[tuple[str, int | None, int]] = []
    seen: dict[str, int] = {}
    key = []
    for event in events:
        process, value = event.dep.elem
        seen[process] = seen.get(process, -1) + 1
        name = process, value, seen[process]
        met = [
            names[index]
            for index, earlier in enumerate(events[: len(names)])
            if earlier.dep.elem[0] != process and earlier.dep.conflicts(event.dep)
        ]
        names.append(name)
        key.append((*name, event.dep.actor, event.dep.reach.writes, frozenset(met)))
    return frozenset(key)
