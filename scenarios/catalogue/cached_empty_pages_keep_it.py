"""The pages of a dead cache are empty and stay with a CPU, and so the cache stays.

JoonSoo Kim, in the review of the third posting (v3 15/16, 2012-09-18), which shrinks a dead cache whenever an object of
it is freed: when everything was freed before the group died, no free comes any more.  The founding patch answers it.

1. A task in memcg ``web`` allocates a dentry and frees it; the slab stays the one that the CPU allocates from.
2. The directory is removed.  ``nr_pages`` is not zero, and nobody makes it so.
"""

from __future__ import annotations

from slabactors.actors import prepare
from slabactors.catalogue import KnownBug, generations
from slabactors.mm.memcontrol import mem_cgroup_create, mem_cgroup_rmdir, memcg_create_kmem_cache
from slabactors.mm.slab_common import kmem_cache_alloc, kmem_cache_create, kmem_cache_free
from slabactors.scenario import Machine, scenario

BUG = KnownBug(
    id="B03",
    title="dead cache with only cached empty pages is never destroyed",
    fixed="the founding patch, v5 14/18, before it was merged",
    reported="JoonSoo Kim, 2012-09",
    where="G0",
    signatures=("zombie: *",),
    preemptions=(0, 0),
    found_in=generations("G0") + generations("G1x"),
    absent_from=generations("G1") + generations("G2", "G8x") + generations("G10", "G12") + generations("repaired"),
    not_applicable=dict.fromkeys(generations("G13"), "no memcg has caches of its own"),
    fast=True,
)


@scenario(title="a cache that was empty before it died", cpus=1)
async def cached_empty_pages_keep_it(machine: Machine) -> None:
    cpu0 = machine.cpus[0]
    dentry = prepare(kmem_cache_create(cpu0, "dentry", 1000))
    web = prepare(mem_cgroup_create(cpu0, "web"))
    prepare(memcg_create_kmem_cache(cpu0, dentry, web))  # its child is there before the story begins
    obj = prepare(kmem_cache_alloc(cpu0, dentry, web))
    assert obj is not None
    prepare(kmem_cache_free(cpu0, obj))
    await mem_cgroup_rmdir(cpu0, web)


if __name__ == "__main__":
    cached_empty_pages_keep_it.main()
