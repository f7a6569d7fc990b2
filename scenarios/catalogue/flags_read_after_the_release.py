"""Whether a cache is for the RCU work is read when that work may have released it.

"mm/slab_common: fix possible double free of kmem_cache" (d71608a87736, 6.0-rc7), in 6.0 since rc4 only.

1. A module is unloaded.  Its cache is one whose slabs go back by RCU callbacks: it is left to a work, and the mutex is
   given back.
2. The work waits for the callbacks and releases the cache.
3. The task reads the flags of the cache, to see whether it is to release it itself.
"""

from __future__ import annotations

from slabactors.actors import prepare
from slabactors.catalogue import KnownBug, generations
from slabactors.mm.slab_common import kmem_cache_create, kmem_cache_destroy
from slabactors.scenario import Machine, scenario

BUG = KnownBug(
    id="B36",
    title="mm/slab_common: fix possible double free of kmem_cache",
    fixed="d71608a87736, 6.0",
    reported="Feng Tang, 2022-09",
    where="after 0495e337b703 (6.0-rc4)",
    signatures=("use-after-free: kmem_cache.typesafe_by_rcu after free by *",),
    preemptions=(1, 1),
    found_in=("v6.0-rc4",),
    absent_from=(*generations("G0", "G12"), "v5.9", "v5.19", "v6.0", "v6.6", *generations("repaired")),
    fast=True,
)


@scenario(title="an RCU cache is destroyed", cpus=1)
async def flags_read_after_the_release(machine: Machine) -> None:
    cpu0 = machine.cpus[0]
    module = prepare(kmem_cache_create(cpu0, "module", 1000, rcu=True))
    await kmem_cache_destroy(cpu0, module)


if __name__ == "__main__":
    flags_read_after_the_release.main()
