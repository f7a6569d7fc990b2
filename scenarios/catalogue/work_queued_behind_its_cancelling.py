"""A root that is destroyed cancels the work of a child, and offline queues it again.

"memcg: fix root vs memcg cache destruction race" (bd67314586a3, 3.16), the second of two forms: cancelling a work helps
nothing while others may queue it.

1. A module is unloaded.  The destruction of its root clears ``dead`` of the child and cancels its work.
2. The directory of memcg ``web`` is removed: the child is dead again, and its work queued.
3. The destruction of the root destroys the child.
4. The work runs on freed memory.
"""

from __future__ import annotations

from slabactors.actors import parallel, prepare
from slabactors.catalogue import KnownBug, generations
from slabactors.mm.memcontrol import mem_cgroup_create, mem_cgroup_rmdir, memcg_create_kmem_cache
from slabactors.mm.slab_common import kmem_cache_create, kmem_cache_destroy
from slabactors.scenario import Machine, scenario

BUG = KnownBug(
    id="B16b",
    title="memcg: fix root vs memcg cache destruction race; the work is queued again",
    fixed="bd67314586a3, 3.16",
    reported="Vladimir Davydov, 2014",
    where="G4-G7",
    signatures=(
        "bug-on: NULL dereference through memcg_caches* by kworker",
        "use-after-free: kmem_cache.* after free by kworker",
        "use-after-free: memcg_cache_params.* after free by kworker",
        "use-after-free: work.* after free by kworker",
    ),
    preemptions=(1, 1),
    found_in=generations("G3", "G7"),
    absent_from=generations("G8", "G12") + generations("repaired"),
    not_applicable=dict.fromkeys(generations("G0", "G2"), "destroying a root cancels nothing")
    | dict.fromkeys(generations("G13"), "no memcg has caches of its own"),
    twelve=True,
    fast=True,
)


@scenario(title="offline queues a work behind its cancelling", cpus=2, debugobjects=False)
async def work_queued_behind_its_cancelling(machine: Machine) -> None:
    cpu0, cpu1 = machine.cpus[0], machine.cpus[-1]
    module = prepare(kmem_cache_create(cpu0, "module", 1000))
    web = prepare(mem_cgroup_create(cpu0, "web"))
    prepare(memcg_create_kmem_cache(cpu0, module, web))  # its child is there before the story begins
    await parallel(
        cpu0.task(mem_cgroup_rmdir(cpu0, web), "rmdir"),
        cpu1.task(kmem_cache_destroy(cpu1, module), "rmmod"),
    )


if __name__ == "__main__":
    work_queued_behind_its_cancelling.main()
