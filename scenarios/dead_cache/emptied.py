"""An emptied dead cache that goes away only because somebody shrinks it.

The text of "[PATCH v5 14/18] memcg/sl[au]b: shrink dead caches" (Glauber Costa, 2012-10-19) says what is wrong without
it: when the last object of a slab goes, SLUB does not necessarily free the slab; there is not necessarily a test for an
empty one in any free path.

1. A task in memcg ``web`` allocates dentries from its child cache and frees them all again.
2. Their slabs stay: as the CPU's current slab, or on its partial list.
3. The directory is removed.  The cache is marked dead and its work queued.
4. The work sees pages.  Under ``v5`` it shrinks the cache, whose last page queues the work again, and that destroys it.
   Under ``pre-patch`` it returns, and nobody ever comes back: a zombie that pins its memcg.

Args:
    objects: dentries that are allocated and freed.
    object_size: bytes of each.
"""

from __future__ import annotations

from slabactors.actors import prepare
from slabactors.mm.memcontrol import mem_cgroup_create, mem_cgroup_rmdir, memcg_create_kmem_cache
from slabactors.mm.slab_common import kmem_cache_alloc, kmem_cache_create, kmem_cache_free
from slabactors.scenario import Machine, scenario


@scenario(title="an emptied dead cache goes away only because it is shrunk", cpus=2)
async def emptied(machine: Machine, *, objects: int = 3, object_size: int = 1000) -> None:
    cpu0 = machine.cpus[0]
    dentry = prepare(kmem_cache_create(cpu0, "dentry", object_size))
    web = prepare(mem_cgroup_create(cpu0, "web"))
    prepare(memcg_create_kmem_cache(cpu0, dentry, web))  # its child is there before the story begins
    held = [prepare(kmem_cache_alloc(cpu0, dentry, web)) for _ in range(objects)]
    for obj in held:
        assert obj is not None
        await kmem_cache_free(cpu0, obj)
    await mem_cgroup_rmdir(cpu0, web)


if __name__ == "__main__":
    emptied.main()
