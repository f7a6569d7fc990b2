"""As 3.8, with the work initialised when the cache is made and the memcg put last."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slabactors.lifecycle.v3_8 import V38

if TYPE_CHECKING:
    from slabactors.kernel.cpu import Cpu
    from slabactors.mm.slab_common import KmemCache


class V310(V38):
    """A child's work is ready before anybody can find the child, and a child lets go of its memcg when it is done.

    Models "memcg: initialize kmem-cache destroying work earlier" (15cf17d26e08, 3.9) and "memcg: avoid accessing memcg
    after releasing reference" (mm/memcontrol.c, v3.10).
    """

    name = "v3.10"
    release = "3.10, 2013-06-30"
    initialises_at_offline = False
    puts_memcg_last = True

    async def register_cache(self, cpu: Cpu, cache: KmemCache) -> None:
        """``INIT_WORK()`` in ``memcg_register_cache()``."""
        params = cache.params
        assert params is not None
        await params.destroy.init(self.work_func(params))
