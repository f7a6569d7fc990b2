"""The children of a root are walked that has no array for them.

"memcg: check that kmem_cache has memcg_params before accessing it" (2013-08-27): the array of a new root is left out
while kernel memory of no group is accounted; how many slots every array has is remembered all the same.

1. The only group with a limit is removed, and freed.
2. A module is loaded, and creates its cache: without an array.
3. Somebody writes to a file of the cache in sysfs.  What is written goes to the children, too: NULL is dereferenced.
"""

from __future__ import annotations

from slabactors.actors import prepare
from slabactors.catalogue import KnownBug, generations
from slabactors.kernel.workqueue import flush_workqueue
from slabactors.mm.files import slab_attr_store
from slabactors.mm.memcontrol import mem_cgroup_create, mem_cgroup_rmdir
from slabactors.mm.slab_common import kmem_cache_create
from slabactors.scenario import Machine, scenario

BUG = KnownBug(
    id="B09",
    title="memcg: check that kmem_cache has memcg_params before accessing it",
    fixed="3.11 or 3.12, and 3.8.y",
    reported="Andrey Vagin, 2013-08-27, with an oops of a kernel that has SLAB",
    where="G4, G5",
    signatures=("bug-on: NULL dereference of memcg_params by main",),
    preemptions=(0, 0),
    found_in=(*generations("G0", "G5a"), "v3.10"),
    absent_from=("v3.11", *generations("G6", "G7")),
    not_applicable=dict.fromkeys(generations("G8", "G12"), "arrays move, but not in these models")
    | dict.fromkeys(generations("G13"), "no memcg has caches of its own")
    | dict.fromkeys(generations("repaired"), "it has room for every group from the start"),
    fast=True,
)


@scenario(title="a root without an array is asked for its children", cpus=1, memcg_caches_min=4)
async def root_without_an_array(machine: Machine) -> None:
    cpu = machine.cpus[0]
    web = prepare(mem_cgroup_create(cpu, "web"))
    await mem_cgroup_rmdir(cpu, web)
    await flush_workqueue(machine.system_wq)  # which may be what frees the group
    module = await kmem_cache_create(cpu, "module", 1000)
    await slab_attr_store(cpu, module, "shrink", 1)


if __name__ == "__main__":
    root_without_an_array.main()
