"""Everything under one mutex, and nothing later: what offline cannot destroy stays."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slabactors.kernel.hotplug import hold_hotplug, release_hotplug
from slabactors.kernel.rcu import rcu_barrier
from slabactors.lifecycle.base import WithoutDestroyWork
from slabactors.mm.memcg_caches import Relocation
from slabactors.mm.memcontrol import mem_cgroup_put, new_child
from slabactors.mm.slab_common import close, kmem_cache_shrink, try_destroy
from slabactors.mm.slub_sysfs import sysfs_slab_add, sysfs_slab_remove

if TYPE_CHECKING:
    from slabactors.kernel.cpu import Cpu
    from slabactors.mm.memcontrol import MemCgroup
    from slabactors.mm.slab_common import KmemCache

__all__ = ["V316"]


class V316(WithoutDestroyWork):
    """Offline shrinks every child of the group once and destroys those that are empty then, all under one mutex.

    Models "memcg, slab: merge memcg_{bind,release}_pages to memcg_{un}charge_slab" and "memcg, slab: simplify
    synchronization scheme" (bd67314586a3) with "memcg: get rid of memcg_create_cache_name" and 1e32e77f95d6, which
    gave up destroying a child when its last page goes (mm/memcontrol.c, mm/slab_common.c, v3.16).  No child is marked
    dead and none has a work: one that still has pages after that shrink is left behind with its group.

    ``memcg_slab_mutex`` is taken before ``slab_mutex``, and covers the arrays of all roots and the lists of all groups.
    """

    name = "v3.16"
    release = "3.16, 2014-08-03"
    frees_memcg_by_work = True
    kmemcg_ids = True
    locks_memory_hotplug = True
    adds_to_sysfs_unlocked = False
    relocation = Relocation.NEVER
    reading_holds_memory = True

    async def register_cache(self, cpu: Cpu, cache: KmemCache) -> None:
        """A child counts its pages, and holds its group."""
        assert cache.params is not None
        await cache.params.init_nr_pages()
        await cache.params.memcg.get()

    async def create_child(self, cpu: Cpu, root: KmemCache, memcg: MemCgroup) -> KmemCache:
        """``memcg_register_cache()`` under its mutex, by a kworker: nobody looks whether the group is still online."""
        machine = cpu.machine
        await machine.memcg_slab_mutex.lock()
        child = await self.memcg_register_cache(cpu, root, memcg)
        await machine.memcg_slab_mutex.unlock()
        return child

    async def memcg_register_cache(self, cpu: Cpu, root: KmemCache, memcg: MemCgroup) -> KmemCache:
        """``memcg_register_cache()``: the child, made unless it is there.  Under memcg_slab_mutex."""
        machine = cpu.machine
        child = await root.read_slot(memcg.id)
        if child is not None:
            return child
        await hold_hotplug(cpu)
        await machine.slab_mutex.lock()
        child = await new_child(machine, root, memcg)
        await sysfs_slab_add(cpu, child)
        machine.list_new(child)
        await machine.slab_mutex.unlock()
        await release_hotplug(cpu)
        await self.register_cache(cpu, child)
        await memcg.link(child)
        await root.publish(memcg.id, child)
        return child

    async def offline(self, cpu: Cpu, memcg: MemCgroup) -> None:
        """``memcg_unregister_all_caches()``: shrink each child; destroy it if that was enough."""
        machine = cpu.machine
        await memcg.css_offline()
        await machine.memcg_slab_mutex.lock()
        caches = await memcg.slab_caches()
        for cache in caches:
            assert cache.params is not None
            await kmem_cache_shrink(cpu, cache)
            if await cache.params.no_pages():
                # Window: an allocation that found the child before may add a page to it from here on.
                await self.unregister(cpu, cache)
        await machine.memcg_slab_mutex.unlock()

    async def unregister(self, cpu: Cpu, cache: KmemCache) -> str | None:
        """``memcg_unregister_cache()``: out of its slot, off the list, destroyed.  Under memcg_slab_mutex.

        Returns:
            What the kernel complains of, when it still has objects: nobody will find it again then.
        """
        params = cache.params
        assert params is not None
        memcg = params.memcg
        await params.root.clear_slot(memcg.id)
        await memcg.unlink(cache)
        complaint = await try_destroy(cpu, cache)
        await self.put_child(cpu, memcg)
        return complaint

    async def put_child(self, cpu: Cpu, memcg: MemCgroup) -> None:
        """The reference that a child had of its group."""
        await mem_cgroup_put(cpu, memcg)

    async def charge_slab(self, cpu: Cpu, cache: KmemCache, memcg: MemCgroup, order: int) -> bool:
        """``__memcg_charge_slab()``: pages that are charged are counted, before there are any."""
        assert cache.params is not None
        if not await super().charge_slab(cpu, cache, memcg, order):
            return False
        await cache.params.add_pages(1 << order)
        return True

    async def uncharge_slab(self, cpu: Cpu, cache: KmemCache, memcg: MemCgroup, order: int) -> None:
        """``__memcg_uncharge_slab()``: the other way round, when the pages have gone back."""
        assert cache.params is not None
        await super().uncharge_slab(cpu, cache, memcg, order)
        await cache.params.sub_and_test(1 << order)

    async def bind_pages(self, cpu: Cpu, cache: KmemCache, order: int) -> None:
        """They were counted when they were charged."""

    async def release_pages(self, cpu: Cpu, cache: KmemCache, order: int) -> None:
        """They are counted until they are uncharged."""

    async def destroy_cache(self, cpu: Cpu, cache: KmemCache) -> str | None:
        """``kmem_cache_destroy()``: of a root that has no other name the children first, then the root.

        ``slab_mutex`` is given back for that: ``memcg_slab_mutex`` has to be taken before it.  The root is to stay if
        one of its children does; but that is looked for in the slots, which are empty whatever came of the children.
        """
        machine = cpu.machine
        await hold_hotplug(cpu)
        await machine.slab_mutex.lock()
        if await cache.drop_name() != 0:
            await machine.slab_mutex.unlock()
            await release_hotplug(cpu)
            return None
        complaint = None
        if cache.root is None:
            await machine.slab_mutex.unlock()
            # Window: without a name, and still in the list of caches.
            complaint = await self.destroy_children(cpu, cache)
            await machine.slab_mutex.lock()
        objects_remain = await close(cpu, cache)
        if objects_remain is not None:
            await machine.slab_mutex.unlock()
            await release_hotplug(cpu)
            machine.printk(f"kmem_cache_destroy {cache.name}: Slab cache still has objects")
            return complaint or objects_remain
        machine.slab_caches.remove(cache)
        await machine.slab_mutex.unlock()
        if cache.spec.rcu:
            await rcu_barrier(cpu)
        if cache.params is not None:
            await cache.params.free()
        await sysfs_slab_remove(cpu, cache)
        await cache.free()
        machine.note_destroyed(cache)
        await release_hotplug(cpu)
        return complaint

    async def destroy_children(self, cpu: Cpu, root: KmemCache) -> str | None:
        """``__memcg_cleanup_cache_params()``: slot by slot, under memcg_slab_mutex."""
        machine = cpu.machine
        complaint = None
        await machine.memcg_slab_mutex.lock()
        index = -1
        while (slot := await root.next_child(index)) is not None:
            index, child = slot
            complaint = await self.unregister(cpu, child) or complaint
        await machine.memcg_slab_mutex.unlock()
        return complaint
