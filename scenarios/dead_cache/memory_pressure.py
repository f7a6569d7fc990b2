"""Memory pressure while the delayed work is pending.

The comment that "[PATCH v5 14/18] memcg/sl[au]b: shrink dead caches" (Glauber Costa, 2012-10-19) adds to the release
path is about this: we can get to memory pressure while the delayed work is pending; the shrinkers can then release all
the cache's memory and get us to destruction; without a test for pending work it would be executed twice, the second
time over bogus data.

1. Memcg ``web`` has cached dentries that nobody uses; they are on the shrinker's list.
2. The directory is removed.  The work finds objects, arms its timer and waits for a minute.
3. Somebody takes so many pages that kswapd wakes, and the shrinker frees the dentries of the dead cache.
4. The last slab goes back.  The release path meets the pending work, or its timer going off, or its run.

Args:
    dentries: objects on the shrinker's list.
    min_partial: empty slabs that a node keeps on its list, as in rmdir-races-last-free.
"""

from __future__ import annotations

from slabactors.actors import parallel, prepare
from slabactors.kernel.cpu import Cpu
from slabactors.mm.memcontrol import mem_cgroup_create, mem_cgroup_rmdir, memcg_create_kmem_cache
from slabactors.mm.slab_common import KmemCache, kmem_cache_alloc, kmem_cache_create, kmem_cache_free, kmem_cache_shrink
from slabactors.scenario import Machine, scenario


async def take_memory(cpu: Cpu, hog: KmemCache, count: int) -> None:
    taken = []
    for _ in range(count):
        obj = await kmem_cache_alloc(cpu, hog)
        if obj is not None:
            taken.append(obj)
    for obj in taken:
        await kmem_cache_free(cpu, obj)


@scenario(title="memory pressure while the delayed work is pending", cpus=2, pages=16, watermark_low=4)
async def memory_pressure(machine: Machine, *, dentries: int = 2, min_partial: int = 0) -> None:
    cpu0, cpu1 = machine.cpus[0], machine.cpus[-1]
    dentry = prepare(kmem_cache_create(cpu0, "dentry", 4000, reclaimable=True, min_partial=min_partial))
    hog = prepare(kmem_cache_create(cpu0, "hog", 8192, min_partial=min_partial))
    dcache = machine.new_shrinker("dcache", batch=2)  # the kernel's 128 would never ask for so few
    web = prepare(mem_cgroup_create(cpu0, "web"))
    prepare(memcg_create_kmem_cache(cpu0, dentry, web))  # its child is there before the story begins
    cache = dentry
    for _ in range(dentries):
        obj = await kmem_cache_alloc(cpu0, dentry, web)
        assert obj is not None
        cache = obj.slab.cache
        prepare(dcache.add(obj))
    await kmem_cache_shrink(cpu0, cache)
    await parallel(
        cpu0.task(mem_cgroup_rmdir(cpu0, web), "rmdir"),
        cpu1.task(take_memory(cpu1, hog, 1), "hog"),
    )


if __name__ == "__main__":
    memory_pressure.main()
