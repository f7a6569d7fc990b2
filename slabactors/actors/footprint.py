"""Footprints: which cells of its actor an operation reads and writes, as bit masks.

Two deliveries to the same actor depend on each other only if they meet in a cell that one of them writes.  Cell names
are interned to bits once per process, so a conflict test in a search is three machine operations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

EVERYTHING: Final = -1
"""Mask of every cell there is, also of those nobody has named yet."""

LIFE: Final = 1
"""Bit of the cell that every operation reads and that freeing writes: is the object still there?"""

_bits: dict[str, int] = {}


def mask(cells: str | Iterable[str] | None) -> int:
    """The mask of some cell names: blank-separated in one string, or an iterable; ``"*"`` means every cell."""
    if cells is None:
        return 0
    names = cells.split() if isinstance(cells, str) else list(cells)
    if "*" in names:
        return EVERYTHING
    result = 0
    for name in names:
        result |= _bits.setdefault(name, 2 << len(_bits))
    return result


class Reach(NamedTuple):
    """What one delivery meets, in the state in which it is made.

    Attributes:
        reads: mask of the cells that it reads.
        writes: mask of the cells that it writes.
        counter: mask of the cell that it counts down, without reaching zero; 0 for none.
        takes: by how much.
        left: what is left on it afterwards.
    """

    reads: int
    writes: int
    counter: int = 0
    takes: int = 0
    left: int = 0

    def conflicts(self, other: Reach) -> bool:
        """Whether two deliveries to one actor meet in a cell that one of them writes; counting down commutes."""
        if self.writes & (other.reads | other.writes) or other.writes & self.reads:
            return True
        if self.counter and _meets_counter(self, other):
            return True
        return bool(other.counter and _meets_counter(other, self))


def _meets_counter(counting: Reach, other: Reach) -> bool:
    return bool(counting.counter & (other.writes | (other.reads if counting.takes else 0)))


def footprint(reads: str | Iterable[str] | None, writes: str | Iterable[str] | None, *, frees: bool) -> Reach:
    """What an operation may meet; nothing declared means that it writes everything of its actor."""
    if frees or (reads is None and writes is None):
        return Reach(EVERYTHING, EVERYTHING)
    return Reach(mask(reads) | mask(writes) | LIFE, mask(writes))


class Narrow:
    """A smaller footprint that an operation has in some states.

    It is asked for before the step, with the operation's own arguments.  What it looks at must be among the cells of
    the smaller footprint: a step that meets none of these must not change the answer.

    Args:
        when: whether the operation has the smaller footprint now.
        reads: cells read then, as in `operation`.
        writes: cells written then.
    """

    __slots__ = ("_reach", "_when")

    def __init__(
        self,
        when: Callable[..., bool],
        *,
        reads: str | Iterable[str] | None = None,
        writes: str | Iterable[str] | None = None,
    ) -> None:
        self._when = when
        self._reach = Reach(mask(reads) | mask(writes) | LIFE, mask(writes))

    def reach(self, actor: Any, args: tuple[Any, ...]) -> Reach | None:
        """What the operation meets now, if it is in such a state."""
        return self._reach if self._when(actor, *args) else None


class CountsDown:
    """The footprint of an operation that takes from a counter and does something else only when nothing is left.

    While something is left, such operations commute with each other: ``atomic_dec_and_test()`` that is false.  The
    reply must not say how much is left.  One that takes nothing asks whether the counter is zero.

    Args:
        cell: the counter's cell.
        value: what is on it now.
        takes: how much the operation would take, given its own arguments.
        reads: other cells read while something is left.
        writes: other cells written while something is left.
    """

    __slots__ = ("_counter", "_reads", "_takes", "_value", "_writes")

    def __init__(
        self,
        cell: str,
        value: Callable[[Any], int],
        takes: Callable[..., int],
        *,
        reads: str | Iterable[str] | None = None,
        writes: str | Iterable[str] | None = None,
    ) -> None:
        self._counter = mask(cell)
        self._value = value
        self._takes = takes
        self._writes = mask(writes)
        self._reads = mask(reads) | self._writes | LIFE

    def reach(self, actor: Any, args: tuple[Any, ...]) -> Reach | None:
        """What the operation meets now, if something is left."""
        takes = self._takes(actor, *args)
        left = self._value(actor) - takes
        if left <= 0 or takes < 0:
            return None
        return Reach(self._reads, self._writes, self._counter, takes, left)
