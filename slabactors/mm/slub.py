"""SLUB's paths: allocate, free, flush, shrink, close (mm/slub.c, v3.8).

The comments mark the windows between two linearisation points; what the points are is said by the operations in
`slabactors.mm.slub_cpu` and `slabactors.mm.slub_slab`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from slabactors.actors import join, start
from slabactors.errors import KernelBug, Kind
from slabactors.mm.allocator import Allocator, CacheSpec, SlabInfo
from slabactors.mm.memcontrol import memcg_bind_pages, memcg_charge_slab, memcg_release_pages, memcg_uncharge_slab
from slabactors.mm.page_alloc import alloc_pages
from slabactors.mm.slab_page import SlabObject
from slabactors.mm.slub_cpu import KmemCacheCpu, KmemCacheNode
from slabactors.mm.slub_sizes import SlubGeometry, geometry
from slabactors.mm.slub_slab import Freed, Slab

if TYPE_CHECKING:
    from slabactors.kernel.cpu import Cpu
    from slabactors.machine import Machine
    from slabactors.mm.memcontrol import MemCgroup
    from slabactors.mm.slab_common import KmemCache


GFP_KERNEL: Final = 0xD0
"""What objects are allocated with: may sleep, start I/O, call into file systems (v3.8)."""


@dataclass(frozen=True, slots=True)
class SlubPolicy:
    """What differs between releases.

    Attributes:
        name: the allocator model's name.
        counts_first_slab: whether the objects of the first slab taken from the node's list count towards what an
            allocation takes at once (3.9 and later), or are not seen any more when they are counted (3.8).
    """

    name: str
    counts_first_slab: bool = False


class Slub(Allocator):
    """The SLUB allocator, see `slabactors.mm.allocator.Allocator`."""

    layout = "slub"

    def __init__(self, policy: SlubPolicy) -> None:
        self.policy = policy
        self.name = policy.name

    def geometry(self, spec: CacheSpec, machine: Machine) -> SlubGeometry:
        """The geometry of a new cache; see `slabactors.mm.slub_sizes.geometry`."""
        return geometry(spec.object_size, machine.config.cpus, spec.align, spec.min_partial)

    def build(self, machine: Machine, cache: KmemCache) -> None:
        """Give a new cache its per-CPU and per-node structures.  It owns no slab yet."""
        shape = _shape(cache)
        cache.cpu_slabs = [KmemCacheCpu(cpu.name, cache, shape) for cpu in machine.cpus]
        cache.nodes = [KmemCacheNode(node, cache, shape) for node in range(machine.config.nodes)]

    # -- allocate --------------------------------------------------------------------------------------------------

    async def alloc(
        self, cpu: Cpu, cache: KmemCache, memcg: MemCgroup | None, node: int | None = None
    ) -> SlabObject | None:
        """An object of exactly this cache, or none when there is no memory.

        Models slab_alloc_node() and __slab_alloc() (mm/slub.c, v3.8).

        Args:
            cpu: where the task runs.
            cache: a root or a child cache.
            memcg: the memcg of the task, to which new pages of a child cache are charged.
            node: the memory node that it must come from; None for any, the CPU's own first.
        """
        c = cache.cpu_slabs[cpu.id]
        got = await c.alloc()
        if isinstance(got, SlabObject):
            return got
        # Interrupts are off on this CPU from here on, until install() or irq_enable().
        page = got
        while page is not None:
            freelist = await page.get_freelist()
            if freelist:
                return await c.install(page, freelist)
            # It was full and is on no list any more.
            page = await c.next_partial()
        partial = await self._get_partial(c, cache)
        if partial is not None:
            return await c.install(*partial)
        await c.irq_enable()
        # Window: the page allocation may sleep; this CPU may get a slab by other means meanwhile.
        slab = await self._new_slab(cpu, cache, memcg)
        if slab is None:
            _slab_out_of_memory(cpu.machine, cache, node)
            return None
        while True:
            installed = await c.install_new(slab)
            if isinstance(installed, SlabObject):
                return installed
            await self._deactivate(cpu, cache, *installed)
            await c.end_flush()

    async def _get_partial(self, c: KmemCacheCpu, cache: KmemCache) -> tuple[Slab, list[int]] | None:
        """Take slabs from the head of the node's list.  Models get_partial_node() (mm/slub.c, v3.8)."""
        node = cache.nodes[0]
        if await node.nr_partial() == 0:
            return None
        listed = await node.lock()
        taken: list[Slab] = []
        freelist: list[int] = []
        pushed = available = 0
        for slab in listed:
            if not taken:
                freelist = await slab.acquire(True)
                if self.policy.counts_first_slab:
                    available = len(freelist)
            else:
                seen = await slab.counters()
                await slab.acquire(False)
                pushed += seen.free
                available += seen.free
            taken.append(slab)
            if available > _shape(cache).cpu_partial // 2:
                break
        await node.remove_and_unlock(taken)
        if not taken:
            return None
        if len(taken) > 1:
            await c.push_acquired(taken[1:], pushed)
        return taken[0], freelist

    async def _new_slab(self, cpu: Cpu, cache: KmemCache, memcg: MemCgroup | None) -> Slab | None:
        """A fresh slab: of the usual order, else of the smallest.  Models new_slab() (mm/slub.c, v3.8)."""
        shape = _shape(cache)
        for order, objects in ((shape.order, shape.objects), (shape.min_order, shape.min_objects)):
            charged = await memcg_charge_slab(cache, memcg, order)
            if not charged:
                continue
            number = await alloc_pages(cpu, order)
            if number is None:
                await memcg_uncharge_slab(cpu, memcg if cache.params is not None else None, order)
                continue
            slab = Slab(number, cache, order, objects, memcg if cache.params is not None else None)
            cpu.machine.slabs[slab] = None
            await cache.nodes[0].inc_slabs(objects)
            # Window: the slab is counted, and nr_pages is not raised yet.
            await memcg_bind_pages(cache, order)
            return slab
        return None

    # -- free ------------------------------------------------------------------------------------------------------

    async def free(self, cpu: Cpu, obj: SlabObject) -> None:
        """Free an object; its cache is found from its page.  Any context.

        Models slab_free() and __slab_free() (mm/slub.c, v3.8).
        """
        cache = obj.slab.cache
        c = cache.cpu_slabs[cpu.id]
        if await c.free(obj):
            return
        slab = cast("Slab", obj.slab)
        node = cache.nodes[0]
        freed = await slab.free_object(obj, False)
        if freed is Freed.LOCK_FIRST:
            await node.lock()
            # Window: another CPU may have frozen the slab, or allocated from it, before the lock was ours.
            freed = await slab.free_object(obj, True)
            if freed is Freed.EMPTY:
                if await node.remove_if_too_many_and_unlock(slab):
                    await self._discard(cpu, cache, slab)
                return
            await node.unlock()
        if freed is Freed.FROZEN:
            # Window: frozen, and on no list; nobody can find the slab.
            drained = await c.put_partial(slab, 1)
            if drained:
                await self._unfreeze(cpu, cache, drained)

    async def _discard(self, cpu: Cpu, cache: KmemCache, slab: Slab) -> None:
        """Give an empty slab's pages back.  Models discard_slab() and __free_slab() (mm/slub.c, v3.8)."""
        await cache.nodes[0].dec_slabs(slab.objects)
        # Window: the slab is not counted any more, nr_pages and the memcg's usage still include it.
        await memcg_release_pages(cpu, cache, slab.order)
        # Window: if these were the last pages, the cache may be gone from here on.
        await memcg_uncharge_slab(cpu, slab.memcg, slab.order)
        await slab.free()
        del cpu.machine.slabs[slab]
        await cpu.machine.page_alloc.free_pages(slab.order)

    # -- giving up what a CPU owns ---------------------------------------------------------------------------------

    async def _unfreeze(self, cpu: Cpu, cache: KmemCache, slabs: list[Slab]) -> None:
        """Move slabs of a CPU's partial list to the node's.  Models unfreeze_partials() (mm/slub.c, v3.8)."""
        await cache.nodes[0].lock()
        seen = []
        for slab in slabs:
            inuse = await slab.unfreeze()
            seen.append((slab, inuse))
        discard = await cache.nodes[0].add_unfrozen_and_unlock(seen)
        for slab in discard:
            await self._discard(cpu, cache, slab)

    async def _deactivate(self, cpu: Cpu, cache: KmemCache, slab: Slab, freelist: list[int]) -> None:
        """Give up a CPU's current slab.  Models deactivate_slab() (mm/slub.c, v3.8).

        Deviation: the kernel moves the private freelist back one object at a time, each by a compare-and-swap that
        nothing but the count of objects in use can show; here all go with the last one.
        """
        node = cache.nodes[0]
        to_tail: bool | None = None
        while True:
            seen = await slab.counters()
            if to_tail is None:
                to_tail = seen.free > 0
            inuse = seen.inuse - len(freelist)
            if inuse == 0 and await node.nr_partial() > node.min_partial:
                if await slab.deactivate(seen, freelist):
                    await self._discard(cpu, cache, slab)
                    return
            elif seen.free + len(freelist) > 0:
                await node.lock()
                if await slab.deactivate(seen, freelist):
                    await node.add_and_unlock(slab, to_tail)
                    return
                await node.unlock()
            elif await slab.deactivate(seen, freelist):
                return

    async def _flush_cpu(self, cpu: Cpu, cache: KmemCache) -> None:
        """What one CPU does in a flush, interrupts off.  Models __flush_cpu_slab() (mm/slub.c, v3.8)."""
        c = cache.cpu_slabs[cpu.id]
        page, freelist, partial = await c.begin_flush()
        if page is not None:
            await self._deactivate(cpu, cache, page, freelist)
        if partial:
            await self._unfreeze(cpu, cache, partial)
        if page is not None or partial:
            await c.end_flush()

    async def _flush_ipi(self, cpu: Cpu, cache: KmemCache) -> None:
        await cpu.irq_enter()
        await self._flush_cpu(cpu, cache)

    async def flush_all(self, cpu: Cpu, cache: KmemCache) -> None:
        """Make every CPU give up its slabs of a cache: by IPI, all at the same time.  Sleeps.

        Models flush_all() and on_each_cpu_cond() (mm/slub.c, kernel/smp.c, v3.8).
        """
        others = []
        here = False
        for other in cpu.machine.cpus:
            if await cache.cpu_slabs[other.id].has_slab():
                if other is cpu:
                    here = True
                else:
                    others.append(other)
        # Window: a CPU that had nothing when it was looked at is not asked, whatever it gets from here on.
        calls = []
        for other in others:
            call = await start(other.task(self._flush_ipi(other, cache), "flush IPI"))
            calls.append(call)
        if here:
            await self._flush_cpu(cpu, cache)
        for call in calls:
            await join(call)

    # -- shrink and close ------------------------------------------------------------------------------------------

    async def shrink(self, cpu: Cpu, cache: KmemCache) -> int:
        """Flush every CPU, then give back every empty slab, whatever ``min_partial`` is.  Takes no mutex.  Sleeps.

        Models kmem_cache_shrink() (mm/slub.c, v3.8).
        Deviation: the temporary array it sorts with is always there.
        """
        await self.flush_all(cpu, cache)
        node = cache.nodes[0]
        if await node.nr_partial() == 0:
            return 0
        listed = await node.lock()
        seen = []
        for slab in listed:
            counters = await slab.counters()
            seen.append((slab, counters.inuse))
        empty = await node.sort_and_unlock(seen)
        for slab in empty:
            await self._discard(cpu, cache, slab)
        return 0

    async def close(self, cpu: Cpu, cache: KmemCache) -> None:
        """Give everything back before the cache goes away.  Sleeps.

        Models kmem_cache_close() and free_partial() (mm/slub.c, v3.8): takes no list_lock, "we are the last user".

        Raises:
            KernelBug: ``objects-remaining``.
        """
        await self.flush_all(cpu, cache)
        node = cache.nodes[0]
        listed = await node.listed()
        empty = []
        for slab in listed:
            counters = await slab.counters()
            if counters.inuse == 0:
                empty.append(slab)
            else:
                _list_slab_objects(cpu.machine, cache, slab, counters.inuse)
        if empty:
            await node.take_empty(empty)
            for slab in empty:
                await self._discard(cpu, cache, slab)
        left = await node.slabs_left()
        if left:
            raise KernelBug(
                Kind.OBJECTS_REMAINING,
                f"Objects remaining in {cache.name} on kmem_cache_close(): slabs left: {left}",
                clause="destroy of a cache with objects",
            )

    # -- for reports ---------------------------------------------------------------------------------------------------

    def cached_objects(self, cache: KmemCache) -> int:
        """Objects on the CPUs' freelists."""
        return sum(len(c.freelist) for c in cache.cpu_slabs)

    def slabinfo(self, cache: KmemCache) -> SlabInfo:
        """Objects are in use unless they lie in a slab that a node lists.  Models get_slabinfo() (mm/slub.c, v3.8)."""
        slabs = sum(node.nr_slabs for node in cache.nodes)
        objects = sum(node.total_objects for node in cache.nodes)
        free = sum(slab.objects - slab.inuse for node in cache.nodes for slab in node.partial)
        return SlabInfo(objects - free, objects, slabs, slabs)


