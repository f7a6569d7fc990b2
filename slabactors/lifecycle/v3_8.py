"""What was merged: plain work that shrinks once and never comes back by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from slabactors.kernel.workqueue import cancel_work_sync, queue_work
from slabactors.lifecycle.base import Lifecycle
from slabactors.lifecycle.v5 import find_cache
from slabactors.mm.slab_common import kmem_cache_destroy, kmem_cache_shrink, try_destroy

if TYPE_CHECKING:
    from slabactors.kernel.cpu import Cpu
    from slabactors.mm.memcontrol import MemcgCacheParams, MemCgroup
    from slabactors.mm.slab_common import KmemCache


class V38(Lifecycle):
    """A dead cache is shrunk once, by the work that offline queues; after that only a last page brings the work back.

    Models "memcg/sl[au]b: shrink dead caches" as it was merged (22933152934f, v3.8): the delayed work and its retry are
    gone, children are made by kworkers only, and destroying a root cancels the works of its children.

    Attributes:
        initialises_at_offline: the work of a child is initialised when the child is marked dead.
    """

    name = "v3.8"
    release = "3.8, 2013-02-18: as released"
    publishes_locked = False
    puts_memcg_last = False
    frees_memcg_by_work = True
    kmemcg_ids = True
    initialises_at_offline: ClassVar[bool] = True

    async def offline(self, cpu: Cpu, memcg: MemCgroup) -> None:
        """``mem_cgroup_css_offline()``, once; nobody gets a reference of the group any more when it is called."""
        await memcg.css_offline()
        await self.mem_cgroup_destroy_all_caches(cpu, memcg)

    async def mem_cgroup_destroy_all_caches(self, cpu: Cpu, memcg: MemCgroup) -> None:
        """Mark every child dead and queue its work; each is looked up through the array of its root."""
        machine = cpu.machine
        await memcg.slab_caches_mutex.lock()
        caches = await memcg.slab_caches()
        for listed in caches:
            assert listed.params is not None
            # Window: on the list, and its slot is not filled yet, or not any more.
            cache = await find_cache(listed.params)
            params = cache.params
            assert params is not None
            await params.set_dead()
            if self.initialises_at_offline:
                # Window: dead, and its work was never initialised.
                await params.destroy.init(self.work_func(params))
            await queue_work(cpu, machine.system_wq, params.destroy)
        await memcg.slab_caches_mutex.unlock()

    async def last_page_released(self, cpu: Cpu, cache: KmemCache) -> None:
        """``mem_cgroup_destroy_cache()``: queue the work of a dead cache unless it is pending."""
        params = cache.params
        assert params is not None
        if not await params.is_dead():
            return
        if await params.destroy.is_pending():
            return
        # Window: pending a moment ago or not, it may be queued, running or gone now.
        await queue_work(cpu, cpu.machine.system_wq, params.destroy)

    async def kmem_cache_destroy_work_func(self, cpu: Cpu, params: MemcgCacheParams) -> None:
        """Destroy a dead cache when it is empty, else shrink it; whoever releases its last page queues this again."""
        cache = await find_cache(params)
        assert cache.params is not None
        if await cache.params.no_pages():
            await kmem_cache_destroy(cpu, cache)
            return
        await kmem_cache_shrink(cpu, cache)
        # The kernel looks once more, and returns whatever it sees: what has pages now stays until somebody shrinks it.
        await cache.params.no_pages()

    async def destroy_children(self, cpu: Cpu, root: KmemCache) -> str | None:
        """Slot by slot: not dead any more, its work cancelled, destroyed.

        Models kmem_cache_destroy_memcg_children() (mm/memcontrol.c, v3.8).
        """
        machine = cpu.machine
        complaint = None
        await machine.set_limit_mutex.lock()
        index = -1
        while (slot := await root.next_child(index)) is not None:
            index, child = slot
            assert child.params is not None
            # Window: its own work may be destroying it, or offline may be about to queue that work.
            await child.params.set_dead(False)
            await cancel_work_sync(machine.system_wq, child.params.destroy)
            complaint = await try_destroy(cpu, child) or complaint
        await machine.set_limit_mutex.unlock()
        return complaint
