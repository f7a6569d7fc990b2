"""A reader walks the caches of a group, one of which has just been shut down.

"memcg, slab: unregister cache from memcg before starting to destroy it" (3.15): until then a cache that is destroyed
loses its structures for CPUs and nodes, and then its slot and its place on the list.

1. Somebody reads memory.kmem.slabinfo of memcg ``web``: it holds the mutex of the list, and has found a child.
2. The child is destroyed: shutting it down frees its node structures.  Only after that the mutex is wanted.
3. The reader counts the slabs of the child's nodes: in freed memory.
"""

from __future__ import annotations

from slabactors.actors import parallel, prepare
from slabactors.catalogue import KnownBug, generations
from slabactors.mm.files import mem_cgroup_slabinfo_read
from slabactors.mm.memcontrol import mem_cgroup_create, memcg_create_kmem_cache
from slabactors.mm.slab_common import kmem_cache_create, kmem_cache_destroy
from slabactors.scenario import Machine, scenario

BUG = KnownBug(
    id="B15",
    title="memcg, slab: unregister cache from memcg before starting to destroy it",
    fixed="3.15",
    reported="Vladimir Davydov, 2014-02",
    where="G4-G6",
    signatures=("use-after-free: kmem_cache_node.* after free by cat",),
    preemptions=(1, 1),
    found_in=generations("G3", "G6"),
    absent_from=generations("G7"),
    not_applicable=dict.fromkeys(generations("G0", "G2"), "the file comes with the sixth posting")
    | dict.fromkeys(generations("G8", "G12"), "these models take a group's list down in other ways")
    | dict.fromkeys(generations("G13"), "no memcg has caches of its own")
    | dict.fromkeys(generations("repaired"), "the file comes with the sixth posting"),
    fast=True,
)


@scenario(title="a group's caches are read while one of them is destroyed", cpus=2, shutdown_frees_nodes=True)
async def reader_of_freed_nodes(machine: Machine) -> None:
    cpu0, cpu1 = machine.cpus
    dentry = prepare(kmem_cache_create(cpu0, "dentry", 1000))
    web = prepare(mem_cgroup_create(cpu0, "web"))
    child = prepare(memcg_create_kmem_cache(cpu0, dentry, web))
    await parallel(
        cpu0.task(mem_cgroup_slabinfo_read(cpu0, web), "cat"),
        cpu1.task(kmem_cache_destroy(cpu1, child), "worker"),  # as the work of the child does
    )


if __name__ == "__main__":
    reader_of_freed_nodes.main()
