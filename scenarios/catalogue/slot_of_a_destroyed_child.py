"""A child is destroyed while the array of its root moves, and its slot in the new array is never emptied.

"memcg, slab: fix races in per-memcg cache creation/destruction" (2edefe1155b3, 3.14), the other way round: who destroys
a child empties its slot without ``slab_mutex``, under which the arrays move.

1. Four groups have limits, and the arrays have four slots.  The child of memcg ``web`` is being destroyed.
2. A fifth group gets its first limit: a new array is in place, and is being filled from the old one.
3. Who destroys the child empties the slot in one of them, when it has been read already, or before it is written.
4. The module that has the root is unloaded, and destroys what it finds in the slot: freed memory.
"""

from __future__ import annotations

from slabactors.actors import parallel, prepare
from slabactors.catalogue import KnownBug, generations
from slabactors.mm.memcontrol import (
    mem_cgroup_create,
    memcg_create_kmem_cache,
    memcg_update_kmem_limit,
)
from slabactors.mm.slab_common import kmem_cache_create, kmem_cache_destroy
from slabactors.scenario import Machine, scenario

BUG = KnownBug(
    id="B13b",
    title="memcg, slab: fix races in per-memcg cache creation/destruction",
    fixed="2edefe1155b3, 3.14",
    reported="Vladimir Davydov, 2014-01",
    where="G4, G5",
    signatures=("use-after-free: memcg_cache_params.* after free by main", "double-destroy: * by main"),
    preemptions=(2, 2),
    found_in=generations("G0", "G5"),
    absent_from=generations("G6", "G7"),
    not_applicable=dict.fromkeys(generations("G8", "G12"), "arrays move, but not in these models")
    | dict.fromkeys(generations("G13"), "no memcg has caches of its own")
    | dict.fromkeys(generations("repaired"), "it has room for every group from the start"),
    fast=True,
)

OTHERS = ("second", "third", "fourth")


@scenario(title="a child is destroyed while the array of its root moves", cpus=2, memcg_caches_min=4)
async def slot_of_a_destroyed_child(machine: Machine) -> None:
    cpu0, cpu1 = machine.cpus[0], machine.cpus[-1]
    web = prepare(mem_cgroup_create(cpu0, "web"))
    module = prepare(kmem_cache_create(cpu0, "module", 1000))
    child = prepare(memcg_create_kmem_cache(cpu0, module, web))
    for name in OTHERS if machine.lifecycle.kmemcg_ids else OTHERS[1:]:  # up to v5 numbers begin with 1
        prepare(mem_cgroup_create(cpu0, name))
    fifth = prepare(mem_cgroup_create(cpu0, "fifth", accounted=False))
    await parallel(
        cpu0.task(memcg_update_kmem_limit(cpu0, fifth, 1 << 30), "limit"),
        cpu1.task(kmem_cache_destroy(cpu1, child), "worker"),  # as the work of the child does
    )
    await kmem_cache_destroy(cpu0, module)


if __name__ == "__main__":
    slot_of_a_destroyed_child.main()
