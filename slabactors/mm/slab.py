"""SLAB's paths: allocate, free, drain, shrink, close (mm/slab.c, v3.8).

The comments mark the windows between two linearisation points; what the points are is said by the operations in
`slabactors.mm.slab_array`, `slabactors.mm.slab_lists` and `slabactors.mm.slab_slab`.  The time-based reaper is in
`slabactors.mm.slab_reaper`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, cast

from slabactors.actors import join, start
from slabactors.errors import KernelBug, Kind
from slabactors.kernel.rcu import call_rcu
from slabactors.mm import slab_reaper
from slabactors.mm.allocator import Allocator, CacheSpec, SlabInfo
from slabactors.mm.memcontrol import memcg_bind_pages, memcg_charge_slab, memcg_release_pages, memcg_uncharge_slab
from slabactors.mm.page_alloc import alloc_pages
from slabactors.mm.slab_array import ArrayCache
from slabactors.mm.slab_lists import KmemList3
from slabactors.mm.slab_page import SlabObject
from slabactors.mm.slab_sizes import SlabGeometry, geometry
from slabactors.mm.slab_slab import SlabDescriptor

if TYPE_CHECKING:
    from slabactors.actors import Spawn
    from slabactors.kernel.cpu import Cpu
    from slabactors.machine import Machine
    from slabactors.mm.memcontrol import MemCgroup
    from slabactors.mm.slab_common import KmemCache
    from slabactors.mm.slab_slab import Entry


def _neighbours(entries: list[Entry]) -> list[tuple[SlabDescriptor, list[int]]]:
    """Entries that lie side by side in an array and in one slab, put together."""
    return [(slab, [place for _, place in group]) for slab, group in groupby(entries, key=itemgetter(0))]


class SlabAllocator(Allocator):
    """The SLAB allocator, see `slabactors.mm.allocator.Allocator`.

    Objects go from slabs to a CPU's array by the batch, and back.  Deviation: descriptors outside a slab take no memory
    of another cache; there are no alien arrays, so that a machine has one memory node.
    """

    layout = "slab"
    shrink_holds_cpus = True
    nodes_max = 1

    def __init__(self, name: str) -> None:
        self.name = name

    def geometry(self, spec: CacheSpec, machine: Machine) -> SlabGeometry:
        """The geometry of a new cache; see `slabactors.mm.slab_sizes.geometry`."""
        return geometry(spec, machine.config.cpus)

    def build(self, machine: Machine, cache: KmemCache) -> None:
        """Give a new cache its arrays and lists.  It owns no slab yet.  A child's tunables are those of its root."""
        shape = cast("SlabGeometry", cache.geometry)
        cache.arrays = [ArrayCache(cpu.name, cache, shape) for cpu in machine.cpus]
        cache.nodelists = [KmemList3(0, cache, shape, len(machine.cpus), machine.clock)]

    def daemons(self, machine: Machine) -> Iterator[Spawn[Any]]:
        """What starts the reaper of each CPU, where the machine has one."""
        return slab_reaper.daemons(machine, self)

    # -- allocate --------------------------------------------------------------------------------------------------

    async def alloc(
        self, cpu: Cpu, cache: KmemCache, memcg: MemCgroup | None, node: int | None = None
    ) -> SlabObject | None:
        """An object of exactly this cache, or none when there is no memory.

        Models ____cache_alloc() (mm/slab.c, v3.8).

        Args:
            cpu: where the task runs.
            cache: a root or a child cache.
            memcg: the memcg of the task, to which new pages of a child cache are charged.
            node: there is one memory node.
        """
        ac, l3 = cache.arrays[cpu.id], cache.nodelists[0]
        got: SlabObject | int | None = await ac.alloc()
        while isinstance(got, int):
            # Interrupts are off on this CPU from here on, until refilled() or irq_enable().
            entries = await self._refill(l3, got)
            if entries:
                return await ac.refilled(entries)
            slab = await self._grow(cpu, cache, memcg)
            # The array may have been refilled while interrupts were on.
            got = await ac.alloc_after_grow(slab is not None)
        return got

    async def _refill(self, l3: KmemList3, batch: int) -> list[Entry]:
        """Take objects from the shared array, else from slabs.  Models cache_alloc_refill() (mm/slab.c, v3.8)."""
        source = await l3.lock_to_refill(batch)
        if isinstance(source, list):
            await l3.unlock()
            return source
        entries: list[Entry] = []
        while source is not None:
            taken, full = await source.get_objects(batch - len(entries))
            entries += taken
            source = await l3.relist(source, full, len(entries) < batch)
        await l3.refilled_and_unlock(len(entries))
        return entries

    async def _grow(self, cpu: Cpu, cache: KmemCache, memcg: MemCgroup | None) -> SlabDescriptor | None:
        """A fresh slab at the end of the free list.  There is no smaller order to fall back to.

        Models cache_grow() and kmem_getpages() (mm/slab.c, v3.8).
        Deviation: the caller may always sleep; which colour comes next is not counted, and no state could show it.
        """
        ac, l3, shape = cache.arrays[cpu.id], cache.nodelists[0], cache.geometry
        owner = memcg if cache.params is not None else None
        await ac.irq_enable()
        # Window: the page allocation may sleep; this CPU may get objects by other means meanwhile.
        slab = None
        if await memcg_charge_slab(cpu, cache, memcg, shape.order):
            number = await alloc_pages(cpu, shape.order)
            if number is None:
                await memcg_uncharge_slab(cpu, cache, memcg, shape.order)
            else:
                slab = SlabDescriptor(number, cache, shape.order, shape.objects, owner)
                cpu.machine.slabs[slab] = None
                await memcg_bind_pages(cpu, cache, shape.order)
        # Window: nr_pages is raised, and the slab is on no list yet.
        await ac.irq_disable()
        if slab is not None:
            await l3.add_grown(slab)
        return slab

    # -- free ------------------------------------------------------------------------------------------------------

    async def free(self, cpu: Cpu, obj: SlabObject) -> None:
        """Free an object; its cache is found from its page.  Any context.

        Models __cache_free() and cache_flusharray() (mm/slab.c, v3.8).
        """
        cache = obj.slab.cache
        ac, l3 = cache.arrays[cpu.id], cache.nodelists[0]
        oldest = await ac.free(obj)
        if oldest is None:
            return
        # Interrupts are off on this CPU from here on, until flushed().
        moved = await l3.lock_to_flush(oldest)
        if not moved:
            await self.free_block(cpu, cache, oldest)
        await l3.unlock()
        await ac.flushed(moved or len(oldest), obj)

    async def free_block(self, cpu: Cpu, cache: KmemCache, entries: list[Entry]) -> None:
        """Put objects back into their slabs, with the list_lock held.  Models free_block() (mm/slab.c, v3.8).

        A slab that becomes empty above ``free_limit`` goes back under the lock, with interrupts off.
        Deviation: objects that lie side by side in an array and in one slab go back in one step; the lock is held.
        """
        l3 = cache.nodelists[0]
        for slab, places in _neighbours(entries):
            inuse = await slab.put_objects(places)
            if await l3.freed(slab, len(places), inuse):
                await self._slab_destroy(cpu, cache, slab)

    async def _slab_destroy(self, cpu: Cpu, cache: KmemCache, slab: SlabDescriptor) -> None:
        """Give an empty slab back, in an RCU cache after a grace period.  Models slab_destroy() (mm/slab.c, v3.8)."""
        if cache.spec.rcu:
            await call_rcu(cpu, partial(self._freepages, cpu, cache, slab))
        else:
            await self._freepages(cpu, cache, slab)

    async def _freepages(self, cpu: Cpu, cache: KmemCache, slab: SlabDescriptor) -> None:
        """Give an empty slab's pages back.  Models kmem_freepages() and kmem_rcu_free() (mm/slab.c, v3.8)."""
        await memcg_release_pages(cpu, cache, slab.order)
        # Window: if these were the last pages, the cache goes as soon as whoever destroys it gets slab_mutex, and the
        # interrupts of every CPU.
        await memcg_uncharge_slab(cpu, cache, slab.memcg, slab.order)
        await slab.free()
        del cpu.machine.slabs[slab]
        await cpu.machine.page_alloc.free_pages(slab.order)

    # -- drain -----------------------------------------------------------------------------------------------------

    async def _do_drain(self, cpu: Cpu, cache: KmemCache, owner: Cpu | None = None) -> None:
        """Empty one CPU's array, interrupts off, or that of one that is dead.  Models do_drain() (mm/slab.c, v3.8).

        Deviation: an empty array does not take the lock.
        """
        ac, l3 = cache.arrays[(owner or cpu).id], cache.nodelists[0]
        entries = await ac.begin_drain()
        if not entries:
            return
        await l3.lock()
        await self.free_block(cpu, cache, entries)
        await l3.unlock()
        await ac.drained(len(entries))

    async def _drain_ipi(self, cpu: Cpu, cache: KmemCache) -> None:
        await cpu.irq_enter()
        await self._do_drain(cpu, cache)

    async def drain_cpu_caches(self, cpu: Cpu, cache: KmemCache) -> None:
        """Empty the arrays of all CPUs, by IPI and all at the same time, then the one that they share.  Sleeps.

        Models drain_cpu_caches() and on_each_cpu() (mm/slab.c, kernel/smp.c, v3.8).
        """
        calls = []
        for other in cpu.machine.cpus:
            if other is not cpu:
                call = await start(other.interrupt(self._drain_ipi(other, cache), "drain IPI"))
                calls.append(call)
        await self._do_drain(cpu, cache)
        for call in calls:
            await join(call)
        # Window: what a CPU has freed since it was asked stays in its array.
        if await cache.nodelists[0].has_shared():
            await self.drain_shared(cpu, cache, force=True)

    async def drain_shared(self, cpu: Cpu, cache: KmemCache, *, force: bool) -> None:
        """Take objects from the shared array, all or the reaper's share.  Models drain_array() (mm/slab.c, v3.8)."""
        l3 = cache.nodelists[0]
        entries = await l3.lock_to_drain(force)
        await self.free_block(cpu, cache, entries)
        await l3.unlock()

    async def drain_freelist(self, cpu: Cpu, cache: KmemCache, count: int) -> int:
        """Give back at most ``count`` free slabs, the last of the list first; how many went.

        Models drain_freelist() (mm/slab.c, v3.8): takes the lock for each, and destroys it when it has let go of that.
        """
        for freed in range(count):
            slab = await cache.nodelists[0].take_free()
            if slab is None:
                return freed
            await self._slab_destroy(cpu, cache, slab)
        return count

    async def cpu_dead(self, cpu: Cpu, dead: Cpu) -> None:
        """Empty the arrays of a CPU that is offline, then give back the free slabs of every cache.

        Models cpuup_canceled() (mm/slab.c, v3.8).
        Deviation: the arrays and the shared array stay, and the reaper of that CPU goes on elsewhere.
        """
        machine = cpu.machine
        await machine.slab_mutex.lock()
        for cache in list(machine.slab_caches):
            await self._do_drain(cpu, cache, dead)
        for cache in list(machine.slab_caches):
            free = await cache.nodelists[0].nr_free()
            await self.drain_freelist(cpu, cache, free)
        await machine.slab_mutex.unlock()

    # -- shrink and close ------------------------------------------------------------------------------------------

    async def shrink(self, cpu: Cpu, cache: KmemCache) -> int:
        """Empty every array and give back every empty slab; 1 when any slab is left.  Sleeps.

        Models kmem_cache_shrink() (mm/slab.c, v3.8), which takes ``slab_mutex``, and __kmem_cache_shrink() (mm/slab.c,
        v3.16), which does not.
        """
        if cpu.machine.lifecycle.locks_memory_hotplug:
            return await self._cache_shrink(cpu, cache)
        await cpu.machine.slab_mutex.lock()
        left = await self._cache_shrink(cpu, cache)
        await cpu.machine.slab_mutex.unlock()
        return left

    async def _cache_shrink(self, cpu: Cpu, cache: KmemCache) -> int:
        """As `shrink`, for who holds ``slab_mutex`` already.  Models __cache_shrink() (mm/slab.c, v3.8)."""
        l3 = cache.nodelists[0]
        await self.drain_cpu_caches(cpu, cache)
        free = await l3.nr_free()
        await self.drain_freelist(cpu, cache, free)
        # Window: the slab that somebody frees the last object of only now stays.
        return int(await l3.in_use())

    async def close(self, cpu: Cpu, cache: KmemCache) -> None:
        """Give everything back before the cache goes away; the caller holds ``slab_mutex``.  Sleeps.

        Models __kmem_cache_shutdown() (mm/slab.c, v3.8).

        Raises:
            KernelBug: ``objects-remaining``.
        """
        if await self._cache_shrink(cpu, cache):
            raise KernelBug(
                Kind.OBJECTS_REMAINING,
                f"kmem_cache_destroy {cache.name}: Slab cache still has objects",
                clause="destroy of a cache with objects",
            )

    # -- for reports ---------------------------------------------------------------------------------------------------

    def cached_objects(self, cache: KmemCache) -> int:
        """Objects in the arrays of the CPUs, and in the one that they share."""
        return sum(len(ac.entries) for ac in cache.arrays) + sum(len(l3.shared) for l3 in cache.nodelists)

    def slabinfo(self, cache: KmemCache) -> SlabInfo:
        """Objects in arrays are in use.  Models get_slabinfo() (mm/slab.c, v3.8)."""
        shape = cast("SlabGeometry", cache.geometry)
        full = sum(len(l3.slabs_full) for l3 in cache.nodelists)
        partial = sum(len(l3.slabs_partial) for l3 in cache.nodelists)
        slabs = full + partial + sum(len(l3.slabs_free) for l3 in cache.nodelists)
        partly_used = sum(slab.inuse for l3 in cache.nodelists for slab in l3.slabs_partial)
        return SlabInfo(
            active_objs=full * shape.objects + partly_used,
            num_objs=slabs * shape.objects,
            active_slabs=full + partial,
            num_slabs=slabs,
            shared_avail=sum(len(l3.shared) for l3 in cache.nodelists),
            limit=shape.limit,
            batchcount=shape.batchcount,
            shared=shape.shared,
        )
