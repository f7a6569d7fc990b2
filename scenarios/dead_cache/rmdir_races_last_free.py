"""Removing a memcg while another CPU frees the last object of its cache.

"memcg, slab: ..." of 2014-02-26 (Vladimir Davydov) wrote it down; 3.16 answered it by removing the whole asynchronous
path (1e32e77f95d6).  The founding patch, v5 14/18 of 2012-10-19, has it.

1. One dentry of memcg ``web`` is left; its slab is on the node's partial list.
2. CPU 0 removes the directory: dead, work initialised, work queued.
3. CPU 1 frees the dentry.  The slab is empty and goes back: ``nr_pages`` drops to zero.
4. CPU 1 is preempted before it looks whether the cache is dead.  The work sees zero and destroys everything.
5. CPU 1 goes on, in freed memory.

That is one order; there are worse ones.  Whether the free gives the slab back depends on the allocator: SLUB of 3.8
keeps up to ``min_partial`` (at least 5) slabs on the list whatever is in them, SLAB frees a slab when there are more
free objects than ``free_limit``, and from 4.0 on SLUB keeps none of a dead cache.  ``min_partial`` is a knob here; the
default of 0 stands for the allocators that do give it back, 5 for SLUB of 3.8, under which only a shrink does.

Args:
    min_partial: slabs that a node keeps on its list whatever is in them; 5 for SLUB of 3.8.
"""

from __future__ import annotations

from slabactors.actors import parallel, prepare
from slabactors.mm.memcontrol import mem_cgroup_create, mem_cgroup_rmdir, memcg_create_kmem_cache
from slabactors.mm.slab_common import kmem_cache_alloc, kmem_cache_create, kmem_cache_free, kmem_cache_shrink
from slabactors.scenario import Machine, scenario


@scenario(title="rmdir races the last free of a cache", cpus=2)
async def rmdir_races_last_free(machine: Machine, *, min_partial: int = 0) -> None:
    cpu0, cpu1 = machine.cpus[0], machine.cpus[-1]
    dentry = prepare(kmem_cache_create(cpu0, "dentry", 1000, min_partial=min_partial))
    web = prepare(mem_cgroup_create(cpu0, "web"))
    prepare(memcg_create_kmem_cache(cpu0, dentry, web))  # its child is there before the story begins
    obj = prepare(kmem_cache_alloc(cpu0, dentry, web))
    assert obj is not None
    prepare(kmem_cache_shrink(cpu0, obj.slab.cache))  # puts the slab on the node's list, where a free can empty it
    await parallel(
        cpu0.task(mem_cgroup_rmdir(cpu0, web), "rmdir"),
        cpu1.task(kmem_cache_free(cpu1, obj), "free"),
    )


if __name__ == "__main__":
    rmdir_races_last_free.main()
