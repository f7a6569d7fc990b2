"""A cache loses one of its names, and with it its children.

"memcg, slab: do not destroy children caches if parent has aliases" (b8529907ba35, 3.15): destroying a root begins with
its children; only then is looked whether the root has another name and stays.

1. A module creates a cache that is just like one that is there: it becomes another name of that one.
2. A task of memcg ``web`` uses the cache by its other name.
3. The module is unloaded, and destroys what it created.  The child of ``web`` is destroyed, with an object in it.

Seen when the module xfs was unloaded.
"""

from __future__ import annotations

from slabactors.actors import prepare
from slabactors.catalogue import KnownBug, generations
from slabactors.mm.memcontrol import mem_cgroup_create, memcg_create_kmem_cache
from slabactors.mm.slab_common import kmem_cache_alloc, kmem_cache_create, kmem_cache_destroy, kmem_cache_free
from slabactors.scenario import Machine, scenario

BUG = KnownBug(
    id="B14",
    title="memcg, slab: do not destroy children caches if parent has aliases",
    fixed="b8529907ba35, 3.15",
    reported="Vladimir Davydov, 2014-02-02",
    where="G4-G6",
    signatures=(
        "objects-remaining: destroy of a cache with objects by main",
        "uninitialised-work: cancelling* by main",  # up to 3.8 the child's work is cancelled before anybody made it
    ),
    preemptions=(0, 0),
    found_in=generations("G0", "G6") + generations("repaired"),
    absent_from=generations("G7", "G12"),
    not_applicable=dict.fromkeys(generations("G13"), "no memcg has caches of its own"),
    twelve=True,
    fast=True,
)


@scenario(title="a cache loses a name, and its children", cpus=1, merging=True)
async def alias_destroyed_children_go(machine: Machine) -> None:
    cpu = machine.cpus[0]
    kmalloc = prepare(kmem_cache_create(cpu, "kmalloc-1024", 1024))
    module = prepare(kmem_cache_create(cpu, "xfs_mru_cache_elem", 1024))
    web = prepare(mem_cgroup_create(cpu, "web"))
    prepare(memcg_create_kmem_cache(cpu, kmalloc, web))
    obj = prepare(kmem_cache_alloc(cpu, kmalloc, web))
    assert obj is not None
    await kmem_cache_destroy(cpu, module)
    await kmem_cache_free(cpu, obj)


if __name__ == "__main__":
    alias_destroyed_children_go.main()
