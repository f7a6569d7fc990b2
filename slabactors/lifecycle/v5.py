"""The founding patch: delayed work that shrinks, and tries again once a minute."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from slabactors.errors import KernelBug, Kind
from slabactors.kernel.jiffies import HZ
from slabactors.kernel.workqueue import queue_delayed_work
from slabactors.lifecycle.base import Lifecycle
from slabactors.mm.memcg_caches import cache_from_memcg
from slabactors.mm.slab_common import kmem_cache_destroy, kmem_cache_shrink

if TYPE_CHECKING:
    from slabactors.kernel.cpu import Cpu
    from slabactors.mm.memcontrol import MemcgCacheParams, MemCgroup
    from slabactors.mm.slab_common import KmemCache

__all__ = ["RETRY_JIFFIES", "V5", "find_cache"]

RETRY_JIFFIES: Final = 60 * HZ
"""Once per minute should be good enough, the patch says."""


class V5(Lifecycle):
    """A dead cache is shrunk by its own work, which is queued at offline, by whoever releases the last page, and by
    itself a minute later.

    Models "[PATCH v5 14/18] memcg/sl[au]b: shrink dead caches" (mm/memcontrol.c, 2012-10-19).
    """

    name = "v5"
    release = "v5 14/18, 2012-10-19: the founding patch"
    creates_in_place = True
    publishes_early = True

    async def offline(self, cpu: Cpu, memcg: MemCgroup) -> None:
        """``mem_cgroup_pre_destroy()``, as often as the machine is told to repeat it; then the group goes offline."""
        for _ in range(cpu.machine.config.pre_destroy_runs):
            await self.mem_cgroup_destroy_all_caches(cpu, memcg)
        await memcg.css_offline()

    async def mem_cgroup_destroy_all_caches(self, cpu: Cpu, memcg: MemCgroup) -> None:
        """Mark every child dead and queue its work."""
        await memcg.slab_caches_mutex.lock()
        caches = await memcg.slab_caches()
        for cache in caches:
            params = cache.params
            assert params is not None
            await params.set_dead()
            # Window: dead, and its work was never initialised.
            await params.destroy.init(self.work_func(params))
            await self.schedule(cpu, params)
        await memcg.slab_caches_mutex.unlock()

    async def schedule(self, cpu: Cpu, params: MemcgCacheParams) -> None:
        """``schedule_delayed_work(&params->destroy, 0)``: nothing when it is pending."""
        await queue_delayed_work(cpu, cpu.machine.system_wq, params.destroy, 0)

    async def last_page_released(self, cpu: Cpu, cache: KmemCache) -> None:
        """``mem_cgroup_destroy_cache()``: queue the work of a dead cache unless it is pending."""
        params = cache.params
        assert params is not None
        if not await params.is_dead():
            return
        if await params.destroy.is_pending():
            return
        # Window: pending a moment ago or not, it may be queued, running or gone now.
        await self.schedule(cpu, params)

    async def kmem_cache_destroy_work_func(self, cpu: Cpu, params: MemcgCacheParams) -> None:
        """Shrink a dead cache, or destroy it when it is empty."""
        cache = await find_cache(cpu, params)
        assert cache.params is not None
        if await cache.params.no_pages():
            await kmem_cache_destroy(cpu, cache)
            return
        await kmem_cache_shrink(cpu, cache)
        if await cache.params.no_pages():
            return  # whoever released the last page has queued us again; destroying here would leave that run dangling
        await queue_delayed_work(cpu, cpu.machine.system_wq, cache.params.destroy, RETRY_JIFFIES)


async def find_cache(cpu: Cpu, params: MemcgCacheParams) -> KmemCache:
    """The cache behind a work item, through the root's array as the patch does it.

    Raises:
        KernelBug: ``bug-on`` when the slot is empty: the kernel would dereference NULL.
    """
    cache = await cache_from_memcg(cpu, params.root, params.memcg.id)
    if cache is None:
        raise KernelBug(
            Kind.BUG_ON,
            f"the slot of {params.cache.name} is empty: NULL pointer dereference in kmem_cache_destroy_work_func()",
            clause="NULL dereference through memcg_caches[]",
        )
    return cache
