"""Each child has a reference count of its own, and outlives its group under the group's parent."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from slabactors.errors import KernelBug, Kind
from slabactors.kernel.hotplug import hold_hotplug, release_hotplug
from slabactors.kernel.locking import SpinLock, spin_lock_irqsave, spin_unlock_irqrestore
from slabactors.kernel.percpu_ref import PercpuRef, percpu_ref_exit, percpu_ref_kill, percpu_ref_put
from slabactors.kernel.rcu import RcuHeadOrWork, call_rcu, rcu_barrier
from slabactors.kernel.workqueue import WorkFunction, flush_workqueue, queue_work
from slabactors.lifecycle.v4_11 import MEMCG_KMEM_CACHE_WQ, RcuDestroyed
from slabactors.lifecycle.v4_18 import V418
from slabactors.mm.memcontrol import (
    MemcgCacheParams,
    MemCgroup,
    mem_cgroup_free,
    mem_cgroup_put,
    memcg_create_cache_enqueue,
)

if TYPE_CHECKING:
    from slabactors.kernel.cpu import Cpu
    from slabactors.machine import Machine
    from slabactors.mm.slab_common import KmemCache


ChildFunction: TypeAlias = "Callable[[Cpu, KmemCache], Coroutine[Any, Any, None]]"
"""What the work of a child does to it."""


class CountedParams(MemcgCacheParams):
    """As `MemcgCacheParams`, with a reference count and what is used in turn to deactivate and to shut down the child.

    Models the per-memcg part of struct memcg_cache_params (include/linux/slab.h, v5.3).

    Attributes:
        refcnt: one reference of the group, one for the pages of each slab, one of each allocation that goes on.
        work: an RCU head and a work in the same memory; each is used twice in a child's life.
    """

    def __init__(
        self, machine: Machine, child: KmemCache, memcg: MemCgroup, root: KmemCache, shutdown: WorkFunction
    ) -> None:
        super().__init__(child, memcg, root, machine.clock, machine.debugobjects, embedded=True)
        self.refcnt = PercpuRef(f"{child.name}.refcnt", shutdown, machine.debugobjects, self)
        self.work = RcuHeadOrWork(f"{child.name}.work", machine.clock, machine.debugobjects, self)

    @property
    def orphaned(self) -> bool:
        """Its group has been removed, and with it the reference that the group held."""
        return self.charged is not self.memcg or not self.memcg.online


class MachineWide(RcuDestroyed):
    """As in 4.11, with the lock under which children are told that their root is dying, and the root of all groups.

    Attributes:
        wq_lock: ``memcg_kmem_wq_lock``.
        root_mem_cgroup: the parent of every group.
    """

    role = "slab_caches_to_rcu_destroy"

    def __init__(self, machine: Machine, function: WorkFunction) -> None:
        super().__init__(machine, function)
        self.wq_lock = SpinLock("memcg_kmem_wq_lock")
        self.root_mem_cgroup = MemCgroup("/", machine.clock, machine.debugobjects)


class V53(V418):
    """Offline gives every child to the parent of the group; a grace period later a work shrinks it and kills its
    reference count, and whoever drops the last reference leaves it to another work to shut it down.

    Models "mm: memcg/slab: rework non-root kmem_cache lifecycle management" (f0a3a24b532d) and "mm: memcg/slab:
    reparent memcg kmem_caches on cgroup removal" (fb2f2b0adb98, mm/slab_common.c, mm/memcontrol.c, v5.3).
    Deviations: the parent of every group is the root of all, to which nothing is charged; the pages of a slab have one
    reference together.
    """

    name = "v5.3"
    release = "5.3, 2019-09-15"
    consolidated_rcu = True
    frees_memcg_by_rcu = True
    reparents = True
    puts_memcg_without_request = False

    def new_statics(self, machine: Machine) -> MachineWide:
        """The list of caches that wait for RCU callbacks, and the lock."""
        return MachineWide(machine, self.slab_caches_to_rcu_destroy_workfn)

    def new_params(self, machine: Machine, child: KmemCache, memcg: MemCgroup, root: KmemCache) -> MemcgCacheParams:
        """With a reference count."""
        return CountedParams(machine, child, memcg, root, partial(self.kmemcg_cache_shutdown, child))

    # -- allocations and pages -------------------------------------------------------------------------------------

    async def get_cache(self, cpu: Cpu, root: KmemCache, memcg: MemCgroup, *, may_sleep: bool) -> KmemCache:
        """``memcg_kmem_get_cache()``: with a child comes a reference of it; the root where that is not to be had."""
        if not memcg.active:
            return root
        rcu = cpu.machine.rcu
        section = await rcu.read_lock()
        cache = root
        if await memcg.kmem_is_online():
            child = await root.read_slot(memcg.id)
            if child is None:
                await memcg_create_cache_enqueue(cpu, root, memcg)
            elif await _counted(child).refcnt.tryget():
                cache = child
        await rcu.read_unlock(section)
        return cache

    async def put_cache(self, cpu: Cpu, cache: KmemCache) -> None:
        """``memcg_kmem_put_cache()``."""
        await percpu_ref_put(cpu, _counted(cache).refcnt)

    async def charge_slab(self, cpu: Cpu, cache: KmemCache, memcg: MemCgroup, order: int) -> bool:
        """``memcg_charge_slab()``: charged to whoever has the child now; the pages hold the child, not the group."""
        params, root_mem_cgroup = _counted(cache), _wide(cpu.machine).root_mem_cgroup
        section = await cpu.machine.rcu.read_lock()
        owner = await params.read_memcg()
        if owner is not None and owner is not root_mem_cgroup and not await owner.css_tryget():
            owner = root_mem_cgroup
        await cpu.machine.rcu.read_unlock(section)
        if owner is not None and owner is not root_mem_cgroup:
            charged = await owner.charge(1 << order)
            await mem_cgroup_put(cpu, owner)
            if not charged:
                return False
        await params.refcnt.get()
        return True

    async def uncharge_slab(self, cpu: Cpu, cache: KmemCache, memcg: MemCgroup, order: int) -> None:
        """``memcg_uncharge_slab()``: uncharged from whoever has the child now.

        Raises:
            KernelBug: ``bug-on`` when nobody has it: the kernel would dereference NULL.
        """
        params = _counted(cache)
        section = await cpu.machine.rcu.read_lock()
        owner = await params.read_memcg()
        if owner is None:
            raise KernelBug(
                Kind.BUG_ON,
                f"{cache.name} has no memcg any more: NULL pointer dereference in memcg_uncharge_slab()",
                clause="NULL dereference of the memcg of a slab",
            )
        if owner is not _wide(cpu.machine).root_mem_cgroup:
            await owner.uncharge(1 << order)
        await cpu.machine.rcu.read_unlock(section)
        await percpu_ref_put(cpu, params.refcnt)

    def expected_references(self, machine: Machine, memcg: MemCgroup) -> int:
        """One of the directory, and one of every child that it has now."""
        children = sum(1 for cache in machine.children() if cache.params is not None and cache.params.charged is memcg)
        return children + (0 if memcg.dead else 1)

    def needed(self, machine: Machine, cache: KmemCache) -> bool:
        """Each child goes alone: somebody holds an object of it."""
        return machine.allocator.live_objects(machine, cache) > 0

    async def may_create(self, root: KmemCache, memcg: MemCgroup) -> bool:
        """Also for a root that is dying: whoever destroys it waits for requests that were made before."""
        return await memcg.kmem_is_online()

    # -- the group goes away ---------------------------------------------------------------------------------------

    async def register_cache(self, cpu: Cpu, cache: KmemCache) -> None:
        """``memcg_link_cache()``: a child holds its group, and is on its list."""
        assert cache.params is not None
        memcg = cache.params.memcg
        await memcg.get()
        await memcg.link(cache)

    async def deactivate_caches(self, cpu: Cpu, memcg: MemCgroup) -> None:
        """``memcg_deactivate_kmem_caches()``: all children of the group become the parent's in the same section."""
        machine = cpu.machine
        await hold_hotplug(cpu)
        await machine.slab_mutex.lock()
        for root in [cache for cache in machine.slab_caches if cache.root is None]:
            child = await root.read_slot(memcg.id)
            if child is not None:
                await self.deactivate(cpu, child)
                await root.clear_slot(memcg.id)
        parent = _wide(machine).root_mem_cgroup
        caches = await memcg.slab_caches()
        for cache in caches:
            assert cache.params is not None
            await memcg.unlink(cache)
            await cache.params.set_memcg(parent)
            # Window: pages that are charged or uncharged from here on are the parent's.
            await parent.link(cache)
            await mem_cgroup_put(cpu, memcg)
        await machine.slab_mutex.unlock()
        await release_hotplug(cpu)

    async def deactivate(self, cpu: Cpu, child: KmemCache) -> None:
        """``kmemcg_cache_deactivate()``."""
        assert child.root is not None
        lock = _wide(cpu.machine).wq_lock
        await cpu.machine.allocator.stop_caching(cpu, child, wait=False)
        await spin_lock_irqsave(cpu, lock)
        if not await child.root.is_dying():
            await call_rcu(cpu, partial(self.kmemcg_rcufn, cpu, child, self.deactivate_after_rcu), _counted(child).work)
        await spin_unlock_irqrestore(cpu, lock)

    async def kmemcg_rcufn(self, cpu: Cpu, child: KmemCache, work_fn: ChildFunction) -> None:
        """``kmemcg_rcufn()``, in softirq context: the RCU head becomes a work."""
        work = _counted(child).work
        await work.init(partial(self.kmemcg_workfn, child, work_fn))
        await queue_work(cpu, cpu.machine.workqueue(MEMCG_KMEM_CACHE_WQ), work)

    async def kmemcg_workfn(self, child: KmemCache, work_fn: ChildFunction, cpu: Cpu) -> None:
        """``kmemcg_workfn()``: what the child's work is for at the moment, under slab_mutex."""
        machine = cpu.machine
        await hold_hotplug(cpu)
        await machine.slab_mutex.lock()
        await work_fn(cpu, child)
        await machine.slab_mutex.unlock()
        await release_hotplug(cpu)

    async def deactivate_after_rcu(self, cpu: Cpu, child: KmemCache) -> None:
        """``kmemcg_cache_deactivate_after_rcu()``."""
        allocator = cpu.machine.allocator
        # Slow paths that saw the old limits ended before the grace period did.
        await allocator.wait_slow_paths(cpu, child)
        await allocator.shrink(cpu, child)
        await percpu_ref_kill(cpu, _counted(child).refcnt)

    async def kmemcg_cache_shutdown(self, child: KmemCache, cpu: Cpu) -> None:
        """``kmemcg_cache_shutdown()``: the last reference of a child is gone; any context."""
        assert child.root is not None
        lock = _wide(cpu.machine).wq_lock
        await spin_lock_irqsave(cpu, lock)
        if not await child.root.is_dying():
            work = _counted(child).work
            await work.init(partial(self.kmemcg_workfn, child, self.shutdown_fn))
            await queue_work(cpu, cpu.machine.workqueue(MEMCG_KMEM_CACHE_WQ), work)
        await spin_unlock_irqrestore(cpu, lock)

    async def shutdown_fn(self, cpu: Cpu, child: KmemCache) -> None:
        """``kmemcg_cache_shutdown_fn()``.

        Raises:
            KernelBug: ``objects-remaining``: the kernel warns.
        """
        complaint = await self.shutdown(cpu, child)
        if complaint is not None:
            raise KernelBug(Kind.OBJECTS_REMAINING, complaint, clause="destroy of a cache with objects")

    async def css_free(self, cpu: Cpu, memcg: MemCgroup) -> None:
        """``mem_cgroup_css_free()``: it has no children any more."""
        await mem_cgroup_free(memcg, with_id=False)

    # -- caches go away ----------------------------------------------------------------------------------------------

    async def unlink(self, cpu: Cpu, child: KmemCache, root: KmemCache) -> None:
        """Also off the list of whoever has it; it is nobody's from here on, whatever callbacks are to come."""
        await super().unlink(cpu, child, root)
        owner = await _counted(child).read_memcg()
        assert owner is not None
        await owner.unlink(child)
        await self.let_go(cpu, child)

    async def let_go(self, cpu: Cpu, child: KmemCache) -> None:
        """``mem_cgroup_put(s->memcg_params.memcg)``, and the pointer is NULL."""
        params = _counted(child)
        owner = await params.read_memcg()
        assert owner is not None
        await params.set_memcg(None)
        if owner is not _wide(cpu.machine).root_mem_cgroup:
            await mem_cgroup_put(cpu, owner)

    async def release_cache(self, cpu: Cpu, cache: KmemCache) -> None:
        """``slab_kmem_cache_release()``, with ``percpu_ref_exit()`` of a child."""
        if cache.params is not None:
            await percpu_ref_exit(cpu, _counted(cache).refcnt)
        await super().release_cache(cpu, cache)

    async def flush_memcg_workqueue(self, cpu: Cpu, root: KmemCache) -> None:
        """As in 4.18, with ``dying`` set under the lock that children look at it under."""
        await self.set_dying(cpu, root)
        await self.wait_for_children(cpu, root)

    async def set_dying(self, cpu: Cpu, root: KmemCache) -> None:
        """``memcg_set_kmem_cache_dying()``."""
        lock = _wide(cpu.machine).wq_lock
        await spin_lock_irqsave(cpu, lock)
        await root.set_dying()
        await spin_unlock_irqrestore(cpu, lock)

    async def wait_for_children(self, cpu: Cpu, root: KmemCache) -> None:
        """First for callbacks, which queue works, then for works."""
        await rcu_barrier(cpu)
        await flush_workqueue(cpu.machine.workqueue(MEMCG_KMEM_CACHE_WQ))


def _wide(machine: Machine) -> MachineWide:
    return cast("MachineWide", machine.statics)


def _counted(child: KmemCache) -> CountedParams:
    return cast("CountedParams", child.params)
