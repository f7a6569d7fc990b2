"""Files that user space reads and writes while others run: paths of a story, step by step.

What their texts are is said by `slabactors.mm.slabinfo` and `slabactors.mm.sysfs_slab`, which look from outside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slabactors.errors import KernelBug, Kind
from slabactors.kernel.hotplug import get_online_mems, put_online_mems
from slabactors.mm.memcg_caches import cache_from_memcg
from slabactors.mm.slub import Slub

if TYPE_CHECKING:
    from slabactors.kernel.cpu import Cpu
    from slabactors.mm.memcontrol import MemCgroup
    from slabactors.mm.slab_common import KmemCache

__all__ = ["mem_cgroup_slabinfo_read", "show_slab_objects", "slab_attr_store"]


async def slab_attr_store(cpu: Cpu, cache: KmemCache, name: str, value: str | int) -> None:
    """Write to a file of a cache's directory in /sys/kernel/slab; what a root accepts goes to its children.  Sleeps.

    On a machine with ``sysfs`` the directory cannot be removed meanwhile, and nothing happens when it has been.  Models
    slab_attr_store() (mm/slub.c, v3.8); see `slabactors.mm.slub_sysfs.store` for what can be written.

    Args:
        cpu: where the task runs.
        cache: whose directory.
        name: of the file.
        value: what is written.

    Raises:
        ValueError: the kernel refuses it, or has no such directory.
    """
    allocator = cpu.machine.allocator
    if not isinstance(allocator, Slub):
        raise ValueError(f"{allocator.name} has no directories in /sys/kernel/slab; SLUB has")  # noqa: TRY004 - a knob
    await allocator.store(cpu, cache, name, value)


async def show_slab_objects(cpu: Cpu, cache: KmemCache) -> int:
    """Read ``partial``: how many slabs the nodes have listed; 0 when the directory is going away.  Sleeps.

    Models show_slab_objects() (mm/slub.c, v3.16 and v5.4), which counts on memory to stay as it is up to 5.3.
    """
    dirent = cache.dirent
    if dirent is not None and not await dirent.get_active():
        return 0
    holds_memory = cpu.machine.lifecycle.reading_holds_memory
    if holds_memory:
        await get_online_mems(cpu)
    total = 0
    for node in cache.nodes:
        total += await node.nr_partial()
    if holds_memory:
        await put_online_mems(cpu)
    if dirent is not None:
        await dirent.put_active()
    return total


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
