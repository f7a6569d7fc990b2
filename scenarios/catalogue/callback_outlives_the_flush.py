"""Whoever destroys a root waits for the works of its children, and a callback has yet to queue one.

The review of "mm: fix race between kmem_cache destroy, create and deactivate" (92ee383f6daa, 4.18): its first form
flushes the workqueue.  Waiting for a grace period first does not help: that one has passed does not mean that the
callbacks have run which waited for it.  ``rcu_barrier()`` means that.

1. The directory of memcg ``web`` is removed: a callback is registered for its child.
2. The module is unloaded: the root is marked as dying, and the works are waited for.  There are none.
3. The callback queues its work, or has not begun when the child is freed with its root.
"""

from __future__ import annotations

from slabactors.actors import prepare
from slabactors.catalogue import KnownBug, generations
from slabactors.mm.memcontrol import mem_cgroup_create, mem_cgroup_rmdir, memcg_create_kmem_cache
from slabactors.mm.slab_common import kmem_cache_create, kmem_cache_destroy
from slabactors.scenario import Machine, scenario

BUG = KnownBug(
    id="B30",
    title="grace period used where a callback barrier is needed",
    fixed="92ee383f6daa, 4.18",
    reported="Vladimir Davydov, 2018-05, in the review of the fix",
    where="G11",
    signatures=(
        "use-after-free: * after free by kworker:memcg_kmem_cache",
        "use-after-free: rcu_head_or_work.* after free by RCU callback",
    ),
    preemptions=(0, 1),
    found_in=("v4.18-flush-only", "v4.18-grace-period"),
    absent_from=("v4.18", *generations("G12", "G13")),
    not_applicable=dict.fromkeys(generations("G0", "G10") + generations("repaired"), "no child has a callback")
    | dict.fromkeys(("v4.11", "v4.12"), "nobody waits for anything: another entry"),
    twelve=True,
    fast=True,
)


@scenario(title="a root is destroyed when the works of its children are done, and a callback is not", cpus=1)
async def callback_outlives_the_flush(machine: Machine) -> None:
    cpu0 = machine.cpus[0]
    module = prepare(kmem_cache_create(cpu0, "module", 1000))
    web = prepare(mem_cgroup_create(cpu0, "web"))
    prepare(memcg_create_kmem_cache(cpu0, module, web))  # its child is there before the story begins
    await mem_cgroup_rmdir(cpu0, web)
    await kmem_cache_destroy(cpu0, module)


if __name__ == "__main__":
    callback_outlives_the_flush.main()
