"""A root cannot be destroyed, and its slots point to children that were.

"mm/slab_common.c: clear pointers to per memcg caches on destroy" (4.4), there since 4.0 destroys children whose
slots are filled: a busy root stays, and may get a name again.

1. A module is unloaded and has forgotten an object.  The child that memcg ``web`` has of its cache is destroyed; the
   cache itself is busy, and stays.
2. A task of the group allocates from the cache, which has another name by now: it finds the freed child.
"""

from __future__ import annotations

from slabactors.actors import prepare
from slabactors.catalogue import KnownBug, generations
from slabactors.mm.memcontrol import mem_cgroup_create, memcg_create_kmem_cache
from slabactors.mm.slab_common import kmem_cache_alloc, kmem_cache_create, try_destroy
from slabactors.scenario import Machine, scenario

BUG = KnownBug(
    id="B23",
    title="mm/slab_common.c: clear pointers to per memcg caches on destroy",
    fixed="4.4",
    reported="Vladimir Davydov, 2015",
    where="G10 (4.0-4.3)",
    signatures=("use-after-free: * after free by *", "property: slot of a freed child*"),
    preemptions=(0, 0),
    found_in=("v4.0-early-id", "v4.0"),
    absent_from=(
        *generations("G0", "G9"),
        "v4.4",
        *generations("G11", "G12"),
        *("v5.9", "v5.19", "v6.6"),
        *generations("repaired"),
    ),
    not_applicable=dict.fromkeys(("v6.0-rc4", "v6.0"), "the busy root itself is released: another entry"),
    fast=True,
)


@scenario(title="a busy root is destroyed, and used", cpus=1, merging=True)
async def slot_of_a_child_of_a_busy_root(machine: Machine) -> None:
    cpu0 = machine.cpus[0]
    module = prepare(kmem_cache_create(cpu0, "module", 1000))
    web = prepare(mem_cgroup_create(cpu0, "web"))
    prepare(memcg_create_kmem_cache(cpu0, module, web))  # its child is there before the story begins
    assert prepare(kmem_cache_alloc(cpu0, module)) is not None
    await try_destroy(cpu0, module)  # which complains; what matters is what is left
    other = await kmem_cache_create(cpu0, "other", 1000)
    await kmem_cache_alloc(cpu0, other, web)


if __name__ == "__main__":
    slot_of_a_child_of_a_busy_root.main()
