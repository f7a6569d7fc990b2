"""The reaper lets a dead cache go.

"[PATCH v5 14/18] memcg/sl[au]b: shrink dead caches" (Glauber Costa, 2012-10-19) is about SLUB first of all: "The slab
allocator has a time based reaper that would eventually get rid of the objects, but we can also call it explicitly".
What was merged in 3.8 shrinks a dead cache once and has no retry.  With SLUB a cache whose objects are freed after that
stays; with SLAB the reaper is what is left.

1. A task in memcg ``web`` has dentries in its child of the SLAB cache ``dentry``; they fill one slab and a bit.
2. The directory is removed.  The work shrinks the cache, which empties nothing, and does not come again.
3. Some time later the dentries are freed.  They stay in the array of the CPU; for their slabs they are in use.
4. Nothing else happens, but that the reaper comes by every two seconds.  The first time it only wipes off the mark that
   allocations have left on the array; then it takes half of what is there, until the array is empty.
5. The slabs are free now, and still belong to the cache.  When their list has its turn the reaper gives them back.
6. The last page queues the work, and that destroys the cache.

On a booted 3.8.3 it took about twenty seconds for two slabs: its CPUs were idle, which lets a deferrable timer come
late, and rounded to the next second it came every three (``--set deferrable_slip=270``).  Without the reaper
(``--set reaper=false``) the cache stays for ever.

Args:
    objects: dentries; 15 of them fill a slab.
    object_size: bytes of each.
    seconds: how long after the removal they are freed, virtual.
"""

from __future__ import annotations

from slabactors.actors import prepare, sleep
from slabactors.kernel.jiffies import HZ
from slabactors.mm.memcontrol import mem_cgroup_create, mem_cgroup_rmdir, memcg_create_kmem_cache
from slabactors.mm.slab_common import kmem_cache_alloc, kmem_cache_create, kmem_cache_free
from slabactors.scenario import Machine, scenario


@scenario(
    title="nothing but the reaper empties a dead cache",
    lifecycle="v3.8",
    allocator="slab-3.8",
    time="quiescent",
    cpus=2,
)
async def reaper(machine: Machine, *, objects: int = 16, object_size: int = 256, seconds: int = 1) -> None:
    cpu0 = machine.cpus[0]
    dentry = prepare(kmem_cache_create(cpu0, "dentry", object_size))
    web = prepare(mem_cgroup_create(cpu0, "web"))
    prepare(memcg_create_kmem_cache(cpu0, dentry, web))  # its child is there before the story begins
    held = [prepare(kmem_cache_alloc(cpu0, dentry, web)) for _ in range(objects)]
    await mem_cgroup_rmdir(cpu0, web)
    # Window: the work shrinks the cache while its objects are in use, and that was that.
    await sleep(seconds * HZ)
    for obj in held:
        assert obj is not None
        await kmem_cache_free(cpu0, obj)


if __name__ == "__main__":
    reaper.main()
