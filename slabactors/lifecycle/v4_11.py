"""As 4.4, with the shrink of a dead child in a work of its own, behind a grace period."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, cast

from slabactors.actors import Actor, operation
from slabactors.kernel.hotplug import hold_hotplug, release_hotplug
from slabactors.kernel.rcu import RcuHeadOrWork, call_rcu_sched, rcu_barrier
from slabactors.kernel.workqueue import Work, WorkFunction, WorkqueueSpec, queue_work
from slabactors.lifecycle.v4_4 import V44
from slabactors.mm.memcontrol import ChildNames, MemcgCacheParams, mem_cgroup_put
from slabactors.mm.slub_sysfs import sysfs_slab_remove

if TYPE_CHECKING:
    from slabactors.kernel.cpu import Cpu
    from slabactors.machine import Machine
    from slabactors.mm.memcontrol import MemCgroup
    from slabactors.mm.slab_common import KmemCache

MEMCG_KMEM_CACHE_WQ = "memcg_kmem_cache"
"""The workqueue that children are created and deactivated by."""


class RcuDestroyed(Actor):
    """``slab_caches_to_rcu_destroy``: caches that were shut down and have slabs left that callbacks give back.

    Attributes:
        work: ``slab_caches_to_rcu_destroy_work``, initialised at boot.
    """

    role = "slab_caches_to_rcu_destroy"

    def __init__(self, machine: Machine, function: WorkFunction) -> None:
        super().__init__("slab_caches_to_rcu_destroy")
        self.caches: list[KmemCache] = []
        self.work = Work(f"{self.name}_work", machine.clock, machine.debugobjects)
        self.work.initialise(function)

    @operation(writes="caches")
    def add(self, cache: KmemCache) -> None:
        """``list_add_tail(&s->list, &slab_caches_to_rcu_destroy)``: under slab_mutex."""
        self.caches.append(cache)

    @operation(writes="caches")
    def take(self) -> list[KmemCache]:
        """``list_splice_init(&slab_caches_to_rcu_destroy, &to_destroy)``: under slab_mutex."""
        taken, self.caches = self.caches, []
        return taken


class DeactivatedParams(MemcgCacheParams):
    """As `MemcgCacheParams`, with an RCU head and a work that share their memory (include/linux/slab.h, v4.11)."""

    def __init__(self, machine: Machine, child: KmemCache, memcg: MemCgroup, root: KmemCache) -> None:
        super().__init__(child, memcg, root, machine.clock, machine.debugobjects, embedded=True)
        self.deact = RcuHeadOrWork(f"{child.name}.deact", machine.clock, machine.debugobjects, self)


class V411(V44):
    """Offline only keeps a child from caching empty slabs; a grace period later a work shrinks it.

    Models "slab: introduce __kmemcg_cache_deactivate()" and the other patches of that series (mm/slab_common.c,
    v4.11), which took the grace period out of ``slab_mutex``.  The work holds the group, and nothing holds the root.
    A cache is released as soon as it is shut down, under ``slab_mutex``; one whose slabs go back by RCU callbacks is
    left to a work that waits for these.
    """

    name = "v4.11"
    release = "4.11, 2017-04-30"
    child_names = ChildNames.SERIAL
    creation_workqueue = MEMCG_KMEM_CACHE_WQ
    workqueues = (WorkqueueSpec(MEMCG_KMEM_CACHE_WQ, 1),)

    def new_statics(self, machine: Machine) -> RcuDestroyed:
        """The list of caches that wait for RCU callbacks."""
        return RcuDestroyed(machine, self.slab_caches_to_rcu_destroy_workfn)

    def new_params(self, machine: Machine, child: KmemCache, memcg: MemCgroup, root: KmemCache) -> MemcgCacheParams:
        """With what deactivates it."""
        return DeactivatedParams(machine, child, memcg, root)

    async def deactivate(self, cpu: Cpu, child: KmemCache) -> None:
        """``slab_deactivate_memcg_cache_rcu_sched()``: the rest is done by a work, for which the group is held."""
        params = cast("DeactivatedParams", child.params)
        await cpu.machine.allocator.stop_caching(cpu, child, wait=False)
        await params.memcg.get()
        await call_rcu_sched(cpu, partial(self.deactivate_rcufn, cpu, child), params.deact)

    async def deactivate_rcufn(self, cpu: Cpu, child: KmemCache) -> None:
        """``kmemcg_deactivate_rcufn()``, in softirq context: the RCU head becomes a work."""
        deact = cast("DeactivatedParams", child.params).deact
        await deact.init(partial(self.deactivate_workfn, child))
        await queue_work(cpu, cpu.machine.workqueue(MEMCG_KMEM_CACHE_WQ), deact)

    async def deactivate_workfn(self, child: KmemCache, cpu: Cpu) -> None:
        """``kmemcg_deactivate_workfn()``: shrink the child, under slab_mutex, and let go of its group."""
        machine = cpu.machine
        assert child.params is not None
        memcg = child.params.memcg
        await hold_hotplug(cpu)
        await machine.slab_mutex.lock()
        # Slow paths that saw the old limits ended before the grace period did.
        await machine.allocator.wait_slow_paths(cpu, child)
        await machine.allocator.shrink(cpu, child)
        await machine.slab_mutex.unlock()
        await release_hotplug(cpu)
        await mem_cgroup_put(cpu, memcg)

    async def release_caches(self, cpu: Cpu, caches: list[KmemCache]) -> None:
        """Each was released, or left to a work, when it was shut down."""

    async def shutdown(self, cpu: Cpu, cache: KmemCache) -> str | None:
        """``shutdown_cache()``: also releases it, or leaves that to the work that waits for RCU callbacks."""
        complaint = await super().shutdown(cpu, cache)
        if complaint is None:
            await self.unlink_from_sysfs(cpu, cache)
            if cache.spec.rcu:
                await self.destroy_after_rcu(cpu, cache)
            else:
                await self.remove_from_sysfs(cpu, cache)
        return complaint

    async def unlink_from_sysfs(self, cpu: Cpu, cache: KmemCache) -> None:
        """A cache was shut down.  Under slab_mutex."""

    async def remove_from_sysfs(self, cpu: Cpu, cache: KmemCache) -> None:
        """``sysfs_slab_remove()``: which releases it.  Under slab_mutex, but for an RCU cache."""
        await sysfs_slab_remove(cpu, cache)
        await self.release_cache(cpu, cache)

    async def release_cache(self, cpu: Cpu, cache: KmemCache) -> None:
        """``slab_kmem_cache_release()``."""
        await cache.free()
        cpu.machine.note_destroyed(cache)

    async def destroy_after_rcu(self, cpu: Cpu, cache: KmemCache) -> None:
        """``schedule_work(&slab_caches_to_rcu_destroy_work)``: one work for all caches on that list."""
        machine = cpu.machine
        await machine.statics.add(cache)
        await queue_work(cpu, machine.system_wq, machine.statics.work)

    async def slab_caches_to_rcu_destroy_workfn(self, cpu: Cpu) -> None:
        """Take the list under slab_mutex, wait for the callbacks that give slabs back, then release all of them."""
        machine = cpu.machine
        await machine.slab_mutex.lock()
        caches = await machine.statics.take()
        await machine.slab_mutex.unlock()
        if caches:
            await rcu_barrier(cpu)
            for cache in caches:
                await self.remove_from_sysfs(cpu, cache)


class V412(V411):
    """As 4.11, with directories that are removed by a work, which also releases the cache.

    Models "slub: make sysfs file removal asynchronous" (mm/slub.c, v4.12 to v4.17).
    """

    name = "v4.12"
    release = "4.12, 2017-07-02, to 4.17"

    async def remove_from_sysfs(self, cpu: Cpu, cache: KmemCache) -> None:
        """``sysfs_slab_remove()``: by ``kobj_remove_work``, which holds no mutex."""
        if cache.dirent is None:
            await self.release_cache(cpu, cache)
            return
        machine = cpu.machine
        work = Work(f"{cache.name}.kobj_remove_work", machine.clock, machine.debugobjects, cache)
        await work.init(partial(self.sysfs_slab_remove_workfn, cache))
        await queue_work(cpu, machine.system_wq, work)

    async def sysfs_slab_remove_workfn(self, cache: KmemCache, cpu: Cpu) -> None:
        """``sysfs_slab_remove_workfn()``, on a kworker: until it has come so far the name is taken."""
        await sysfs_slab_remove(cpu, cache)
        await self.release_cache(cpu, cache)
