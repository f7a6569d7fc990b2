"""A dead cache whose objects are freed later, by two CPUs.

The case that made "[PATCH v5 14/18] memcg/sl[au]b: shrink dead caches" (Glauber Costa, 2012-10-19) retry once a minute:
JoonSoo Kim had pointed out in the review of its third version that pages held by CPUs' slabs keep ``nr_pages`` above
zero with no further free to come.

1. Tasks in memcg ``web`` allocate dentries that somebody else goes on using.
2. The directory is removed; the first run of the work finds objects and arms its timer.
3. Two CPUs free the objects, some seconds later (a CPU that was asleep may be late or early by any number of steps).
   The slabs stay where they are, empty.
4. A minute later the work shrinks the cache and it goes away.  Without the retry it never does.

Args:
    objects: dentries, half of them freed by each CPU.
    object_size: bytes of each.
    seconds: how long after the removal they are freed, virtual.
"""

from __future__ import annotations

from slabactors.actors import parallel, prepare, sleep
from slabactors.kernel.cpu import Cpu
from slabactors.kernel.jiffies import HZ
from slabactors.mm.memcontrol import mem_cgroup_create, mem_cgroup_rmdir, memcg_create_kmem_cache
from slabactors.mm.slab_common import kmem_cache_alloc, kmem_cache_create, kmem_cache_free
from slabactors.mm.slab_page import SlabObject
from slabactors.scenario import Machine, scenario


async def free_later(cpu: Cpu, objects: list[SlabObject], seconds: int) -> None:
    await sleep(seconds * HZ)
    for obj in objects:
        await kmem_cache_free(cpu, obj)


@scenario(title="a dead cache whose objects are freed later by two CPUs", cpus=2)
async def freed_later(machine: Machine, *, objects: int = 4, object_size: int = 3000, seconds: int = 20) -> None:
    cpu0, cpu1 = machine.cpus[0], machine.cpus[-1]
    dentry = prepare(kmem_cache_create(cpu0, "dentry", object_size))
    web = prepare(mem_cgroup_create(cpu0, "web"))
    prepare(memcg_create_kmem_cache(cpu0, dentry, web))  # its child is there before the story begins
    held = []
    for number in range(objects):
        obj = prepare(kmem_cache_alloc(machine.cpus[number % machine.config.cpus], dentry, web))
        assert obj is not None
        held.append(obj)
    await parallel(
        cpu0.task(mem_cgroup_rmdir(cpu0, web), "rmdir"),
        cpu0.task(free_later(cpu0, held[0::2], seconds), "free"),
        cpu1.task(free_later(cpu1, held[1::2], seconds), "free"),
    )


if __name__ == "__main__":
    freed_later.main()
