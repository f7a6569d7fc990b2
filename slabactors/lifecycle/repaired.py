"""What the founding patch could have been: the smallest repair of it that the explorer passes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slabactors.kernel.workqueue import disable_work_sync, queue_delayed_work
from slabactors.lifecycle.base import Lifecycle
from slabactors.lifecycle.v5 import RETRY_JIFFIES
from slabactors.mm.memcg_caches import Relocation
from slabactors.mm.slab_common import kmem_cache_destroy, kmem_cache_shrink, try_destroy

if TYPE_CHECKING:
    from slabactors.kernel.cpu import Cpu
    from slabactors.mm.memcontrol import MemcgCacheParams, MemCgroup
    from slabactors.mm.slab_common import KmemCache


class Repaired(Lifecycle):
    """Only one ever decides.  No kernel release did it this way.

    Changes to `V5`: the work is initialised when the cache is made; whoever releases the last page does nothing but
    count, so nothing is touched after the count; the worker destroys in the run in which it sees no page, else looks
    again a minute later; worker and root destruction claim a child by taking it out of its slot; and creation looks
    under the mutex whether the group is still online.
    """

    name = "repaired"
    release = "none: a repair of v5"
    creates_in_place = True
    creation_checks_online = True
    relocation = Relocation.NEVER

    async def register_cache(self, cpu: Cpu, cache: KmemCache) -> None:
        """The work is ready before anybody can find the cache."""
        params = cache.params
        assert params is not None
        await params.destroy.init(self.work_func(params))

    async def offline(self, cpu: Cpu, memcg: MemCgroup) -> None:
        """The group goes offline under the mutex that creation checks it under; then its children are marked."""
        machine = cpu.machine
        await machine.slab_mutex.lock()
        await memcg.css_offline()
        await machine.slab_mutex.unlock()
        await memcg.slab_caches_mutex.lock()
        caches = await memcg.slab_caches()
        for cache in caches:
            assert cache.params is not None
            await cache.params.set_dead()
            await queue_delayed_work(cpu, machine.system_wq, cache.params.destroy, 0)
        await memcg.slab_caches_mutex.unlock()

    async def last_page_released(self, cpu: Cpu, cache: KmemCache) -> None:
        """Nothing: the cache may be gone already."""

    async def kmem_cache_destroy_work_func(self, cpu: Cpu, params: MemcgCacheParams) -> None:
        """Shrink, then destroy if no page is left, else look again in a minute."""
        root = params.root
        await kmem_cache_shrink(cpu, params.cache)
        if not await params.no_pages():
            await queue_delayed_work(cpu, cpu.machine.system_wq, params.destroy, RETRY_JIFFIES)
        elif await root.claim(params.memcg.id):
            await kmem_cache_destroy(cpu, params.cache)
            await root.child_gone()

    async def destroy_children(self, cpu: Cpu, root: KmemCache) -> str | None:
        """Claim child after child, and wait for those that their own works have claimed."""
        machine = cpu.machine
        complaint = None
        while (child := await root.claim_any()) is not None:
            assert child.params is not None
            await disable_work_sync(machine.system_wq, child.params.destroy)
            complaint = await try_destroy(cpu, child) or complaint
            await root.child_gone()
        await root.wait_childless()
        return complaint
