"""An allocation has found the child, and uses it when it is gone.

"memcg: fix possible use-after-free in memcg_kmem_get_cache()" (8135be5a8012, 3.19): nothing holds a child between the
lookup and the allocation, nor the group of a task that is moved.

1. A task of memcg ``web`` looks up the child of its group, which has no pages, and allocates a page for it.
2. The task is moved to another group, and the directory removed.
3. The work sees no page and destroys the child.
4. The allocation adds its page to the freed cache.
"""

from __future__ import annotations

from slabactors.actors import parallel, prepare
from slabactors.catalogue import KnownBug, generations
from slabactors.mm.memcontrol import mem_cgroup_create, mem_cgroup_rmdir, memcg_create_kmem_cache
from slabactors.mm.slab_common import kmem_cache_alloc, kmem_cache_create
from slabactors.scenario import Machine, scenario

BUG = KnownBug(
    id="B19",
    title="memcg: fix possible use-after-free in memcg_kmem_get_cache()",
    fixed="8135be5a8012, 3.19",
    reported="Vladimir Davydov, 2014-12-07",
    where="G2-G8",
    signatures=(
        "use-after-free: kmem_cache_* after free by alloc",
        "use-after-free: memcg_cache_params.* after free by alloc",
    ),
    preemptions=(1, 1),
    found_in=generations("G0", "G8x") + generations("repaired"),
    absent_from=generations("G9", "G12"),
    not_applicable=dict.fromkeys(generations("G13"), "no memcg has caches of its own"),
    twelve=True,
)


@scenario(title="an allocation from a child that is destroyed", cpus=2)
async def page_added_to_a_dead_cache(machine: Machine) -> None:
    cpu0, cpu1 = machine.cpus[0], machine.cpus[-1]
    dentry = prepare(kmem_cache_create(cpu0, "dentry", 1000))
    web = prepare(mem_cgroup_create(cpu0, "web"))
    prepare(memcg_create_kmem_cache(cpu0, dentry, web))  # its child is there before the story begins
    await parallel(
        cpu0.task(mem_cgroup_rmdir(cpu0, web), "rmdir"),
        cpu1.task(kmem_cache_alloc(cpu1, dentry, web), "alloc"),
    )


if __name__ == "__main__":
    page_added_to_a_dead_cache.main()
