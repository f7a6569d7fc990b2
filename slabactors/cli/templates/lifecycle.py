"""A teardown protocol of your own; as it stands, that of the founding patch.

    slabactors explore dead-cache/rmdir-races-last-free --lifecycle new_name.py

Change a method, run that line, and read the table of what broke; ``dead-cache/freed-later`` asks whether dead caches go
away at all, and ``slabactors list`` names the other stories.  ``slabactors verify`` proves that nothing is left.
"""

from slabactors.kernel.cpu import Cpu
from slabactors.kernel.workqueue import queue_delayed_work
from slabactors.lifecycle.v5 import RETRY_JIFFIES, V5, find_cache
from slabactors.mm.memcontrol import MemcgCacheParams, MemCgroup
from slabactors.mm.slab_common import KmemCache, kmem_cache_destroy, kmem_cache_shrink


class NewName(V5):
    """What it does differently."""

    name = "new-name"
    release = "a sketch"

    async def register_cache(self, cpu: Cpu, cache: KmemCache) -> None:
        """A child was made, and nobody can find it yet.  Why not initialise its work here?"""

    async def mem_cgroup_destroy_all_caches(self, cpu: Cpu, memcg: MemCgroup) -> None:
        """The directory of a group is removed: mark every child dead, and queue its work."""
        await memcg.slab_caches_mutex.lock()
        caches = await memcg.slab_caches()
        for cache in caches:
            params = cache.params
            assert params is not None  # a child has them
            await params.set_dead()
            # Window: dead, and its work was never initialised.
            await params.destroy.init(self.work_func(params))
            await queue_delayed_work(cpu, cpu.machine.system_wq, params.destroy, 0)
        await memcg.slab_caches_mutex.unlock()

    async def last_page_released(self, cpu: Cpu, cache: KmemCache) -> None:
        """The last page of a child has just gone, in any context; the child itself may be gone, too."""
        params = cache.params
        assert params is not None
        if not await params.is_dead():
            return
        if await params.destroy.is_pending():
            return
        # Window: the work may be queued, running, or gone with the cache by now.
        await queue_delayed_work(cpu, cpu.machine.system_wq, params.destroy, 0)

    async def kmem_cache_destroy_work_func(self, cpu: Cpu, params: MemcgCacheParams) -> None:
        """The work of a dead child runs on a kworker: destroy it when it is empty, else shrink it."""
        cache = await find_cache(cpu, params)
        if await params.no_pages():
            await kmem_cache_destroy(cpu, cache)
            return
        await kmem_cache_shrink(cpu, cache)
        if await params.no_pages():
            return  # whoever released the last page has queued the work again
        await queue_delayed_work(cpu, cpu.machine.system_wq, params.destroy, RETRY_JIFFIES)
