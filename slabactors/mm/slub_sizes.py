"""How SLUB sizes a cache: object size, slab order, partial limits.

Models calculate_sizes(), calculate_order(), kmem_cache_open() (mm/slub.c, v3.8), and calculate_alignment()
(mm/slab_common.c, v3.8).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from slabactors.mm.allocator import CacheSpec, Geometry
from slabactors.mm.page_alloc import PAGE_SIZE
from slabactors.mm.sizes import WORD, calculate_alignment, round_up
from slabactors.mm.slub_policy import SLUB_3_8, FreePointer, SlubPolicy, cpu_partial_slabs

MIN_PARTIAL_MIN = 5
MIN_PARTIAL_MAX = 10

MAX_OBJECTS_PER_SLAB = 32767
SLUB_MAX_ORDER = 3
MAX_ORDER = 11


@dataclass(frozen=True, slots=True)
class SlubGeometry(Geometry):
    """What a SLUB cache looks like.

    Attributes:
        offset: bytes from the beginning of an object to its free pointer.
        inuse: bytes of an object that a free pointer behind it does not take.
        min_order: the order fallen back to when memory is short.
        min_objects: objects in a slab of that order.
        min_partial: about how many slabs a node keeps listed whatever is in them.
        cpu_partial: free objects that a CPU's partial list may hold.
        cpu_partial_slabs: slabs that it may hold; 6.1 goes by these.
    """

    offset: int
    inuse: int
    min_order: int
    min_objects: int
    min_partial: int
    cpu_partial: int
    cpu_partial_slabs: int


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
def geometry(spec: CacheSpec, cpus: int, policy: SlubPolicy = SLUB_3_8) -> SlubGeometry:
    """The geometry of a cache without debugging.

    Args:
        spec: what is asked for.
        cpus: CPUs of the machine.
        policy: the release.

    Raises:
        ValueError: no slab is large enough, or the size or the alignment makes no sense.
    """
    if spec.object_size < 1:
        raise ValueError(f"object_size must be at least 1 byte, not {spec.object_size}")
    if spec.align < 0 or spec.align & (spec.align - 1):
        raise ValueError(f"align must be 0 or a power of two, not {spec.align}")
    align = calculate_alignment(spec)
    inuse = round_up(spec.object_size, WORD)
    if spec.ctor or spec.rcu:
        # What a constructor made, or what readers may still look at, is not to be overwritten.
        offset, end = inuse, inuse + WORD
    else:
        middle = spec.object_size // 2 // WORD * WORD
        offset, end = middle if policy.free_pointer is FreePointer.MIDDLE else 0, inuse
    size = round_up(end, align)
    order = calculate_order(size, cpus)
    min_order = get_order(size)
    objects = (PAGE_SIZE << order) // size
    cpu_partial = policy.cpu_partial(size)
    return SlubGeometry(
        size=size,
        align=align,
        order=order,
        objects=objects,
        offset=offset,
        inuse=inuse,
        min_order=min_order,
        min_objects=(PAGE_SIZE << min_order) // size,
        min_partial=_min_partial(size) if spec.min_partial is None else spec.min_partial,
        cpu_partial=cpu_partial,
        cpu_partial_slabs=cpu_partial_slabs(cpu_partial, objects),
    )


def _min_partial(size: int) -> int:
    return min(MIN_PARTIAL_MAX, max(MIN_PARTIAL_MIN, (size.bit_length() - 1) // 2))


def objects_of_order(shape: SlubGeometry, order: int) -> int:
    """How many objects of a cache a slab of another order has.

    Raises:
        ValueError: none, or the order is none that slabs may have.
    """
    if not shape.min_order <= order <= SLUB_MAX_ORDER:
        raise ValueError(f"order must be from {shape.min_order} to {SLUB_MAX_ORDER}, not {order}")
    return (PAGE_SIZE << order) // shape.size
