"""Footprints: which cells of its actor an operation reads and writes, as bit masks.

Two deliveries to the same actor depend on each other only if they meet in a cell that one of them writes.  Cell names
are interned to bits once per process, so a conflict test in a search is three machine operations.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

EVERYTHING: Final = -1
"""Mask of every cell there is, also of those nobody has named yet."""

_LIFE: Final = 1
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


def footprint(reads: str | Iterable[str] | None, writes: str | Iterable[str] | None, *, frees: bool) -> tuple[int, int]:
    """Masks ``(reads, writes)`` of an operation; nothing declared means that it writes everything of its actor."""
    if frees or (reads is None and writes is None):
        return EVERYTHING, EVERYTHING
    return mask(reads) | mask(writes) | _LIFE, mask(writes)


def conflict(a: tuple[int, int], b: tuple[int, int]) -> bool:
    """Whether two footprints on one actor meet in a cell that one of them writes."""
    return bool(a[1] & (b[0] | b[1]) or b[1] & a[0])
