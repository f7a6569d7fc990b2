"""The founding patch before it used delayed work: every free on a dead cache shrinks it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slabactors.lifecycle.pre_patch import PrePatch
from slabactors.mm.slab_common import kmem_cache_shrink

if TYPE_CHECKING:
    from slabactors.kernel.cpu import Cpu
    from slabactors.mm.slab_common import KmemCache


class VerifyDead(PrePatch):
    """As `PrePatch`, with a test in the free path of every child cache.

    Models "[v2: also call verify_dead for the slab]" of the founding patch, as posted in September 2012; given up
    because the test is in a hot path, and because a cache that was empty before it died is never freed into again.
    """

    name = "verify-dead"
    release = "v3 posting 15/16, 2012-09-18"
    verifies_every_free = True

    async def object_freed(self, cpu: Cpu, cache: KmemCache) -> None:
        """``kmem_cache_verify_dead()``: the pages of a dead cache go as soon as they are empty."""
        assert cache.params is not None
        if await cache.params.is_dead():
            await kmem_cache_shrink(cpu, cache)
