"""Exhaustive search: one execution for every Mazurkiewicz trace (optimal dynamic partial-order reduction).

Two steps are dependent when they are by the same path, when one led to the other (spawned it, woke it, armed it), or
when their footprints meet in a cell of one actor that one of them writes.  Executions that differ only in the order of
independent steps are one trace.  After each run, every race of it (two dependent steps that could have come in the
other order) is turned into a *wakeup sequence*: what has to be run from there to see the other order.  Sleep sets say
what was explored already.

The one departure from the textbook (Abdulla, Aronis, Jonsson, Sagonas: Source Sets): a step that can wait for a guard
is raced against every earlier step it conflicts with, not only the nearest, and what still waits at the end of a run is
raced, too; otherwise the orders in which a lock was not free are lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from slabactors.actors import Actor, Operation
from slabactors.actors.footprint import Reach
from slabactors.explore.determinism import not_repeated
from slabactors.explore.happens_before import Dep, Elem, Event, Recorder, dep_of
from slabactors.runtime.guided import GuidedSimulation
from slabactors.runtime.simulated import SimPath, Simulation


@dataclass(slots=True)
class Branch:
    """A node of a wakeup tree: what to run next, and what after that."""

    dep: Dep
    tree: list[Branch] = field(default_factory=list)
    explored: bool = False
    """A complete run went through it."""
    uncertain: bool = False
    """It may have to wait for a guard here; then it cannot be run, and covers nothing."""
    absorbed: list[list[tuple[Dep, int]]] = field(default_factory=list)
    """Sequences that it was taken to cover, in case it does not."""


@dataclass(slots=True)
class Frame:
    """A state on the way to where the search is.

    Attributes:
        sleep: what was explored from here, or is covered elsewhere; by process.
        tree: what is to be explored from here; the first branch is under way.
        current: what is being explored.
        finished: how many branches are done.
        met: what could come next here when it was first come to: paths with their operations, or how many values.
    """

    sleep: dict[Elem, Dep]
    tree: list[Branch]
    current: Branch | None = None
    finished: int = 0
    met: Sequence[object] = ()


PLANNED_BETWEEN_LOOKS: Final = 200
"""Steps whose races are planned between two looks at the clock."""


@dataclass(slots=True)
class Statistics:
    """How a search went.

    Attributes:
        executions: complete runs: one a trace.
        blocked: runs in which everything enabled was asleep; none, if the algorithm is right.
        probes: runs given up because a planned step turned out to wait for a guard, or to meet so little that it had
            been explored already.
        deliveries: steps in all runs.
        depth: the most steps of one run.
        races: reversals planned.
    """

    executions: int = 0
    blocked: int = 0
    probes: int = 0
    deliveries: int = 0
    depth: int = 0
    races: int = 0


class Dpor(Recorder):
    """The guide of a `GuidedSimulation` that explores every trace once.

    Use it for one run after another until `advance` says that nothing is left::

        while True:
            program.execute(dpor, driver=GuidedSimulation)
            if not dpor.advance():
                break
    """

    name = "dpor"

    late: Callable[[], bool] = staticmethod(lambda: False)
    """Asked while a run is looked through for races, which takes minutes when it is long: whether to give up."""
    cut = False
    """It was given up: races were left out, and the search must not go on."""

    def __init__(self) -> None:
        self.stack: list[Frame] = []
        self.statistics = Statistics()
        super().__init__()

    def begin(self, simulation: Simulation | None) -> None:
        """Forget the run before, and keep where the search is."""
        super().begin(simulation)
        self.complete = False
        self._redundant = False
        """What was planned has turned out to be explored already, and then somebody chose a value."""
        self._depth = 0
        self._delivered: list[int] = []
        self._enabled_at: list[dict[str, SimPath]] = []
        self._last_key = ""
        self._repeats = len(self.stack) - 1
        """How many steps are those of the run before; the one after them is the first that is another."""

    def next(self, enabled: Sequence[SimPath]) -> SimPath | None:
        """The next path of the run: as planned, else the one that ran last if it can, else the oldest."""
        self._learn_paths()
        simulation = self._simulation
        assert isinstance(simulation, GuidedSimulation)
        depth = self._depth
        by_key = {path.key: path for path in enabled}
        if depth < len(self.stack):
            frame = self.stack[depth]
            if depth == self._repeats and frame.met != _pending(enabled):
                raise not_repeated(depth)
        else:
            frame = Frame(*self._inherit(), met=_pending(enabled))
            if self._redundant:
                self._give_up()
                return None
            if not frame.tree and self._tries_all(simulation):
                frame.tree.extend(Branch(dep_of(path.key, *path.request[:2])) for path in enabled)
            if self._is_redundant(frame):
                if frame.tree:
                    frame.current = frame.tree[0]
                    self.stack.append(frame)  # there may be more planned here
                self._give_up()
                return None
            if not frame.tree:
                awake = [key for key in by_key if (key, None) not in frame.sleep]
                if not awake:
                    self._block()
                    return None
                oldest = min(awake, key=lambda one: by_key[one].id)
                key = self._last_key if self._last_key in awake else oldest
                operation, actor, _ = by_key[key].request
                frame.tree.append(Branch(dep_of(key, operation, actor)))
            frame.current = frame.tree[0]
            self.stack.append(frame)
        assert frame.current is not None
        path = by_key.get(frame.current.dep.elem[0])
        if path is None:
            self.statistics.probes += 1
            return None
        self._enabled_at.append(by_key)
        self._last_key = path.key
        return path

    def delivered(
        self, path: SimPath, operation: Operation, actor: Actor, reach: Reach, *, timer: bool, barrier: bool
    ) -> None:
        """Write down the step, and go to the next frame."""
        self.statistics.deliveries += 1
        dep = dep_of(path.key, operation, actor, reach)
        event = self.write(dep, path, guarded=timer or operation.guard is not None, barrier=barrier)
        event.name = operation.name
        if operation.narrow:
            event.whole = dep_of(path.key, operation, actor)
        self._delivered.append(len(self.events) - 1)
        self._step(event)

    def _tries_all(self, simulation: GuidedSimulation) -> bool:
        """Whether every step that is possible in a new state is to be taken: each of several timers may be first."""
        return simulation.idle

    def _give_up(self) -> None:
        """What was planned is not explored, for it was before."""
        self.statistics.probes += 1

    def _block(self) -> None:
        """Everything that is possible sleeps."""
        self.statistics.blocked += 1

    def _is_redundant(self, frame: Frame) -> bool:
        """Whether what was planned up to here has turned out to be explored already.

        A step is planned with the largest footprint that it may have.  With the one it has, the sequence may begin as
        well with a step that sleeps: then that step still sleeps when the sequence is over, or is its next one.
        """
        if frame.tree:
            return frame.tree[0].dep.elem in frame.sleep
        return bool(frame.sleep and self.events and self.events[-1].whole is not None)

    def position_of(self, delivery: int) -> int | None:
        """The index of the event of the run's n-th delivery, counted from 1; choices are events as well."""
        return self._delivered[delivery - 1] if 0 < delivery <= len(self._delivered) else None

    def progress(self) -> float:
        """An estimate of the explored share: as if what is planned at each state were all, and all alike."""
        share = 1.0
        done = 0.0
        for frame in self.stack:
            branches = len(frame.tree) + frame.finished
            done += share * frame.finished / branches
            share /= branches
        return done

    def choose_for(self, path: SimPath, count: int) -> int:
        """The value of this branch; all of them are explored in the end."""
        self._learn_paths()
        key = path.key
        if self._depth < len(self.stack):
            frame = self.stack[self._depth]
            if frame.met != [(key, count)]:
                raise not_repeated(self._depth)
        else:
            frame = Frame(*self._inherit(), met=[(key, count)])
            if not frame.tree:
                # A choice that is part of a wakeup sequence was met before, and its other values are explored there.
                self._redundant = self._redundant or self._is_redundant(frame)
                values = range(1) if self._redundant else range(count)
                frame.tree.extend(Branch(Dep((key, value))) for value in values)
            frame.current = frame.tree[0]
            assert frame.current.dep.elem[0] == key
            self.stack.append(frame)
        assert frame.current is not None
        self._enabled_at.append({})
        chosen = frame.current.dep.elem[1]
        assert chosen is not None
        self._step(self.write(frame.current.dep, path, guarded=False, barrier=False))
        return chosen

    def _step(self, event: Event) -> None:
        frame = self.stack[self._depth]
        assert frame.current is not None
        if self._depth < self._repeats and (
            frame.current.dep.elem != event.dep.elem or frame.current.dep.actor != event.dep.actor
        ):
            raise not_repeated(self._depth)
        # As delivered: what was planned may have been seen in another run.
        frame.current.dep = event.dep
        self._depth += 1

    def _inherit(self) -> tuple[dict[Elem, Dep], list[Branch]]:
        """What sleeps in the state after the last step, and what was planned for it."""
        if not self._depth:
            return {}, []
        frame, dep = self.stack[self._depth - 1], self.events[self._depth - 1].dep
        assert frame.current is not None
        sleep = {}
        for elem, asleep in frame.sleep.items():
            if elem[0] == dep.elem[0] or asleep.conflicts(dep):
                continue
            still = asleep.after(dep)
            if still is not None:
                sleep[elem] = still
        return sleep, frame.current.tree

    def finished(self, simulation: GuidedSimulation) -> None:
        """The run is complete; what still waits is raced, too."""
        self.exhausted = True
        if self._redundant:
            self._give_up()
            simulation.given_up = True
            return
        self.complete = True
        statistics = self.statistics
        statistics.executions += 1
        statistics.depth = max(statistics.depth, len(self.events))
        for frame in self.stack:
            assert frame.current is not None
            frame.current.explored = True
        self._plan(self._waiting())

    def _waiting(self) -> list[SimPath]:
        """The paths that will not go on in this run, and might in another one."""
        simulation = self._simulation
        assert isinstance(simulation, GuidedSimulation)
        return [path for path in simulation.paths if path not in simulation.stopped and _in_vain(path)]

    # -- between runs ----------------------------------------------------------------------------------------------

    def _plan(self, waiting: list[SimPath]) -> None:
        """Turn the races of the run into wakeup sequences."""
        events = self.events
        count = len(events)
        # All of them, also those within the part that the last run had, too: what has to run before a reversal may
        # depend on what was chosen since.
        for index in range(count):
            if index % PLANNED_BETWEEN_LOOKS == PLANNED_BETWEEN_LOOKS - 1 and self.late():
                self.cut = True
                return
            event = events[index]
            for first in self._races(event, index):
                self._reverse(first, index, event)
        for path in waiting:
            operation, actor, _ = path.request
            virtual = self.event(dep_of(path.key, operation, actor), path, guarded=True, barrier=False)
            for first in self._races(virtual, count):
                self._reverse(first, count, virtual)

    def _races(self, event: Event, index: int) -> Iterator[int]:
        """The earlier events that a step races with."""
        events = self.events
        if event.guarded:
            yield from event.conflicts
            return
        for earlier in event.conflicts:
            between = any(
                events[middle].past >> earlier & 1 and event.past >> middle & 1 for middle in range(earlier + 1, index)
            )
            if not between:
                yield earlier

    def _reverse(self, first: int, second: int, event: Event) -> None:
        """Plan to see ``second`` before ``first``: what has to run from the state before ``first``, in order."""
        events = self.events
        dep = self._as_reversed(event)
        sequence: list[tuple[Dep, int]] = []
        for index in range(first + 1, len(events)):
            past = events[index].past
            if index == second or past >> first & 1 or (second < len(events) and past >> second & 1):
                continue
            sequence.append((events[index].dep, index))
        sequence.append((dep, second))
        frame = self.stack[first]
        if event.dep.elem[0] not in self._enabled_at[first] and self._surely_waits(event, sequence):
            return
        if self._is_covered(frame, sequence):
            return
        self.statistics.races += 1
        self._insert(frame.tree, sequence, uncertain=event.guarded or event.whole is not None)

    @staticmethod
    def _as_reversed(event: Event) -> Dep:
        """What a step may meet when it comes before one that it depends on: the state is another one then."""
        return event.dep if event.whole is None else event.whole

    @staticmethod
    def _surely_waits(event: Event, sequence: list[tuple[Dep, int]]) -> bool:
        """Whether a step that had to wait where its sequence begins would wait at its end: nothing changes that."""
        return event.guarded and not any(
            event.causal >> index & 1 or other.conflicts(event.dep) for other, index in sequence[:-1]
        )

    def _is_covered(self, frame: Frame, sequence: list[tuple[Dep, int]]) -> bool:
        """Whether a run of the sequence could as well begin with a step that sleeps, and so was explored already."""
        return any(self._is_initial(asleep, sequence) for asleep in frame.sleep.values())

    def _is_initial(self, dep: Dep, sequence: list[tuple[Dep, int]]) -> bool:
        """Whether a run of the sequence could as well begin with this step (a weak initial)."""
        before: list[Dep] = []
        for other, _ in sequence:
            if other.elem == dep.elem:
                return not any(earlier.conflicts(other) or earlier.elem[0] == other.elem[0] for earlier in before)
            before.append(other)
        taken = 0
        for other in before:
            if other.conflicts(dep) or other.elem[0] == dep.elem[0]:
                return False
            if dep.shares_counter(other):
                taken += other.reach.takes
        # Steps that count down commute as long as something is left after all of them.
        return not taken or taken < dep.reach.left

    def _insert(self, tree: list[Branch], sequence: list[tuple[Dep, int]], *, uncertain: bool) -> None:
        """Add a wakeup sequence to a tree, unless what is there covers it.

        Args:
            tree: of the state that the sequence is to be run from.
            sequence: the steps, in order.
            uncertain: whether the last of them may turn out to have to wait.
        """
        while True:
            for branch in tree:
                if self._is_initial(branch.dep, sequence):
                    if branch.uncertain:
                        branch.absorbed.append(list(sequence))
                    for position, (dep, _) in enumerate(sequence):
                        if dep.elem == branch.dep.elem:
                            del sequence[position]
                            break
                    if not branch.tree:
                        return
                    tree = branch.tree
                    break
            else:
                for dep, _ in sequence:
                    added = Branch(dep, uncertain=uncertain and dep is sequence[-1][0])
                    tree.append(added)
                    tree = added.tree
                return

    def advance(self) -> bool:
        """Go back to the deepest state with something left to explore; false when there is none."""
        stack = self.stack
        while stack:
            frame = stack[-1]
            assert frame.current is not None
            if frame.current.explored:
                # A planned branch that could not be run to its end has not been explored, and covers nothing.
                frame.sleep[frame.current.dep.elem] = frame.current.dep
            frame.tree.remove(frame.current)
            frame.finished += 1
            if not frame.current.explored:
                for sequence in frame.current.absorbed:
                    if not self._is_covered(frame, sequence):
                        self._insert(frame.tree, sequence, uncertain=True)
            while frame.tree and frame.tree[0].dep.elem in frame.sleep:
                frame.tree.pop(0)
            if frame.tree:
                frame.current = frame.tree[0]
                return True
            stack.pop()
        return False


def _pending(enabled: Sequence[SimPath]) -> Sequence[object]:
    """What can come next in a state, to see whether it is the same when it is come to again."""
    return [(path.key, path.request[0].name) for path in enabled]


def _in_vain(path: SimPath) -> bool:
    """Whether a path waits for its guard to the end, or is a timer that was set and did not fire."""
    if path.timer is not None:
        return path.deadline is not None
    return not path.done and path.index < 0 and path.deadline is None and path.request[0].guard is not None
