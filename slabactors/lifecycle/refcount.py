"""A count in each child: the memcg has one, each slab has one, and who drops the last one destroys the child."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, cast

from slabactors.actors import CountsDown, operation
from slabactors.kernel.rcu import RcuHead, call_rcu_sched, synchronize_sched
from slabactors.kernel.workqueue import queue_work
from slabactors.lifecycle.v3_16 import V316
from slabactors.mm.memcontrol import MemcgCacheParams
from slabactors.mm.slab_common import kmem_cache_shrink

if TYPE_CHECKING:
    from slabactors.kernel.cpu import Cpu
    from slabactors.machine import Machine
    from slabactors.mm.memcontrol import MemCgroup
    from slabactors.mm.slab_common import KmemCache


class RefcountedParams(MemcgCacheParams):
    """As `MemcgCacheParams`, with a count of references that is 1 when the child is made.

    Attributes:
        rcu_head: what the last reference registers; the work that destroys the child is `destroy`.
    """

    def __init__(self, machine: Machine, child: KmemCache, memcg: MemCgroup, root: KmemCache) -> None:
        super().__init__(child, memcg, root, machine.clock, machine.debugobjects)
        self.refcnt = 1
        self.rcu_head = RcuHead(f"{child.name}.rcu_head", machine.debugobjects, self)

    @operation(writes="refcnt")
    def get(self) -> None:
        """``atomic_inc(&params->refcnt)``."""
        self.refcnt += 1

    def _refcnt(self) -> int:
        return self.refcnt

    def _one(self) -> int:
        return 1

    @operation(writes="refcnt", narrow=[CountsDown("refcnt", _refcnt, _one)])
    def put(self) -> bool:
        """``atomic_dec_and_test(&params->refcnt)``: true for who dropped the last reference."""
        self.refcnt -= 1
        return self.refcnt == 0


class Refcount(V316):
    """Whoever drops the last reference of a child has it destroyed, after a grace period, by a work.

    Models the design that Vladimir Davydov posted in June 2014 ("memcg/slab: reintroduce dead cache
    self-destruction"), which was in -mm for a while and was withdrawn.  A dead child caches no empty slab.  Frees stay
    on their CPU, so that the grace period waits for who still looks at the child after it has given its slab back;
    offline waits itself before it destroys those whose last reference was the group's.
    Deviation: how destroying a root deals with children that are on their way out is not known; here it is as in 3.16.
    """

    name = "refcount"
    release = "posted 2014-06, in -mm for a while, withdrawn"
    frees_on_one_cpu = True

    def new_params(self, machine: Machine, child: KmemCache, memcg: MemCgroup, root: KmemCache) -> MemcgCacheParams:
        """With a count."""
        return RefcountedParams(machine, child, memcg, root)

    async def register_cache(self, cpu: Cpu, cache: KmemCache) -> None:
        """The work is ready before anybody can find the child."""
        await super().register_cache(cpu, cache)
        params = _counted(cache)
        await params.destroy.init(self.work_func(params))

    async def charge_slab(self, cpu: Cpu, cache: KmemCache, memcg: MemCgroup, order: int) -> bool:
        """A slab holds its cache, from before it has pages."""
        if not await super().charge_slab(cpu, cache, memcg, order):
            return False
        await _counted(cache).get()
        return True

    async def uncharge_slab(self, cpu: Cpu, cache: KmemCache, memcg: MemCgroup, order: int) -> None:
        """The last slab of a dead child has it destroyed, once everybody has let go of it."""
        await super().uncharge_slab(cpu, cache, memcg, order)
        params = _counted(cache)
        if await params.put():
            # Window: nobody but us may decide; the caller goes on in the cache until its section ends.
            await call_rcu_sched(cpu, partial(self.queue_destroy, cpu, cache), params.rcu_head)

    async def queue_destroy(self, cpu: Cpu, cache: KmemCache) -> None:
        """A grace period later, in softirq context."""
        await queue_work(cpu, cpu.machine.system_wq, _counted(cache).destroy)

    async def kmem_cache_destroy_work_func(self, cpu: Cpu, params: MemcgCacheParams) -> None:
        """Destroy the child, which has no slab and no group any more."""
        machine = cpu.machine
        await machine.memcg_slab_mutex.lock()
        await self.unregister(cpu, params.cache)
        await machine.memcg_slab_mutex.unlock()

    async def offline(self, cpu: Cpu, memcg: MemCgroup) -> None:
        """Empty every child, and drop the group's reference; destroy those of which that was the last."""
        machine = cpu.machine
        await memcg.css_offline()
        await machine.memcg_slab_mutex.lock()
        caches = await memcg.slab_caches()
        ours = []
        for cache in caches:
            await machine.allocator.stop_caching(cpu, cache)
            await kmem_cache_shrink(cpu, cache)
            if await _counted(cache).put():
                ours.append(cache)
        if ours:
            await synchronize_sched(cpu)
        for cache in ours:
            await self.unregister(cpu, cache)
        await machine.memcg_slab_mutex.unlock()


def _counted(child: KmemCache) -> RefcountedParams:
    return cast("RefcountedParams", child.params)
