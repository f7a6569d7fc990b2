"""What was merged: plain work that shrinks once and never comes back by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slabactors.kernel.workqueue import queue_work
from slabactors.lifecycle.v5 import find_cache
from slabactors.lifecycle.v6 import V6
from slabactors.mm.slab_common import kmem_cache_destroy, kmem_cache_shrink

if TYPE_CHECKING:
    from slabactors.kernel.cpu import Cpu
    from slabactors.mm.memcontrol import MemcgCacheParams, MemCgroup


class V38(V6):
    """A dead cache is shrunk once, by the work that offline queues; after that only a last page brings the work back.

    As `V6`, but the delayed work and its retry are gone, and offline comes once.  Models "memcg/sl[au]b: shrink dead
    caches" as it was merged (22933152934f, v3.8).
    """

    name = "v3.8"
    release = "3.8, 2013-02-18: as released"
    unlocks_for_sysfs = True

    async def offline(self, cpu: Cpu, memcg: MemCgroup) -> None:
        """``mem_cgroup_css_offline()``, once; nobody gets a reference of the group any more when it is called."""
        await memcg.css_offline()
        await self.mem_cgroup_destroy_all_caches(cpu, memcg)

    async def schedule(self, cpu: Cpu, params: MemcgCacheParams) -> None:
        """``schedule_work(&params->destroy)``: nothing when it is pending."""
        await queue_work(cpu, cpu.machine.system_wq, params.destroy)

    async def kmem_cache_destroy_work_func(self, cpu: Cpu, params: MemcgCacheParams) -> None:
        """Destroy a dead cache when it is empty, else shrink it; whoever releases its last page queues this again."""
        cache = await find_cache(cpu, params)
        assert cache.params is not None
        if await cache.params.no_pages():
            await kmem_cache_destroy(cpu, cache)
            return
        await kmem_cache_shrink(cpu, cache)
        # The kernel looks once more, and returns whatever it sees: what has pages now stays until somebody shrinks it.
        await cache.params.no_pages()
