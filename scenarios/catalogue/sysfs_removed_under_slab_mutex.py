"""A cache is destroyed while somebody writes to one of its files.

"slub: drop mutex before deleting sysfs entry" (folded into 3.8), after a report of Sasha Levin: since what is written
to a file of a root goes to its children, too, who writes takes ``slab_mutex``; who destroys a cache holds it, and waits
for who writes.

1. Somebody writes to a file of a cache, which cannot be removed from here on.
2. A module is unloaded: its cache is destroyed.  With ``slab_mutex`` it removes the files, and waits for the writer.
3. The writer wants ``slab_mutex``.
"""

from __future__ import annotations

from slabactors.actors import parallel, prepare
from slabactors.catalogue import KnownBug, generations
from slabactors.mm.files import slab_attr_store
from slabactors.mm.slab_common import kmem_cache_create, kmem_cache_destroy
from slabactors.scenario import Machine, scenario

BUG = KnownBug(
    id="B26",
    title="slub: drop mutex before deleting sysfs entry",
    fixed="before 3.8 was released",
    reported="Sasha Levin, 2012-11, with a report of lockdep; Glauber Costa, 2012-11-15",
    where="3.8-rc",
    signatures=("deadlock: waits for Mutex.lock, sysfs_dirent.wait_unused", "lock-order: *s_active*"),
    preemptions=(0, 2),
    found_in=generations("G0", "G3") + generations("repaired"),
    absent_from=generations("G4", "G7"),
    not_applicable=dict.fromkeys(generations("G8", "G13"), "these models do not wait for who uses sysfs"),
    fast=True,
)


@scenario(title="a cache is destroyed while one of its files is written", cpus=2, sysfs=True)
async def sysfs_removed_under_slab_mutex(machine: Machine) -> None:
    cpu0, cpu1 = machine.cpus
    module = prepare(kmem_cache_create(cpu0, "module", 1000))
    await parallel(
        cpu0.task(slab_attr_store(cpu0, module, "shrink", 1), "echo"),
        cpu1.task(kmem_cache_destroy(cpu1, module), "rmmod"),
    )


if __name__ == "__main__":
    sysfs_removed_under_slab_mutex.main()
