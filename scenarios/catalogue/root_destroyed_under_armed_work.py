"""A root cache is destroyed under a child whose work waits for its next try.

JoonSoo Kim, 2012-10-29, in the review of the v5 series (13/18): destroying a root destroys its children, and nothing
cancels their works.  The sixth posting cancelled them (24/29); see the two forms of B16 for why that was not enough.

1. An object of a module's cache is in use when the directory of memcg ``web`` is removed.  The work cannot destroy the
   child, and arms its timer: in a minute it comes again.
2. The object is freed.  Its slab stays with the CPU, so nobody looks at the child.
3. The module is unloaded: its root cache is destroyed, and the child first, with its armed timer.
"""

from __future__ import annotations

from slabactors.actors import prepare, sleep
from slabactors.catalogue import KnownBug, generations
from slabactors.kernel.jiffies import HZ
from slabactors.mm.memcontrol import mem_cgroup_create, mem_cgroup_rmdir, memcg_create_kmem_cache
from slabactors.mm.slab_common import kmem_cache_alloc, kmem_cache_create, kmem_cache_destroy, kmem_cache_free
from slabactors.scenario import Machine, scenario

BUG = KnownBug(
    id="B02",
    title="root destroyed against a pending delayed work",
    fixed="v6 24/29, before it was merged",
    reported="JoonSoo Kim, 2012-10-29",
    where="G2",
    signatures=("freed-active-work: free of an active work item by main",),
    preemptions=(0, 0),
    found_in=generations("G0") + generations("G1", "G2"),
    absent_from=generations("G0x") + generations("G3", "G8") + generations("G9", "G12") + generations("repaired"),
    not_applicable=dict.fromkeys(generations("G8x"), "how it destroyed a root is not known")
    | dict.fromkeys(generations("G13"), "no memcg has caches of its own"),
    twelve=True,
)


@scenario(title="a root cache is destroyed while the work of its child waits for the next minute", cpus=1)
async def root_destroyed_under_armed_work(machine: Machine) -> None:
    cpu0 = machine.cpus[0]
    module = prepare(kmem_cache_create(cpu0, "module", 1000))
    web = prepare(mem_cgroup_create(cpu0, "web"))
    prepare(memcg_create_kmem_cache(cpu0, module, web))  # its child is there before the story begins
    obj = prepare(kmem_cache_alloc(cpu0, module, web))
    assert obj is not None
    await mem_cgroup_rmdir(cpu0, web)
    await sleep(HZ)
    # Window: the work has run and will again, unless the kworker did not get the CPU all that second.
    await kmem_cache_free(cpu0, obj)
    await kmem_cache_destroy(cpu0, module)


if __name__ == "__main__":
    root_destroyed_under_armed_work.main()
