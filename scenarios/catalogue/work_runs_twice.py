"""The destroy work of a cache is queued again while it runs, and runs again over what it has freed.

The founding patch, v5 14/18 of 2012-10-19, tests whether the work is pending, and says in a comment that it would be
executed twice otherwise, "with arbitrary errors on the second run".  But an item is not pending while it runs: the test
says so and the queueing goes through.  It is gone with the asynchronous path, in 3.16 (1e32e77f95d6).

1. The directory of memcg ``web`` is removed, and the work of its cache runs.
2. Another CPU frees the last object.  ``nr_pages`` is zero, the cache is dead, and no work is pending.
3. That CPU is preempted.  The work sees zero and begins to destroy the cache.
4. The CPU queues the work, which is still allocated.  It is freed while it is queued, and runs a second time.
"""

from __future__ import annotations

from slabactors.actors import parallel, prepare
from slabactors.catalogue import KnownBug, generations
from slabactors.mm.memcontrol import mem_cgroup_create, mem_cgroup_rmdir, memcg_create_kmem_cache
from slabactors.mm.slab_common import kmem_cache_alloc, kmem_cache_create, kmem_cache_free, kmem_cache_shrink
from slabactors.scenario import Machine, scenario

BUG = KnownBug(
    id="B04",
    title="second execution of the destroy work",
    fixed="1e32e77f95d6, 3.16",
    reported="Glauber Costa, in the founding patch, 2012-10-19",
    where="G1-G7",
    signatures=("use-after-free: work.* after free by kworker",),
    preemptions=(1, 1),
    found_in=generations("G0", "G7"),
    absent_from=generations("G8", "G12") + generations("repaired"),
    not_applicable=dict.fromkeys(generations("G13"), "no memcg has caches of its own"),
    twelve=True,
)


@scenario(title="the work of a cache is queued while it destroys it", cpus=2, debugobjects=False)
async def work_runs_twice(machine: Machine) -> None:
    cpu0, cpu1 = machine.cpus[0], machine.cpus[-1]
    dentry = prepare(kmem_cache_create(cpu0, "dentry", 1000, min_partial=0))
    web = prepare(mem_cgroup_create(cpu0, "web"))
    prepare(memcg_create_kmem_cache(cpu0, dentry, web))  # its child is there before the story begins
    obj = prepare(kmem_cache_alloc(cpu0, dentry, web))
    assert obj is not None
    prepare(kmem_cache_shrink(cpu0, obj.slab.cache))  # puts the slab on the node's list, where a free can empty it
    await parallel(
        cpu0.task(mem_cgroup_rmdir(cpu0, web), "rmdir"),
        cpu1.task(kmem_cache_free(cpu1, obj), "free"),
    )


if __name__ == "__main__":
    work_runs_twice.main()
