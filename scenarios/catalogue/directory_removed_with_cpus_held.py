"""A cache is destroyed while one of its files is written, and both keep CPUs from going away.

"mm/slab_common: Deleting kobject in kmem_cache_destroy() without holding slab_mutex/cpu_hotplug_lock"
(0495e337b703, 6.0).  A directory was removed without the mutex in 3.8, by a work in 4.12, and under it again
from 4.18 on.

1. A task writes to ``shrink``: the directory is not to go away meanwhile.
2. The cache is destroyed.  CPUs are kept from going away, ``slab_mutex`` is taken, and the writer waited for.
3. A CPU is about to go away: that waits for the task that destroys, and holds up who comes later.
4. The writer wants CPUs to stay.
"""

from __future__ import annotations

from slabactors.actors import parallel, prepare
from slabactors.catalogue import KnownBug, generations
from slabactors.mm.files import slab_attr_store
from slabactors.mm.slab_common import kmem_cache_create, kmem_cache_destroy
from slabactors.scenario import Machine, scenario

BUG = KnownBug(
    id="B40",
    title="mm/slab_common: Deleting kobject in kmem_cache_destroy() without holding slab_mutex/cpu_hotplug_lock",
    fixed="0495e337b703, 6.0",
    reported="Waiman Long, 2022-08-09, with a report of lockdep",
    where="4.18-5.19",
    signatures=("lock-order: *s_active*", "deadlock: *"),
    preemptions=(0, 2),
    found_in=("v4.11", "v4.18-flush-only", "v4.18-grace-period", "v4.18", *generations("G12"), "v5.9", "v5.19"),
    absent_from=(*generations("G7", "G10"), "v4.12", "v6.0-rc4", "v6.0", "v6.6"),
    not_applicable=dict.fromkeys(generations("G0", "G6") + generations("repaired"), "see the entry of 3.8's own"),
    fast=True,
)


@scenario(title="a file of a cache is written while the cache is destroyed", cpus=2, sysfs=True, hotplug=True)
async def directory_removed_with_cpus_held(machine: Machine) -> None:
    cpu0, cpu1 = machine.cpus
    module = prepare(kmem_cache_create(cpu0, "module", 1000))
    await parallel(
        cpu0.task(slab_attr_store(cpu0, module, "shrink", 1), "echo"),
        cpu1.task(kmem_cache_destroy(cpu1, module), "rmmod"),
    )


if __name__ == "__main__":
    directory_removed_with_cpus_held.main()
