"""There is no memory for a request to create a child, and the group of the task stays for ever.

"mm/memcontrol.c: add missed css_put()" (5.8), missing since 5.3: the reference that a request is to have is taken
before there is a request.

1. A task of memcg ``web`` finds no child of the cache.  It takes a reference of its group, and no memory can be had for
   the request.
2. The directory is removed.  One reference is left, which nobody has.
"""

from __future__ import annotations

from slabactors.actors import prepare
from slabactors.catalogue import KnownBug, generations
from slabactors.mm.memcontrol import mem_cgroup_create, mem_cgroup_rmdir
from slabactors.mm.slab_common import kmem_cache_alloc, kmem_cache_create
from slabactors.scenario import Machine, scenario

BUG = KnownBug(
    id="B35",
    title="mm/memcontrol.c: add missed css_put()",
    fixed="5.8",
    reported="Muchun Song, 2020-07",
    where="G12",
    signatures=("accounting: memcg references*",),
    preemptions=(0, 0),
    found_in=("v5.3", "v5.4", "v5.5"),
    absent_from=(*generations("G0", "G11"), "v5.8", "v5.8-stable", *generations("G13"), *generations("repaired")),
    fast=True,
)


@scenario(title="there is no memory for a request to create a child", cpus=1, failslab=True)
async def request_without_memory(machine: Machine) -> None:
    cpu0 = machine.cpus[0]
    dentry = prepare(kmem_cache_create(cpu0, "dentry", 1000))
    web = prepare(mem_cgroup_create(cpu0, "web"))
    await kmem_cache_alloc(cpu0, dentry, web, may_sleep=False)
    await mem_cgroup_rmdir(cpu0, web)


if __name__ == "__main__":
    request_without_memory.main()
