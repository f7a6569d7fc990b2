"""As 3.8, with the work initialised when the cache is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slabactors.lifecycle.v3_8 import V38

if TYPE_CHECKING:
    from slabactors.kernel.cpu import Cpu
    from slabactors.mm.slab_common import KmemCache


class V39(V38):
    """A child's work is ready before anybody can find the child.

    Models "memcg: initialize kmem-cache destroying work earlier" (15cf17d26e08, mm/memcontrol.c, v3.9).
    """

    name = "v3.9"
    release = "3.9, 2013-04-28"
    initialises_at_offline = False
    inits_work_of_new_roots = True
    inits_work_of_grown_roots = True

    async def register_cache(self, cpu: Cpu, cache: KmemCache) -> None:
        """``INIT_WORK()`` in ``memcg_register_cache()``."""
        params = cache.params
        assert params is not None
        await params.destroy.init(self.work_func(params))
