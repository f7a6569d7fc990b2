"""The end: one child of each root for all groups, which dies with the root."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from slabactors.kernel.hotplug import hold_hotplug, release_hotplug
from slabactors.kernel.rcu import rcu_barrier
from slabactors.kernel.workqueue import Work, flush_work, queue_work
from slabactors.lifecycle.base import WithoutDestroyWork
from slabactors.mm.memcg_caches import Relocation
from slabactors.mm.memcontrol import MemcgCacheParams, MemCgroup, mem_cgroup_free, new_child
from slabactors.mm.slab_common import close, create_or_merge
from slabactors.mm.slub_sysfs import sysfs_slab_add, sysfs_slab_remove

if TYPE_CHECKING:
    from slabactors.actors import Actor
    from slabactors.kernel.cpu import Cpu
    from slabactors.machine import Machine
    from slabactors.mm.allocator import CacheSpec
    from slabactors.mm.slab_common import KmemCache

SHARED = 0
"""The only slot of a root."""


class V59(WithoutDestroyWork):
    """No group has caches: accounted objects of all groups come from one child of each root.

    Models "mm: memcg/slab: use a single set of kmem_caches for all accounted allocations" (9855609bde03,
    mm/slab_common.c, v5.9).  Taking a group offline does nothing to caches; destroying a root waits for the creation of
    its child, and takes the child along.
    Deviation: objects are charged one by one in the kernel, to something that does not keep the group; here nothing is.
    """

    name = "v5.9"
    release = "5.9, 2020-10-11"
    frees_memcg_by_work = True
    kmemcg_ids = True
    locks_memory_hotplug = True
    counts_pages = False
    kmem_pins_memcg = False
    charges_pages = False
    fair_hotplug_locks = True
    stores_for_children = False
    adds_to_sysfs_unlocked = False
    relocation = Relocation.NEVER

    def new_statics(self, machine: Machine) -> Actor:
        """The root of all groups, whose the shared children are said to be."""
        return MemCgroup("/", machine.clock, machine.debugobjects)

    def new_params(self, machine: Machine, child: KmemCache, memcg: MemCgroup, root: KmemCache) -> MemcgCacheParams:
        """Part of the cache."""
        return MemcgCacheParams(child, memcg, root, machine.clock, machine.debugobjects, embedded=True)

    async def create_cache(self, cpu: Cpu, name: str, spec: CacheSpec) -> KmemCache:
        """``kmem_cache_create()``: with a work that creates the child."""
        cache = await create_or_merge(cpu, name, spec)
        if cache.creation is None:
            machine = cpu.machine
            cache.creation = Work(f"{name}.work", machine.clock, machine.debugobjects, cache)
            cache.creation.initialise(partial(self.memcg_kmem_cache_create_func, cache))
        return cache

    async def get_cache(self, cpu: Cpu, root: KmemCache, memcg: MemCgroup, *, may_sleep: bool) -> KmemCache:
        """``memcg_kmem_get_cache()``: the child once there is one; nothing holds it, it dies with the root."""
        if not memcg.active:
            return root
        child = await root.read_slot(SHARED)
        if child is not None:
            return child
        assert root.creation is not None
        await queue_work(cpu, cpu.machine.system_wq, root.creation)
        return root

    async def memcg_kmem_cache_create_func(self, root: KmemCache, cpu: Cpu) -> None:
        """``memcg_kmem_cache_create_func()``, by a kworker."""
        await self.create_child(cpu, root, cpu.machine.statics)

    async def create_child(self, cpu: Cpu, root: KmemCache, memcg: MemCgroup) -> KmemCache:
        """``memcg_create_kmem_cache()``: the one child of a root, whoever asks first."""
        machine = cpu.machine
        await hold_hotplug(cpu)
        await machine.slab_mutex.lock()
        child = await root.read_slot(SHARED)
        if child is None:
            child = await new_child(machine, root, machine.statics)
            await sysfs_slab_add(cpu, child)
            machine.list_new(child)
            await root.publish(SHARED, child)
        await machine.slab_mutex.unlock()
        await release_hotplug(cpu)
        return child

    async def charge_slab(self, cpu: Cpu, cache: KmemCache, memcg: MemCgroup, order: int) -> bool:
        """Pages are nobody's."""
        return True

    async def uncharge_slab(self, cpu: Cpu, cache: KmemCache, memcg: MemCgroup, order: int) -> None:
        """Pages are nobody's."""

    async def bind_pages(self, cpu: Cpu, cache: KmemCache, order: int) -> None:
        """Nobody counts."""

    async def release_pages(self, cpu: Cpu, cache: KmemCache, order: int) -> None:
        """Nobody counts."""

    async def offline(self, cpu: Cpu, memcg: MemCgroup) -> None:
        """There is nothing to do."""
        await memcg.css_offline()

    async def css_free(self, cpu: Cpu, memcg: MemCgroup) -> None:
        """It has no caches."""
        await mem_cgroup_free(memcg)

    def expected_references(self, machine: Machine, memcg: MemCgroup) -> int:
        """The directory's."""
        return 0 if memcg.dead else 1

    async def destroy_cache(self, cpu: Cpu, cache: KmemCache) -> str | None:
        """``kmem_cache_destroy()`` of a root: the child first, once nobody can be creating it any more."""
        machine = cpu.machine
        if cache.creation is not None:
            await flush_work(machine.system_wq, cache.creation)
        await hold_hotplug(cpu)
        await machine.slab_mutex.lock()
        if await cache.drop_name() != 0:
            await machine.slab_mutex.unlock()
            await release_hotplug(cpu)
            return None
        child = await cache.read_slot(SHARED)
        gone: list[KmemCache] = []
        complaint = None
        for one in [cache] if child is None else [child, cache]:
            complaint = await close(cpu, one)
            if complaint is not None:
                break
            await sysfs_slab_remove(cpu, one)
            machine.slab_caches.remove(one)
            gone.append(one)
            if one is child:
                await cache.clear_slot(SHARED)
        await machine.slab_mutex.unlock()
        await release_hotplug(cpu)
        if cache.spec.rcu and gone:
            await rcu_barrier(cpu)
        for one in gone:
            await one.free()
            machine.note_destroyed(one)
        if complaint is not None:
            machine.printk(f"kmem_cache_destroy {cache.name}: Slab cache still has objects")
        return complaint
