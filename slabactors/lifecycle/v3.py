"""The first posting with a plan for dead caches: one list of them, one work, and a shrink after every free."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from slabactors.actors import Actor, Clock, operation
from slabactors.errors import KernelBug, Kind
from slabactors.kernel.debugobjects import DebugObjects
from slabactors.kernel.locking import SpinLock
from slabactors.kernel.workqueue import Work, WorkFunction, queue_work
from slabactors.lifecycle.pre_patch import PrePatch
from slabactors.mm.memcontrol import MemcgCacheParams
from slabactors.mm.slab_common import kmem_cache_destroy, kmem_cache_shrink

if TYPE_CHECKING:
    from slabactors.kernel.cpu import Cpu
    from slabactors.machine import Machine
    from slabactors.mm.memcontrol import MemCgroup
    from slabactors.mm.slab_common import KmemCache

__all__ = ["V3", "DestroyedCaches", "ShrunkParams"]


class DestroyedCaches(Actor):
    """``static LIST_HEAD(destroyed_caches)``, with its lock and the work that empties it (v3 11/16)."""

    role = "destroyed_caches"

    def __init__(self, function: WorkFunction, clock: Clock, debug: DebugObjects) -> None:
        super().__init__("destroyed_caches")
        self.listed: list[MemcgCacheParams] = []
        self.linked: list[MemcgCacheParams] = []
        """Those that are on this list or on one that the work has moved them to."""
        self.cache_queue_lock = SpinLock("cache_queue_lock")
        self.work = Work("kmem_cache_destroy_work", clock, debug)
        self.work.initialised, self.work.function = True, function

    @operation
    def add(self, params: MemcgCacheParams) -> None:
        """``list_add(&params->destroyed_list, &destroyed_caches)``: under the lock.

        Raises:
            KernelBug: ``bug-on`` when it is on a list already: CONFIG_DEBUG_LIST, ``list_add double add``.
        """
        if params in self.linked:
            raise KernelBug(
                Kind.BUG_ON,
                f"list_add double add: {params.cache.name} is on the list of destroyed caches already",
                clause="list_add of a linked entry",
            )
        self.listed.insert(0, params)
        self.linked.insert(0, params)

    @operation(reads="listed")
    def entries(self) -> list[MemcgCacheParams]:
        """``list_for_each_entry_safe(p, tmp, &destroyed_caches, destroyed_list)``: under the lock."""
        return list(self.listed)

    @operation
    def move(self, moved: list[MemcgCacheParams]) -> None:
        """``list_move(&p->destroyed_list, &shrinkers)``: to a list of the work's own, under the lock."""
        self.listed = [params for params in self.listed if params not in moved]

    @operation
    def delete(self, params: MemcgCacheParams) -> None:
        """``list_del(&params->destroyed_list)``: off the work's own list, without the lock."""
        self.linked.remove(params)


class ShrunkParams(MemcgCacheParams):
    """What a child knows of its group, and the work that shrinks it (v3 15/16)."""

    role = "memcg_cache_params"

    def __init__(self, cache: KmemCache, memcg: MemCgroup, root: KmemCache, clock: Clock, debug: DebugObjects) -> None:
        super().__init__(cache, memcg, root, clock, debug)
        self.cache_shrinker = Work(f"{cache.name}.cache_shrinker", clock, debug, self)


