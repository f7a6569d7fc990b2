"""A SLUB slab: the page block that objects are carved from, and its atomically changed counters."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from slabactors.actors import operation
from slabactors.mm.slab_page import SlabObject, SlabPage

if TYPE_CHECKING:
    from slabactors.mm.memcontrol import MemCgroup
    from slabactors.mm.slab_common import KmemCache


class Counters(NamedTuple):
    """What a compare-and-swap of a slab compares: objects not on its own freelist, and those on it."""

    inuse: int
    free: int


class Freed(Enum):
    """What a free did to the slab."""

    LOCK_FIRST = "the node's list lock has to be taken before this free"
    NOTHING_MORE = "nothing more to do"
    FROZEN = "the slab was full and now belongs to the freeing CPU"
    EMPTY = "the last object went while the slab was listed"


class Slab(SlabPage):
    """``struct page`` of a slab's first page: freelist, inuse and frozen change together in one compare-and-swap.

    Objects on a CPU's private freelist count as in use.  A frozen slab belongs to a CPU and is on no node list; a full
    unfrozen one is on no list at all.
    """

    def __init__(
        self, number: int, cache: KmemCache, order: int, objects: int, memcg: MemCgroup | None, node: int = 0
    ) -> None:
        super().__init__(number, cache, order, objects, memcg, node)
        self.freelist: list[int] = []
        self.inuse = objects
        self.frozen = True

    @operation
    def get_freelist(self) -> list[int]:
        """``get_freelist()``: what others freed into the CPU's current slab; nothing unfreezes it."""
        taken, self.freelist = self.freelist, []
        self.inuse = self.objects
        if not taken:
            self.frozen = False
        return taken

    @operation
    def acquire(self, take: bool) -> list[int]:
        """``acquire_slab()``: freeze a listed slab, and take its freelist when asked to."""
        self.frozen = True
        if not take:
            return []
        taken, self.freelist = self.freelist, []
        self.inuse = self.objects
        return taken

    @operation
    def free_object(self, obj: SlabObject, locked: bool) -> Freed:
        """``cmpxchg_double_slab()`` of a free: the object goes on the slab's own freelist.

        Args:
            obj: the object.
            locked: the node's list lock is held, as it must be when the slab has to be unlisted.
        """
        was_full = not self.freelist
        freeze = not self.frozen and was_full
        empties = self.inuse == 1
        if not self.frozen and not freeze and empties and not locked:
            return Freed.LOCK_FIRST
        self.freelist.append(obj.give_back())
        self.inuse -= 1
        if freeze:
            self.frozen = True
            return Freed.FROZEN
        return Freed.EMPTY if empties and not self.frozen else Freed.NOTHING_MORE

    @operation(reads="inuse freelist")
    def counters(self) -> Counters:
        """``READ_ONCE(page->counters)``."""
        return Counters(self.inuse, len(self.freelist))

    @operation
    def unfreeze(self) -> int:
        """``cmpxchg_double_slab()`` of unfreeze_partials(): how many objects are in use."""
        self.frozen = False
        return self.inuse

    @operation
    def deactivate(self, seen: Counters, freelist: list[int]) -> bool:
        """``cmpxchg_double_slab()`` of deactivate_slab(): give the CPU's freelist back; false when counters changed."""
        if seen != (self.inuse, len(self.freelist)):
            return False
        self.freelist.extend(freelist)
        self.inuse -= len(freelist)
        self.frozen = False
        return True
