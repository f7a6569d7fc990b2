"""Before the founding patch: plain work, and nothing shrinks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slabactors.kernel.workqueue import queue_work
from slabactors.lifecycle.base import Lifecycle
from slabactors.mm.slab_common import kmem_cache_destroy

if TYPE_CHECKING:
    from slabactors.kernel.cpu import Cpu
    from slabactors.mm.memcontrol import MemcgCacheParams, MemCgroup
    from slabactors.mm.slab_common import KmemCache


class PrePatch(Lifecycle):
    """The v5 series up to patch 13: a dead cache goes away when its last page does, and no page is asked to go.

    Models the lines that "[PATCH v5 14/18] memcg/sl[au]b: shrink dead caches" removes (mm/memcontrol.c, 2012-10-19).
    An empty slab may stay on a list for ever, and the cache with it.
    """

    name = "pre-patch"
    release = "v5 series 01-13, 2012-10-19"
    creates_in_place = True
    publishes_early = True

    async def offline(self, cpu: Cpu, memcg: MemCgroup) -> None:
        """``mem_cgroup_pre_destroy()``, as often as the machine is told to repeat it; then the group goes offline."""
        for _ in range(cpu.machine.config.pre_destroy_runs):
            await self.mem_cgroup_destroy_all_caches(cpu, memcg)
        await memcg.css_offline()

    async def mem_cgroup_destroy_all_caches(self, cpu: Cpu, memcg: MemCgroup) -> None:
        """Mark every child dead and queue its destruction."""
        machine = cpu.machine
        await memcg.slab_caches_mutex.lock()
        caches = await memcg.slab_caches()
        for cache in caches:
            params = cache.params
            assert params is not None
            await params.set_dead()
            # Window: dead, and its work was never initialised.
            await params.destroy.init(self.work_func(params))
            await queue_work(cpu, machine.system_wq, params.destroy)
        await memcg.slab_caches_mutex.unlock()

    async def last_page_released(self, cpu: Cpu, cache: KmemCache) -> None:
        """``mem_cgroup_destroy_cache()``: queue the destruction of a dead cache."""
        params = cache.params
        assert params is not None
        if not await params.is_dead():
            return
        await queue_work(cpu, cpu.machine.system_wq, params.destroy)

    async def kmem_cache_destroy_work_func(self, cpu: Cpu, params: MemcgCacheParams) -> None:
        """Destroy the cache if it has no page left; else somebody's last page will queue this again."""
        if await params.no_pages():
            await kmem_cache_destroy(cpu, params.cache)
