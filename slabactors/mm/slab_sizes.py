"""How SLAB sizes a cache: object size, slab order, where the descriptor goes, colours, and the tunables of its arrays.

Models kmem_cache_create(), calculate_slab_order(), cache_estimate() and enable_cpucache() (mm/slab.c, v3.8), and
calculate_alignment() (mm/slab_common.c, v3.8).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from slabactors.mm.allocator import CacheSpec, Geometry
from slabactors.mm.page_alloc import PAGE_SIZE
from slabactors.mm.sizes import CACHE_LINE_SIZE, calculate_alignment, round_up

KMALLOC_MAX_ORDER: Final = 10
SLAB_MAX_ORDER: Final = 1
"""Of a machine with more than 32 MB; one with less has 0."""
STRUCT_SLAB: Final = 48
BUFCTL: Final = 4


@dataclass(frozen=True, slots=True)
class SlabGeometry(Geometry):
    """What a SLAB cache looks like.

    Attributes:
        off_slab: the descriptor of a slab lies outside its pages.
        management: bytes of a slab's descriptor with its index of free objects.
        colour: how many different offsets the first object of a slab can have.
        colour_off: bytes from one such offset to the next.
        limit: objects that a CPU's array holds at most.
        batchcount: objects that are moved at a time.
        shared: capacity of the array that CPUs share, in batches; 0 for no such array.
    """

    off_slab: bool
    management: int
    colour: int
    colour_off: int
    limit: int
    batchcount: int
    shared: int


def _estimate(order: int, size: int, align: int, *, off_slab: bool) -> tuple[int, int]:
    """Objects in a slab of an order, and the bytes left over.  Models cache_estimate() (mm/slab.c, v3.8)."""
    slab = PAGE_SIZE << order
    if off_slab:
        return slab // size, slab % size
    objects = max(0, slab - STRUCT_SLAB) // (size + BUFCTL)
    if _management(objects, align) + objects * size > slab:
        objects -= 1
    return objects, slab - objects * size - _management(objects, align)


def _management(objects: int, align: int) -> int:
    return round_up(STRUCT_SLAB + BUFCTL * objects, align)


def _order(size: int, align: int, *, off_slab: bool, reclaimable: bool) -> tuple[int, int, int]:
    """Order, objects and bytes left over of a slab.  Models calculate_slab_order() (mm/slab.c, v3.8)."""
    found: tuple[int, int, int] | None = None
    for order in range(KMALLOC_MAX_ORDER + 1):
        objects, left = _estimate(order, size, align, off_slab=off_slab)
        if objects <= 0:
            continue
        if off_slab and objects > (size - STRUCT_SLAB) // BUFCTL:
            break
        found = order, objects, left
        if reclaimable or order >= SLAB_MAX_ORDER or left * 8 <= PAGE_SIZE << order:
            break
    if found is None:
        raise ValueError(f"no slab holds an object of {size} bytes")
    return found


def _limit(size: int) -> int:
    if size > 131072:
        return 1
    if size > PAGE_SIZE:
        return 8
    if size > 1024:
        return 24
    return 54 if size > 256 else 120


@lru_cache(maxsize=1024)
def geometry(spec: CacheSpec, cpus: int) -> SlabGeometry:
    """The geometry of a cache of the machine that has so many CPUs.

    Args:
        spec: what the cache is created with; a constructor takes no room.
        cpus: CPUs the kernel was started for.

    Raises:
        ValueError: no slab is large enough, or the size is not positive.
    """
    if spec.object_size < 1:
        raise ValueError(f"object_size must be at least 1 byte, not {spec.object_size}")
    align = calculate_alignment(spec)
    off_slab = round_up(spec.object_size, 8) >= PAGE_SIZE // 8
    size = round_up(spec.object_size, align)
    order, objects, left = _order(size, align, off_slab=off_slab, reclaimable=spec.reclaimable)
    management = _management(objects, align)
    if off_slab and left >= management:
        off_slab = False  # it fits into what is left over
        left -= management
    elif off_slab:
        management = STRUCT_SLAB + BUFCTL * objects
    limit = _limit(size)
    colour_off = max(CACHE_LINE_SIZE, align)
    return SlabGeometry(
        size=size,
        align=align,
        order=order,
        objects=objects,
        off_slab=off_slab,
        management=management,
        colour=left // colour_off,
        colour_off=colour_off,
        limit=limit,
        batchcount=(limit + 1) // 2,
        shared=8 if size <= PAGE_SIZE and cpus > 1 else 0,
    )
