"""A cache that still has an object is released all the same, and is on the list of caches.

"mm/slab_common: fix slab_caches list corruption after kmem_cache_destroy()" (46a9ea668190, 6.6), there since 6.0-rc4.

1. A module is unloaded and has forgotten an object.  Its cache cannot be shut down; the kernel warns.
2. What came of that is not looked at: the cache is released.  It is on the list of caches, and has a slab.
"""

from __future__ import annotations

from slabactors.actors import prepare
from slabactors.catalogue import KnownBug, generations
from slabactors.mm.slab_common import kmem_cache_alloc, kmem_cache_create, try_destroy
from slabactors.scenario import Machine, scenario

BUG = KnownBug(
    id="B37",
    title="mm/slab_common: fix slab_caches list corruption after kmem_cache_destroy()",
    fixed="46a9ea668190, 6.6",
    reported="Rafael Aquini, 2023-09-08",
    where="after 0495e337b703 (6.0-rc4)",
    signatures=("objects-remaining: pages of a freed cache*", "property: freed cache on slab_caches*"),
    preemptions=(0, 0),
    found_in=("v6.0-rc4", "v6.0"),
    absent_from=(*generations("G0", "G12"), "v5.9", "v5.19", "v6.6", *generations("repaired")),
    fast=True,
)


@scenario(title="a cache is destroyed with an object in it", cpus=1)
async def busy_cache_released(machine: Machine) -> None:
    cpu0 = machine.cpus[0]
    module = prepare(kmem_cache_create(cpu0, "module", 1000))
    assert prepare(kmem_cache_alloc(cpu0, module)) is not None
    await try_destroy(cpu0, module)  # which complains; what matters is what is left


if __name__ == "__main__":
    busy_cache_released.main()
