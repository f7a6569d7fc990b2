"""A work is initialised over the slots of a root that has just been created.

"memcg: don't initialize kmem-cache destroying work for root caches", the second of that name (3.11): the first one had
missed the place where a root gets its first array.

1. Six groups have limits: the arrays have twelve slots.
2. A root is created.  The work that it never uses is initialised in slots 5 to 8 of its array.
3. A task of the sixth group allocates.  Its slot is not empty: what is there is taken for a cache.
"""

from __future__ import annotations

from slabactors.actors import prepare
from slabactors.catalogue import KnownBug, generations
from slabactors.mm.memcontrol import mem_cgroup_create
from slabactors.mm.slab_common import kmem_cache_alloc, kmem_cache_create
from slabactors.scenario import Machine, scenario

BUG = KnownBug(
    id="B06b",
    title="memcg: don't initialize kmem-cache destroying work for root caches",
    fixed="3.11, and 3.9.y",
    reported="Andrey Vagin, 2013-08-05",
    where="3.9, 3.10",
    signatures=("bug-on: wild pointer in memcg_caches* by main",),
    preemptions=(0, 0),
    found_in=(*generations("G5a"), "v3.10"),
    absent_from=(*generations("G0", "G4"), "v3.11", *generations("G6", "G7")),
    not_applicable=dict.fromkeys(generations("G8", "G12"), "children have no destroy work")
    | dict.fromkeys(generations("G13"), "no memcg has caches of its own")
    | dict.fromkeys(generations("repaired"), "it has room for every group from the start"),
    fast=True,
)


@scenario(title="a root is created, and a work is written over its array", cpus=1, memcg_caches_min=4)
async def work_over_the_slots_of_a_new_root(machine: Machine) -> None:
    cpu = machine.cpus[0]
    for name in "abcdef":
        group = prepare(mem_cgroup_create(cpu, name))
    dentry = prepare(kmem_cache_create(cpu, "dentry", 1000))
    await kmem_cache_alloc(cpu, dentry, group)


if __name__ == "__main__":
    work_over_the_slots_of_a_new_root.main()
