"""As 4.11, with a root that is dying: what was registered for its children is waited for before it goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slabactors.kernel.rcu import rcu_barrier_sched, synchronize_sched
from slabactors.kernel.workqueue import flush_workqueue
from slabactors.lifecycle.v4_11 import MEMCG_KMEM_CACHE_WQ, V411
from slabactors.mm.slub_sysfs import sysfs_slab_remove

if TYPE_CHECKING:
    from slabactors.kernel.cpu import Cpu
    from slabactors.mm.memcontrol import MemCgroup
    from slabactors.mm.slab_common import KmemCache


class V418FlushOnly(V411):
    """Destroying a root first marks it as dying, which stops creations and deactivations of its children, and waits
    for the works that are queued.

    Models the first form of "mm: fix race between kmem_cache destroy, create and deactivate" (mm/slab_common.c, posted
    for 4.18).  Callbacks that were registered before, and have queued no work yet, are not waited for.
    """

    name = "v4.18-flush-only"
    fair_hotplug_locks = True
    release = "posted for 4.18, 2018-05: the first fix"

    async def unlink_from_sysfs(self, cpu: Cpu, cache: KmemCache) -> None:
        """``sysfs_slab_unlink()``: at once, under slab_mutex, so that its name can be used again."""
        await sysfs_slab_remove(cpu, cache)

    async def remove_from_sysfs(self, cpu: Cpu, cache: KmemCache) -> None:
        """``sysfs_slab_release()``."""
        await self.release_cache(cpu, cache)

    async def may_create(self, root: KmemCache, memcg: MemCgroup) -> bool:
        """Not for a root that is dying, either."""
        return await super().may_create(root, memcg) and not await root.is_dying()

    async def deactivate(self, cpu: Cpu, child: KmemCache) -> None:
        """Nothing is registered for a child whose root is dying: it goes with that."""
        assert child.root is not None
        if not await child.root.is_dying():
            await super().deactivate(cpu, child)

    async def destroy_cache(self, cpu: Cpu, cache: KmemCache) -> str | None:
        """``kmem_cache_destroy()``, whether the cache has other names or not."""
        await self.flush_memcg_workqueue(cpu, cache)
        return await super().destroy_cache(cpu, cache)

    async def flush_memcg_workqueue(self, cpu: Cpu, root: KmemCache) -> None:
        """Let nothing new begin for the children of a root, then wait for what has begun."""
        machine = cpu.machine
        await machine.slab_mutex.lock()
        await root.set_dying()
        await machine.slab_mutex.unlock()
        # Window: a callback may be about to queue a work, or to run on a child.
        await self.wait_for_callbacks(cpu)
        await flush_workqueue(machine.workqueue(MEMCG_KMEM_CACHE_WQ))

    async def wait_for_callbacks(self, cpu: Cpu) -> None:
        """Nobody does."""


class V418GracePeriod(V418FlushOnly):
    """As the first form of the fix, and waits for a grace period before the works: callbacks need not have run by then.

    The second form, as it was understood in review (posted for 4.18).
    """

    name = "v4.18-grace-period"
    release = "posted for 4.18, 2018-05: the second fix"

    async def wait_for_callbacks(self, cpu: Cpu) -> None:
        """``synchronize_sched()``."""
        await synchronize_sched(cpu)


class V418(V418FlushOnly):
    """As the first form of the fix, and waits for every callback before it waits for works.

    Models "mm: fix race between kmem_cache destroy, create and deactivate" (92ee383f6daa, mm/slab_common.c, v4.18).
    Also a cache that only loses one of several names is marked as dying, for good.
    """

    name = "v4.18"
    release = "4.18, 2018-08-12"

    async def wait_for_callbacks(self, cpu: Cpu) -> None:
        """``rcu_barrier_sched()``."""
        await rcu_barrier_sched(cpu)
