"""Reading a counter of a cache keeps memory from coming online, and destroying the cache waits for the reader.

"mm/slub: fix a deadlock in show_slab_objects()" (e4f8e513c3d3, 5.4): lockdep saw three locks in a circle.  A
directory is removed under ``slab_mutex`` in 4.11 and again from 4.18 on.

1. A task reads a file of the cache: its directory is not to go away meanwhile.
2. The cache is destroyed.  Memory is kept from coming online, ``slab_mutex`` is taken, and the reader waited for.
3. Memory is about to come online: that waits for the task that destroys, and holds up who comes later.
4. The reader wants memory to stay as it is.
"""

from __future__ import annotations

from slabactors.actors import parallel, prepare
from slabactors.catalogue import KnownBug, generations
from slabactors.mm.files import show_slab_objects
from slabactors.mm.slab_common import kmem_cache_create, kmem_cache_destroy
from slabactors.scenario import Machine, scenario

BUG = KnownBug(
    id="B39",
    title="mm/slub: fix a deadlock in show_slab_objects()",
    fixed="e4f8e513c3d3, 5.4",
    reported="Qian Cai, 2019-10",
    where="4.11-5.3",
    signatures=("lock-order: *mem_hotplug*", "deadlock: *"),
    preemptions=(0, 2),
    found_in=("v4.18-flush-only", "v4.18-grace-period", "v4.18", "v5.3"),
    absent_from=(
        *generations("G0", "G10"),
        *("v4.11", "v4.12", "v5.4", "v5.5", "v5.8", "v5.8-stable"),
        *generations("G13"),
        *generations("repaired"),
    ),
    fast=True,
)


@scenario(title="a file of a cache is read while the cache is destroyed", cpus=2, sysfs=True, hotplug=True)
async def reader_waits_for_memory_hotplug(machine: Machine) -> None:
    cpu0, cpu1 = machine.cpus
    module = prepare(kmem_cache_create(cpu0, "module", 1000))
    await parallel(
        cpu0.task(show_slab_objects(cpu0, module), "cat"),
        cpu1.task(kmem_cache_destroy(cpu1, module), "rmmod"),
    )


if __name__ == "__main__":
    reader_waits_for_memory_hotplug.main()
