"""A cache that only lost one of two names is dying for ever, and its children never go.

"mm: memcg/slab: fix memory leak at non-root kmem_cache destroy" (d38a2b7a9c93, 5.8): names are counted, not users.  It
came with the fix of another bug (92ee383f6daa, 4.18).

1. A module creates a cache like one that there is: the cache gets another name.
2. A task of memcg ``web`` uses the cache, and its objects are freed.
3. The module is unloaded: the cache loses that name, and is marked as dying.
4. The directory is removed.  As the root is dying, nothing is done about its children: they are to go with it.
"""

from __future__ import annotations

from slabactors.actors import prepare
from slabactors.catalogue import KnownBug, generations
from slabactors.mm.memcontrol import mem_cgroup_create, mem_cgroup_rmdir, memcg_create_kmem_cache
from slabactors.mm.slab_common import kmem_cache_alloc, kmem_cache_create, kmem_cache_destroy, kmem_cache_free
from slabactors.scenario import Machine, scenario

BUG = KnownBug(
    id="B33",
    title="mm: memcg/slab: fix memory leak at non-root kmem_cache destroy",
    fixed="d38a2b7a9c93, 5.8",
    reported="Muchun Song, 2020-07-16",
    where="G11 (4.18), G12",
    signatures=("zombie: *",),
    preemptions=(0, 0),
    found_in=("v4.18-flush-only", "v4.18-grace-period", "v4.18", "v5.3", "v5.4", "v5.5"),
    absent_from=("v4.0-early-id", "v4.0", "v4.4", "v4.11", "v4.12", "v5.8", "v5.8-stable", *generations("G13")),
    not_applicable=dict.fromkeys(generations("G0", "G9") + generations("repaired"), "no root is ever dying"),
    twelve=True,
    fast=True,
)


@scenario(title="a cache loses one of its names, and a group goes away", cpus=1, merging=True)
async def alias_leaves_its_cache_dying(machine: Machine) -> None:
    cpu0 = machine.cpus[0]
    dentry = prepare(kmem_cache_create(cpu0, "dentry", 1000))
    module = prepare(kmem_cache_create(cpu0, "module", 1000))
    web = prepare(mem_cgroup_create(cpu0, "web"))
    prepare(memcg_create_kmem_cache(cpu0, dentry, web))  # its child is there before the story begins
    obj = prepare(kmem_cache_alloc(cpu0, dentry, web))
    assert obj is not None
    prepare(kmem_cache_free(cpu0, obj))
    await kmem_cache_destroy(cpu0, module)
    await mem_cgroup_rmdir(cpu0, web)


if __name__ == "__main__":
    alias_leaves_its_cache_dying.main()
