"""Deactivate at offline, destroy when the group is freed: a dead cache keeps no empty slab."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slabactors.errors import KernelBug, Kind
from slabactors.kernel.hotplug import hold_hotplug, release_hotplug
from slabactors.kernel.rcu import rcu_barrier
from slabactors.lifecycle.v3_19 import V319
from slabactors.mm.memcontrol import (
    ChildNames,
    MemcgCacheParams,
    mem_cgroup_free,
    mem_cgroup_put,
    memcg_create_cache_enqueue,
    new_child,
)
from slabactors.mm.slab_common import close
from slabactors.mm.slub_sysfs import sysfs_slab_add, sysfs_slab_remove

if TYPE_CHECKING:
    from slabactors.kernel.cpu import Cpu
    from slabactors.machine import Machine
    from slabactors.mm.memcontrol import MemCgroup
    from slabactors.mm.slab_common import KmemCache


class V40(V319):
    """Offline takes every child out of its slot, lets it keep no empty slab any more, and shrinks it; each later free
    gives an emptied slab back at once, so that the last object of a group frees the group, and its caches.

    Models "slub: make dead caches discard free slabs immediately" (d6e0b7fa1186) and "memcg: free memcg_caches slot on
    css offline" (2a4db7eb9391, mm/slab_common.c, v4.0).  Creating a child looks under ``slab_mutex`` whether its group
    is still online, so that nothing comes after this; the number of a group goes back at offline.
    """

    name = "v4.0"
    release = "4.0, 2015-04-12"
    child_names = ChildNames.CSS_ID

    def new_params(self, machine: Machine, child: KmemCache, memcg: MemCgroup, root: KmemCache) -> MemcgCacheParams:
        """Part of the cache, from here on."""
        return MemcgCacheParams(child, memcg, root, machine.clock, machine.debugobjects, embedded=True)

    async def get_cache(self, cpu: Cpu, root: KmemCache, memcg: MemCgroup, *, may_sleep: bool) -> KmemCache:
        """``__memcg_kmem_get_cache()``: as 3.19, for a group that has a number."""
        if not memcg.active or not await memcg.css_tryget():
            return root
        if await memcg.kmem_is_online():
            child = await root.read_slot(memcg.id)
            if child is not None:
                return child
            await memcg_create_cache_enqueue(cpu, root, memcg)
        await mem_cgroup_put(cpu, memcg)
        return root

    async def create_child(self, cpu: Cpu, root: KmemCache, memcg: MemCgroup) -> KmemCache:
        """``memcg_create_kmem_cache()``, by a kworker: not for a group that has gone offline."""
        machine = cpu.machine
        await hold_hotplug(cpu)
        await machine.slab_mutex.lock()
        child = root
        if await self.may_create(root, memcg):
            existing = await root.read_slot(memcg.id)
            if existing is not None:
                child = existing
            else:
                child = await new_child(machine, root, memcg)
                await sysfs_slab_add(cpu, child)
                machine.list_new(child)
                await self.register_cache(cpu, child)
                await root.link_child(child)
                await root.publish(memcg.id, child)
        await machine.slab_mutex.unlock()
        await release_hotplug(cpu)
        return child

    async def may_create(self, root: KmemCache, memcg: MemCgroup) -> bool:
        """Whether a child may still be made, under slab_mutex."""
        return await memcg.kmem_is_online()

    async def offline(self, cpu: Cpu, memcg: MemCgroup) -> None:
        """``memcg_deactivate_kmem()``: first nobody makes a child any more, then those that are there are emptied."""
        await memcg.css_offline()
        if memcg.active:
            await memcg.kmem_offline()
            await self.deactivate_caches(cpu, memcg)
            await self.release_id(memcg)

    async def release_id(self, memcg: MemCgroup) -> None:
        """``memcg_free_cache_id()``: another group may have the number, and the slots, from here on."""
        if memcg.cgroups is not None:
            await memcg.cgroups.release_id(memcg.id)

    async def deactivate_caches(self, cpu: Cpu, memcg: MemCgroup) -> None:
        """``memcg_deactivate_kmem_caches()``: the group's child of every root, under slab_mutex."""
        machine = cpu.machine
        await hold_hotplug(cpu)
        await machine.slab_mutex.lock()
        for root in [cache for cache in machine.slab_caches if cache.root is None]:
            child = await root.read_slot(memcg.id)
            if child is not None:
                await self.deactivate(cpu, child)
                await root.clear_slot(memcg.id)
        await machine.slab_mutex.unlock()
        await release_hotplug(cpu)

    async def deactivate(self, cpu: Cpu, child: KmemCache) -> None:
        """``__kmem_cache_shrink(s, true)``: no empty slab is kept any more, and those that are there go now."""
        await cpu.machine.allocator.stop_caching(cpu, child)
        await cpu.machine.allocator.shrink(cpu, child)

    async def css_free(self, cpu: Cpu, memcg: MemCgroup) -> None:
        """``memcg_destroy_kmem_caches()``: nothing is charged to the group any more, so none of its caches has a page.

        Raises:
            KernelBug: ``bug-on`` when one has.
        """
        machine = cpu.machine
        await hold_hotplug(cpu)
        await machine.slab_mutex.lock()
        gone = []
        for cache in [c for c in machine.slab_caches if c.params is not None and c.params.memcg is memcg]:
            complaint = await self.shutdown(cpu, cache)
            if complaint is not None:
                raise KernelBug(
                    Kind.BUG_ON,
                    f"{cache.name} still has objects when {memcg.name} is freed: {complaint}",
                    clause="BUG_ON(shutdown_cache()) of a group's cache",
                )
            gone.append(cache)
        await machine.slab_mutex.unlock()
        await release_hotplug(cpu)
        await self.release_caches(cpu, gone)
        await mem_cgroup_free(memcg, with_id=False)

    async def shutdown(self, cpu: Cpu, cache: KmemCache) -> str | None:
        """``shutdown_cache()``: close a cache and let nobody find it by a list.  Under slab_mutex.

        Returns:
            What the kernel complains of, when it has objects; it is as before then.
        """
        complaint = await close(cpu, cache)
        if complaint is None:
            cpu.machine.slab_caches.remove(cache)
            if cache.root is not None:
                await self.unlink(cpu, cache, cache.root)
        return complaint

    async def unlink(self, cpu: Cpu, child: KmemCache, root: KmemCache) -> None:
        """``memcg_unlink_cache()``: a child that was shut down leaves the list of its root."""
        await root.unlink_child(child)

    async def release_caches(self, cpu: Cpu, caches: list[KmemCache]) -> None:
        """``release_caches()``: free what was shut down, after the callbacks that give back slabs of RCU caches."""
        machine = cpu.machine
        if any(cache.spec.rcu for cache in caches):
            await rcu_barrier(cpu)
        for cache in caches:
            await sysfs_slab_remove(cpu, cache)
            await cache.free()
            machine.note_destroyed(cache)

    async def destroy_cache(self, cpu: Cpu, cache: KmemCache) -> str | None:
        """``kmem_cache_destroy()`` of a root: every child first, and it only if none has objects; under slab_mutex."""
        machine = cpu.machine
        await hold_hotplug(cpu)
        await machine.slab_mutex.lock()
        if await cache.drop_name() != 0:
            await machine.slab_mutex.unlock()
            await release_hotplug(cpu)
            return None
        return await self.destroy_nameless(cpu, cache)

    async def destroy_nameless(self, cpu: Cpu, cache: KmemCache) -> str | None:
        """The second half of ``kmem_cache_destroy()``, with slab_mutex held, which it gives back."""
        machine = cpu.machine
        gone: list[KmemCache] = []
        complaint = await self.shutdown_children(cpu, cache, gone)
        if complaint is None:
            complaint = await self.shutdown(cpu, cache)
            if complaint is None:
                gone.append(cache)
        await machine.slab_mutex.unlock()
        await release_hotplug(cpu)
        await self.release_caches(cpu, gone)
        if complaint is not None:
            machine.printk(f"kmem_cache_destroy {cache.name}: Slab cache still has objects")
        return complaint

    async def shutdown_children(self, cpu: Cpu, root: KmemCache, gone: list[KmemCache]) -> str | None:
        """Shut down every child that can be.  Their slots go with the root, unless that has to stay."""
        complaint = None
        for child in await root.linked_children():
            busy = await self.shutdown(cpu, child)
            if busy is None:
                gone.append(child)
            complaint = complaint or busy
        return complaint


class V40EarlyId(V40):
    """As 4.0, with css ids that are given back with the last reference of a group, before its children are destroyed.

    4.0 without "cgroup: release css->id after css_free", as 3.19 has it.
    """

    name = "v4.0-early-id"
    release = "4.0 without one of its patches"
    child_names = ChildNames.CSS_ID_EARLY
