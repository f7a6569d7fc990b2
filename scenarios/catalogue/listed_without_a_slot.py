"""A child is on the list of its memcg, and its slot is not filled yet, or not any more.

"memcg: fix possible NULL deref while traversing memcg_slab_caches list" (96403da24444, 3.14): who walks the list finds
each cache through the slot in its root's array, and dereferences NULL.

1. A task of memcg ``web`` allocated where it may not sleep: a kworker is creating its child.
2. The kworker has put the child on the group's list, and is preempted before it fills the slot.
3. The directory is removed.  That walks the list.
"""

from __future__ import annotations

from slabactors.actors import parallel, prepare
from slabactors.catalogue import KnownBug, generations
from slabactors.mm.memcontrol import mem_cgroup_create, mem_cgroup_rmdir
from slabactors.mm.slab_common import kmem_cache_alloc, kmem_cache_create
from slabactors.scenario import Machine, scenario

BUG = KnownBug(
    id="B10",
    title="memcg: fix possible NULL deref while traversing memcg_slab_caches list",
    fixed="96403da24444, 3.14",
    reported="Vladimir Davydov, 2014-01",
    where="G4, G5",
    signatures=("bug-on: NULL dereference through memcg_caches* by main",),
    preemptions=(1, 1),
    found_in=generations("G4", "G5"),
    absent_from=generations("G0", "G3") + generations("G6", "G12") + generations("repaired"),
    not_applicable=dict.fromkeys(generations("G13"), "no memcg has caches of its own"),
    twelve=True,
    fast=True,
)


@scenario(title="a list is walked whose newest entry has no slot yet", cpus=1)
async def listed_without_a_slot(machine: Machine) -> None:
    cpu0 = machine.cpus[0]
    dentry = prepare(kmem_cache_create(cpu0, "dentry", 1000))
    web = prepare(mem_cgroup_create(cpu0, "web"))
    # A group with tasks cannot be removed: this one has come and gone when rmdir begins.  Its creation work has not.
    await parallel(cpu0.task(kmem_cache_alloc(cpu0, dentry, web, may_sleep=False), "task"))
    await mem_cgroup_rmdir(cpu0, web)


if __name__ == "__main__":
    listed_without_a_slot.main()
