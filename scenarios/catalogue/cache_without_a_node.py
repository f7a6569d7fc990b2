"""A cache is created while the first memory of a node comes online, and gets nothing to keep its slabs there.

"slab: get_online_mems for kmem_cache_{create,destroy,shrink}" (03afc0e25f7f, 3.16): who brings memory online gives
every cache a structure for the node, and then says that the node has memory; caches look at the latter when they are
created.

1. The first memory of node 1 is about to come online: every cache has got its structure for the node.
2. A cache is created.  Node 1 has no memory yet: the cache gets no structure for it.
3. The memory is online.  A task allocates an object on node 1, which works.  The cache is shrunk, and the slab is to go
   back to its node: NULL is dereferenced.
"""

from __future__ import annotations

from slabactors.actors import parallel
from slabactors.catalogue import KnownBug, generations
from slabactors.kernel.hotplug import online_pages
from slabactors.mm.slab_common import kmem_cache_alloc, kmem_cache_create, kmem_cache_shrink
from slabactors.scenario import Machine, scenario

BUG = KnownBug(
    id="B28",
    title="slab: get_online_mems for kmem_cache_{create,destroy,shrink}",
    fixed="03afc0e25f7f, 3.16",
    reported="Vladimir Davydov, 2014",
    where="all before 3.16",
    signatures=("bug-on: cache without a node structure by main",),
    preemptions=(1, 1),
    found_in=generations("G0", "G7") + generations("repaired"),
    absent_from=generations("G8", "G13"),
    fast=True,
)


@scenario(title="a cache is created while memory comes online", cpus=2, nodes=2, memoryless_nodes=1, hotplug=True)
async def cache_without_a_node(machine: Machine) -> None:
    cpu0, cpu1 = machine.cpus
    _, cache = await parallel(
        cpu0.task(online_pages(cpu0, 1), "online"),
        cpu1.task(kmem_cache_create(cpu1, "dentry", 1000), "create"),
    )
    await kmem_cache_alloc(cpu0, cache, node=1)
    await kmem_cache_shrink(cpu0, cache)


if __name__ == "__main__":
    cache_without_a_node.main()
