"""The founding patch's first draft with delayed work: nobody asks whether that is pending."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slabactors.kernel.workqueue import queue_delayed_work
from slabactors.lifecycle.v5 import RETRY_JIFFIES, V5
from slabactors.mm.slab_common import kmem_cache_destroy, kmem_cache_shrink

if TYPE_CHECKING:
    from slabactors.kernel.cpu import Cpu
    from slabactors.mm.memcontrol import MemcgCacheParams
    from slabactors.mm.slab_common import KmemCache


class V4(V5):
    """As `V5`, but the release path queues without a test, and the work knows its cache without the root's array.

    Models "[PATCH v4 15/19] memcg/sl[au]b: shrink dead caches" (mm/memcontrol.c, 2012-10-12).
    """

    name = "v4"
    release = "v4 posting 15/19, 2012-10-12"

    async def last_page_released(self, cpu: Cpu, cache: KmemCache) -> None:
        """``mem_cgroup_destroy_cache()``: queue the work of a dead cache."""
        params = cache.params
        assert params is not None
        if await params.is_dead():
            await self.schedule(cpu, params)

    async def kmem_cache_destroy_work_func(self, cpu: Cpu, params: MemcgCacheParams) -> None:
        """Destroy an empty cache; else shrink it, and come again in a minute unless that emptied it."""
        if await params.no_pages():
            await kmem_cache_destroy(cpu, params.cache)
            return
        await kmem_cache_shrink(cpu, params.cache)
        if await params.no_pages():
            return  # whoever released the last page has queued us again
        await queue_delayed_work(cpu, cpu.machine.system_wq, params.destroy, RETRY_JIFFIES)
