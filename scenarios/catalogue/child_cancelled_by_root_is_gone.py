"""A root that is destroyed cancels the work of a child, which that very work has destroyed meanwhile.

"memcg: fix root vs memcg cache destruction race" (bd67314586a3, 3.16), the first of two forms: what destroys a root and
what destroys a child have no lock in common.

1. The directory of memcg ``web`` was removed: the child of a module's cache is dead and its work queued.
2. The module is unloaded.  The destruction of its root picks the child from the array.
3. The work destroys the child.
4. The destruction of the root clears ``dead`` and cancels the work, both in freed memory.
"""

from __future__ import annotations

from slabactors.actors import prepare
from slabactors.catalogue import KnownBug, generations
from slabactors.mm.memcontrol import mem_cgroup_create, mem_cgroup_rmdir, memcg_create_kmem_cache
from slabactors.mm.slab_common import kmem_cache_create, kmem_cache_destroy
from slabactors.scenario import Machine, scenario

BUG = KnownBug(
    id="B16a",
    title="memcg: fix root vs memcg cache destruction race; the child is gone",
    fixed="bd67314586a3, 3.16",
    reported="Vladimir Davydov, 2014",
    where="G4-G7",
    signatures=(
        "use-after-free: memcg_cache_params.set_dead after free by main",
        "use-after-free: work.* after free by main",
    ),
    preemptions=(1, 1),
    found_in=generations("G3", "G7"),
    absent_from=generations("G8", "G12") + generations("repaired"),
    not_applicable=dict.fromkeys(generations("G0", "G2"), "destroying a root cancels nothing")
    | dict.fromkeys(generations("G13"), "no memcg has caches of its own"),
    twelve=True,
    fast=True,
)


@scenario(title="a root cache cancels the work of a child that is gone", cpus=1, debugobjects=False)
async def child_cancelled_by_root_is_gone(machine: Machine) -> None:
    cpu0 = machine.cpus[0]
    module = prepare(kmem_cache_create(cpu0, "module", 1000))
    web = prepare(mem_cgroup_create(cpu0, "web"))
    prepare(memcg_create_kmem_cache(cpu0, module, web))  # its child is there before the story begins
    await mem_cgroup_rmdir(cpu0, web)
    await kmem_cache_destroy(cpu0, module)


if __name__ == "__main__":
    child_cancelled_by_root_is_gone.main()
