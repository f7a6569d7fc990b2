"""A queued creation makes a child of a memcg that is gone, and nobody will ever mark it dead.

"memcg: flush cache creation works before memcg cache destruction" named it; for offline 4.0 has answered it
(2a4db7eb9391).  It had been there since the series of 2012-10-19.

1. A task of memcg ``web`` allocated where it may not sleep: the creation of its child is queued.
2. The directory is removed: every child on the group's list is marked dead.  There is none.
3. The kworker creates the child.
"""

from __future__ import annotations

from slabactors.actors import parallel, prepare
from slabactors.catalogue import KnownBug, generations
from slabactors.mm.memcontrol import mem_cgroup_create, mem_cgroup_rmdir
from slabactors.mm.slab_common import kmem_cache_alloc, kmem_cache_create
from slabactors.scenario import Machine, scenario

BUG = KnownBug(
    id="B17a",
    title="memcg: flush cache creation works before memcg cache destruction; at offline",
    fixed="2a4db7eb9391, 4.0",
    reported="Vladimir Davydov, 2014",
    where="G2-G8",
    signatures=("zombie: *",),
    preemptions=(0, 1),
    found_in=generations("G0", "G8x"),
    absent_from=generations("G9", "G12") + generations("repaired"),
    not_applicable=dict.fromkeys(generations("G13"), "no memcg has caches of its own"),
    twelve=True,
    fast=True,
)


@scenario(title="a child is created when its group is gone", cpus=1)
async def child_created_after_offline(machine: Machine) -> None:
    cpu0 = machine.cpus[0]
    dentry = prepare(kmem_cache_create(cpu0, "dentry", 1000))
    web = prepare(mem_cgroup_create(cpu0, "web"))
    # A group with tasks cannot be removed: this one has come and gone when rmdir begins.  Its creation work has not.
    await parallel(cpu0.task(kmem_cache_alloc(cpu0, dentry, web, may_sleep=False), "task"))
    await mem_cgroup_rmdir(cpu0, web)


if __name__ == "__main__":
    child_created_after_offline.main()
