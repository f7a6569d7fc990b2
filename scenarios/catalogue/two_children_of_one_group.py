"""A second child of one root and one group, because the slot of the first was looked for in an array just replaced.

"memcg, slab: fix races in per-memcg cache creation/destruction" (2edefe1155b3, 3.14): who creates a child looks for it
without ``slab_mutex``, under which the arrays move.

1. A task of memcg ``web`` has asked for a child twice, before there was one.  The first kworker has created it.
2. A fifth group gets its first limit: the root's new array is in place, and not filled yet.
3. The second kworker finds no child in it, and waits for ``slab_mutex`` to create one.
4. The array is filled.  The second kworker creates a child and puts it into the slot: the first child is on the list of
   its group, and in no slot.
5. The directory is removed.  Both entries of the list lead to the second child: nobody ever marks the first one dead.
"""

from __future__ import annotations

from slabactors.actors import parallel, prepare
from slabactors.catalogue import KnownBug, generations
from slabactors.mm.memcontrol import (
    mem_cgroup_create,
    mem_cgroup_rmdir,
    memcg_create_kmem_cache,
    memcg_update_kmem_limit,
)
from slabactors.mm.slab_common import kmem_cache_create
from slabactors.scenario import Machine, scenario

BUG = KnownBug(
    id="B13a",
    title="memcg, slab: fix races in per-memcg cache creation/destruction",
    fixed="2edefe1155b3, 3.14",
    reported="Vladimir Davydov, 2014-01",
    where="G4, G5",
    signatures=(
        "bug-on: NULL dereference through memcg_caches* by kworker",
        "reinitialised-active-work: * by main",
        "zombie: *",
        "duplicate-name: *",  # what is said of it at rest
    ),
    preemptions=(2, 2),
    found_in=generations("G2", "G5"),
    absent_from=generations("G6", "G7"),
    not_applicable=dict.fromkeys(generations("G0", "G1x"), "the list of a group leads to both children")
    | dict.fromkeys(generations("G8", "G12"), "arrays move, but not in these models")
    | dict.fromkeys(generations("G13"), "no memcg has caches of its own")
    | dict.fromkeys(generations("repaired"), "it has room for every group from the start"),
    twelve=True,
    fast=True,
)

OTHERS = ("second", "third", "fourth")


@scenario(title="a child is created twice while the array of its root moves", cpus=2, memcg_caches_min=4)
async def two_children_of_one_group(machine: Machine) -> None:
    cpu0, cpu1 = machine.cpus[0], machine.cpus[-1]
    web = prepare(mem_cgroup_create(cpu0, "web"))
    dentry = prepare(kmem_cache_create(cpu0, "dentry", 1000))
    prepare(memcg_create_kmem_cache(cpu0, dentry, web))
    for name in OTHERS if machine.lifecycle.kmemcg_ids else OTHERS[1:]:  # up to v5 numbers begin with 1
        prepare(mem_cgroup_create(cpu0, name))
    fifth = prepare(mem_cgroup_create(cpu0, "fifth", accounted=False))
    await parallel(
        cpu0.task(memcg_update_kmem_limit(cpu0, fifth, 1 << 30), "limit"),
        cpu1.task(memcg_create_kmem_cache(cpu1, dentry, web), "creator"),
    )
    await mem_cgroup_rmdir(cpu0, web)


if __name__ == "__main__":
    two_children_of_one_group.main()
