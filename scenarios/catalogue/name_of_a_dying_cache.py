"""A cache is created like one that is being destroyed, and may neither become it nor have its name.

"mm: slab: fix kmem_cache_create failed when sysfs node not destroyed" (5.4.y, 2021): the fix of a bug with names
(d38a2b7a9c93, 5.8) gives ``slab_mutex`` back while the cache is dying.

1. A module is unloaded: its cache loses its last name, is marked as dying, and its children are waited for.
2. Another module creates a cache just like it.  A dying cache is not merged with; so a new one is made, whose directory
   has the same name: it goes by size.
"""

from __future__ import annotations

from slabactors.actors import parallel, prepare
from slabactors.catalogue import KnownBug, generations
from slabactors.mm.slab_common import kmem_cache_create, kmem_cache_destroy
from slabactors.scenario import Machine, scenario

BUG = KnownBug(
    id="B34",
    title="mm: slab: fix kmem_cache_create failed when sysfs node not destroyed",
    fixed="4.19.y and 5.4.y only, 2021",
    reported="Nanyong Sun, 2021-07-20",
    where="after d38a2b7a9c93 (5.8)",
    signatures=("duplicate-name: duplicate filename in sysfs*",),
    preemptions=(0, 1),
    found_in=("v5.8",),
    absent_from=(
        *("v4.11", "v4.18-flush-only", "v4.18-grace-period", "v4.18"),
        *("v5.3", "v5.4", "v5.5", "v5.8-stable", "v5.9", "v5.19"),
    ),
    not_applicable=dict.fromkeys(generations("G0", "G9") + generations("repaired"), "no root is ever dying")
    | dict.fromkeys(
        (*generations("G10"), "v4.12", "v6.0-rc4", "v6.0", "v6.6"),
        "the name of a cache that is gone is in the way, too: it goes when slab_mutex has been given back",
    ),
    twelve=True,
    fast=True,
)


@scenario(title="a cache is created like one that is being destroyed", cpus=2, merging=True, sysfs=True)
async def name_of_a_dying_cache(machine: Machine) -> None:
    cpu0, cpu1 = machine.cpus
    module = prepare(kmem_cache_create(cpu0, "module", 1000))
    await parallel(
        cpu0.task(kmem_cache_destroy(cpu0, module), "rmmod"),
        cpu1.task(kmem_cache_create(cpu1, "other", 1000), "modprobe"),
    )


if __name__ == "__main__":
    name_of_a_dying_cache.main()
