"""A work is initialised over the slots of a root's children.

"memcg: don't initialize kmem-cache destroying work for root caches" (f101a94, 3.10): what a root and what a child has
to know share their memory.  3.9 initialises the destroy work of children early, and of roots, too, which have an array
there.

1. A root is there, and six groups get their limits, one after the other: the root's array is replaced by one of twelve
   slots, and the work that it never uses is initialised in slots 5 to 8.
2. A task of the sixth group allocates.  Its slot is not empty: what is there is taken for a cache.
"""

from __future__ import annotations

from slabactors.actors import prepare
from slabactors.catalogue import KnownBug, generations
from slabactors.mm.memcontrol import mem_cgroup_create
from slabactors.mm.slab_common import kmem_cache_alloc, kmem_cache_create
from slabactors.scenario import Machine, scenario

BUG = KnownBug(
    id="B06a",
    title="memcg: don't initialize kmem-cache destroying work for root caches",
    fixed="f101a94, 3.10",
    reported="Andrey Vagin, 2013-05-22",
    where="3.9",
    signatures=("bug-on: wild pointer in memcg_caches* by main",),
    preemptions=(0, 0),
    found_in=generations("G5a"),
    absent_from=generations("G0", "G4") + generations("G5", "G7"),
    not_applicable=dict.fromkeys(generations("G8", "G12"), "children have no destroy work")
    | dict.fromkeys(generations("G13"), "no memcg has caches of its own")
    | dict.fromkeys(generations("repaired"), "it has room for every group from the start"),
    fast=True,
)


@scenario(title="a root's array grows, and a work is written over it", cpus=1, memcg_caches_min=4)
async def work_over_the_slots(machine: Machine) -> None:
    cpu = machine.cpus[0]
    dentry = prepare(kmem_cache_create(cpu, "dentry", 1000))
    for name in "abcdef":
        group = await mem_cgroup_create(cpu, name)
    await kmem_cache_alloc(cpu, dentry, group)


if __name__ == "__main__":
    work_over_the_slots.main()
