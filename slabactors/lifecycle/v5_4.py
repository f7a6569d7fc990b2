"""As 5.3, with children that let go of their group when they are released."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slabactors.lifecycle.v5_3 import V53

if TYPE_CHECKING:
    from slabactors.kernel.cpu import Cpu
    from slabactors.mm.slab_common import KmemCache


class V54(V53):
    """A child has its group until it is released, so that slabs that go back by RCU callbacks can be uncharged.

    Models "mm: memcg/slab: fix panic in __free_slab() caused by premature memcg pointer release" (b749ecfaf6c5,
    mm/slab_common.c, v5.4).
    """

    name = "v5.4"
    release = "5.4, 2019-11-24"
    reading_holds_memory = False

    async def let_go(self, cpu: Cpu, child: KmemCache) -> None:
        """Not when the child is shut down."""

    async def release_cache(self, cpu: Cpu, cache: KmemCache) -> None:
        """``destroy_memcg_params()``: when it is released."""
        if cache.params is not None:
            await super().let_go(cpu, cache)
        await super().release_cache(cpu, cache)
