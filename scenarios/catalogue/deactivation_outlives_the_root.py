"""A dead child is about to be shrunk by a work, and goes with its root.

"mm: fix race between kmem_cache destroy, create and deactivate" (92ee383f6daa, 4.18), there since 4.11 put a grace
period and a work between a group's removal and the shrinking of its children.

1. The directory of memcg ``web`` is removed: a callback is registered for its child.
2. A grace period later the callback queues the work that is to shrink the child.
3. The module is unloaded: its root is destroyed, and the child with it.
4. The work shrinks the child.
"""

from __future__ import annotations

from slabactors.actors import prepare
from slabactors.catalogue import KnownBug, generations
from slabactors.mm.memcontrol import mem_cgroup_create, mem_cgroup_rmdir, memcg_create_kmem_cache
from slabactors.mm.slab_common import kmem_cache_create, kmem_cache_destroy
from slabactors.scenario import Machine, scenario

BUG = KnownBug(
    id="B29",
    title="mm: fix race between kmem_cache destroy, create and deactivate",
    fixed="92ee383f6daa, 4.18",
    reported="Shakeel Butt, 2018-05",
    where="G11",
    signatures=(
        "use-after-free: * after free by kworker:memcg_kmem_cache",
        "use-after-free: rcu_head_or_work.* after free by RCU callback",
    ),
    preemptions=(0, 1),
    found_in=("v4.11", "v4.12"),
    absent_from=("v4.18", *generations("G12", "G13")),
    not_applicable=dict.fromkeys(generations("G0", "G10") + generations("repaired"), "no child has a callback")
    | dict.fromkeys(("v4.18-flush-only", "v4.18-grace-period"), "what is left of it is another entry"),
    twelve=True,
    fast=True,
)


@scenario(title="a root is destroyed when a child of it is to be shrunk", cpus=1)
async def deactivation_outlives_the_root(machine: Machine) -> None:
    cpu0 = machine.cpus[0]
    module = prepare(kmem_cache_create(cpu0, "module", 1000))
    web = prepare(mem_cgroup_create(cpu0, "web"))
    prepare(memcg_create_kmem_cache(cpu0, module, web))  # its child is there before the story begins
    await mem_cgroup_rmdir(cpu0, web)
    await kmem_cache_destroy(cpu0, module)


if __name__ == "__main__":
    deactivation_outlives_the_root.main()
