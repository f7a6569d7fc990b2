"""As 3.14, with caches that are withdrawn before they are shut down, and children that outlive the loss of an alias."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slabactors.kernel.hotplug import hold_hotplug, release_hotplug
from slabactors.kernel.rcu import rcu_barrier
from slabactors.kernel.workqueue import cancel_work_sync
from slabactors.lifecycle.v3_14 import V314
from slabactors.mm.memcg_caches import cache_from_memcg, free_root_params, next_child
from slabactors.mm.memcontrol import mem_cgroup_put, memcg_register_cache, memcg_unregister_cache
from slabactors.mm.slab_common import close, list_again, try_destroy
from slabactors.mm.slub_sysfs import sysfs_slab_remove

if TYPE_CHECKING:
    from slabactors.kernel.cpu import Cpu
    from slabactors.mm.slab_common import KmemCache


class V315(V314):
    """A root destroys its children when it has lost its last name, and stays when one of them does.

    Models "memcg, slab: do not destroy children caches if parent has aliases" (b8529907ba35) and "memcg, slab:
    unregister cache from memcg before starting to destroy it" (mm/slab_common.c and mm/memcontrol.c, v3.15).
    """

    name = "v3.15"
    release = "3.15, 2014-06-08"
    params_hold_memcg = True
    adds_to_sysfs_unlocked = False

    async def destroy_cache(self, cpu: Cpu, cache: KmemCache) -> str | None:
        """``kmem_cache_destroy()``: a child is withdrawn first, and comes back when it still has objects."""
        machine = cpu.machine
        await hold_hotplug(cpu)
        await machine.slab_mutex.lock()
        if await cache.drop_name() != 0:
            await machine.slab_mutex.unlock()
            await release_hotplug(cpu)
            return None
        if cache.root is None:
            await machine.slab_mutex.unlock()
            # Window: without a name, still listed, and no mutex held.
            failed, complaint = await self._destroy_children(cpu, cache)
            await machine.slab_mutex.lock()
            if failed:
                await machine.slab_mutex.unlock()
                await release_hotplug(cpu)
                return complaint
        machine.slab_caches.remove(cache)
        params = cache.params
        if params is not None:
            await memcg_unregister_cache(cpu, params)
        objects_remain = await close(cpu, cache)
        if objects_remain is not None:
            if params is not None:
                await memcg_register_cache(cpu, params)
            await list_again(cpu, cache)
            await release_hotplug(cpu)
            return objects_remain
        await machine.slab_mutex.unlock()
        if cache.spec.rcu:
            await rcu_barrier(cpu)
        # Window: shut down, and nobody can find it any more.
        if params is not None:
            await params.free()
            await mem_cgroup_put(cpu, params.memcg)
        else:
            await free_root_params(cache)
        await sysfs_slab_remove(cpu, cache)
        await cache.free()
        await release_hotplug(cpu)
        machine.note_destroyed(cache)
        return None

    async def destroy_children(self, cpu: Cpu, root: KmemCache) -> str | None:
        """``__kmem_cache_destroy_memcg_children()``."""
        return (await self._destroy_children(cpu, root))[1]

    async def _destroy_children(self, cpu: Cpu, root: KmemCache) -> tuple[bool, str | None]:
        """Slot by slot, as before; whether one stayed, and what was said of it."""
        machine = cpu.machine
        failed = False
        complaint = None
        await machine.set_limit_mutex.lock()
        index = -1
        while (slot := await next_child(cpu, root, index)) is not None:
            index, child = slot
            assert child.params is not None
            await child.params.set_dead(False)
            await cancel_work_sync(machine.system_wq, child.params.destroy)
            complaint = await try_destroy(cpu, child) or complaint
            if await cache_from_memcg(cpu, root, index) is not None:
                failed = True
        await machine.set_limit_mutex.unlock()
        return failed, complaint
