"""A cache is destroyed and created again at once, and its name has not been removed yet.

"slub: fix failure when we delete and create a slab cache" (d50d82faa0c9, 4.18), since 4.12 leaves removing
directories to a work.

1. A module is unloaded: its cache is destroyed, and the removal of its directory is queued.
2. The module is loaded again.  The directory of its cache cannot be made: there is one of that name.
"""

from __future__ import annotations

from slabactors.actors import prepare
from slabactors.catalogue import KnownBug, generations
from slabactors.mm.slab_common import kmem_cache_create, kmem_cache_destroy
from slabactors.scenario import Machine, scenario

BUG = KnownBug(
    id="B38",
    title="slub: fix failure when we delete and create a slab cache",
    fixed="d50d82faa0c9, 4.18",
    reported="Mikulas Patocka, 2018-06",
    where="G11 (4.12 to 4.17)",
    signatures=("duplicate-name: duplicate filename in sysfs*",),
    preemptions=(0, 1),
    found_in=("v4.12",),
    absent_from=(
        *generations("G0", "G10"),
        *("v4.11", "v4.18-flush-only", "v4.18-grace-period", "v4.18"),
        *generations("G12", "G13"),
        *generations("repaired"),
    ),
    fast=True,
)


@scenario(title="a cache is destroyed and created again", cpus=1, sysfs=True)
async def name_removed_by_a_work(machine: Machine) -> None:
    cpu0 = machine.cpus[0]
    module = prepare(kmem_cache_create(cpu0, "module", 1000))
    await kmem_cache_destroy(cpu0, module)
    await kmem_cache_create(cpu0, "module", 1000)


if __name__ == "__main__":
    name_removed_by_a_work.main()
