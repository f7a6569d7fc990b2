"""SLUB's per-CPU and per-node state: the current slab and partial list of a CPU, and the partial list of a node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slabactors.actors import Actor, Narrow, operation
from slabactors.errors import KernelBug, Kind
from slabactors.mm.slab_page import SlabObject
from slabactors.mm.slub_slab import Slab

if TYPE_CHECKING:
    from slabactors.mm.slab_common import KmemCache
    from slabactors.mm.slub_sizes import SlubGeometry


class KmemCacheCpu(Actor):
    """``struct kmem_cache_cpu``: one CPU's slab and freelist of one cache.

    ``irqs_off`` says that a slow path or a flush of this CPU runs with interrupts disabled; whatever else the CPU would
    do to this structure waits.  Deviation: the kernel disables interrupts for the whole CPU; here sections of different
    caches on one CPU may interleave, which no state of theirs can show.
    """

    role = "kmem_cache_cpu"

    def __init__(self, cpu: str, cache: KmemCache, shape: SlubGeometry) -> None:
        super().__init__(f"{cpu}/{cache.name}", cache)
        self.cache_cpu_partial = shape.cpu_partial
        self.page: Slab | None = None
        self.freelist: list[int] = []
        self.partial: list[Slab] = []
        """Oldest first: the kernel's head is the last element."""
        self.pobjects = 0
        self.irqs_off = False

    def _irqs_on(self, *_: object) -> bool:
        return not self.irqs_off

    @operation(guard=_irqs_on)
    def alloc(self) -> SlabObject | Slab | None:
        """``this_cpu_cmpxchg_double(freelist, tid)``: an object, or a slow path that begins with interrupts off.

        Returns:
            An object; else the current slab, or the newest of the partial list, to look into; else nothing.
        """
        if self.freelist:
            assert self.page is not None
            return SlabObject(self.page, self.freelist.pop())
        self.irqs_off = True
        if self.page is None:
            self._pop_partial()
        return self.page

    def _pop_partial(self) -> None:
        self.page = self.partial.pop() if self.partial else None
        if not self.partial:
            self.pobjects = 0

    @operation
    def next_partial(self) -> Slab | None:
        """``c->page = c->partial``: the current slab was full; go on with the newest of the partial list."""
        self._pop_partial()
        return self.page

    @operation
    def install(self, page: Slab, freelist: list[int]) -> SlabObject:
        """``c->page = page; c->freelist = freelist``: takes one object, interrupts on."""
        self.page = page
        self.freelist = freelist
        self.irqs_off = False
        return SlabObject(page, freelist.pop())

    @operation
    def push_acquired(self, slabs: list[Slab], free: int) -> None:
        """``put_cpu_partial(s, page, 0)`` for the slabs that an allocation took beside the first."""
        self.partial.extend(slabs)
        self.pobjects += free

    @operation
    def irq_enable(self) -> None:
        """``local_irq_enable()``: the page allocation may sleep; anything may happen here meanwhile."""
        self.irqs_off = False

    @operation(guard=_irqs_on)
    def install_new(self, page: Slab) -> SlabObject | tuple[Slab, list[int]]:
        """``c->page = page`` after the page allocation; when another slab got there first, that one to be flushed."""
        if self.page is not None:
            self.irqs_off = True
            old, freelist = self.page, self.freelist
            self.page, self.freelist = None, []
            return old, freelist
        self.page = page
        self.freelist = list(range(page.objects))
        return SlabObject(page, self.freelist.pop())

    @operation(guard=_irqs_on)
    def free(self, obj: SlabObject) -> bool:
        """``this_cpu_cmpxchg_double(freelist, tid)``: true when the object is of the current slab and on its list."""
        if self.page is not obj.slab:
            return False
        self.freelist.append(obj.give_back())
        return True

    @operation(guard=_irqs_on)
    def put_partial(self, slab: Slab, free: int) -> list[Slab]:
        """``put_cpu_partial(s, page, 1)``: the slabs that have to go to the node because the list was over its limit.

        Args:
            slab: the slab that this CPU has just frozen.
            free: free objects in it.
        """
        drained: list[Slab] = []
        if self.partial and self.pobjects > self.cache_cpu_partial:
            drained = self.partial[::-1]
            self.partial = []
            self.pobjects = 0
        self.partial.append(slab)
        self.pobjects += free
        return drained

    @operation(reads="page partial")
    def has_slab(self) -> bool:
        """``has_cpu_slab()``: read by the CPU that flushes, without any lock."""
        return self.page is not None or bool(self.partial)

    def _bare(self) -> bool:
        return self.page is None and not self.partial

    @operation(guard=_irqs_on, narrow=[Narrow(_bare, reads="page partial irqs_off")])
    def begin_flush(self) -> tuple[Slab | None, list[int], list[Slab]]:
        """``flush_slab()``: gives up the current slab with its freelist, and the partial list, newest first."""
        page, freelist, partial = self.page, self.freelist, self.partial[::-1]
        self.page, self.freelist, self.partial, self.pobjects = None, [], [], 0
        self.irqs_off = page is not None or bool(partial)
        return page, freelist, partial

    @operation(writes="irqs_off", narrow=[Narrow(_irqs_on, reads="irqs_off")])
    def end_flush(self) -> None:
        """``local_irq_restore()``."""
        self.irqs_off = False


