"""Which steps each step of a run comes directly after, worked out while the run goes on and in little memory.

The same relation as in `slabactors.runtime.history`, for either driver.  A step that is known to stand behind another
one is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple
from weakref import WeakKeyDictionary

from slabactors.actors import Actor
from slabactors.actors.footprint import EVERYTHING, LIFE
from slabactors.runtime.step import Lineage, PathView, Step


class _Touch(NamedTuple):
    """That a step of a path has touched cells of an actor."""

    step: int
    path: PathView
    reads: int
    writes: int


@dataclass(slots=True)
class _Seen:
    """What is known of one path: its last step, and how many of those that it waited for have been looked at."""

    last: int
    joins: int


class Causes:
    """Looks at the steps of a run one by one.

    What it keeps goes with the paths and the actors that are still there: a touch is forgotten when a later one stands
    for it.
    """

    def __init__(self) -> None:
        self._paths: dict[PathView, _Seen] = {}
        self._touches: WeakKeyDictionary[Actor, list[_Touch]] = WeakKeyDictionary()
        self._clock: list[_Touch] = []

    def of(self, step: Step) -> list[int]:
        """The earlier steps that this one comes directly after, in order: its path's own, that which spawned the path,
        the last ones of those that it waited for, and those that it met in a cell that one of the two writes."""
        path, index = step.path, step.index
        causes = set()
        seen = self._paths.get(path)
        if seen is None:
            seen = self._paths[path] = _Seen(-1, 0)
            causes.add(path.born if isinstance(path, Lineage) else -1)
        else:
            causes.add(seen.last)
        if isinstance(path, Lineage) and len(path.joins) > seen.joins:
            seen.joins = len(path.joins)
            causes.update(self._paths[child].last for child in path.joined() if child in self._paths)
        seen.last = index
        operation = step.operation
        reads, writes, *_ = operation.footprint
        touch = _Touch(index, path, reads, writes)
        for actor in step.actor.family() if operation.frees else (step.actor,):
            causes.update(_meet(self._touches.setdefault(actor, []), touch))
        if operation.clock:
            causes.update(_meet(self._clock, _Touch(index, path, EVERYTHING, EVERYTHING)))
        causes.discard(-1)
        causes.discard(index)
        return sorted(causes)


def _meet(touches: list[_Touch], touch: _Touch) -> list[int]:
    """The steps that one meets in cells of an actor; those that it stands for from now on are forgotten."""
    _, path, reads, writes = touch
    met = [
        other.step
        for other in touches
        if other.path is not path and (writes & (other.reads | other.writes) or other.writes & reads)
    ]
    touches[:] = [other for other in touches if not _stands_for(touch, other)]
    touches.append(touch)
    return met


def _stands_for(touch: _Touch, other: _Touch) -> bool:
    """Whether whoever will meet the older of two touches meets the newer one, too, which comes after it."""
    cells = (other.reads | other.writes) & ~LIFE
    if cells and not cells & ~touch.writes:
        return True
    return other.path is touch.path and not other.reads & ~touch.reads and not other.writes & ~touch.writes
