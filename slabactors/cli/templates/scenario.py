"""Removing a memory cgroup while another CPU frees what it has used.

1. A task in memcg ``web`` leaves some dentries behind, so that its child cache, ``dentry(1:web)``, is not empty.
2. CPU 0 removes the directory of the group.  The cache is dead now: it has to go away with its last page.
3. CPU 1 frees the dentries, the last of which releases the last page.

What should come of it: the cache is destroyed, once, and nobody touches it afterwards.  This file looks for the orders
of these steps in which it is not.  Tell your own story here, and change the code below to match:

    python new_name.py                          search for bugs; the same as: slabactors explore new_name.py
    python new_name.py --lifecycle repaired     under another protocol; for all that there are: slabactors list
    python new_name.py run --set objects=3      one execution, with another value of a knob
    python new_name.py verify                   every order that there is
    python new_name.py --help                   all options, and the knobs of this scenario
"""

from slabactors.actors import parallel, prepare
from slabactors.kernel.cpu import Cpu
from slabactors.mm.memcontrol import mem_cgroup_create, mem_cgroup_rmdir, memcg_create_kmem_cache
from slabactors.mm.slab_common import kmem_cache_alloc, kmem_cache_create, kmem_cache_free, kmem_cache_shrink
from slabactors.mm.slab_page import SlabObject
from slabactors.scenario import Machine, scenario


async def free_all(cpu: Cpu, objects: list[SlabObject]) -> None:
    """A path: each ``await`` is a step, and between two of them anybody else may take theirs."""
    for obj in objects:
        await kmem_cache_free(cpu, obj)


# What the story wants of its machine stands here: cpus=4, nodes=2, allocator="slub-6.1", time="quiescent", ...
@scenario(title="rmdir races the last frees", cpus=2)
async def new_name(machine: Machine, *, objects: int = 1, object_size: int = 1000, min_partial: int = 0) -> None:
    """Remove a group while its objects are freed.

    Keyword parameters with a default are knobs: ``--set objects=3``.  They can be bool, int, float or str.

    Args:
        objects: dentries that are left when the group is removed.
        object_size: bytes of each.
        min_partial: empty slabs that the allocator keeps; with some, only a shrink gives the last page back.
    """
    cpu0, cpu1 = machine.cpus[0], machine.cpus[-1]

    # prepare() runs a path before the race begins, so that the search need not order its steps.
    dentry = prepare(kmem_cache_create(cpu0, "dentry", object_size, min_partial=min_partial))
    web = prepare(mem_cgroup_create(cpu0, "web"))
    child = prepare(memcg_create_kmem_cache(cpu0, dentry, web))
    allocated = [prepare(kmem_cache_alloc(cpu0, dentry, web)) for _ in range(objects)]
    held = [obj for obj in allocated if obj is not None]
    prepare(kmem_cache_shrink(cpu0, child))  # puts the slabs on the node's list, where a free can empty them

    # The race.  The names of the tasks are the columns of the table that shows a bug.
    await parallel(
        cpu0.task(mem_cgroup_rmdir(cpu0, web), "rmdir"),
        cpu1.task(free_all(cpu1, held), "free"),
    )

    # What must hold in every order, besides all that the checkers of the machine look for.
    assert not web.online, "rmdir has come through"


if __name__ == "__main__":
    new_name.main()
