"""Caches: creating, destroying and using them, whatever the allocator (mm/slab_common.c, v3.8)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from slabactors.actors import Actor, CountsDown, Narrow, might_sleep, operation
from slabactors.errors import KernelBug, Kind
from slabactors.kernel.hotplug import hold_hotplug, release_hotplug
from slabactors.kernel.rcu import rcu_barrier
from slabactors.mm.allocator import CacheSpec, mergeable
from slabactors.mm.memcg_caches import alloc_root_params, free_root_params
from slabactors.mm.memcontrol import (
    Task,
    memcg_kmem_get_cache_of_task,
    memcg_release_cache,
    memcg_unregister_cache,
)
from slabactors.mm.slub_sysfs import sysfs_slab_add, sysfs_slab_remove

if TYPE_CHECKING:
    from slabactors.kernel.cpu import Cpu
    from slabactors.kernel.sysfs import SysfsDirent
    from slabactors.kernel.workqueue import Work
    from slabactors.machine import Machine
    from slabactors.mm.allocator import Geometry
    from slabactors.mm.memcg_caches import MemcgCaches
    from slabactors.mm.memcontrol import MemcgCacheParams, MemCgroup
    from slabactors.mm.slab_array import ArrayCache
    from slabactors.mm.slab_lists import KmemList3
    from slabactors.mm.slab_page import SlabObject
    from slabactors.mm.slub_cpu import KmemCacheCpu
    from slabactors.mm.slub_node import CacheStructures, KmemCacheNode

__all__ = [
    "KmemCache",
    "kmem_cache_alloc",
    "kmem_cache_create",
    "kmem_cache_destroy",
    "kmem_cache_free",
    "kmem_cache_shrink",
    "try_destroy",
]


class KmemCache(Actor):
    """``struct kmem_cache``: a root cache with the array of its children, or a child.

    Args:
        name: as in /proc/slabinfo; a child is called ``root(id:memcg)``.
        spec: what it was created with.
        geometry: what the allocator made of it.
        root: the root cache, of a child.
    """

    role = "kmem_cache"

    def __init__(self, name: str, spec: CacheSpec, geometry: Geometry, *, root: KmemCache | None = None) -> None:
        super().__init__(name)
        self.spec = spec
        self.geometry = geometry
        self.root = root
        self.params: MemcgCacheParams | None = None
        self.structures: CacheStructures | None = None
        """SLUB: what holds the next two, where shutting the cache down frees them."""
        self.cpu_slabs: list[KmemCacheCpu] = []
        """SLUB: one for each CPU."""
        self.nodes: list[KmemCacheNode] = []
        """SLUB: one for each memory node."""
        self.arrays: list[ArrayCache] = []
        """SLAB: one for each CPU."""
        self.nodelists: list[KmemList3] = []
        """SLAB: one for each memory node."""
        self.dirent: SysfsDirent | None = None
        """Its directory in /sys/kernel/slab, where the machine has sysfs and the cache was added to it."""
        self.refcount = 1
        self.creation: Work | None = None
        """Of a root of 5.9: what creates its child."""
        self.memcg_caches: dict[int, KmemCache] = {}
        """Children by their slots, where the array cannot move."""
        self.array_moves = False
        """Children are in `array`, which is replaced when it is too small: see `slabactors.mm.memcg_caches`."""
        self.array: MemcgCaches | None = None
        self.dying = False
        """Of a root, from 4.18 on: it is being destroyed."""
        self.siblings: list[KmemCache] = []
        """Of a root, from 4.0 on: also those that are in no slot any more; newest first."""
        self.published = 0

    @property
    def slots(self) -> dict[int, KmemCache]:
        """Children by their slots.  For reports and checkers."""
        if not self.array_moves:
            return self.memcg_caches
        filled = self.array.slots if self.array is not None else {}
        return {index: child for index, child in filled.items() if isinstance(child, KmemCache)}

    @operation(reads="memcg_caches")
    def read_slot(self, memcg_id: int) -> KmemCache | None:
        """``root->memcg_params->memcg_caches[id]``."""
        return self.memcg_caches.get(memcg_id)

    def _absent(self, memcg_id: int) -> bool:
        return memcg_id not in self.memcg_caches

    def _bare(self) -> bool:
        return not self.memcg_caches

    @operation(reads="array")
    def load_array(self) -> MemcgCaches | None:
        """``root->memcg_params``: NULL for a root that was made when no kernel memory was accounted."""
        return self.array

    @operation(writes="array")
    def assign_array(self, array: MemcgCaches) -> None:
        """``root->memcg_params = params``."""
        self.array = array

    @operation(writes="geometry")
    def tune(self, changes: dict[str, int]) -> None:
        """``s->min_partial = min``: what was set by sysfs, for new children and for reports.

        Args:
            changes: fields of the allocator's geometry.
        """
        self.geometry = replace(self.geometry, **changes)

    def _published(self) -> int:
        return self.published

    def _one(self) -> int:
        return 1

    @operation(writes="memcg_caches published")
    def publish(self, memcg_id: int, child: KmemCache) -> None:
        """``memcg_caches[id] = child``: allocations find the child from here on."""
        self.memcg_caches[memcg_id] = child
        self.published += 1

    @operation(writes="memcg_caches", narrow=[Narrow(_absent, reads="memcg_caches")])
    def clear_slot(self, memcg_id: int) -> None:
        """``memcg_caches[id] = NULL``."""
        self.memcg_caches.pop(memcg_id, None)

    @operation(writes="memcg_caches", narrow=[Narrow(_absent, reads="memcg_caches")])
    def claim(self, memcg_id: int) -> bool:
        """``xchg(&memcg_caches[id], NULL)``: true for the one who destroys the child."""
        return self.memcg_caches.pop(memcg_id, None) is not None

    @operation(writes="memcg_caches", narrow=[Narrow(_bare, reads="memcg_caches")])
    def claim_any(self) -> KmemCache | None:
        """``xchg(&memcg_caches[*], NULL)``: a child that the caller has to destroy, if one is left."""
        return self.memcg_caches.pop(min(self.memcg_caches)) if self.memcg_caches else None

    @operation(writes="published", narrow=[CountsDown("published", _published, _one)])
    def child_gone(self) -> None:
        """``atomic_dec(&nr_children)``: the last touch of the root by who destroyed a child."""
        self.published -= 1

    def _childless(self) -> bool:
        return self.published == 0

    @operation(guard=_childless, reads="published", sleeps=True)
    def wait_childless(self) -> None:
        """``wait_event(nr_children == 0)``: until nobody is destroying a child."""

    @operation(reads="memcg_caches")
    def children(self) -> list[KmemCache]:
        """``for_each_memcg_cache_index()``: the children that are in their slots now."""
        return [self.memcg_caches[number] for number in sorted(self.memcg_caches)]

    @operation(reads="memcg_caches")
    def next_child(self, index: int) -> tuple[int, KmemCache] | None:
        """``for (i++; i < memcg_limited_groups_array_size; i++)``: the next slot that is filled, with its child."""
        following = [number for number in self.memcg_caches if number > index]
        return (min(following), self.memcg_caches[min(following)]) if following else None

    @operation(writes="children")
    def link_child(self, child: KmemCache) -> None:
        """``list_add(&s->memcg_params.list, &root->memcg_params.list)``."""
        self.siblings.insert(0, child)

    @operation(writes="children")
    def unlink_child(self, child: KmemCache) -> None:
        """``list_del(&s->memcg_params.list)``."""
        self.siblings.remove(child)

    @operation(reads="children")
    def linked_children(self) -> list[KmemCache]:
        """``for_each_memcg_cache()``: every child that was not shut down, newest first."""
        return list(self.siblings)

    @operation(writes="dying")
    def set_dying(self, dying: bool = True) -> None:
        """``s->memcg_params.dying = true``: nothing new is to begin for the children of this root."""
        self.dying = dying

    @operation(reads="dying")
    def is_dying(self) -> bool:
        """``s->memcg_params.dying``."""
        return self.dying

    @operation(writes="refcount")
    def add_name(self) -> None:
        """``s->refcount++``: one more name for the cache; one that lost its last can get another."""
        self.refcount += 1

    @operation(reads="flags")
    def typesafe_by_rcu(self) -> bool:
        """``s->flags & SLAB_TYPESAFE_BY_RCU``: its slabs go back by RCU callbacks."""
        return self.spec.rcu

    @operation(reads="refcount")
    def names(self) -> int:
        """``s->refcount``."""
        return self.refcount

    @operation(writes="refcount", stale=Kind.DOUBLE_DESTROY)
    def drop_name(self) -> int:
        """``--s->refcount``: how many names the cache still has; it goes away with the last."""
        self.refcount -= 1
        return self.refcount

    @operation(frees=True, stale=Kind.DOUBLE_DESTROY)
    def free(self) -> None:
        """``kmem_cache_free(kmem_cache, s)``: the cache is gone, with its per-CPU and per-node structures."""


async def kmem_cache_create(
    cpu: Cpu,
    name: str,
    object_size: int,
    *,
    align: int = 0,
    ctor: bool = False,
    hwcache_align: bool = False,
    rcu: bool = False,
    reclaimable: bool = False,
    account: bool = False,
    min_partial: int | None = None,
) -> KmemCache:
    """Create a root cache.  Sleeps.

    Models kmem_cache_create() (mm/slab_common.c, v3.8).

    Returns:
        The cache; on a machine that merges, it may be one that is there already, under one more name.

    Args:
        cpu: where the task runs.
        name: as in /proc/slabinfo.
        object_size: bytes.
        align: bytes; 0 for the smallest that the machine allows.
        ctor: it has a constructor.
        hwcache_align: SLAB_HWCACHE_ALIGN.
        rcu: SLAB_DESTROY_BY_RCU.
        reclaimable: SLAB_RECLAIM_ACCOUNT: its objects can be given to a `Shrinker`.
        account: SLAB_ACCOUNT.
        min_partial: how many slabs a node keeps listed whatever is in them, for it and its children; what the
            allocator computes by default (at least 5 in SLUB of 3.8, which does not let it be less).

    Raises:
        ValueError: the allocator has no slabs for such objects.
    """
    spec = CacheSpec(
        object_size,
        align=align,
        ctor=ctor,
        hwcache_align=hwcache_align,
        rcu=rcu,
        reclaimable=reclaimable,
        account=account,
        min_partial=min_partial,
    )
    return await cpu.machine.lifecycle.create_cache(cpu, name, spec)


async def create_or_merge(cpu: Cpu, name: str, spec: CacheSpec) -> KmemCache:
    """A new root cache, or another name for one that is just like it, where the machine merges.  Sleeps."""
    machine = cpu.machine
    await hold_hotplug(cpu)
    await machine.slab_mutex.lock()
    cache = await find_mergeable(machine, spec)
    if cache is None:
        cache = machine.new_cache(name, spec, listed=False)
        if machine.config.memoryless_nodes:
            machine.allocator.leave_out(cache, await machine.node_states.for_each())
        await alloc_root_params(cpu, cache)
        await sysfs_slab_add(cpu, cache)
        machine.list_new(cache)
    else:
        await cache.add_name()
    await machine.slab_mutex.unlock()
    await release_hotplug(cpu)
    return cache


async def find_mergeable(machine: Machine, spec: CacheSpec) -> KmemCache | None:
    """The newest root cache that one with such a spec would be merged with; see `mergeable`.

    Models find_mergeable() (mm/slub.c, v3.8).  Under slab_mutex, which everything that is looked at stands under.
    Deviation: only caches of the very same spec are merged; the kernel merges what has nearly the same size, too.
    """
    if not machine.config.merging or not mergeable(spec):
        return None
    for cache in machine.slab_caches:
        if cache.root is None and cache.spec == spec and await machine.lifecycle.may_merge(cache):
            return cache
    return None


async def kmem_cache_alloc(
    cpu: Cpu,
    cache: KmemCache,
    memcg: MemCgroup | Task | None = None,
    *,
    may_sleep: bool = True,
    node: int | None = None,
) -> SlabObject | None:
    """Allocate an object from a root cache, or from the child of the task's memcg if there is one.  May sleep.

    Models slab_alloc() (mm/slub.c, v3.8) with memcg_kmem_get_cache().

    Args:
        cpu: where the task runs.
        cache: the root cache.
        memcg: the memcg of the task, as it has looked it up; or the task, which looks it up now; none for a kernel
            thread.
        may_sleep: the caller may sleep (GFP_KERNEL), so that a missing child can be created in place where the
            lifecycle does so.
        node: the memory node that it must come from, as for kmem_cache_alloc_node(); None for any.

    Returns:
        The object, or None when the memcg's limit or the memory's end is reached.
    """
    machine = cpu.machine
    if may_sleep:
        await might_sleep()
    if isinstance(memcg, Task):
        cache, memcg = await memcg_kmem_get_cache_of_task(cpu, cache, memcg, may_sleep=may_sleep)
    elif memcg is not None:
        cache = await machine.lifecycle.get_cache(cpu, cache, memcg, may_sleep=may_sleep)
    # Window: up to 3.18 nothing holds the child; it may be destroyed before the allocator touches it.
    obj = await machine.allocator.alloc(cpu, cache, memcg, node)
    if machine.lifecycle.holds_cache_while_allocating and cache.params is not None:
        await machine.lifecycle.put_cache(cpu, cache)
    return obj


async def kmem_cache_free(cpu: Cpu, obj: SlabObject) -> None:
    """Free an object; the cache is found from its page.  Any context.

    Models kmem_cache_free() (mm/slub.c, v3.8).

    Raises:
        KernelBug: ``double-free``.
    """
    machine = cpu.machine
    cache = obj.slab.cache
    if machine.lifecycle.frees_on_one_cpu:
        section = await machine.rcu_sched.read_lock()
        await machine.allocator.free(cpu, obj)
        await machine.rcu_sched.read_unlock(section)
    else:
        await machine.allocator.free(cpu, obj)
    if machine.lifecycle.verifies_every_free and cache.params is not None:
        await machine.lifecycle.object_freed(cpu, cache)


async def kmem_cache_shrink(cpu: Cpu, cache: KmemCache) -> int:
    """Give back the empty slabs of a cache.  Sleeps.  Models kmem_cache_shrink() (mm/slub.c and mm/slab.c, v3.8).

    Returns:
        What the allocator's release returns: whether slabs are left, or 0 whatever is left.
    """
    await might_sleep()
    machine = cpu.machine
    if not (machine.allocator.shrink_holds_cpus or machine.lifecycle.locks_memory_hotplug):
        return await machine.allocator.shrink(cpu, cache)
    await hold_hotplug(cpu)
    left = await machine.allocator.shrink(cpu, cache)
    await release_hotplug(cpu)
    return left


async def kmem_cache_destroy(cpu: Cpu, cache: KmemCache) -> None:
    """Destroy a cache; a root destroys its children first.  Sleeps.

    Models kmem_cache_destroy() (mm/slab_common.c, v3.8), which tells its caller nothing; here a cache that still has
    objects is reported once the kernel would have gone on: see `try_destroy`.

    Raises:
        KernelBug: ``objects-remaining``, ``double-destroy``.
    """
    complaint = await try_destroy(cpu, cache)
    if complaint is not None:
        raise KernelBug(Kind.OBJECTS_REMAINING, complaint, clause="destroy of a cache with objects")


async def try_destroy(cpu: Cpu, cache: KmemCache) -> str | None:
    """As `kmem_cache_destroy`, for callers that go on when a cache, or a child of a root, still has objects.  Sleeps.

    Such a cache has lost its empty slabs and its last name, so that destroying it again does nothing; it goes on
    working and is the newest of the list of caches.

    Returns:
        What the kernel complains of, if it does.

    Raises:
        KernelBug: ``double-destroy``.
    """
    return await cpu.machine.lifecycle.destroy_cache(cpu, cache)


async def destroy_children_first(cpu: Cpu, cache: KmemCache) -> str | None:
    """What `try_destroy` is up to 3.14: a root's children go first, and then, if it has no other name, the root.

    Models kmem_cache_destroy() (mm/slab_common.c, v3.8; v3.14 as the lifecycle has it).

    Raises:
        KernelBug: ``double-destroy``.
    """
    machine = cpu.machine
    complaint = await machine.lifecycle.destroy_children(cpu, cache) if cache.root is None else None
    await hold_hotplug(cpu)
    await machine.slab_mutex.lock()
    if await cache.drop_name() != 0:
        await machine.slab_mutex.unlock()
        await release_hotplug(cpu)
        return complaint
    machine.slab_caches.remove(cache)
    objects_remain = await close(cpu, cache)
    if objects_remain is not None:
        await list_again(cpu, cache)
        await release_hotplug(cpu)
        return complaint or objects_remain
    if cache.dirent is not None:
        if machine.lifecycle.unlocks_for_sysfs:
            await machine.slab_mutex.unlock()
            await sysfs_slab_remove(cpu, cache)
            await machine.slab_mutex.lock()
        else:
            await sysfs_slab_remove(cpu, cache)
    params = cache.params
    withdrawn = machine.lifecycle.slot_outlives_list
    if params is not None and withdrawn:
        await memcg_unregister_cache(cpu, params)
    await machine.slab_mutex.unlock()
    if cache.spec.rcu:
        await rcu_barrier(cpu)
    # Window: shut down, and before 3.14 still reachable through the root's array.
    if params is not None and withdrawn:
        await params.free()
    elif params is not None:
        await memcg_release_cache(cpu, cache)
    else:
        await free_root_params(cache)
    await cache.free()
    await release_hotplug(cpu)
    machine.note_destroyed(cache)
    return complaint


async def list_again(cpu: Cpu, cache: KmemCache) -> None:
    """A cache that could not be shut down goes on, as the newest of the list.  Gives slab_mutex back."""
    machine = cpu.machine
    machine.list_again(cache)
    await machine.slab_mutex.unlock()
    machine.printk(f"kmem_cache_destroy {cache.name}: Slab cache still has objects")


async def close(cpu: Cpu, cache: KmemCache) -> str | None:
    """Shut a cache down; what the allocator has to say when objects remain.

    Models __kmem_cache_shutdown() (mm/slub.c and mm/slab.c, v3.8).
    """
    try:
        await cpu.machine.allocator.close(cpu, cache)
    except KernelBug as bug:
        if bug.kind is not Kind.OBJECTS_REMAINING:
            raise
        return bug.message
    return None
