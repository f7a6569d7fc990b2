"""SLAB's per-CPU state: the array of free objects that a CPU allocates from and frees to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from slabactors.actors import Actor, Narrow, operation
from slabactors.mm.slab_page import SlabObject

if TYPE_CHECKING:
    from slabactors.mm.slab_common import KmemCache
    from slabactors.mm.slab_sizes import SlabGeometry
    from slabactors.mm.slab_slab import Entry

BATCHREFILL_LIMIT: Final = 16
"""Objects that an array takes at most when nothing was taken from it since the reaper came by."""


def reaped(limit: int, avail: int) -> int:
    """How many objects the reaper takes from an array that nobody has touched: a fifth of what it can hold, or half."""
    wanted = (limit + 4) // 5
    return wanted if wanted <= avail else (avail + 1) // 2


class ArrayCache(Actor):
    """``struct array_cache``: one CPU's stack of free objects of one cache (mm/slab.c, v3.8).

    ``irqs_off`` says that a refill, a flush or a drain of this CPU runs with interrupts disabled; whatever else the CPU
    would do to this structure waits.  Deviation: the kernel disables interrupts for the whole CPU; here sections of
    different caches on one CPU may interleave, which no state of theirs can show.
    """

    role = "array_cache"

    def __init__(self, cpu: str, cache: KmemCache, shape: SlabGeometry) -> None:
        super().__init__(f"{cpu}/{cache.name}", cache)
        self.limit = shape.limit
        self.batchcount = shape.batchcount
        self.entries: list[Entry] = []
        """Oldest first: objects are taken from the end and put there."""
        self.touched = False
        self.irqs_off = False

    @property
    def avail(self) -> int:
        """Objects in the array."""
        return len(self.entries)

    def _irqs_on(self, *_: object) -> bool:
        return not self.irqs_off

    def _take(self) -> SlabObject:
        self.touched = True
        return SlabObject(*self.entries.pop())

    def _batch(self) -> int:
        return self.batchcount if self.touched else min(self.batchcount, BATCHREFILL_LIMIT)

    # -- allocate --------------------------------------------------------------------------------------------------

    @operation(guard=_irqs_on)
    def alloc(self) -> SlabObject | int:
        """``ac->entry[--ac->avail]``: an object, or a refill that begins with interrupts off.

        Returns:
            An object; else how many objects the refill is to get.
        """
        if self.entries:
            return self._take()
        self.irqs_off = True
        return self._batch()

    @operation
    def refilled(self, entries: list[Entry]) -> SlabObject:
        """``ac->avail = batchcount``: what the refill got; takes one object, interrupts on."""
        self.entries.extend(entries)
        self.irqs_off = False
        return self._take()

    @operation(writes="irqs_off")
    def irq_enable(self) -> None:
        """``local_irq_enable()``: the page allocation may sleep; anything may happen here meanwhile."""
        self.irqs_off = False

    @operation(guard=_irqs_on, writes="irqs_off")
    def irq_disable(self) -> None:
        """``local_irq_disable()``: back from the page allocation."""
        self.irqs_off = True

    @operation
    def alloc_after_grow(self, grown: bool) -> SlabObject | int | None:
        """``if (!ac->avail) goto retry``: an object if somebody else has refilled the array; else as `alloc`.

        Args:
            grown: the cache got a slab; nothing is returned when it did not and the array is still empty.
        """
        if not self.entries and grown:
            return self._batch()
        self.irqs_off = False
        return self._take() if self.entries else None

    # -- free ------------------------------------------------------------------------------------------------------

    @operation(guard=_irqs_on)
    def free(self, obj: SlabObject) -> list[Entry] | None:
        """``ac->entry[ac->avail++] = objp``: nothing more to do, or a flush that begins with interrupts off.

        Returns:
            None; else the oldest objects, which have to make room first.
        """
        if len(self.entries) < self.limit:
            self._put(obj)
            return None
        self.irqs_off = True
        return self.entries[: self.batchcount]

    @operation
    def flushed(self, count: int, obj: SlabObject) -> None:
        """``memmove(ac->entry, &ac->entry[batchcount])``: the oldest are gone; puts the object, interrupts on."""
        del self.entries[:count]
        self._put(obj)
        self.irqs_off = False

    def _put(self, obj: SlabObject) -> None:
        place = obj.give_back()
        self.entries.append((obj.slab, place))  # type: ignore[arg-type]  # a slab of this allocator

    # -- drain -----------------------------------------------------------------------------------------------------

    def _empty(self) -> bool:
        return not self.entries

    @operation(guard=_irqs_on, narrow=[Narrow(_empty, reads="entries irqs_off")])
    def begin_drain(self) -> list[Entry]:
        """``do_drain()``: all objects are to go; interrupts are off from here on if there are any."""
        self.irqs_off = bool(self.entries)
        return list(self.entries)

    @operation(guard=_irqs_on, narrow=[Narrow(_empty, reads="entries irqs_off")])
    def begin_reap(self) -> list[Entry]:
        """``drain_array(cachep, l3, cpu_cache_get(cachep), 0, node)``: the oldest, if nobody has touched the array.

        Returns:
            What is to go, with interrupts off from here on; nothing of an array that was touched since the last time.
        """
        if self.entries and self.touched:
            self.touched = False
            return []
        self.irqs_off = bool(self.entries)
        return self.entries[: reaped(self.limit, len(self.entries))]

    @operation
    def drained(self, count: int) -> None:
        """``ac->avail -= tofree``: the oldest are gone, interrupts on."""
        del self.entries[:count]
        self.irqs_off = False
