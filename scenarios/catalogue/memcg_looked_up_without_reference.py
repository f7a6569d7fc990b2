"""A task finds its memcg, which is gone when it asks for a reference.

"memcg: take reference before releasing rcu_read_lock" (3.10): until then a task read its group under RCU, left the read
section, and used what it had read, for its id, its flags, and to take a reference that is needed to ask for a child.

1. A task of memcg ``web`` wants to allocate where it may not sleep.  It looks its group up, and leaves the section.
2. The task is moved to the root group, and the directory removed: nobody holds the group, and it is freed.
3. The task asks the group for a reference, for the work that is to create the child: in freed memory.
"""

from __future__ import annotations

from slabactors.actors import parallel, prepare
from slabactors.catalogue import KnownBug, generations
from slabactors.kernel.cpu import Cpu
from slabactors.mm.memcontrol import MemCgroup, Task, mem_cgroup_create, mem_cgroup_rmdir
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
    absent_from=generations("G5", "G7"),
    not_applicable=dict.fromkeys(generations("G8", "G12"), "these models have no task that is moved")
    | dict.fromkeys(generations("repaired"), "it creates children in place, which no read section may do")
    | dict.fromkeys(generations("G13"), "no memcg has caches of its own"),
    fast=True,
)


@scenario(title="a task asks its group for a reference when the group is gone", cpus=2)
async def memcg_looked_up_without_reference(machine: Machine) -> None:
    cpu0, cpu1 = machine.cpus[0], machine.cpus[-1]
    dentry = prepare(kmem_cache_create(cpu0, "dentry", 1000))
    web = prepare(mem_cgroup_create(cpu0, "web"))
    task = machine.new_task("task", web)
    await parallel(
        cpu0.task(moved_and_removed(cpu0, task, web), "rmdir"),
        cpu1.task(kmem_cache_alloc(cpu1, dentry, task, may_sleep=False), "alloc"),
    )


async def moved_and_removed(cpu: Cpu, task: Task, memcg: MemCgroup) -> None:
    await task.attach(None)
    await mem_cgroup_rmdir(cpu, memcg)


if __name__ == "__main__":
    memcg_looked_up_without_reference.main()
