"""A new group has the id of one that is gone, and whose caches, named by it, are not gone yet.

"cgroup: release css->id after css_free" (4.0), which destroying the caches of a group when it is freed needs.

1. The last object of memcg ``web``, which was removed, is freed: with the last reference goes the id.  A kworker is to
   free the group, and its caches.
2. Somebody makes a group ``web`` again, which gets that id, and uses the cache: the child's name is taken.
"""

from __future__ import annotations

from slabactors.actors import prepare
from slabactors.catalogue import KnownBug, generations
from slabactors.mm.memcontrol import mem_cgroup_create, mem_cgroup_rmdir, memcg_create_kmem_cache
from slabactors.mm.slab_common import kmem_cache_create
from slabactors.scenario import Machine, scenario

BUG = KnownBug(
    id="B22",
    title="cgroup: release css->id after css_free",
    fixed="4.0",
    reported="Vladimir Davydov, 2015-01",
    where="needed by G10",
    signatures=("duplicate-name: duplicate filename in sysfs*",),
    preemptions=(0, 1),
    found_in=("v4.0-early-id",),
    absent_from=("v4.0", "v4.4", *generations("G11", "G13")),
    not_applicable=dict.fromkeys(
        generations("G0", "G9") + generations("repaired"), "children are named by the slot, which outlives them"
    ),
    fast=True,
)


@scenario(title="a group is made again", cpus=1, sysfs=True)
async def id_given_back_too_early(machine: Machine) -> None:
    cpu0 = machine.cpus[0]
    dentry = prepare(kmem_cache_create(cpu0, "dentry", 1000))
    web = prepare(mem_cgroup_create(cpu0, "web"))
    prepare(memcg_create_kmem_cache(cpu0, dentry, web))  # its child is there before the story begins
    await mem_cgroup_rmdir(cpu0, web)
    again = await mem_cgroup_create(cpu0, "web")
    await memcg_create_kmem_cache(cpu0, dentry, again)


if __name__ == "__main__":
    id_given_back_too_early.main()
