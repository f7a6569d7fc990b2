"""A child is looked up in an array that has just been replaced.

"memcg, slab: RCU protect memcg_params for root caches" (f8570263ee16, 3.14): an allocation reads the pointer to the
array of a root's children, and then a slot of it, and holds nothing meanwhile.

1. Four groups have limits, and the arrays have four slots.  A task of memcg ``web`` allocates: it has read the pointer.
2. A fifth group gets its first limit.  Every root gets a larger array, and the old one is freed.
3. The task reads a slot of freed memory.
"""

from __future__ import annotations

from slabactors.actors import parallel, prepare
from slabactors.catalogue import KnownBug, generations
from slabactors.mm.memcontrol import mem_cgroup_create, memcg_create_kmem_cache, memcg_update_kmem_limit
from slabactors.mm.slab_common import kmem_cache_alloc, kmem_cache_create
from slabactors.scenario import Machine, scenario

BUG = KnownBug(
    id="B12",
    title="memcg, slab: RCU protect memcg_params for root caches",
    fixed="f8570263ee16, 3.14",
    reported="Vladimir Davydov, 2014-01",
    where="G2-G5",
    signatures=("use-after-free: memcg_caches.read_slot after free by alloc",),
    preemptions=(1, 1),
    found_in=generations("G0", "G5"),
    absent_from=generations("G6", "G7"),
    not_applicable=dict.fromkeys(generations("G8", "G12"), "arrays move, but not in these models")
    | dict.fromkeys(generations("G13"), "no memcg has caches of its own")
    | dict.fromkeys(generations("repaired"), "it has room for every group from the start"),
    fast=True,
)


OTHERS = ("second", "third", "fourth")


@scenario(title="an array of children moves while a slot of it is read", cpus=2, memcg_caches_min=4)
async def array_freed_under_lookup(machine: Machine) -> None:
    cpu0, cpu1 = machine.cpus[0], machine.cpus[-1]
    web = prepare(mem_cgroup_create(cpu0, "web"))
    dentry = prepare(kmem_cache_create(cpu0, "dentry", 1000))
    prepare(memcg_create_kmem_cache(cpu0, dentry, web))
    for name in OTHERS if machine.lifecycle.kmemcg_ids else OTHERS[1:]:  # up to v5 numbers begin with 1
        prepare(mem_cgroup_create(cpu0, name))
    fifth = prepare(mem_cgroup_create(cpu0, "fifth", accounted=False))
    await parallel(
        cpu0.task(memcg_update_kmem_limit(cpu0, fifth, 1 << 30), "limit"),
        cpu1.task(kmem_cache_alloc(cpu1, dentry, web), "alloc"),
    )


if __name__ == "__main__":
    array_freed_under_lookup.main()
