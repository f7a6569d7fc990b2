"""SLUB's state of one CPU: its current slab with a freelist of its own, and its partial list."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from slabactors.actors import Actor, Narrow, operation
from slabactors.mm.slab_page import SlabObject
from slabactors.mm.slub_policy import CpuPartialLimit, SlubPolicy, cpu_partial_slabs
from slabactors.mm.slub_slab import Slab

if TYPE_CHECKING:
    from slabactors.mm.slab_common import KmemCache
    from slabactors.mm.slub_sizes import SlubGeometry


class OnPartial(NamedTuple):
    """A slab on a CPU's partial list, with what was noted in it when it was put there, and never after.

    Attributes:
        slab: the slab.
        slabs: how many the list had, with this one.
        pobjects: free objects in all of them, as far as each was looked at when it was put there.
    """

    slab: Slab
    slabs: int
    pobjects: int


class KmemCacheCpu(Actor):
    """``struct kmem_cache_cpu``: one CPU's slab and freelist of one cache.

    ``irqs_off`` says that a slow path or a flush of this CPU runs with interrupts disabled; whatever else the CPU would
    do to this structure waits.  Deviation: the kernel disables interrupts for the whole CPU; here sections of different
    caches on one CPU may interleave, which no state of theirs can show.  In 6.1 the slow path of an allocation only
    disables preemption, and interrupts where it touches this structure; here they stay off.
    """

    role = "kmem_cache_cpu"

    def __init__(self, cpu: str, cache: KmemCache, shape: SlubGeometry, policy: SlubPolicy) -> None:
        super().__init__(f"{cpu}/{cache.name}", cache.structures or cache)
        self.limit = policy.cpu_partial_limit
        self.drains_before_it_puts = policy.drains_before_it_puts
        self.order = shape.order
        self.objects = shape.objects
        self.cpu_partial = shape.cpu_partial
        self.keeps_none = False
        """A slab that is put on the partial list is moved on to its node at once."""
        self.page: Slab | None = None
        self.freelist: list[int] = []
        self.partial: list[OnPartial] = []
        """Oldest first: the kernel's head is the last element."""
        self.freed_slabs = 0
        """``stat[FREE_SLAB]``, of a machine that counts them (`MachineConfig.slub_stats`)."""
        self.irqs_off = False

    @property
    def cpu_partial_slabs(self) -> int:
        """How many slabs the partial list may hold, where slabs are counted."""
        return cpu_partial_slabs(self.cpu_partial, self.objects)

    def _irqs_on(self, *_: object) -> bool:
        return not self.irqs_off

    # -- allocate --------------------------------------------------------------------------------------------------

    def _go_slowly(self) -> Slab | None:
        """The slow path begins: interrupts off, and the slab that it looks into first."""
        self.irqs_off = True
        if self.page is None:
            self._pop_partial()
        return self.page

    def _has_object(self) -> bool:
        return bool(self.freelist)

    @operation(
        guard=_irqs_on,
        writes="page freelist partial irqs_off",
        narrow=[Narrow(_has_object, reads="page irqs_off", writes="freelist")],
    )
    def alloc(self) -> SlabObject | Slab | None:
        """``this_cpu_cmpxchg_double(freelist, tid)``: an object, or a slow path that begins with interrupts off.

        Returns:
            An object; else the current slab, or the newest of the partial list, to look into; else nothing.
        """
        if self.freelist:
            assert self.page is not None
            return SlabObject(self.page, self.freelist.pop())
        return self._go_slowly()

    def _has_object_on(self, node: int) -> bool:
        return bool(self.freelist) and self.page is not None and self.page.node == node

    @operation(
        guard=_irqs_on,
        writes="page freelist partial irqs_off",
        narrow=[Narrow(_has_object_on, reads="page irqs_off", writes="freelist")],
    )
    def alloc_on(self, node: int) -> SlabObject | Slab | None:
        """``node_match(page, node)``: as `alloc`, but an object of that node, or a slow path."""
        if self._has_object_on(node):
            assert self.page is not None
            return SlabObject(self.page, self.freelist.pop())
        return self._go_slowly()

    @operation(guard=_irqs_on, reads="page irqs_off", writes="freelist")
    def alloc_many(self, count: int) -> list[SlabObject]:
        """``c->freelist = get_freepointer(s, object)``: up to so many objects of the CPU's freelist, interrupts off."""
        if self.page is None:
            return []
        page, freelist = self.page, self.freelist
        taken = freelist[-1 : -count - 1 : -1]
        del freelist[len(freelist) - len(taken) :]
        return [SlabObject(page, index) for index in taken]

    def _pop_partial(self) -> None:
        self.page = self.partial.pop().slab if self.partial else None

    @operation(writes="page partial")
    def next_partial(self) -> Slab | None:
        """``c->page = c->partial``: the current slab is done with; go on with the newest of the partial list."""
        self._pop_partial()
        return self.page

    @operation(writes="page freelist")
    def drop_page(self) -> list[int]:
        """``c->page = NULL; c->freelist = NULL``: gives up a current slab of the wrong node, with its freelist."""
        freelist, self.freelist = self.freelist, []
        self.page = None
        return freelist

    @operation(writes="page freelist irqs_off")
    def install(self, page: Slab, freelist: list[int]) -> SlabObject:
        """``c->page = page; c->freelist = freelist``: takes one object, interrupts on."""
        self.page = page
        self.freelist = freelist
        self.irqs_off = False
        return SlabObject(page, freelist.pop())

    @operation(reads="limits")
    def enough(self) -> int:
        """``s->cpu_partial / 2``: with more than this an allocation stops taking slabs; 6.1: ``cpu_partial_slabs``."""
        limit = self.cpu_partial_slabs if self.limit is CpuPartialLimit.SLABS else self.cpu_partial
        return limit // 2

    @operation(writes="partial")
    def push_acquired(self, slabs: list[tuple[Slab, int]]) -> None:
        """``put_cpu_partial(s, page, 0)`` for the slabs that an allocation took beside the first.

        Args:
            slabs: each with its free objects, in the order in which they were taken.
        """
        for slab, free in slabs:
            self._push(slab, free)

    @operation(reads="order", writes="irqs_off")
    def irq_enable(self) -> tuple[int, int]:
        """``local_irq_enable()``: the page allocation may sleep; anything may happen here meanwhile.

        Returns:
            Order and objects of a new slab, as ``s->oo`` says now.
        """
        self.irqs_off = False
        return self.order, self.objects

    def _no_page(self, page: Slab) -> bool:
        return self.page is None

    @operation(
        guard=_irqs_on,
        writes="page freelist irqs_off",
        narrow=[Narrow(_no_page, reads="irqs_off", writes="page freelist")],
    )
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

    # -- free ------------------------------------------------------------------------------------------------------

    def _misses(self, obj: SlabObject) -> bool:
        return self.page is not obj.slab

    @operation(
        guard=_irqs_on,
        reads="page irqs_off",
        writes="freelist",
        narrow=[Narrow(_misses, reads="page irqs_off")],
    )
    def free(self, obj: SlabObject) -> bool:
        """``this_cpu_cmpxchg_double(freelist, tid)``: true when the object is of the current slab and on its list."""
        if self.page is not obj.slab:
            return False
        self.freelist.append(obj.give_back())
        return True

    def _misses_all(self, slab: Slab, objects: list[SlabObject]) -> bool:
        return self.page is not slab

    @operation(
        guard=_irqs_on,
        reads="page irqs_off",
        writes="freelist",
        narrow=[Narrow(_misses_all, reads="page irqs_off")],
    )
    def free_many(self, slab: Slab, objects: list[SlabObject]) -> bool:
        """``this_cpu_cmpxchg_double(freelist, tid)`` of objects of one slab: as `free`, all at once."""
        if self.page is not slab:
            return False
        self.freelist.extend([obj.give_back() for obj in objects])
        return True

    def _over_limit(self) -> bool:
        if not self.partial:
            return False
        head = self.partial[-1]
        if self.limit is CpuPartialLimit.SLABS:
            return head.slabs >= self.cpu_partial_slabs
        return head.pobjects > self.cpu_partial

    def _push(self, slab: Slab, free: int) -> None:
        _, slabs, pobjects = self.partial[-1] if self.partial else (None, 0, 0)
        self.partial.append(OnPartial(slab, slabs + 1, pobjects + free))

    def _has_room(self, slab: Slab, free: int) -> bool:
        return not (self.keeps_none or self._over_limit())

    @operation(
        guard=_irqs_on,
        reads="limits",
        writes="partial irqs_off",
        narrow=[Narrow(_has_room, reads="irqs_off limits", writes="partial")],
    )
    def put_partial(self, slab: Slab, free: int) -> list[Slab]:
        """``put_cpu_partial(s, page, 1)``: the slabs that have to go to the node because the list was over its limit.

        Args:
            slab: the slab that this CPU has just frozen.
            free: free objects in it.

        Returns:
            The slabs that were on the list, newest first, or none.  In 3.x the slab is not put there if there are any:
            interrupts are off from here on, until these have been moved.  A dead cache keeps none: the slab is among
            them, and interrupts are off.
        """
        if self.keeps_none:
            self._push(slab, free)
            self.irqs_off = True
            return self._take_partial()
        if not self._over_limit():
            self._push(slab, free)
            return []
        drained = self._take_partial()
        if self.drains_before_it_puts:
            self.irqs_off = True
        else:
            self._push(slab, free)
        return drained

    def _take_partial(self) -> list[Slab]:
        taken = [entry.slab for entry in reversed(self.partial)]
        self.partial = []
        return taken

    # -- flush -----------------------------------------------------------------------------------------------------

    @operation(reads="page partial")
    def has_slab(self) -> bool:
        """``has_cpu_slab()``: read by the CPU that flushes, without any lock."""
        return self.page is not None or bool(self.partial)

    def _bare(self) -> bool:
        return self.page is None and not self.partial

    @operation(
        guard=_irqs_on,
        writes="page freelist partial irqs_off",
        narrow=[Narrow(_bare, reads="page partial irqs_off")],
    )
    def begin_flush(self) -> tuple[Slab | None, list[int], list[Slab]]:
        """``flush_slab()`` of 3.x: gives up the current slab with its freelist, and the partial list, newest first."""
        page, freelist = self.page, self.freelist
        self.page, self.freelist = None, []
        partial = self._take_partial()
        self.irqs_off = page is not None or bool(partial)
        return page, freelist, partial

    @operation(writes="irqs_off", narrow=[Narrow(_irqs_on, reads="irqs_off")])
    def end_flush(self) -> None:
        """``local_irq_restore()``."""
        self.irqs_off = False

    @operation(writes="stat")
    def count_freed(self) -> None:
        """``__this_cpu_inc(s->cpu_slab->stat[FREE_SLAB])``."""
        self.freed_slabs += 1

    def _pageless(self) -> bool:
        return self.page is None

    @operation(
        guard=_irqs_on,
        reads="irqs_off",
        writes="page freelist",
        narrow=[Narrow(_pageless, reads="page irqs_off")],
    )
    def flush_page(self) -> tuple[Slab | None, list[int]]:
        """``flush_slab()`` of 6.1: gives up the current slab with its freelist, under the local lock."""
        page, freelist = self.page, self.freelist
        self.page, self.freelist = None, []
        return page, freelist

    @operation(guard=_irqs_on, reads="irqs_off", writes="partial")
    def flush_partial(self) -> list[Slab]:
        """``unfreeze_partials()`` of 6.1: gives up the partial list, newest first, under the local lock."""
        return self._take_partial()

    @operation(writes="limits")
    def stop_caching(self) -> None:
        """``s->cpu_partial = 0``: one field of the cache in the kernel; every CPU has a copy here."""
        self.cpu_partial = 0
        self.keeps_none = True

    @operation(guard=_irqs_on, reads="irqs_off")
    def wait_irqs_on(self) -> None:
        """``kick_all_cpus_sync()``: until the section of this CPU that is going on with interrupts off has ended."""

    # -- what sysfs sets -------------------------------------------------------------------------------------------

    @operation(writes="limits")
    def set_cpu_partial(self, cpu_partial: int) -> None:
        """``s->cpu_partial = objects``: one field of the cache in the kernel; every CPU has a copy here."""
        self.cpu_partial = cpu_partial

    @operation(writes="order limits")
    def set_order(self, order: int, objects: int) -> None:
        """``s->oo = oo_make(order, size)``: one field of the cache in the kernel; every CPU has a copy here."""
        self.order = order
        self.objects = objects
