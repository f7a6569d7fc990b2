"""Roots only, and how they are destroyed: what went on going wrong when memcgs had no caches any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slabactors.kernel.hotplug import hold_hotplug, release_hotplug
from slabactors.kernel.rcu import rcu_barrier
from slabactors.kernel.workqueue import queue_work
from slabactors.lifecycle.v4_11 import RcuDestroyed
from slabactors.lifecycle.v5_9 import V59
from slabactors.mm.slab_common import close, create_or_merge
from slabactors.mm.slub_sysfs import sysfs_slab_remove

if TYPE_CHECKING:
    from slabactors.kernel.cpu import Cpu
    from slabactors.machine import Machine
    from slabactors.mm.allocator import CacheSpec
    from slabactors.mm.memcontrol import MemCgroup
    from slabactors.mm.slab_common import KmemCache


class V519(V59):
    """No cache has children; a root leaves sysfs when it is shut down, under ``slab_mutex``.

    Models kmem_cache_destroy() and shutdown_cache() (mm/slab_common.c, v5.19), after "mm: memcg/slab: use a single set
    of kmem_caches for all allocations" (10befea91b61).
    """

    name = "v5.19"
    release = "5.19, 2022-07-31"

    def new_statics(self, machine: Machine) -> RcuDestroyed:
        """The list of caches that wait for RCU callbacks."""
        return RcuDestroyed(machine, self.slab_caches_to_rcu_destroy_workfn)

    async def create_cache(self, cpu: Cpu, name: str, spec: CacheSpec) -> KmemCache:
        """``kmem_cache_create()``."""
        return await create_or_merge(cpu, name, spec)

    async def get_cache(self, cpu: Cpu, root: KmemCache, memcg: MemCgroup, *, may_sleep: bool) -> KmemCache:
        """Every cache serves all groups."""
        return root

    async def create_child(self, cpu: Cpu, root: KmemCache, memcg: MemCgroup) -> KmemCache:
        """There are none."""
        return root

    async def destroy_cache(self, cpu: Cpu, cache: KmemCache) -> str | None:
        """``kmem_cache_destroy()``."""
        machine = cpu.machine
        complaint = None
        await hold_hotplug(cpu)
        await machine.slab_mutex.lock()
        if await cache.drop_name() == 0:
            complaint = await self.shutdown(cpu, cache)
            if complaint is None and not cache.spec.rcu:
                await self.kmem_cache_release(cpu, cache)
        await machine.slab_mutex.unlock()
        await release_hotplug(cpu)
        return self.complain(machine, cache, complaint)

    def complain(self, machine: Machine, cache: KmemCache, complaint: str | None) -> str | None:
        """``WARN()`` of what still has objects."""
        if complaint is not None:
            machine.printk(f"kmem_cache_destroy {cache.name}: Slab cache still has objects")
        return complaint

    async def shutdown(self, cpu: Cpu, cache: KmemCache) -> str | None:
        """``shutdown_cache()``: also leaves an RCU cache to the work that waits for callbacks.  Under slab_mutex.

        Returns:
            What the kernel complains of, when it has objects; it is as before then.
        """
        complaint = await close(cpu, cache)
        if complaint is None:
            cpu.machine.slab_caches.remove(cache)
            if cache.spec.rcu:
                await self.unlink_from_sysfs(cpu, cache)
                await cpu.machine.statics.add(cache)
                await queue_work(cpu, cpu.machine.system_wq, cpu.machine.statics.work)
        return complaint

    async def unlink_from_sysfs(self, cpu: Cpu, cache: KmemCache) -> None:
        """``sysfs_slab_unlink()``, under slab_mutex."""
        await sysfs_slab_remove(cpu, cache)

    async def kmem_cache_release(self, cpu: Cpu, cache: KmemCache) -> None:
        """``sysfs_slab_unlink()``, ``sysfs_slab_release()``."""
        await sysfs_slab_remove(cpu, cache)
        await cache.free()
        cpu.machine.note_destroyed(cache)

    async def slab_caches_to_rcu_destroy_workfn(self, cpu: Cpu) -> None:
        """Take the list under slab_mutex, wait for the callbacks that give slabs back, then release all of them."""
        machine = cpu.machine
        await machine.slab_mutex.lock()
        caches = await machine.statics.take()
        await machine.slab_mutex.unlock()
        if caches:
            await rcu_barrier(cpu)
            for cache in caches:
                await self.release_after_rcu(cpu, cache)

    async def release_after_rcu(self, cpu: Cpu, cache: KmemCache) -> None:
        """It is out of sysfs already."""
        await cache.free()
        cpu.machine.note_destroyed(cache)
