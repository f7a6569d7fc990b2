"""Mutants of the founding patch: one line of it changed each, as its text and comments suggest.

They show that a checker sees what it is there for, and that each line of the patch is there for a reason, or not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slabactors.kernel.workqueue import queue_delayed_work
from slabactors.lifecycle.v5 import RETRY_JIFFIES, V5, find_cache
from slabactors.mm.slab_common import kmem_cache_destroy, kmem_cache_shrink

if TYPE_CHECKING:
    from slabactors.kernel.cpu import Cpu
    from slabactors.mm.memcontrol import MemcgCacheParams, MemCgroup
    from slabactors.mm.slab_common import KmemCache


class NoPendingCheck(V5):
    """The release path queues the work without asking whether it is pending, as v4 of the patch did."""

    name = "v5-no-pending-check"
    release = "mutant of v5"

    async def last_page_released(self, cpu: Cpu, cache: KmemCache) -> None:
        """``mem_cgroup_destroy_cache()`` without ``delayed_work_pending()``."""
        params = cache.params
        assert params is not None
        if not await params.is_dead():
            return
        await queue_delayed_work(cpu, cpu.machine.system_wq, params.destroy, 0)


class DestroyAfterShrink(V5):
    """The worker destroys the cache in the run whose shrink emptied it: the release path has queued it again."""

    name = "v5-destroy-after-shrink"
    release = "mutant of v5"

    async def kmem_cache_destroy_work_func(self, cpu: Cpu, params: MemcgCacheParams) -> None:
        """Shrink first, then destroy at once if that was enough."""
        cache = await find_cache(cpu, params)
        assert cache.params is not None
        if not await cache.params.no_pages():
            await kmem_cache_shrink(cpu, cache)
        if await cache.params.no_pages():
            await kmem_cache_destroy(cpu, cache)
            return
        await queue_delayed_work(cpu, cpu.machine.system_wq, cache.params.destroy, RETRY_JIFFIES)


class RetryAtOnce(V5):
    """The worker queues itself again without the minute's delay."""

    name = "v5-retry-at-once"
    release = "mutant of v5"

    async def kmem_cache_destroy_work_func(self, cpu: Cpu, params: MemcgCacheParams) -> None:
        """Shrink again and again until the cache is empty."""
        cache = await find_cache(cpu, params)
        assert cache.params is not None
        if await cache.params.no_pages():
            await kmem_cache_destroy(cpu, cache)
            return
        await kmem_cache_shrink(cpu, cache)
        if await cache.params.no_pages():
            return
        await queue_delayed_work(cpu, cpu.machine.system_wq, cache.params.destroy, 0)


class NoRetry(V5):
    """The worker shrinks once and trusts that somebody will call again, as 3.8 was released."""

    name = "v5-no-retry"
    release = "mutant of v5; what 3.8 does"

    async def kmem_cache_destroy_work_func(self, cpu: Cpu, params: MemcgCacheParams) -> None:
        """Shrink once, or destroy."""
        cache = await find_cache(cpu, params)
        assert cache.params is not None
        if await cache.params.no_pages():
            await kmem_cache_destroy(cpu, cache)
            return
        await kmem_cache_shrink(cpu, cache)


class NoShrink(V5):
    """The worker looks once a minute whether somebody else has emptied the cache, and never shrinks it."""

    name = "v5-no-shrink"
    release = "mutant of v5"

    async def kmem_cache_destroy_work_func(self, cpu: Cpu, params: MemcgCacheParams) -> None:
        """Destroy, or look again in a minute."""
        cache = await find_cache(cpu, params)
        assert cache.params is not None
        if await cache.params.no_pages():
            await kmem_cache_destroy(cpu, cache)
            return
        await queue_delayed_work(cpu, cpu.machine.system_wq, cache.params.destroy, RETRY_JIFFIES)


class DeadNeverSet(V5):
    """Offline queues the works and forgets to mark the caches dead: the release path never queues them again."""

    name = "v5-dead-never-set"
    release = "mutant of v5"

    async def mem_cgroup_destroy_all_caches(self, cpu: Cpu, memcg: MemCgroup) -> None:
        """Queue every child's work."""
        machine = cpu.machine
        await memcg.slab_caches_mutex.lock()
        caches = await memcg.slab_caches()
        for cache in caches:
            params = cache.params
            assert params is not None
            await params.destroy.init(self.work_func(params))
            await queue_delayed_work(cpu, machine.system_wq, params.destroy, 0)
        await memcg.slab_caches_mutex.unlock()


class DeadAfterQueueing(V5):
    """Offline marks a cache dead only after its work was queued: a release in between queues nothing."""

    name = "v5-dead-after-queueing"
    release = "mutant of v5"

    async def mem_cgroup_destroy_all_caches(self, cpu: Cpu, memcg: MemCgroup) -> None:
        """Queue every child's work, then mark the child."""
        machine = cpu.machine
        await memcg.slab_caches_mutex.lock()
        caches = await memcg.slab_caches()
        for cache in caches:
            params = cache.params
            assert params is not None
            await params.destroy.init(self.work_func(params))
            await queue_delayed_work(cpu, machine.system_wq, params.destroy, 0)
            await params.set_dead()
        await memcg.slab_caches_mutex.unlock()


class InitAtCreation(V5):
    """The work is initialised when the cache is made, as 3.9 does, and not again at offline."""

    name = "v5-init-at-creation"
    release = "mutant of v5; what 3.9 does"

    async def register_cache(self, cpu: Cpu, cache: KmemCache) -> None:
        """``INIT_DELAYED_WORK()`` before anybody can find the cache."""
        params = cache.params
        assert params is not None
        await params.destroy.init(self.work_func(params))

    async def mem_cgroup_destroy_all_caches(self, cpu: Cpu, memcg: MemCgroup) -> None:
        """Mark every child dead and queue its work."""
        machine = cpu.machine
        await memcg.slab_caches_mutex.lock()
        caches = await memcg.slab_caches()
        for cache in caches:
            assert cache.params is not None
            await cache.params.set_dead()
            await queue_delayed_work(cpu, machine.system_wq, cache.params.destroy, 0)
        await memcg.slab_caches_mutex.unlock()
