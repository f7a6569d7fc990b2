"""A child gives back its memcg, and unlinks itself from it afterwards.

"memcg: avoid accessing memcg after releasing reference" (3.10): in 3.8 the last reference of a group that has been
removed is that of its last child, which puts it and then takes a mutex in it.

1. The directory of memcg ``web`` is removed; only its child keeps the group.
2. The work destroys the child, which is empty.  Its slot is cleared and the group put: that was the last reference.
3. Another kworker frees the group.
4. The work locks the group's mutex to take the child off its list: in freed memory.
"""

from __future__ import annotations

from slabactors.actors import prepare
from slabactors.catalogue import KnownBug, generations
from slabactors.mm.memcontrol import mem_cgroup_create, mem_cgroup_rmdir, memcg_create_kmem_cache
from slabactors.mm.slab_common import kmem_cache_create
from slabactors.scenario import Machine, scenario

BUG = KnownBug(
    id="B07",
    title="memcg: avoid accessing memcg after releasing reference",
    fixed="3.10",
    reported="the commit, 2013",
    where="G4",
    signatures=(
        "use-after-free: Mutex.* after free by kworker",
        "use-after-free: mem_cgroup.unlink after free by kworker",
    ),
    preemptions=(1, 1),
    found_in=generations("G4", "G5a"),
    absent_from=generations("G0", "G3") + generations("G5", "G12") + generations("repaired"),
    not_applicable=dict.fromkeys(generations("G13"), "no memcg has caches of its own"),
    fast=True,
)


@scenario(title="the last child of a removed group lets go of it and uses it", cpus=1, kworkers=2)
async def memcg_put_before_unlink(machine: Machine) -> None:
    cpu0 = machine.cpus[0]
    dentry = prepare(kmem_cache_create(cpu0, "dentry", 1000))
    web = prepare(mem_cgroup_create(cpu0, "web"))
    prepare(memcg_create_kmem_cache(cpu0, dentry, web))  # its child is there before the story begins
    await mem_cgroup_rmdir(cpu0, web)


if __name__ == "__main__":
    memcg_put_before_unlink.main()
