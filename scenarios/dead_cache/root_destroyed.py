"""A root cache is destroyed while a child of it is dying.

JoonSoo Kim, 2012-10-29, in the review of the v5 series (13/18): after the root is destroyed, a delayed work that still
waits dereferences NULL, or worse.  v6 cancels the work; 3.16 says why that was not enough (bd67314586a3).

1. A module has its own cache; a task in memcg ``web`` used it, and all objects have been freed.
2. The directory is removed: the child is dead, its work queued, or armed for the next minute.
3. The module is unloaded: its root cache is destroyed, and with it, first, every child.
4. The work runs, on what is left of the child.
"""

from __future__ import annotations

from slabactors.actors import parallel, prepare
from slabactors.mm.memcontrol import mem_cgroup_create, mem_cgroup_rmdir, memcg_create_kmem_cache
from slabactors.mm.slab_common import kmem_cache_alloc, kmem_cache_create, kmem_cache_destroy, kmem_cache_free
from slabactors.scenario import Machine, scenario


@scenario(title="a root cache is destroyed while a child of it is dying", cpus=2)
async def root_destroyed(machine: Machine) -> None:
    cpu0, cpu1 = machine.cpus[0], machine.cpus[-1]
    module = prepare(kmem_cache_create(cpu0, "module", 1000))
    web = prepare(mem_cgroup_create(cpu0, "web"))
    prepare(memcg_create_kmem_cache(cpu0, module, web))  # its child is there before the story begins
    obj = prepare(kmem_cache_alloc(cpu0, module, web))
    assert obj is not None
    prepare(kmem_cache_free(cpu0, obj))
    await parallel(
        cpu0.task(mem_cgroup_rmdir(cpu0, web), "rmdir"),
        cpu1.task(kmem_cache_destroy(cpu1, module), "rmmod"),
    )


if __name__ == "__main__":
    root_destroyed.main()
