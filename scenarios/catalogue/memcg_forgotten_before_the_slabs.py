"""A child forgets its group when it is shut down, and its last slabs are given back by callbacks.

"mm: memcg/slab: fix panic in __free_slab() caused by premature memcg pointer release" (b749ecfaf6c5, 5.4).

1. A module has a cache whose slabs go back a grace period after they are empty.  A task of memcg ``web`` has used it.
2. The module is unloaded: the child is shut down, and the callback for its slab registered.  The child's pointer to its
   group is cleared.
3. The callback uncharges the slab from NULL.
"""

from __future__ import annotations

from slabactors.actors import prepare
from slabactors.catalogue import KnownBug, generations
from slabactors.mm.memcontrol import mem_cgroup_create, memcg_create_kmem_cache
from slabactors.mm.slab_common import kmem_cache_alloc, kmem_cache_create, kmem_cache_destroy, kmem_cache_free
from slabactors.scenario import Machine, scenario

BUG = KnownBug(
    id="B32",
    title="mm: memcg/slab: fix panic in __free_slab() caused by premature memcg pointer release",
    fixed="b749ecfaf6c5, 5.4",
    reported="Andrei Vagin, 2019",
    where="G12",
    signatures=("bug-on: NULL dereference of the memcg of a slab*",),
    preemptions=(0, 1),
    found_in=("v5.3",),
    absent_from=("v5.4", "v5.5", "v5.8", "v5.8-stable", *generations("G13")),
    not_applicable=dict.fromkeys(generations("G0", "G11") + generations("repaired"), "a child has one group for good"),
    fast=True,
)


@scenario(title="a slab is uncharged when its cache has forgotten its group", cpus=1)
async def memcg_forgotten_before_the_slabs(machine: Machine) -> None:
    cpu0 = machine.cpus[0]
    module = prepare(kmem_cache_create(cpu0, "module", 1000, rcu=True))
    web = prepare(mem_cgroup_create(cpu0, "web"))
    prepare(memcg_create_kmem_cache(cpu0, module, web))  # its child is there before the story begins
    obj = prepare(kmem_cache_alloc(cpu0, module, web))
    assert obj is not None
    prepare(kmem_cache_free(cpu0, obj))
    await kmem_cache_destroy(cpu0, module)


if __name__ == "__main__":
    memcg_forgotten_before_the_slabs.main()
