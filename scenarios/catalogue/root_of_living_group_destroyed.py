"""Destroying a root cancels the work of a child whose group is alive, which nobody has ever initialised.

"memcg: initialize kmem-cache destroying work earlier" (15cf17d26e08, 3.9): in 3.8 the work of a child is initialised
when its group goes offline.  The report came with a module that creates a cache, uses it in a group and destroys it.

1. A module's cache has a child, of memcg ``web``, which is not removed.
2. The module is unloaded.  Its root cache is destroyed, and before each child is, its work is cancelled.
"""

from __future__ import annotations

from slabactors.actors import prepare
from slabactors.catalogue import KnownBug, generations
from slabactors.mm.memcontrol import mem_cgroup_create, memcg_create_kmem_cache
from slabactors.mm.slab_common import kmem_cache_create, kmem_cache_destroy
from slabactors.scenario import Machine, scenario

BUG = KnownBug(
    id="B05",
    title="memcg: initialize kmem-cache destroying work earlier",
    fixed="15cf17d26e08, 3.9",
    reported="the commit, 2013",
    where="G4",
    signatures=("uninitialised-work: cancelling of an uninitialised work item by main",),
    preemptions=(0, 0),
    found_in=generations("G3", "G4"),
    absent_from=generations("G0", "G2") + generations("G5a", "G12") + generations("repaired"),
    not_applicable=dict.fromkeys(generations("G13"), "no memcg has caches of its own"),
    fast=True,
)


@scenario(title="a root cache is destroyed whose child belongs to a living group", cpus=1)
async def root_of_living_group_destroyed(machine: Machine) -> None:
    cpu0 = machine.cpus[0]
    module = prepare(kmem_cache_create(cpu0, "module", 1000))
    web = prepare(mem_cgroup_create(cpu0, "web"))
    prepare(memcg_create_kmem_cache(cpu0, module, web))
    await kmem_cache_destroy(cpu0, module)


if __name__ == "__main__":
    root_of_living_group_destroyed.main()
