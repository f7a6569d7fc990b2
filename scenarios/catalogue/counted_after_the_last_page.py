"""A CPU counts a slab that it has given back, in a cache that went with it.

Told with the proposals that would have kept such a cache until every free into it has ended (in -mm, 2014-06): with
statistics, SLUB counts some slabs in their cache when they have gone back already.

1. A cache of memcg ``web`` has two empty slabs, one with each CPU.  The directory is removed; the cache is dead.
2. Somebody shrinks it, and makes both CPUs give up their slabs.  The first one is listed, so that the second one is to
   go back at once.
3. The work of the cache shrinks it, too: the listed slab goes back, and after it, by the CPU, the other one.  That was
   the last page, and the work, which is queued again for it, destroys the cache.
4. The CPU counts the slab in the cache: in freed memory.
"""

from __future__ import annotations

from slabactors.actors import parallel, prepare
from slabactors.catalogue import KnownBug, generations
from slabactors.mm.memcontrol import mem_cgroup_create, mem_cgroup_rmdir, memcg_create_kmem_cache
from slabactors.mm.slab_common import kmem_cache_alloc, kmem_cache_create, kmem_cache_free, kmem_cache_shrink
from slabactors.scenario import Machine, scenario

BUG = KnownBug(
    id="B20",
    title="free path tail touches the cache after the object is gone",
    fixed="3.19, by a reference for each page and each allocation",
    reported="Vladimir Davydov, 2014-06",
    where="G2-G8",
    signatures=("use-after-free: kmem_cache_cpu.count_freed after free by *",),
    preemptions=(1, 1),
    found_in=generations("G0x", "G1") + generations("G2", "G7") + generations("repaired"),
    absent_from=generations("G0") + generations("G1x"),
    not_applicable=dict.fromkeys(generations("G8", "G12"), "no work of the cache comes between")
    | dict.fromkeys(generations("G13"), "no memcg has caches of its own"),
    fast=True,
)


@scenario(title="a CPU counts a slab in a cache that is gone", cpus=2, slub_stats=True)
async def counted_after_the_last_page(machine: Machine) -> None:
    cpu0, cpu1 = machine.cpus
    dentry = prepare(kmem_cache_create(cpu0, "dentry", 1000, min_partial=0))
    web = prepare(mem_cgroup_create(cpu0, "web"))
    cache = prepare(memcg_create_kmem_cache(cpu0, dentry, web))
    for cpu in machine.cpus:
        obj = prepare(kmem_cache_alloc(cpu, dentry, web))
        assert obj is not None
        prepare(kmem_cache_free(cpu, obj))
    await parallel(
        cpu0.task(mem_cgroup_rmdir(cpu0, web), "rmdir"),
        cpu1.task(kmem_cache_shrink(cpu1, cache), "shrink"),
    )


if __name__ == "__main__":
    counted_after_the_last_page.main()
