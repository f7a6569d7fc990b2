"""A queued creation of a child finds that its root has been destroyed.

"mm: fix race between kmem_cache destroy, create and deactivate" (92ee383f6daa, 4.18) waits for it, among others; it had
been there since the series of 2012-10-19.  Its other half, a group that goes away, is another entry.

1. A task of memcg ``web`` has allocated from a module's cache where it may not sleep: the creation of its child is
   queued.  The object is freed.
2. The module is unloaded: its root is destroyed, which has no children.
3. The kworker creates a child of it.
"""

from __future__ import annotations

from slabactors.actors import parallel, prepare
from slabactors.catalogue import KnownBug, generations
from slabactors.kernel.cpu import Cpu
from slabactors.mm.memcontrol import MemCgroup, mem_cgroup_create
from slabactors.mm.slab_common import (
    KmemCache,
    kmem_cache_alloc,
    kmem_cache_create,
    kmem_cache_destroy,
    kmem_cache_free,
)
from slabactors.scenario import Machine, scenario

BUG = KnownBug(
    id="B17b",
    title="memcg: flush cache creation works before memcg cache destruction; of a root",
    fixed="92ee383f6daa, 4.18",
    reported="Vladimir Davydov, 2014; Shakeel Butt, 2018-05",
    where="G2-G10",
    signatures=("use-after-free: * after free by kworker*",),
    preemptions=(0, 1),
    found_in=(*generations("G0", "G10"), "v4.11", "v4.12", *generations("repaired")),
    absent_from=("v4.18-flush-only", "v4.18-grace-period", "v4.18", *generations("G12", "G13")),
    fast=True,
)


@scenario(title="a child is created when its root is gone", cpus=1)
async def request_outlives_its_root(machine: Machine) -> None:
    cpu0 = machine.cpus[0]
    module = prepare(kmem_cache_create(cpu0, "module", 1000))
    web = prepare(mem_cgroup_create(cpu0, "web"))
    # Nobody allocates any more when rmmod begins: this task has come and gone.  The creation work has not.
    await parallel(cpu0.task(use(cpu0, module, web), "task"))
    await kmem_cache_destroy(cpu0, module)


async def use(cpu: Cpu, cache: KmemCache, memcg: MemCgroup) -> None:
    """Allocate an object where nobody may sleep, and free it."""
    obj = await kmem_cache_alloc(cpu, cache, memcg, may_sleep=False)
    assert obj is not None
    await kmem_cache_free(cpu, obj)


if __name__ == "__main__":
    request_outlives_its_root.main()