def _list_slab_objects(machine: Machine, cache: KmemCache, slab: Slab, inuse: int) -> None:
    """What is said of a slab that keeps its cache from being closed; full slabs are on no list, and nothing is said.

    Models list_slab_objects() and slab_err() (mm/slub.c, v3.8), without the lines about each object.
    """
    machine.printk(
        "=" * 77,
        f"BUG {cache.name} (Not tainted): Objects remaining in {cache.name} on kmem_cache_close()",
        "-" * 77,
        f"INFO: Slab {slab.name} objects={slab.objects} used={inuse}",
    )


def _slab_out_of_memory(machine: Machine, cache: KmemCache, node: int | None) -> None:
    """What is said when there is no memory for a slab.  Models slab_out_of_memory() (mm/slub.c, v3.8)."""
    shape = _shape(cache)
    machine.printk(
        f"SLUB: Unable to allocate memory on node {-1 if node is None else node} (gfp={GFP_KERNEL:#x})",
        f"  cache: {cache.name}, object size: {cache.spec.object_size}, buffer size: {shape.size}, "
        f"default order: {shape.order}, min order: {shape.min_order}",
    )
    for number, one in enumerate(cache.nodes):
        free = sum(slab.objects - slab.inuse for slab in one.partial)
        machine.printk(f"  node {number}: slabs: {one.nr_slabs}, objs: {one.total_objects}, free: {free}")


def _shape(cache: KmemCache) -> SlubGeometry:
    return cast("SlubGeometry", cache.geometry)


SLUB_POLICIES = (
    SlubPolicy("slub-3.8"),
    SlubPolicy("slub-3.10", counts_first_slab=True),
)
"""The releases that are modelled."""
