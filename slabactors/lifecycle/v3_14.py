"""As 3.11, with children that are published and withdrawn as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slabactors.lifecycle.v3_11 import V311
from slabactors.lifecycle.v5 import find_cache
from slabactors.mm.memcg_caches import Relocation
from slabactors.mm.slab_common import kmem_cache_destroy, kmem_cache_shrink

if TYPE_CHECKING:
    from slabactors.kernel.cpu import Cpu
    from slabactors.mm.memcontrol import MemcgCacheParams


class V314(V311):
    """Whoever finds a child on the list of its memcg finds it in its slot, too.

    Models "memcg: fix possible NULL deref while traversing memcg_slab_caches list" (96403da24444) and "memcg, slab: fix
    races in per-memcg cache creation/destruction" (2edefe1155b3, mm/memcontrol.c, v3.14).
    """

    name = "v3.14"
    release = "3.14, 2014-03-30"
    slot_outlives_list = True
    relocation = Relocation.FILLED_FIRST
    hands_reference_on = False

    async def kmem_cache_destroy_work_func(self, cpu: Cpu, params: MemcgCacheParams) -> None:
        """Destroy a dead cache when it is empty, else shrink it, and leave it at that."""
        cache = await find_cache(cpu, params)
        assert cache.params is not None
        if await cache.params.no_pages():
            await kmem_cache_destroy(cpu, cache)
        else:
            await kmem_cache_shrink(cpu, cache)
