"""Whoever shrinks a cache releases its last page, and goes on with a cache that is gone.

1e32e77f95d6 (3.16) names it.  The worker that shrinks is safe, because its work does not run twice at a time; a write
to the cache's ``shrink`` file in sysfs is not.

1. The directory of memcg ``web`` is removed while the cache has one empty slab, which is with a CPU.
2. Somebody shrinks the cache.  The slab goes back, and that was the last page.
3. The work, which was queued anyway or is queued for that, destroys the cache.
4. Whoever shrinks goes on: with the next CPU, or the next memory node of the cache.
"""

from __future__ import annotations

from slabactors.actors import parallel, prepare
from slabactors.catalogue import KnownBug, generations
from slabactors.mm.memcontrol import mem_cgroup_create, mem_cgroup_rmdir, memcg_create_kmem_cache
from slabactors.mm.slab_common import kmem_cache_alloc, kmem_cache_create, kmem_cache_free, kmem_cache_shrink
from slabactors.scenario import Machine, scenario

BUG = KnownBug(
    id="B18",
    title="shrink releases the last slab and is still using the cache",
    fixed="1e32e77f95d6, 3.16",
    reported="the commit, 2014",
    where="G2-G7",
    signatures=("use-after-free: kmem_cache* after free by shrink",),
    preemptions=(1, 1),
    found_in=generations("G0", "G7") + generations("repaired"),
    # This story would break them, too: nothing in it holds the child.
    not_applicable=dict.fromkeys(
        generations("G8", "G12"), "whoever shrinks a child is taken to hold slab_mutex or its directory, unlike here"
    )
    | dict.fromkeys(generations("G13"), "no memcg has caches of its own"),
    fast=True,
)


@scenario(title="somebody shrinks a cache that its work destroys", cpus=2, nodes=2)
async def shrinker_outlives_the_cache(machine: Machine) -> None:
    cpu0, cpu1 = machine.cpus[0], machine.cpus[-1]
    dentry = prepare(kmem_cache_create(cpu0, "dentry", 1000))
    web = prepare(mem_cgroup_create(cpu0, "web"))
    prepare(memcg_create_kmem_cache(cpu0, dentry, web))  # its child is there before the story begins
    obj = prepare(kmem_cache_alloc(cpu0, dentry, web))
    assert obj is not None
    cache = obj.slab.cache
    prepare(kmem_cache_free(cpu0, obj))
    await parallel(
        cpu0.task(mem_cgroup_rmdir(cpu0, web), "rmdir"),
        cpu1.task(kmem_cache_shrink(cpu1, cache), "shrink"),
    )


if __name__ == "__main__":
    shrinker_outlives_the_cache.main()
