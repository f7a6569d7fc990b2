"""A queued creation of a child cache that races the removal of its memcg.

"memcg: flush cache creation works before memcg cache destruction" (2a4db7eb9391, 4.0, for offline) named it; it had
been there since the series of 2012-10-19.

1. A task in memcg ``web`` allocates where it may not sleep.  There is no child cache yet: a kworker is asked to create
   one, and the object comes from the root cache.
2. The directory is removed: every child cache on the memcg's list is marked dead.
3. The kworker creates the child, after that.  Nobody will ever mark it dead: a cache without objects or pages that
   stays for ever and pins its memcg.

Args:
    tasks: how many tasks ask for an object.
"""

from __future__ import annotations

from slabactors.actors import parallel, prepare
from slabactors.kernel.cpu import Cpu
from slabactors.mm.memcontrol import MemCgroup, mem_cgroup_create, mem_cgroup_rmdir
from slabactors.mm.slab_common import KmemCache, kmem_cache_alloc, kmem_cache_create, kmem_cache_free
from slabactors.scenario import Machine, scenario


async def use_once(cpu: Cpu, cache: KmemCache, memcg: MemCgroup) -> None:
    obj = await kmem_cache_alloc(cpu, cache, memcg, may_sleep=False)
    assert obj is not None
    await kmem_cache_free(cpu, obj)


@scenario(title="creating a child cache races the removal of its memcg", cpus=2)
async def creation_races_rmdir(machine: Machine, *, tasks: int = 1) -> None:
    cpu0, cpu1 = machine.cpus[0], machine.cpus[-1]
    dentry = prepare(kmem_cache_create(cpu0, "dentry", 1000))
    web = prepare(mem_cgroup_create(cpu0, "web"))
    # A group with tasks cannot be removed: they have come and gone when rmdir begins.  Their creation works have not.
    await parallel(*[cpu1.task(use_once(cpu1, dentry, web), "task") for _ in range(tasks)])
    await mem_cgroup_rmdir(cpu0, web)


if __name__ == "__main__":
    creation_races_rmdir.main()
