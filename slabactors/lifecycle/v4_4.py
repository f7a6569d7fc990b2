"""As 4.0, with slots that do not outlive their children."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slabactors.lifecycle.v4_0 import V40

if TYPE_CHECKING:
    from slabactors.kernel.cpu import Cpu
    from slabactors.mm.slab_common import KmemCache


class V44(V40):
    """Destroying a root clears the slot of every child that is shut down, should the root have to stay.

    Models "mm/slab_common.c: clear pointers to per memcg caches on destroy" (mm/slab_common.c, v4.4).
    """

    name = "v4.4"
    release = "4.4, 2016-01-10"

    async def shutdown(self, cpu: Cpu, cache: KmemCache) -> str | None:
        """``shutdown_memcg_caches()`` clears the slot of a child that is still in one."""
        complaint = await super().shutdown(cpu, cache)
        if complaint is None and cache.params is not None:
            slot = await cache.params.root.read_slot(cache.params.memcg.id)
            if slot is cache:
                await cache.params.root.clear_slot(cache.params.memcg.id)
        return complaint
