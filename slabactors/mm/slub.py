"""SLUB's paths: allocate, free, flush, shrink, close (mm/slub.c, v3.8, v3.10 and v6.1).

The comments mark the windows between two linearisation points; what the points are is said by the operations in
`slabactors.mm.slub_cpu`, `slabactors.mm.slub_node` and `slabactors.mm.slub_slab`.  What differs between releases is
said by `slabactors.mm.slub_policy`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, cast

from slabactors.actors import join, start
from slabactors.errors import KernelBug, Kind
from slabactors.kernel.rcu import call_rcu
from slabactors.mm import slub_sysfs
from slabactors.mm.allocator import Allocator, CacheSpec, SlabInfo
from slabactors.mm.memcontrol import memcg_bind_pages, memcg_charge_slab, memcg_release_pages, memcg_uncharge_slab
from slabactors.mm.page_alloc import alloc_pages
from slabactors.mm.slab_page import SlabObject
from slabactors.mm.slub_bulk import one_slab_from_the_end
from slabactors.mm.slub_cpu import KmemCacheCpu
from slabactors.mm.slub_node import CacheStructures, KmemCacheNode
from slabactors.mm.slub_policy import Flush, Pull, ShrinkOrder, SlubPolicy
from slabactors.mm.slub_sizes import SlubGeometry, geometry
from slabactors.mm.slub_slab import Freed, Slab

if TYPE_CHECKING:
    from slabactors.kernel.cpu import Cpu
    from slabactors.machine import Machine
    from slabactors.mm.memcontrol import MemCgroup
    from slabactors.mm.slab_common import KmemCache


GFP_KERNEL: Final = 0xD0
"""What objects are allocated with: may sleep, start I/O, call into file systems (v3.8)."""


class Slub(Allocator):
    """The SLUB allocator of one release, see `slabactors.mm.allocator.Allocator`."""

    layout = "slub"

    def __init__(self, policy: SlubPolicy) -> None:
        self.policy = policy
        self.name = policy.name

    def geometry(self, spec: CacheSpec, machine: Machine) -> SlubGeometry:
        """The geometry of a new cache; see `slabactors.mm.slub_sizes.geometry`."""
        return geometry(spec, machine.config.cpus, self.policy)

    def build(self, machine: Machine, cache: KmemCache) -> None:
        """Give a new cache its per-CPU and per-node structures.  It owns no slab yet."""
        shape = _shape(cache)
        if machine.config.shutdown_frees_nodes:
            cache.structures = CacheStructures(cache)
        cache.cpu_slabs = [KmemCacheCpu(cpu.name, cache, shape, self.policy) for cpu in machine.cpus]
        cache.nodes = [KmemCacheNode(node, cache, shape, self.policy) for node in range(machine.config.nodes)]

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

        Raises:
            ValueError: the machine has no such node.
        """
        c = cache.cpu_slabs[cpu.id]
        got: SlabObject | Slab | None
        if node is None:
            got = await c.alloc()
        elif 0 <= node < len(cache.nodes):
            got = await c.alloc_on(node)
        else:
            raise ValueError(f"there is no memory node {node}; the machine has {len(cache.nodes)}, counted from 0")
        if isinstance(got, SlabObject):
            return got
        # Interrupts are off on this CPU from here on, until install() or irq_enable().
        page = got
        while page is not None:
            if node is not None and page.node != node:
                freelist = await c.drop_page()
                await self._deactivate(cpu, cache, page, freelist)
            else:
                freelist = await page.get_freelist()
                if freelist:
                    return await c.install(page, freelist)
                # It was full and is on no list any more.
            page = await c.next_partial()
        acquired = await self._get_partial(cpu, cache, node)
        if acquired is not None:
            return await c.install(*acquired)
        order, objects = await c.irq_enable()
        # Window: the page allocation may sleep; this CPU may get a slab by other means meanwhile.
        slab = await self._new_slab(cpu, cache, memcg, order, objects, cpu.node if node is None else node)
        if slab is None:
            _slab_out_of_memory(cpu.machine, cache, node)
            return None
        if self.policy.counts_when_installed:
            await cache.nodes[slab.node].inc_slabs(slab.objects)
        installed = await c.install_new(slab)
        if isinstance(installed, SlabObject):
            return installed
        # This CPU got a slab meanwhile, and interrupts are off again.
        await self._deactivate(cpu, cache, *installed)
        return await c.install(slab, list(range(slab.objects)))

    async def _get_partial(self, cpu: Cpu, cache: KmemCache, wanted: int | None) -> tuple[Slab, list[int]] | None:
        """Take slabs from a node: the one asked for, else the CPU's own, else another that lists many.

        Models get_partial() and get_any_partial() (mm/slub.c, v3.8).
        Deviation: the kernel leaves other nodes alone now and then, by the CPU's cycle counter and
        ``remote_node_defrag_ratio``: in 23 of 1024 cases as it is shipped; here it always looks at them.
        """
        own = cpu.node if wanted is None else wanted
        acquired = await self._get_partial_node(cpu, cache, own)
        if acquired is not None or wanted is not None:
            return acquired
        nodes = len(cache.nodes)
        for distance in range(1, nodes):
            other = (own + distance) % nodes
            if await cache.nodes[other].has_surplus():
                acquired = await self._get_partial_node(cpu, cache, other)
                if acquired is not None:
                    return acquired
        return None

    async def _get_partial_node(self, cpu: Cpu, cache: KmemCache, number: int) -> tuple[Slab, list[int]] | None:
        """Take slabs from the head of a node's list: one to use, the others for this CPU's partial list.

        Models get_partial_node(), acquire_slab() (mm/slub.c, v3.8).
        Deviation: a slab is acquired in one step, so that no free can come between its reads and its write, which in
        the kernel ends the search.
        """
        c = cache.cpu_slabs[cpu.id]
        node = cache.nodes[number]
        if await node.nr_partial() == 0:
            return None
        enough = await c.enough()
        listed = await node.lock()
        freelist: list[int] = []
        taken: list[Slab] = []
        others: list[tuple[Slab, int]] = []
        available = 0
        for slab in listed:
            if not taken:
                freelist = await slab.acquire()
                if self.policy.pull is Pull.EVERY_SLAB:
                    available = len(freelist)
            else:
                free = await slab.acquire_partial()
                others.append((slab, free))
                available += 1 if self.policy.pull is Pull.SLABS else free
            taken.append(slab)
            if available > enough:
                break
        await node.remove_and_unlock(taken)
        if not taken:
            return None
        if others:
            await c.push_acquired(others)
        return taken[0], freelist

    async def _new_slab(
        self, cpu: Cpu, cache: KmemCache, memcg: MemCgroup | None, order: int, objects: int, node: int
    ) -> Slab | None:
        """A fresh slab: of the usual order, else of the smallest.  Models new_slab() (mm/slub.c, v3.8).

        Deviation: memory is of no node; a slab is said to lie where it was wanted.
        """
        shape = _shape(cache)
        if cpu.machine.config.memoryless_nodes and node not in await cpu.machine.node_states.for_each():
            node = 0
        for tried, room in ((order, objects), (shape.min_order, shape.min_objects)):
            charged = await memcg_charge_slab(cpu, cache, memcg, tried)
            if not charged:
                continue
            number = await alloc_pages(cpu, tried)
            if number is None:
                await memcg_uncharge_slab(cpu, cache, memcg, tried)
                continue
            slab = Slab(number, cache, tried, room, memcg if cache.params is not None else None, node)
            cpu.machine.slabs[slab] = None
            if not self.policy.counts_when_installed:
                await cache.nodes[node].inc_slabs(room)
                # Window: the slab is counted, and nr_pages is not raised yet.
            await memcg_bind_pages(cpu, cache, tried)
            return slab
        return None

    async def alloc_bulk(self, cpu: Cpu, cache: KmemCache, count: int) -> list[SlabObject]:
        """So many objects of a cache, or none at all when there is no memory for them.

        Models kmem_cache_alloc_bulk() (mm/slub.c, v6.1): the CPU's freelist in one step, then a slow path, and so on.

        Raises:
            ValueError: the release has no bulk calls.
        """
        self._has_bulk()
        c = cache.cpu_slabs[cpu.id]
        objects: list[SlabObject] = []
        while len(objects) < count:
            objects += await c.alloc_many(count - len(objects))
            if len(objects) < count:
                obj = await self.alloc(cpu, cache, None)
                if obj is None:
                    await self.free_bulk(cpu, objects)
                    return []
                objects.append(obj)
        return objects

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
        freed = await slab.free_object(obj, False)
        if freed is Freed.LOCK_FIRST:
            await cache.nodes[slab.node].lock()
            # Window: another CPU may have frozen the slab, or allocated from it, before the lock was ours.
            freed = await slab.free_object(obj, True)
            if await self._freed_under_lock(cpu, cache, slab, freed):
                return
        if freed is Freed.FROZEN:
            # Window: frozen, and on no list; nobody can find the slab.
            await self._put_cpu_partial(cpu, cache, slab, 1)

    async def _freed_under_lock(self, cpu: Cpu, cache: KmemCache, slab: Slab, freed: Freed) -> bool:
        """Give the lock back after a free that took it; whether the slab was listed and is empty now."""
        node = cache.nodes[slab.node]
        if freed is not Freed.EMPTY:
            await node.unlock()
            return False
        if await node.remove_if_too_many_and_unlock(slab):
            await self._discard(cpu, cache, slab)
        return True

    async def _put_cpu_partial(self, cpu: Cpu, cache: KmemCache, slab: Slab, free: int) -> None:
        """Put a slab that was just frozen on this CPU's partial list.

        Models put_cpu_partial() (mm/slub.c, v3.8 and v6.1).
        Deviation: the free objects that are noted are those that the free made; the kernel looks at the slab again, and
        may see more when others have freed into it meanwhile.
        """
        c = cache.cpu_slabs[cpu.id]
        while True:
            drained = await c.put_partial(slab, free)
            if drained:
                await self._unfreeze(cpu, cache, drained)
            if slab in drained:
                await c.end_flush()
                return
            if not (drained and self.policy.drains_before_it_puts):
                return
            await c.end_flush()
            # Window: the slab is on no list yet, and other paths of this CPU may put theirs there.

    async def free_bulk(self, cpu: Cpu, objects: list[SlabObject]) -> None:
        """Free objects of any caches, those of one slab together as far as they lie near each other in the list.

        Models kmem_cache_free_bulk() (mm/slub.c, v6.1).

        Raises:
            ValueError: the release has no bulk calls.
        """
        self._has_bulk()
        left = list(objects)
        while left:
            together = one_slab_from_the_end(left)
            await self._free_together(cpu, together)

    async def _free_together(self, cpu: Cpu, objects: list[SlabObject]) -> None:
        """Free objects of one slab as one.  Models do_slab_free() and __slab_free() (mm/slub.c, v6.1)."""
        slab = cast("Slab", objects[0].slab)
        cache = slab.cache
        if await cache.cpu_slabs[cpu.id].free_many(slab, objects):
            return
        freed = await slab.free_objects(objects, False)
        if freed is Freed.LOCK_FIRST:
            await cache.nodes[slab.node].lock()
            # Window: as in free().
            freed = await slab.free_objects(objects, True)
            if await self._freed_under_lock(cpu, cache, slab, freed):
                return
        if freed is Freed.FROZEN:
            await self._put_cpu_partial(cpu, cache, slab, len(objects))

    def _has_bulk(self) -> None:
        if not self.policy.bulk:
            raise ValueError(f"{self.name} has no bulk calls; slub-6.1 has")

    async def _discard(self, cpu: Cpu, cache: KmemCache, slab: Slab) -> None:
        """Uncount an empty slab and give its pages back.  Models discard_slab() (mm/slub.c, v3.8)."""
        await cache.nodes[slab.node].dec_slabs(slab.objects)
        # Window: the slab is not counted any more, nr_pages and the memcg's usage still include it.
        await self._free_slab(cpu, cache, slab)

    async def _free_slab(self, cpu: Cpu, cache: KmemCache, slab: Slab) -> None:
        """Give pages back, those of an RCU cache after a grace period.  Models free_slab() (mm/slub.c, v3.8)."""
        if cache.spec.rcu:
            await call_rcu(cpu, partial(self._free_pages, cpu, cache, slab))
        else:
            await self._free_pages(cpu, cache, slab)

    async def _free_pages(self, cpu: Cpu, cache: KmemCache, slab: Slab) -> None:
        """Give an empty slab's pages back.  Models __free_slab() (mm/slub.c, v3.8)."""
        await memcg_release_pages(cpu, cache, slab.order)
        # Window: if these were the last pages, the cache may be gone from here on.
        await memcg_uncharge_slab(cpu, cache, slab.memcg, slab.order)
        await slab.free()
        del cpu.machine.slabs[slab]
        await cpu.machine.page_alloc.free_pages(slab.order)

    # -- giving up what a CPU owns ---------------------------------------------------------------------------------

    async def _unfreeze(self, cpu: Cpu, cache: KmemCache, slabs: list[Slab]) -> None:
        """Move slabs of a CPU's partial list to their nodes'.  Models unfreeze_partials() (mm/slub.c, v3.8).

        The lock of a node is held as long as slabs of this node follow each other.
        """
        discard: list[Slab] = []
        for run in _runs_of_a_node(slabs):
            node = cache.nodes[run[0].node]
            await node.lock()
            seen = []
            for slab in run:
                inuse = await slab.unfreeze()
                seen.append((slab, inuse))
            surplus = await node.add_unfrozen_and_unlock(seen)
            discard[:0] = surplus
        for slab in discard:
            await self._discard(cpu, cache, slab)
            await self._count_freed(cpu, cache)

    async def _deactivate(self, cpu: Cpu, cache: KmemCache, slab: Slab, freelist: list[int]) -> None:
        """Give up a CPU's current slab.  Models deactivate_slab() (mm/slub.c, v3.8 and v6.1).

        Deviation: 3.x moves the private freelist back one object at a time, each by a compare-and-swap that nothing but
        the count of objects in use can show; here all go with the last one, as they do in 6.1.  3.x also lists the slab
        before that last one succeeds, under the lock, and takes it off again when it does not.
        """
        node = cache.nodes[slab.node]
        to_tail: bool | None = None
        while True:
            seen = await slab.counters()
            if to_tail is None:
                to_tail = seen.free > 0
            inuse = seen.inuse - len(freelist)
            if inuse == 0 and await node.too_many():
                if await slab.deactivate(seen, freelist):
                    await self._discard(cpu, cache, slab)
                    await self._count_freed(cpu, cache)
                    return
            elif seen.free + len(freelist) > 0:
                await node.lock()
                if await slab.deactivate(seen, freelist):
                    await node.add_and_unlock(slab, to_tail)
                    return
                await node.unlock()
            elif await slab.deactivate(seen, freelist):
                return

    async def _count_freed(self, cpu: Cpu, cache: KmemCache) -> None:
        """Count a slab that has gone back, in the cache that it was of.  Models stat() (mm/slub.c, v3.8)."""
        if cpu.machine.config.slub_stats:
            # Window: that slab may have been the last of a dead cache.
            await cache.cpu_slabs[cpu.id].count_freed()

    async def _flush_cpu(self, cpu: Cpu, cache: KmemCache, owner: Cpu | None = None) -> None:
        """What one CPU does in a flush, interrupts off, or another one for it when it is dead.

        Models __flush_cpu_slab() (mm/slub.c, v3.8).
        """
        c = cache.cpu_slabs[(owner or cpu).id]
        page, freelist, slabs = await c.begin_flush()
        if page is not None:
            await self._deactivate(cpu, cache, page, freelist)
        if slabs:
            await self._unfreeze(cpu, cache, slabs)
        if page is not None or slabs:
            await c.end_flush()

    async def _flush_ipi(self, cpu: Cpu, cache: KmemCache) -> None:
        await cpu.irq_enter()
        await self._flush_cpu(cpu, cache)

    async def _flush_work(self, cpu: Cpu, cache: KmemCache) -> None:
        """What one CPU does in a flush, in a work item.  Models flush_cpu_slab() (mm/slub.c, v6.1)."""
        c = cache.cpu_slabs[cpu.id]
        page, freelist = await c.flush_page()
        # Window: the CPU has no current slab; its other paths may get one, and use its partial list.
        if page is not None:
            await self._deactivate(cpu, cache, page, freelist)
        slabs = await c.flush_partial()
        if slabs:
            await self._unfreeze(cpu, cache, slabs)

    async def flush_all(self, cpu: Cpu, cache: KmemCache) -> None:
        """Make every CPU give up its slabs of a cache, all at the same time.  Sleeps.

        Models flush_all(), on_each_cpu_cond() (mm/slub.c, kernel/smp.c, v3.8) and flush_all_cpus_locked() (mm/slub.c,
        v6.1).
        """
        if self.policy.flush is Flush.WORK_ITEMS:
            await cpu.machine.flush_lock.lock()
            await self._flush_by_work_items(cpu, cache)
            await cpu.machine.flush_lock.unlock()
        else:
            await self._flush_by_ipi(cpu, cache)

    async def _flush_by_ipi(self, cpu: Cpu, cache: KmemCache) -> None:
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
            call = await start(other.interrupt(self._flush_ipi(other, cache), "flush IPI"))
            calls.append(call)
        if here:
            await self._flush_cpu(cpu, cache)
        for call in calls:
            await join(call)

    async def _flush_by_work_items(self, cpu: Cpu, cache: KmemCache) -> None:
        items = []
        for other in cpu.machine.cpus:
            if await cache.cpu_slabs[other.id].has_slab():
                item = await start(other.task(self._flush_work(other, cache), "flush work"))
                items.append(item)
        # Window: as with interrupts.
        for item in items:
            await join(item)

    async def cpu_dead(self, cpu: Cpu, dead: Cpu) -> None:
        """Take from a CPU that is offline what it had of every cache.

        Models slab_cpuup_callback() (mm/slub.c, v3.8).
        """
        machine = cpu.machine
        await machine.slab_mutex.lock()
        for cache in list(machine.slab_caches):
            await self._flush_cpu(cpu, cache, dead)
        await machine.slab_mutex.unlock()

    async def mem_going_online(self, cpu: Cpu, node: int) -> None:
        """Give every cache that is listed a structure for a node.

        Models slab_mem_going_online_callback() (mm/slub.c, v3.8).
        """
        machine = cpu.machine
        await machine.slab_mutex.lock()
        for cache in list(machine.slab_caches):
            await cache.nodes[node].init()
        await machine.slab_mutex.unlock()

    def leave_out(self, cache: KmemCache, nodes: list[int]) -> None:
        """A new cache gets structures only for the nodes that have memory.  Models init_kmem_cache_nodes()."""
        for number, node in enumerate(cache.nodes):
            node.present = number in nodes

    # -- shrink and close ------------------------------------------------------------------------------------------

    async def stop_caching(self, cpu: Cpu, cache: KmemCache, *, wait: bool = True) -> None:
        """No slab stays on a CPU's partial list from here on, and no empty one on a node's.  Sleeps if it waits.

        Models what __kmem_cache_shrink() does for a cache that is deactivated (mm/slub.c, v4.0), and
        __kmemcg_cache_deactivate() (mm/slub.c, v4.11), which does not wait.  That part of SLUB is 4.0's, whatever
        release the rest is of.

        Args:
            cpu: where the task runs.
            cache: a child.
            wait: for the slow paths that saw the old limits; otherwise `wait_slow_paths` has to follow.
        """
        for c in cache.cpu_slabs:
            await c.stop_caching()
        for node in cache.nodes:
            await node.stop_caching()
        if wait:
            await self.wait_slow_paths(cpu, cache)

    async def wait_slow_paths(self, cpu: Cpu, cache: KmemCache) -> None:
        """Wait until no slow path is under way that began before: what a grace period of RCU sched does to a cache."""
        for c in cache.cpu_slabs:
            await c.wait_irqs_on()

    async def shrink(self, cpu: Cpu, cache: KmemCache) -> int:
        """Flush every CPU, then give back every empty slab, whatever ``min_partial`` is.  Takes no mutex.  Sleeps.

        Models kmem_cache_shrink() (mm/slub.c, v3.8) and __kmem_cache_do_shrink() (mm/slub.c, v6.1).
        Deviation: the temporary array that 3.x sorts with is always there.

        Returns:
            6.1: 1 when slabs are left.  Else 0.
        """
        await self.flush_all(cpu, cache)
        left = 0
        for node in cache.nodes:
            if self.policy.shrink_order is ShrinkOrder.PROMOTE:
                await self._shrink_promoting(cpu, cache, node)
            else:
                await self._shrink_sorting(cpu, cache, node)
            if self.policy.shrink_says_what_is_left and await node.slabs_left():
                left = 1
        return left

    async def _shrink_sorting(self, cpu: Cpu, cache: KmemCache, node: KmemCacheNode) -> None:
        if await node.nr_partial() == 0:
            return
        listed = await node.lock()
        seen = await self._looked_at(listed)
        empty = await node.sort_and_unlock(seen)
        for slab in empty:
            await self._discard(cpu, cache, slab)

    async def _shrink_promoting(self, cpu: Cpu, cache: KmemCache, node: KmemCacheNode) -> None:
        listed = await node.lock()
        seen = await self._looked_at(listed)
        empty = await node.promote_and_unlock(seen)
        for slab in empty:
            await self._free_slab(cpu, cache, slab)

    async def _looked_at(self, listed: list[Slab]) -> list[tuple[Slab, int]]:
        """Slabs with their objects in use, each looked at in its turn; frees into them go on meanwhile."""
        seen = []
        for slab in listed:
            counters = await slab.counters()
            seen.append((slab, counters.inuse))
        return seen

    async def close(self, cpu: Cpu, cache: KmemCache) -> None:
        """Give everything back before the cache goes away.  Sleeps.

        Models kmem_cache_close() and free_partial() (mm/slub.c, v3.8: takes no list_lock, "we are the last user"), and
        __kmem_cache_shutdown() (mm/slub.c, v6.1: takes it).

        Raises:
            KernelBug: ``objects-remaining``; what was empty has gone back, on the nodes up to the first with objects.
        """
        await self.flush_all(cpu, cache)
        for node in cache.nodes:
            await self._free_partial(cpu, cache, node)
            left = await node.slabs_left()
            if left:
                raise KernelBug(
                    Kind.OBJECTS_REMAINING,
                    f"Objects remaining in {cache.name} on {self.policy.close_function}: slabs left: {left}",
                    clause="destroy of a cache with objects",
                )
        if cache.structures is not None:
            await cache.structures.free()

    async def _free_partial(self, cpu: Cpu, cache: KmemCache, node: KmemCacheNode) -> None:
        """Discard the empty slabs of a node's list.  Models free_partial() (mm/slub.c, v3.8 and v6.1)."""
        locked = self.policy.closes_under_lock
        listed = await (node.lock() if locked else node.listed())
        seen = await self._looked_at(listed)
        for slab, inuse in seen:
            if inuse:
                self._list_slab_objects(cpu.machine, cache, slab, inuse)
        empty = [slab for slab, inuse in seen if inuse == 0]
        if locked:
            await node.remove_and_unlock(empty)
            empty.reverse()
        elif empty:
            await node.take_empty(empty)
        for slab in empty:
            await self._discard(cpu, cache, slab)

    def _list_slab_objects(self, machine: Machine, cache: KmemCache, slab: Slab, inuse: int) -> None:
        """What is said of a slab that keeps its cache from being closed; full slabs are on no list, and silent.

        Models list_slab_objects() and slab_err() (mm/slub.c, v3.8), without the lines about each object.
        """
        machine.printk(
            "=" * 77,
            f"BUG {cache.name} (Not tainted): Objects remaining in {cache.name} on {self.policy.close_function}",
            "-" * 77,
            f"INFO: Slab {slab.name} objects={slab.objects} used={inuse}",
        )

    # -- sysfs -----------------------------------------------------------------------------------------------------

    def attributes(self, cache: KmemCache) -> tuple[str, ...]:
        """The files of the directory that a cache has in /sys/kernel/slab, in alphabetical order."""
        return slub_sysfs.attributes(self.policy, cache)

    def attribute(self, machine: Machine, cache: KmemCache, name: str) -> str:
        """What a file of that directory says, without the newline; see `slabactors.mm.slub_sysfs.show`.

        Raises:
            ValueError: the release has no such file.
        """
        return slub_sysfs.show(self.policy, cache, name)

    async def store(self, cpu: Cpu, cache: KmemCache, name: str, value: str | int) -> None:
        """Write to a file of that directory; see `slabactors.mm.slub_sysfs.store`.

        Raises:
            ValueError: the kernel refuses it.
        """
        await slub_sysfs.store(self, cpu, cache, name, value)

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


def _runs_of_a_node(slabs: list[Slab]) -> list[list[Slab]]:
    """Slabs in their order, cut where the next one is of another node."""
    runs: list[list[Slab]] = []
    for slab in slabs:
        if runs and runs[-1][0].node == slab.node:
            runs[-1].append(slab)
        else:
            runs.append([slab])
    return runs
