"""Two kworkers create the same child: the mutex that keeps them apart is dropped while the first adds it to sysfs.

"slub: do not drop slab_mutex for sysfs_slab_add" (421af243b1a5, 3.15).  Up to 3.13 creators have a mutex of their own;
in 3.14 they have only ``slab_mutex``.

1. A task of memcg ``web`` has asked for a child twice.  The first kworker finds none, makes one, and drops the mutex to
   add it to sysfs.
2. The second kworker finds none either.
3. Both fill the slot, one after the other.  One child is on the list of its group, and in no slot.
4. The directory is removed.  Both entries of the list lead to the same child: nobody ever marks the other one dead.
"""

from __future__ import annotations

from slabactors.actors import parallel, prepare
from slabactors.catalogue import KnownBug, generations
from slabactors.mm.memcontrol import mem_cgroup_create, mem_cgroup_rmdir, memcg_create_kmem_cache
from slabactors.mm.slab_common import kmem_cache_create
from slabactors.scenario import Machine, scenario

BUG = KnownBug(
    id="B27",
    title="slub: do not drop slab_mutex for sysfs_slab_add",
    fixed="421af243b1a5, 3.15",
    reported="Vladimir Davydov, 2014-02",
    where="G4-G6",
    signatures=("zombie: *", "duplicate-name: *", "bug-on: NULL dereference through memcg_caches* by *"),
    preemptions=(1, 1),
    found_in=generations("G6"),
    absent_from=generations("G0", "G5") + generations("G7", "G12") + generations("repaired"),
    not_applicable=dict.fromkeys(generations("G13"), "no memcg has caches of its own"),
    fast=True,
)


@scenario(title="a child is created twice", cpus=2, sysfs=True)
async def two_creators_of_one_child(machine: Machine) -> None:
    cpu0, cpu1 = machine.cpus
    dentry = prepare(kmem_cache_create(cpu0, "dentry", 1000))
    web = prepare(mem_cgroup_create(cpu0, "web"))
    await parallel(
        cpu0.task(memcg_create_kmem_cache(cpu0, dentry, web), "creator"),
        cpu1.task(memcg_create_kmem_cache(cpu1, dentry, web), "creator"),
    )
    await mem_cgroup_rmdir(cpu0, web)


if __name__ == "__main__":
    two_creators_of_one_child.main()
