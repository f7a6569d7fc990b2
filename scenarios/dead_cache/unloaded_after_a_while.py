"""A module that gives the works a while, and then unloads.

Nobody reported this one; it is a common mistake in a new place: sleeping where one should flush.  What is at stake
JoonSoo Kim showed on 2012-10-29, in the review of the v5 series (13/18): a work that still waits when the root is
destroyed dereferences NULL, see root-destroyed.  "It will be done by then" is the answer that this story tries.

1. A module has its own cache; a task in memcg ``web`` used it, and all objects have been freed.
2. The directory is removed: the child is dead, its work queued without delay.
3. The module sleeps for some seconds, so that the work is done, and destroys its root cache.
4. As long as time passes only when nothing else can move, the work is done.  A kworker that is preempted for as long as
   the module sleeps has not even begun: then the root goes under it.

So it fails only where a path that can move may be left waiting for at least ``seconds`` of virtual time.

Args:
    seconds: how long the module sleeps, virtual.
"""

from __future__ import annotations

from slabactors.actors import prepare, sleep
from slabactors.kernel.jiffies import HZ
from slabactors.mm.memcontrol import mem_cgroup_create, mem_cgroup_rmdir, memcg_create_kmem_cache
from slabactors.mm.slab_common import kmem_cache_alloc, kmem_cache_create, kmem_cache_destroy, kmem_cache_free
from slabactors.scenario import Machine, scenario


@scenario(title="a module sleeps until the works are surely done, and unloads", cpus=2)
async def unloaded_after_a_while(machine: Machine, *, seconds: int = 2) -> None:
    cpu0, cpu1 = machine.cpus[0], machine.cpus[-1]
    module = prepare(kmem_cache_create(cpu0, "module", 1000))
    web = prepare(mem_cgroup_create(cpu0, "web"))
    prepare(memcg_create_kmem_cache(cpu0, module, web))  # its child is there before the story begins
    obj = prepare(kmem_cache_alloc(cpu0, module, web))
    assert obj is not None
    prepare(kmem_cache_free(cpu0, obj))
    await mem_cgroup_rmdir(cpu0, web)
    # Window: "two seconds are plenty"; they are, unless the kworker does not get the CPU.
    await sleep(seconds * HZ)
    await kmem_cache_destroy(cpu1, module)


if __name__ == "__main__":
    unloaded_after_a_while.main()
