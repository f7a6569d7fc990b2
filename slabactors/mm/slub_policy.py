"""What differs between releases of SLUB, each rule by its name."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class CpuPartialLimit(Enum):
    """What a CPU's partial list is measured by when another slab is put on it."""

    OBJECTS = "more free objects than cpu_partial, as noted when its newest slab was put there"
    SLABS = "as many slabs as cpu_partial_slabs"


class Pull(Enum):
    """When an allocation stops taking slabs from a node's list: above half of the CPU's limit."""

    FIRST_SLAB_UNSEEN = "the free objects of the slabs taken, but the first, which is emptied before it is counted"
    EVERY_SLAB = "the free objects of all slabs taken"
    SLABS = "the slabs taken beside the first"


class ShrinkOrder(Enum):
    """How a shrink leaves the list of a node."""

    FULLEST_FIRST = "all slabs by their objects in use"
    PROMOTE = "slabs with few free objects first, the others as they were"


class Flush(Enum):
    """How CPUs are made to give up their slabs."""

    IPI = "interrupts: what a CPU does is not interrupted by others of its paths"
    WORK_ITEMS = "a work item for each CPU: other paths of the CPU come in between its current slab and its list"


class FreePointer(Enum):
    """Where the pointer to the next free object lies, unless something else keeps the object's bytes."""

    START = "the beginning of the object"
    MIDDLE = "the middle of the object"


class CpuSlabs(Enum):
    """What the file ``cpu_slabs`` adds for the partial list of a CPU."""

    OBJECTS = "the free objects noted there, for slabs of the node of the current slab"
    SLABS = "the slabs noted there"


@dataclass(frozen=True, slots=True)
class SlubPolicy:
    """The rules of one release.

    Attributes:
        name: the allocator model's name.
        keeps_one_above_min_partial: an empty slab goes back when a node lists more than ``min_partial`` slabs; else
            when it lists as many.
        cpu_partial_limit: what a CPU's partial list is measured by.
        drains_before_it_puts: the slabs of a CPU's list over its limit are moved with interrupts off, and then the next
            one is put there; else it is put there first, and they are moved with interrupts on.
        cpu_partial_by_size: ``cpu_partial`` of caches whose objects take less than 256 bytes, 1024, 4096, or more.
        pull: how many slabs an allocation takes from a node's list.
        shrink_order: how a shrink leaves a node's list.
        shrink_says_what_is_left: a shrink returns 1 when slabs are left; else always 0.
        uncounts_when_shrunk: a shrink uncounts empty slabs while it holds the list; else one by one, without it.
        counts_when_installed: a new slab is counted when a CPU takes it; else as soon as its pages are there.
        flush: how CPUs are made to give up their slabs.
        closes_under_lock: the list of a cache that is closed is walked under its lock.
        close_function: the kernel function that reports the objects left in a cache that is closed.
        free_pointer: where the free pointer of a plain cache lies.
        bulk: kmem_cache_alloc_bulk() and kmem_cache_free_bulk() exist.
        cpu_slabs: what the file ``cpu_slabs`` counts.
        estimates_cpu_partial: the objects in ``slabs_cpu_partial`` are guessed from the slabs: each half full.
        min_partial_range: what a value written to ``min_partial`` is brought into; None for any value.
        order_writable: the file ``order`` can be written.
        stores_for_children: what is written to a file of a root cache is written to its children's, too.
        own_files: the names of files of sysfs that not every release has.
    """

    name: str
    keeps_one_above_min_partial: bool
    cpu_partial_limit: CpuPartialLimit
    drains_before_it_puts: bool
    cpu_partial_by_size: tuple[int, int, int, int]
    pull: Pull
    shrink_order: ShrinkOrder
    shrink_says_what_is_left: bool
    uncounts_when_shrunk: bool
    counts_when_installed: bool
    flush: Flush
    closes_under_lock: bool
    close_function: str
    free_pointer: FreePointer
    bulk: bool
    cpu_slabs: CpuSlabs
    estimates_cpu_partial: bool
    min_partial_range: tuple[int, int] | None
    order_writable: bool
    stores_for_children: bool
    own_files: tuple[str, ...]

    def too_many(self, listed: int, min_partial: int) -> bool:
        """Whether an empty slab goes back when a node's list is so long."""
        return listed > min_partial if self.keeps_one_above_min_partial else listed >= min_partial

    def cpu_partial(self, size: int) -> int:
        """``cpu_partial`` of a new cache, given the bytes that an object takes."""
        small, medium, large, huge = self.cpu_partial_by_size
        return huge if size >= 4096 else large if size >= 1024 else medium if size >= 256 else small


def cpu_partial_slabs(cpu_partial: int, objects: int) -> int:
    """As many slabs as hold so many free objects when each is half full.  Models slub_set_cpu_partial() (v6.1)."""
    return -(-2 * cpu_partial // objects)


def _linux_3(name: str, pull: Pull, cpu_slabs: CpuSlabs) -> SlubPolicy:
    return SlubPolicy(
        name,
        keeps_one_above_min_partial=True,
        cpu_partial_limit=CpuPartialLimit.OBJECTS,
        drains_before_it_puts=True,
        cpu_partial_by_size=(30, 13, 6, 2),
        pull=pull,
        shrink_order=ShrinkOrder.FULLEST_FIRST,
        shrink_says_what_is_left=False,
        uncounts_when_shrunk=False,
        counts_when_installed=False,
        flush=Flush.IPI,
        closes_under_lock=False,
        close_function="kmem_cache_close()",
        free_pointer=FreePointer.START,
        bulk=False,
        cpu_slabs=cpu_slabs,
        estimates_cpu_partial=False,
        min_partial_range=(5, 10),
        order_writable=True,
        stores_for_children=True,
        own_files=("reserved",),
    )


SLUB_3_8 = _linux_3("slub-3.8", Pull.FIRST_SLAB_UNSEEN, CpuSlabs.OBJECTS)
SLUB_3_10 = _linux_3("slub-3.10", Pull.EVERY_SLAB, CpuSlabs.SLABS)
SLUB_6_1 = SlubPolicy(
    "slub-6.1",
    keeps_one_above_min_partial=False,
    cpu_partial_limit=CpuPartialLimit.SLABS,
    drains_before_it_puts=False,
    cpu_partial_by_size=(120, 52, 24, 6),
    pull=Pull.SLABS,
    shrink_order=ShrinkOrder.PROMOTE,
    shrink_says_what_is_left=True,
    uncounts_when_shrunk=True,
    counts_when_installed=True,
    flush=Flush.WORK_ITEMS,
    closes_under_lock=True,
    close_function="__kmem_cache_shutdown()",
    free_pointer=FreePointer.MIDDLE,
    bulk=True,
    cpu_slabs=CpuSlabs.SLABS,
    estimates_cpu_partial=True,
    min_partial_range=None,
    order_writable=False,
    stores_for_children=False,
    own_files=("usersize",),
)

SLUB_POLICIES = (SLUB_3_8, SLUB_3_10, SLUB_6_1)
"""The releases that are modelled."""