class KmemCacheNode(Actor):
    """``struct kmem_cache_node``: the node's partial list under its list_lock, and counters that need no lock."""

    role = "kmem_cache_node"

    def __init__(self, node: int, cache: KmemCache, shape: SlubGeometry) -> None:
        super().__init__(f"node{node}/{cache.name}", cache)
        self.min_partial = shape.min_partial
        self.partial: list[Slab] = []
        self.nr_slabs = 0
        self.total_objects = 0
        self.locked = False

    def _unlocked(self) -> bool:
        return not self.locked

    def _list_del(self, slab: Slab) -> None:
        if slab not in self.partial:
            raise KernelBug(
                Kind.BUG_ON,
                f"list_del corruption: {slab.name} is not on the partial list of {self.name} any more",
                clause="list_del corruption of a partial list",
            )
        self.partial.remove(slab)

    def _too_many(self) -> bool:
        return len(self.partial) > self.min_partial

    @operation(guard=_unlocked, acquires=True, reads="partial", writes="locked")
    def lock(self) -> list[Slab]:
        """``spin_lock(&n->list_lock)``: the partial list as it is, head first."""
        self.locked = True
        return list(self.partial)

    @operation(releases=True, writes="locked")
    def unlock(self) -> None:
        """``spin_unlock(&n->list_lock)``."""
        self.locked = False

    @operation(reads="partial")
    def nr_partial(self) -> int:
        """``n->nr_partial``: read without the lock."""
        return len(self.partial)

    @operation(writes="nr_slabs")
    def inc_slabs(self, objects: int) -> None:
        """``inc_slabs_node()``."""
        self.nr_slabs += 1
        self.total_objects += objects

    @operation(writes="nr_slabs")
    def dec_slabs(self, objects: int) -> None:
        """``dec_slabs_node()``."""
        self.nr_slabs -= 1
        self.total_objects -= objects

    @operation(releases=True, writes="partial locked")
    def remove_and_unlock(self, slabs: list[Slab]) -> None:
        """``remove_partial(n, page); spin_unlock()``."""
        for slab in slabs:
            self._list_del(slab)
        self.locked = False

    def _stays(self, slab: Slab) -> bool:
        return not (self._too_many() and slab in self.partial)

    @operation(releases=True, writes="partial locked", narrow=[Narrow(_stays, reads="partial", writes="locked")])
    def remove_if_too_many_and_unlock(self, slab: Slab) -> bool:
        """``if (n->nr_partial > s->min_partial) remove_partial()``: whether an emptied slab is to go."""
        discard = not self._stays(slab)
        if discard:
            self.partial.remove(slab)
        self.locked = False
        return discard

    @operation(releases=True, writes="partial locked")
    def add_and_unlock(self, slab: Slab, tail: bool) -> None:
        """``add_partial(n, page, tail); spin_unlock()``."""
        if tail:
            self.partial.append(slab)
        else:
            self.partial.insert(0, slab)
        self.locked = False

    @operation(releases=True, writes="partial locked")
    def add_unfrozen_and_unlock(self, slabs: list[tuple[Slab, int]]) -> list[Slab]:
        """``unfreeze_partials()`` under the lock: lists slabs at the tail; empty ones above the limit come back.

        Args:
            slabs: slabs with their objects in use, in the order in which they were unfrozen.

        Returns:
            What has to be discarded, in that order.
        """
        discard = []
        for slab, inuse in slabs:
            if inuse == 0 and self._too_many():
                discard.append(slab)
            else:
                self.partial.append(slab)
        self.locked = False
        return discard[::-1]

    @staticmethod
    def _sorted(seen: list[tuple[Slab, int]]) -> list[Slab]:
        kept = [pair for pair in reversed(seen) if pair[1]]
        kept.sort(key=lambda pair: -pair[1])
        return [slab for slab, _ in kept]

    def _is_sorted(self, seen: list[tuple[Slab, int]]) -> bool:
        return self._sorted(seen) == self.partial

    @operation(releases=True, writes="partial locked", narrow=[Narrow(_is_sorted, reads="partial", writes="locked")])
    def sort_and_unlock(self, seen: list[tuple[Slab, int]]) -> list[Slab]:
        """``list_splice()`` of the buckets: fullest first, equals in reversed order; the empty ones come back.

        Args:
            seen: the listed slabs, head first, with the objects in use that the walk saw.
        """
        self.partial = self._sorted(seen)
        self.locked = False
        return [slab for slab, inuse in reversed(seen) if inuse == 0]

    @operation(reads="partial")
    def listed(self) -> list[Slab]:
        """``list_for_each_entry_safe(page, &n->partial)`` without the lock, when the cache is closed."""
        return list(self.partial)

    @operation(writes="partial")
    def take_empty(self, slabs: list[Slab]) -> None:
        """``remove_partial()`` without the lock: the cache is being closed, nobody else should be here."""
        for slab in slabs:
            self._list_del(slab)

    @operation(reads="partial nr_slabs")
    def slabs_left(self) -> int:
        """``n->nr_partial || slabs_node(s, node)``: how many slabs the cache still has when it is closed."""
        return max(self.nr_slabs, len(self.partial))
