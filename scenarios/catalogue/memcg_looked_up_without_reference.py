"""A task finds its memcg, which is gone when it asks for a reference.

"memcg: take reference before releasing rcu_read_lock" (3.10): until then a task read its group under RCU, left the read
section, and used what it had read, for its id, its flags, and to take a reference that is needed to ask for a child.

1. A task of memcg ``web`` wants to allocate where it may not sleep.  It has looked its group up; there is no child.
2. The task is moved to another group, and the directory removed: nobody holds the group, and it is freed.
3. The task asks the group for a reference, for the work that is to create the child: in freed memory.

The lookup itself is no step: the story begins when it is done.
"""

from __future__ import annotations

from slabactors.actors import parallel, prepare
from slabactors.catalogue import KnownBug, generations
from slabactors.mm.memcontrol import mem_cgroup_create, mem_cgroup_rmdir
from slabactors.mm.slab_common import kmem_cache_alloc, kmem_cache_create
from slabactors.scenario import Machine, scenario

BUG = KnownBug(
    id="B08",
    title="memcg: take reference before releasing rcu_read_lock",
    fixed="3.10",
    reported="the commit, 2013",
    where="G2, G4",
    signatures=("use-after-free: mem_cgroup.* after free by alloc",),
    preemptions=(1, 1),
    found_in=generations("G0", "G5a"),
    not_applicable=dict.fromkeys(
        generations("G5", "G12") + generations("repaired"),
        "the read section in which the group is looked up is not modelled, and it is what keeps the group",
    )
    | dict.fromkeys(generations("G13"), "no memcg has caches of its own"),
    fast=True,
)


@scenario(title="a task asks its group for a reference when the group is gone", cpus=2)
async def memcg_looked_up_without_reference(machine: Machine) -> None:
    cpu0, cpu1 = machine.cpus[0], machine.cpus[-1]
    dentry = prepare(kmem_cache_create(cpu0, "dentry", 1000))
    web = prepare(mem_cgroup_create(cpu0, "web"))
    await parallel(
        cpu0.task(mem_cgroup_rmdir(cpu0, web), "rmdir"),
        cpu1.task(kmem_cache_alloc(cpu1, dentry, web, may_sleep=False), "alloc"),
    )


if __name__ == "__main__":
    memcg_looked_up_without_reference.main()
