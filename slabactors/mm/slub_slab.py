"""A SLUB slab: the page block that objects are carved from, and its atomically changed counters."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from slabactors.actors import Narrow, operation
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

    def _take_freelist(self) -> list[int]:
        taken, self.freelist = self.freelist, []
        self.inuse = self.objects
        return taken

    @operation(writes="counters")
    def get_freelist(self) -> list[int]:
        """``get_freelist()``: what others freed into the CPU's current slab; when that is nothing it is unfrozen."""
        taken = self._take_freelist()
        if not taken:
            self.frozen = False
        return taken

    @operation(writes="counters")
    def acquire(self) -> list[int]:
        """``acquire_slab()`` of the first slab taken: freeze it and take its freelist."""
        self.frozen = True
        return self._take_freelist()

    @operation(writes="counters")
    def acquire_partial(self) -> int:
        """``acquire_slab()`` of the slabs behind it: freeze one; how many free objects it has."""
        self.frozen = True
        return len(self.freelist)

    def _needs_lock(self, freed: int, locked: bool) -> bool:
        listed = not self.frozen and bool(self.freelist)
        return listed and not locked and self.inuse == freed

    def _one_needs_lock(self, obj: SlabObject, locked: bool) -> bool:
        return self._needs_lock(1, locked)

    @operation(writes="counters", narrow=[Narrow(_one_needs_lock, reads="counters")])
    def free_object(self, obj: SlabObject, locked: bool) -> Freed:
        """``cmpxchg_double_slab()`` of a free: the object goes on the slab's own freelist.

        Args:
            obj: the object.
            locked: the node's list lock is held, as it must be when the slab has to be unlisted.
        """
        if self.frozen:
            self.freelist.append(obj.give_back())
            self.inuse -= 1
            return Freed.NOTHING_MORE
        was_full = not self.freelist
        if self.inuse == 1 and not (was_full or locked):
            return Freed.LOCK_FIRST
        self.freelist.append(obj.give_back())
        self.inuse -= 1
        return self._unfrozen(was_full)

    def _all_need_lock(self, objects: list[SlabObject], locked: bool) -> bool:
        return self._needs_lock(len(objects), locked)

    @operation(writes="counters", narrow=[Narrow(_all_need_lock, reads="counters")])
    def free_objects(self, objects: list[SlabObject], locked: bool) -> Freed:
        """``cmpxchg_double_slab()`` of a bulk free: as `free_object`, all at once."""
        if self._needs_lock(len(objects), locked):
            return Freed.LOCK_FIRST
        return self._freed(objects)

    def _freed(self, objects: list[SlabObject]) -> Freed:
        was_full = not self.freelist
        self.freelist.extend([obj.give_back() for obj in objects])
        self.inuse -= len(objects)
        if self.frozen:
            return Freed.NOTHING_MORE
        return self._unfrozen(was_full)

    def _unfrozen(self, was_full: bool) -> Freed:
        """What a free has done to a slab that no CPU owned."""
        if was_full:
            self.frozen = True
            return Freed.FROZEN
        return Freed.EMPTY if self.inuse == 0 else Freed.NOTHING_MORE

    @operation(reads="counters")
    def counters(self) -> Counters:
        """``READ_ONCE(page->counters)``."""
        return Counters(self.inuse, len(self.freelist))

    @operation(writes="counters")
    def unfreeze(self) -> int:
        """``cmpxchg_double_slab()`` of unfreeze_partials(): how many objects are in use."""
        self.frozen = False
        return self.inuse

    def _changed(self, seen: Counters, freelist: list[int]) -> bool:
        return seen != (self.inuse, len(self.freelist))

    @operation(writes="counters", narrow=[Narrow(_changed, reads="counters")])
    def deactivate(self, seen: Counters, freelist: list[int]) -> bool:
        """``cmpxchg_double_slab()`` of deactivate_slab(): give the CPU's freelist back; false when counters changed."""
        if self._changed(seen, freelist):
            return False
        self.freelist.extend(freelist)
        self.inuse -= len(freelist)
        self.frozen = False
        return True
