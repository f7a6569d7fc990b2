"""How SLUB sizes a cache: object size, slab order, partial limits.

Models calculate_sizes(), calculate_order(), kmem_cache_open() (mm/slub.c, v3.8).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from slabactors.mm.allocator import Geometry
from slabactors.mm.page_alloc import PAGE_SIZE

MAX_OBJECTS_PER_SLAB = 32767
SLUB_MAX_ORDER = 3
MAX_ORDER = 11


@dataclass(frozen=True, slots=True)
class SlubGeometry(Geometry):
    """What a SLUB cache looks like.

    Attributes:
        min_order: the order fallen back to when memory is short.
        min_objects: objects in a slab of that order.
        min_partial: empty slabs are kept while a node lists no more slabs than this.
        cpu_partial: free objects a CPU's partial list may hold before it is drained.
    """

    min_order: int
    min_objects: int
    min_partial: int
    cpu_partial: int


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def get_order(size: int) -> int:
    """The smallest order whose pages hold ``size`` bytes."""
    return max(0, ((size - 1) // PAGE_SIZE).bit_length())


def _slab_order(size: int, want: int, max_order: int, fraction: int) -> int:
    if PAGE_SIZE // size > MAX_OBJECTS_PER_SLAB:
        return get_order(size * MAX_OBJECTS_PER_SLAB) - 1
    start = max(0, (want * size - 1).bit_length() - 12)
    for order in range(start, max_order + 1):
        slab = PAGE_SIZE << order
        if slab >= want * size and slab % size <= slab // fraction:
            return order
    return max_order + 1


def calculate_order(size: int, cpus: int) -> int:
    """The order of a cache's slabs.

    Args:
        size: bytes an object takes, rounded up as `geometry` does.
        cpus: CPUs the kernel was started for; more of them want larger slabs.
    """
    want = min(4 * (cpus.bit_length() + 1), (PAGE_SIZE << SLUB_MAX_ORDER) // size)
    while want > 1:
        for fraction in (16, 8, 4):
            order = _slab_order(size, want, SLUB_MAX_ORDER, fraction)
            if order <= SLUB_MAX_ORDER:
                return order
        want -= 1
    order = _slab_order(size, 1, SLUB_MAX_ORDER, 1)
    if order <= SLUB_MAX_ORDER:
        return order
    order = _slab_order(size, 1, MAX_ORDER, 1)
    if order < MAX_ORDER:
        return order
    raise ValueError(f"no slab holds an object of {size} bytes")


@lru_cache(maxsize=1024)
def geometry(object_size: int, cpus: int, align: int = 8, min_partial: int | None = None) -> SlubGeometry:
    """The geometry of a cache without constructor or debugging.

    Args:
        object_size: bytes asked for.
        cpus: CPUs of the machine.
        align: bytes; a multiple of 8 is made of it.
        min_partial: instead of what is computed from the size.

    Raises:
        ValueError: no slab is large enough, or the size is not positive.
    """
    if object_size < 1:
        raise ValueError(f"object_size must be at least 1 byte, not {object_size}")
    size = _round_up(_round_up(object_size, 8), _round_up(max(align, 8), 8))
    order = calculate_order(size, cpus)
    min_order = get_order(size)
    cpu_partial = 2 if size >= 4096 else 6 if size >= 1024 else 13 if size >= 256 else 30
    return SlubGeometry(
        size=size,
        align=_round_up(max(align, 8), 8),
        order=order,
        objects=(PAGE_SIZE << order) // size,
        min_order=min_order,
        min_objects=(PAGE_SIZE << min_order) // size,
        min_partial=min(10, max(5, (size.bit_length() - 1) // 2)) if min_partial is None else min_partial,
        cpu_partial=cpu_partial,
    )
