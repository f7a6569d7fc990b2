"""The objects of a dead cache are freed after the only shrink, and their slab stays on a list for ever.

"slub: make dead caches discard free slabs immediately" (d6e0b7fa1186, 4.0).  The founding patch of 2012-10-19 comes
again once a minute; what 3.8 has merged does not, and such zombies were what users of memcgs complained of for years.

1. A dentry of memcg ``web`` is in use when the directory is removed.  The work shrinks the cache: nothing is empty.
2. The dentry is freed.  The slab is empty, and stays: a node keeps some slabs whatever is in them.
3. Nobody shrinks the cache any more.
"""

from __future__ import annotations

from slabactors.actors import prepare, sleep
from slabactors.catalogue import KnownBug, generations
from slabactors.kernel.jiffies import HZ
from slabactors.mm.memcontrol import mem_cgroup_create, mem_cgroup_rmdir, memcg_create_kmem_cache
from slabactors.mm.slab_common import kmem_cache_alloc, kmem_cache_create, kmem_cache_free
from slabactors.scenario import Machine, scenario

BUG = KnownBug(
    id="B21",
    title="slub: make dead caches discard free slabs immediately",
    fixed="d6e0b7fa1186, 4.0",
    reported="Vladimir Davydov, 2015-01",
    where="G4-G9",
    signatures=("zombie: *",),
    preemptions=(0, 0),
    found_in=generations("G1x") + generations("G4", "G8") + generations("G9"),
    absent_from=generations("G0", "G1")
    + generations("G2", "G3")
    + generations("G8x")
    + generations("G10", "G12")
    + generations("repaired"),
    not_applicable=dict.fromkeys(generations("G13"), "no memcg has caches of its own"),
    twelve=True,
    fast=True,
)


@scenario(title="an object is freed after the only shrink of its dead cache", cpus=1)
async def freed_after_the_shrink(machine: Machine) -> None:
    cpu0 = machine.cpus[0]
    dentry = prepare(kmem_cache_create(cpu0, "dentry", 1000))
    web = prepare(mem_cgroup_create(cpu0, "web"))
    prepare(memcg_create_kmem_cache(cpu0, dentry, web))  # its child is there before the story begins
    obj = prepare(kmem_cache_alloc(cpu0, dentry, web))
    assert obj is not None
    await mem_cgroup_rmdir(cpu0, web)
    await sleep(HZ)
    await kmem_cache_free(cpu0, obj)


if __name__ == "__main__":
    freed_after_the_shrink.main()
