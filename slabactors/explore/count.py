"""Exact counting by brute force, without any reduction: the oracle of `slabactors.explore.dpor`, and a debugging tool.

Both ways run the program anew for every step they take, and hold everything they have seen: small programs only.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

from slabactors.actors import Actor, Operation
from slabactors.actors.footprint import Reach
from slabactors.explore.happens_before import Dep, Elem, Recorder, dep_of, trace_key
from slabactors.explore.program import Execution, Program
from slabactors.runtime.guided import GuidedSimulation
from slabactors.runtime.simulated import SimPath
from slabactors.runtime.step import TimePolicy


class _Prefix(Recorder):
    """Follows the beginning of a run, and says what could come next."""

    def __init__(self, prefix: Sequence[Elem]) -> None:
        super().__init__()
        self._prefix = prefix
        self.next_elems: list[Elem] = []
        self.maximal = False

    def next(self, enabled: Sequence[SimPath]) -> SimPath | None:
        """The next step of the beginning; None when that is over."""
        self._learn_paths()
        position = len(self.events)
        if position < len(self._prefix):
            key = self._prefix[position][0]
            return next(path for path in enabled if path.key == key)
        if not self.next_elems:
            self.next_elems = [(path.key, None) for path in enabled]
        return None

    def choose_for(self, path: SimPath, count: int) -> int:
        """The next value of the beginning; when that is over, any value could come next, and the first one does."""
        self._learn_paths()
        position = len(self.events)
        value = 0
        if position < len(self._prefix):
            chosen = self._prefix[position][1]
            assert chosen is not None
            value = chosen
        elif not self.next_elems:
            self.next_elems = [(path.key, value) for value in range(count)]
        self.write(Dep((path.key, value)), path, guarded=False, barrier=False)
        return value

    def delivered(
        self, path: SimPath, operation: Operation, actor: Actor, reach: Reach, *, timer: bool, barrier: bool
    ) -> None:
        """Write down a step."""
        dep = dep_of(path.key, operation, actor, reach)
        self.write(dep, path, guarded=timer or operation.guard is not None, barrier=barrier)

    def finished(self, simulation: GuidedSimulation) -> None:
        """Nothing moves any more."""
        self.exhausted = True
        self.maximal = len(self.events) == len(self._prefix)


@dataclass(slots=True)
class Counted:
    """What there is to see in a program.

    Attributes:
        traces: keys of its complete traces.
        outcomes: what was observed in complete runs.
        runs: how many complete runs there are (interleavings, or traces).
        steps: partial runs looked at.
    """

    traces: set[frozenset[tuple[object, ...]]] = field(default_factory=set)
    outcomes: set[Hashable] = field(default_factory=set)
    runs: int = 0
    steps: int = 0


def count(
    program: Program,
    *,
    observe: Callable[[Execution], Hashable] = lambda execution: None,
    time: TimePolicy | None = None,
    merge: bool = True,
    steps_max: int = 1_000_000,
) -> Counted:
    """Count the traces of a program, level by level: every partial trace is extended by every step that is possible.

    Args:
        program: what to run.
        observe: what to collect of each complete run; must not depend on the order of independent steps.
        time: overrides the program's own policy.
        merge: extend each distinct partial trace once; without it, every interleaving is run (and `Counted.runs` is how
            many there are).
        steps_max: how many partial runs at most.

    Raises:
        OverflowError: there are more.
    """
    counted = Counted()
    level: list[tuple[Elem, ...]] = [()]
    while level:
        following: list[tuple[Elem, ...]] = []
        seen: set[frozenset[tuple[object, ...]]] = set()
        for prefix in level:
            counted.steps += 1
            if counted.steps > steps_max:
                raise OverflowError(f"more than {steps_max} partial runs")
            guide = _Prefix(prefix)
            execution = program.execute(guide, time=time, driver=GuidedSimulation)
            key = trace_key(guide.events[: len(prefix)])
            if merge and key in seen:
                program.dispose(execution)
                continue
            seen.add(key)
            if guide.maximal:
                counted.runs += 1
                counted.traces.add(key)
                counted.outcomes.add(observe(execution))
            following.extend((*prefix, elem) for elem in guide.next_elems)
            program.dispose(execution)
        level = following
    return counted
