"""The orders in which CPUs give up what they own when all are asked to at the same time.

A flush of several CPUs is one section for each CPU's current slab and one for its partial list; which of them reaches
a node's list first is not determined.  An order is a tuple of CPU numbers, one for each section.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import permutations
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from slabactors.runtime.sequential import SequentialPath

Order = tuple[int, ...]

_CPU = re.compile(r"(\d+)(?::\d+)?\Z")


class InOrder:
    """Lets CPUs go on in an order of sections; see `slabactors.runtime.sequential.Turns`.

    Args:
        order: whose section is next, and next.
    """

    def __init__(self, order: Order) -> None:
        self._left = [*order]
        self._paths: dict[int, SequentialPath] = {}
        """Who works for each CPU, once that is known."""
        self._left_at = 0
        """How many sections the path whose turn it is had left when its turn began."""
        self._turn: SequentialPath | None = None

    def next(self, ready: Sequence[SequentialPath]) -> SequentialPath:
        """Whose turn it is; as long as somebody is missing, whoever asks the others."""
        for path in ready:
            known = self._paths.get(cpu_of(path))
            # Whoever asks the others has a CPU, too, and on it another one may be asked.
            if known is None or (known.parent is None and path.parent is not None):
                self._paths[cpu_of(path)] = path
        while self._left:
            owner = self._paths.get(self._left[0])
            if owner is None:
                starter = next((one for one in ready if one.parent is None), None)
                if starter is not None:
                    return starter
            elif self._turn is owner and owner.sections > self._left_at:
                pass
            elif owner in ready:
                if self._turn is not owner:
                    self._turn, self._left_at = owner, owner.sections
                return owner
            elif not owner.done and not owner.request[0].parks:
                break  # it waits for a lock that another one holds
            self._left.pop(0)
            self._turn = None
        return ready[0]


def cpu_of(path: SequentialPath) -> int:
    """The CPU that a path runs on, by its lane; -1 for none."""
    found = _CPU.search(path.lane)
    return int(found[1]) if found is not None else -1


def orders(sections: Mapping[int, int]) -> Iterator[Order]:
    """Every order: first CPU by CPU, then section by section.

    Args:
        sections: how many each CPU has.
    """
    whole = [tuple(cpu for cpu in one for _ in range(sections[cpu])) for one in permutations(sorted(sections))]
    yield from whole
    seen = set(whole)
    for order in _interleavings({cpu: count for cpu, count in sorted(sections.items()) if count}):
        if order not in seen:
            yield order


def _interleavings(left: dict[int, int]) -> Iterator[Order]:
    if not left:
        yield ()
        return
    for cpu in left:
        rest = {other: count - (other == cpu) for other, count in left.items() if count > (other == cpu)}
        for order in _interleavings(rest):
            yield (cpu, *order)
