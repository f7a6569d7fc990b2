"""Reading memory.kmem.slabinfo step by step, while others run (mm/memcontrol.c, v3.8).

`slabactors.mm.slabinfo` says what the text is; here is who holds what while it is put together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slabactors.errors import KernelBug, Kind
from slabactors.mm.memcg_caches import cache_from_memcg

if TYPE_CHECKING:
    from slabactors.kernel.cpu import Cpu
    from slabactors.mm.memcontrol import MemCgroup
    from slabactors.mm.slab_common import KmemCache

__all__ = ["mem_cgroup_slabinfo_read"]


async def mem_cgroup_slabinfo_read(cpu: Cpu, memcg: MemCgroup) -> list[tuple[str, int]]:
    """Walk the children of a memcg under the mutex of its list, each found through the array of its root.  Sleeps.

    Models mem_cgroup_slabinfo_read(), memcg_params_to_cache() (mm/memcontrol.c, v3.8) and get_slabinfo() (mm/slub.c,
    v3.8).  Deviation: only slabs are counted.

    Returns:
        The name of each child, and how many slabs it has.

    Raises:
        KernelBug: ``bug-on`` when the slot of a child on the list is empty.
    """
    rows = []
    await memcg.slab_caches_mutex.lock()
    listed = await memcg.slab_caches()
    for one in listed:
        assert one.params is not None
        cache = await cache_from_memcg(cpu, one.params.root, memcg.id)
        if cache is None:
            raise KernelBug(
                Kind.BUG_ON,
                f"the slot of {one.name} is empty: NULL pointer dereference in cache_show()",
                clause="NULL dereference through memcg_caches[]",
            )
        # Window: nothing but the mutex of the list keeps the child, or what belongs to it.
        slabs = await _slabs(cache)
        rows.append((cache.name, slabs))
    await memcg.slab_caches_mutex.unlock()
    return rows


async def _slabs(cache: KmemCache) -> int:
    slabs = 0
    for node in cache.nodes:
        slabs += await node.slabs_left()
    return slabs
