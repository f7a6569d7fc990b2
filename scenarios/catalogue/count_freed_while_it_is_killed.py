"""A root is destroyed while the reference count of a child is being switched to atomic mode.

"mm: memcg/slab: wait for !root kmem_cache refcnt killing on root kmem_cache destruction" (a264df74df38, 5.5): killing a
reference count takes a grace period of its own.

1. The directory of memcg ``web`` is removed: a grace period later a work shrinks its child, and kills the count.
2. The module is unloaded: callbacks are waited for, then works.  All are done.
3. The root is destroyed, and the child with it: its count is freed.
4. The callback switches the count to atomic mode.
"""

from __future__ import annotations

from slabactors.actors import prepare
from slabactors.catalogue import KnownBug, generations
from slabactors.mm.memcontrol import mem_cgroup_create, mem_cgroup_rmdir, memcg_create_kmem_cache
from slabactors.mm.slab_common import kmem_cache_create, kmem_cache_destroy
from slabactors.scenario import Machine, scenario

BUG = KnownBug(
    id="B31",
    title="mm: memcg/slab: wait for !root kmem_cache refcnt killing on root kmem_cache destruction",
    fixed="a264df74df38, 5.5",
    reported="Roman Gushchin, 2019-11",
    where="G12",
    signatures=(
        "use-after-free: percpu_ref.* after free by RCU callback",
        "use-after-free: rcu_head.unregister after free by RCU callback",
        "use-after-free: switch of a percpu ref after its exit by RCU callback",
        "use-after-free: kmem_cache.is_dying after free by RCU callback",
    ),
    preemptions=(0, 1),
    found_in=("v5.3", "v5.4"),
    absent_from=("v5.5", "v5.8", "v5.8-stable", *generations("G13")),
    not_applicable=dict.fromkeys(generations("G0", "G11") + generations("repaired"), "no child has a count"),
    twelve=True,
    fast=True,
)


@scenario(title="a root is destroyed while the count of a child is being killed", cpus=1)
async def count_freed_while_it_is_killed(machine: Machine) -> None:
    cpu0 = machine.cpus[0]
    module = prepare(kmem_cache_create(cpu0, "module", 1000))
    web = prepare(mem_cgroup_create(cpu0, "web"))
    prepare(memcg_create_kmem_cache(cpu0, module, web))  # its child is there before the story begins
    await mem_cgroup_rmdir(cpu0, web)
    await kmem_cache_destroy(cpu0, module)


if __name__ == "__main__":
    count_freed_while_it_is_killed.main()