class V3(PrePatch):
    """Dead caches are listed, and one work shrinks those that have pages, then destroys the others; every free into a
    dead cache queues a work that shrinks it.

    Models "[PATCH v3 15/16] memcg/sl[au]b: shrink dead caches" and 11/16 (mm/memcontrol.c, mm/slab.h, 2012-09-18).
    Deviation: children are kept, and let go of their group, as in the v5 series (the posting has an array in each
    group, and puts the group before it destroys the cache, which does not touch the group any more); creations that
    wait when the group is removed are not thrown away.
    """

    name = "v3"
    release = "v3 posting 11/16 and 15/16, 2012-09-18"
    verifies_every_free = True
    creates_in_place = False

    def new_statics(self, machine: Machine) -> DestroyedCaches:
        """``destroyed_caches``, and ``DECLARE_WORK(kmem_cache_destroy_work)``."""
        return DestroyedCaches(self.kmem_cache_destroy_all, machine.clock, machine.debugobjects)

    def new_params(self, machine: Machine, child: KmemCache, memcg: MemCgroup, root: KmemCache) -> MemcgCacheParams:
        """With a work that shrinks."""
        return ShrunkParams(child, memcg, root, machine.clock, machine.debugobjects)

    async def register_cache(self, cpu: Cpu, cache: KmemCache) -> None:
        """``INIT_WORK(&params->cache_shrinker)``; the work for all caches is there from the start."""
        params = cast("ShrunkParams", cache.params)

        async def cache_shrinker_work_func(cpu: Cpu) -> None:
            await kmem_cache_shrink(cpu, cache)

        await params.cache_shrinker.init(cache_shrinker_work_func)

    async def mem_cgroup_destroy_all_caches(self, cpu: Cpu, memcg: MemCgroup) -> None:
        """Mark every child dead and list it, all under the lock; then queue the work."""
        destroyed = statics(cpu)
        await memcg.slab_caches_mutex.lock()
        caches = await memcg.slab_caches()
        await memcg.slab_caches_mutex.unlock()
        await destroyed.cache_queue_lock.lock()
        for cache in caches:
            assert cache.params is not None
            await cache.params.set_dead()
            await destroyed.add(cache.params)
        await destroyed.cache_queue_lock.unlock()
        await self.schedule(cpu)

    async def last_page_released(self, cpu: Cpu, cache: KmemCache) -> None:
        """``mem_cgroup_destroy_cache()``: list a dead cache and queue the work."""
        params = cache.params
        assert params is not None
        if not await params.is_dead():
            return
        # Window: it may be listed, or destroyed, by now.
        destroyed = statics(cpu)
        await destroyed.cache_queue_lock.lock()
        await destroyed.add(params)
        await destroyed.cache_queue_lock.unlock()
        await self.schedule(cpu)

    async def object_freed(self, cpu: Cpu, cache: KmemCache) -> None:
        """``kmem_cache_verify_dead()``: somebody else shrinks a dead cache, soon."""
        params = cast("ShrunkParams", cache.params)
        if await params.is_dead():
            await queue_work(cpu, cpu.machine.system_wq, params.cache_shrinker)

    async def schedule(self, cpu: Cpu) -> None:
        """``schedule_work(&kmem_cache_destroy_work)``."""
        await queue_work(cpu, cpu.machine.system_wq, statics(cpu).work)

    async def kmem_cache_destroy_all(self, cpu: Cpu) -> None:
        """``kmem_cache_destroy_work_func()``: shrink what has pages, then destroy what is listed and has none."""
        destroyed = statics(cpu)
        shrinkers = []
        await destroyed.cache_queue_lock.lock()
        entries = await destroyed.entries()
        for params in entries:
            empty = await params.no_pages()
            if not empty:
                shrinkers += [params]
        await destroyed.move(shrinkers)
        await destroyed.cache_queue_lock.unlock()
        for params in shrinkers:
            await destroyed.delete(params)
            # Window: whoever releases its last page lists it again, and a later loop of this run destroys it.
            await kmem_cache_shrink(cpu, params.cache)
        await destroyed.cache_queue_lock.lock()
        entries = await destroyed.entries()
        await destroyed.move(entries)
        await destroyed.cache_queue_lock.unlock()
        for params in entries:
            await destroyed.delete(params)
            if await params.no_pages():
                await kmem_cache_destroy(cpu, params.cache)


def statics(cpu: Cpu) -> DestroyedCaches:
    """The list of the machine."""
    return cast("DestroyedCaches", cpu.machine.statics)
