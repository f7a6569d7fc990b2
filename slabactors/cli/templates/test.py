"""Is there an order of steps that breaks the teardown of a dead cache?

    pytest test_new_name.py

fails, shows which order, and says what to type to see it again.  That order is tried first the next time, so that you
see at once whether a change has helped.
"""

from slabactors.actors import parallel, prepare
from slabactors.mm.memcontrol import mem_cgroup_create, mem_cgroup_rmdir, memcg_create_kmem_cache
from slabactors.mm.slab_common import kmem_cache_alloc, kmem_cache_create, kmem_cache_free, kmem_cache_shrink
from slabactors.scenario import Machine
from slabactors.testing import interleavings


# lifecycle: the protocol, by a name of `slabactors list`, a file of your own ("my_protocol.py"), or a list of several,
#     each of which is a test.  Change "v5" to "repaired", which no order of this story breaks, and the test passes.
# runs: how many orders are tried.  With exhaustive=True instead, the test passes only if every order was.
# seed: of the search.  Another one may find another bug first; this one finds a short one.
# cpus: of the machine, as all its knobs: nodes=2, allocator="slub-6.1", ...
@interleavings(lifecycle="v5", runs=500, seed=17, cpus=2)
async def test_new_name(machine: Machine) -> None:
    """A group is removed on one CPU, while another one frees the last object of its cache."""
    cpu0, cpu1 = machine.cpus
    dentry = prepare(kmem_cache_create(cpu0, "dentry", 1000, min_partial=0))
    web = prepare(mem_cgroup_create(cpu0, "web"))
    child = prepare(memcg_create_kmem_cache(cpu0, dentry, web))
    obj = prepare(kmem_cache_alloc(cpu0, dentry, web))
    assert obj is not None
    prepare(kmem_cache_shrink(cpu0, child))  # puts the slab on the node's list, where a free can empty it
    await parallel(
        cpu0.task(mem_cgroup_rmdir(cpu0, web), "rmdir"),
        cpu1.task(kmem_cache_free(cpu1, obj), "free"),
    )
    # What must hold in every order, besides all that the checkers of the machine look for.
    assert not web.online
