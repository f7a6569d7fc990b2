"""SLAB's per-node state: the lists of full, partial and free slabs, and the array that the CPUs of a node share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from slabactors.actors import Actor, Clock, Narrow, operation
from slabactors.errors import KernelBug, Kind
from slabactors.kernel.jiffies import HZ
from slabactors.mm.slab_array import reaped
from slabactors.mm.slab_slab import SlabDescriptor

if TYPE_CHECKING:
    from slabactors.mm.slab_common import KmemCache
    from slabactors.mm.slab_sizes import SlabGeometry
    from slabactors.mm.slab_slab import Entry

REAPTIMEOUT_LIST3: Final = 4 * HZ
"""Jiffies from one visit of the reaper to the lists of a cache to the next."""


class KmemList3(Actor):
    """``struct kmem_list3``: the slabs of one cache on one node under their list_lock (mm/slab.c, v3.8).

    Lists are head first.  What is read or written without the lock is an operation of its own.

    Args:
        node: the memory node.
        cache: the cache.
        shape: its geometry.
        cpus: CPUs of the node; they keep that many batches of free objects, and one more.
        clock: virtual time, for the reaper.
    """

    role = "kmem_list3"
    atomic = "list_lock held"
    lock_class = "kmem_list3.list_lock"

    def __init__(self, node: int, cache: KmemCache, shape: SlabGeometry, cpus: int, clock: Clock) -> None:
        super().__init__(f"node{node}/{cache.name}", cache)
        self.clock = clock
        self.num = shape.objects
        self.slabs_full: list[SlabDescriptor] = []
        self.slabs_partial: list[SlabDescriptor] = []
        self.slabs_free: list[SlabDescriptor] = []
        self.free_objects = 0
        """Free objects in the slabs; those in arrays are in use."""
        self.free_limit = (1 + cpus) * shape.batchcount + shape.objects
        self.shared: list[Entry] = []
        """The array that the CPUs share, oldest object first."""
        self.shared_limit = shape.shared * shape.batchcount
        """Its capacity; 0 when there is none."""
        self.shared_touched = False
        self.free_touched = False
        self.next_reap = clock.now + REAPTIMEOUT_LIST3
        """When the reaper looks at the lists next, in jiffies.

        Deviation: the kernel adds up to `REAPTIMEOUT_LIST3` more, by the address of the cache.
        """
        self.locked = False

    def _unlocked(self, *_: object) -> bool:
        return not self.locked

    def _unlist(self, slab: SlabDescriptor) -> None:
        for listed in (self.slabs_full, self.slabs_partial, self.slabs_free):
            if slab in listed:
                listed.remove(slab)
                return
        raise KernelBug(
            Kind.BUG_ON,
            f"list_del corruption: {slab.name} is on no list of {self.name}",
            clause="list_del corruption of a slab list",
        )

    @operation(releases=True, writes="locked")
    def unlock(self) -> None:
        """``spin_unlock(&l3->list_lock)``."""
        self.locked = False

    # -- allocate --------------------------------------------------------------------------------------------------

    def _first(self) -> SlabDescriptor | None:
        if self.slabs_partial:
            return self.slabs_partial[0]
        self.free_touched = True
        return self.slabs_free[0] if self.slabs_free else None

    @operation(guard=_unlocked, acquires=True, writes="locked shared lists free_touched")
    def lock_to_refill(self, batch: int) -> list[Entry] | SlabDescriptor | None:
        """``spin_lock(&l3->list_lock)`` of a refill: the newest objects of the shared array, else a slab to take from.

        Args:
            batch: how many objects are wanted.

        Returns:
            Objects, if the shared array has any; else the first partial slab, or the first free one; else nothing.
        """
        self.locked = True
        if not self.shared:
            return self._first()
        moved = min(batch, len(self.shared))
        taken = self.shared[-moved:]
        del self.shared[-moved:]
        self.shared_touched = True
        return taken

    @operation(writes="lists free_touched")
    def relist(self, slab: SlabDescriptor, full: bool, more: bool) -> SlabDescriptor | None:
        """``list_add(&slabp->list, &l3->slabs_full)``, or ``slabs_partial``: to the head of the list it belongs on.

        Args:
            slab: objects were taken from it.
            full: it has no free object left.
            more: further objects are wanted.

        Returns:
            The next slab to take from, if more are wanted and there is one.
        """
        self._unlist(slab)
        (self.slabs_full if full else self.slabs_partial).insert(0, slab)
        return self._first() if more else None

    @operation(releases=True, writes="free_objects locked")
    def refilled_and_unlock(self, count: int) -> None:
        """``l3->free_objects -= ac->avail; spin_unlock()``: so many objects were taken from slabs."""
        self.free_objects -= count
        self.locked = False

    @operation(guard=_unlocked, reads="locked", writes="lists free_objects")
    def add_grown(self, slab: SlabDescriptor) -> None:
        """``list_add_tail(&slabp->list, &l3->slabs_free)``: a new slab; the whole section under the lock."""
        self.slabs_free.append(slab)
        self.free_objects += self.num

    # -- free ------------------------------------------------------------------------------------------------------

    @operation(guard=_unlocked, acquires=True, writes="locked")
    def lock(self) -> None:
        """``spin_lock(&l3->list_lock)``."""
        self.locked = True

    @operation(guard=_unlocked, acquires=True, writes="locked shared")
    def lock_to_flush(self, entries: list[Entry]) -> int:
        """``spin_lock(&l3->list_lock)`` of a flush: how many objects the shared array has taken, the oldest first.

        Args:
            entries: what a CPU's array has to get rid of.
        """
        self.locked = True
        moved = min(len(entries), max(0, self.shared_limit - len(self.shared)))
        self.shared.extend(entries[:moved])
        return moved

    @operation(writes="lists free_objects")
    def freed(self, slab: SlabDescriptor, count: int, inuse: int) -> bool:
        """``free_block()``, for neighbours in an array that lie in one slab: true when the slab has to be destroyed.

        Args:
            slab: where the objects have gone back to.
            count: how many.
            inuse: how many of its objects are in use now.
        """
        self._unlist(slab)
        self.free_objects += count
        if inuse:
            self.slabs_partial.append(slab)
        elif self.free_objects > self.free_limit:
            self.free_objects -= self.num
            return True
        else:
            self.slabs_free.insert(0, slab)
        return False

    # -- drain -----------------------------------------------------------------------------------------------------

    def _nothing_shared(self) -> bool:
        return not self.shared

    @operation(writes="shared", narrow=[Narrow(_nothing_shared, reads="shared")])
    def shared_to_reap(self) -> bool:
        """``if (ac->touched) ac->touched = 0``, without the lock: whether the reaper takes from the shared array."""
        if self.shared and self.shared_touched:
            self.shared_touched = False
            return False
        return bool(self.shared)

    @operation(reads="shared")
    def has_shared(self) -> bool:
        """``if (!ac || !ac->avail)``, without the lock: whether there is anything in the shared array."""
        return bool(self.shared)

    @operation(guard=_unlocked, acquires=True, writes="locked shared")
    def lock_to_drain(self, force: bool) -> list[Entry]:
        """``spin_lock_irq(&l3->list_lock)`` of drain_array(): what the shared array gives up, the oldest first.

        Args:
            force: all of it, and not only the reaper's share.
        """
        self.locked = True
        count = len(self.shared) if force else reaped(self.shared_limit, len(self.shared))
        taken = self.shared[:count]
        del self.shared[:count]
        return taken

    def _no_free_slab(self) -> bool:
        return not self.slabs_free

    @operation(
        guard=_unlocked,
        reads="locked",
        writes="lists free_objects",
        narrow=[Narrow(_no_free_slab, reads="locked lists")],
    )
    def take_free(self) -> SlabDescriptor | None:
        """``list_del(l3->slabs_free.prev)``: the last free slab, if there is one; the whole section under the lock."""
        if not self.slabs_free:
            return None
        self.free_objects -= self.num
        return self.slabs_free.pop()

    @operation(reads="free_objects")
    def nr_free(self) -> int:
        """``l3->free_objects``: read without the lock."""
        return self.free_objects

    @operation(reads="lists")
    def in_use(self) -> bool:
        """``!list_empty(&l3->slabs_full) || !list_empty(&l3->slabs_partial)``: read without the lock."""
        return bool(self.slabs_full or self.slabs_partial)

    # -- the reaper ------------------------------------------------------------------------------------------------

    @operation(clock=True, writes="next_reap")
    def reap_due(self) -> bool:
        """``time_after(l3->next_reap, jiffies)``: whether the lists' turn has come; it comes again in 4 seconds."""
        if self.next_reap > self.clock.now:
            return False
        self.next_reap = self.clock.now + REAPTIMEOUT_LIST3
        return True

    @operation(writes="free_touched")
    def clear_free_touched(self) -> bool:
        """``if (l3->free_touched) l3->free_touched = 0``: whether an allocation has looked for a free slab since."""
        touched, self.free_touched = self.free_touched, False
        return touched
