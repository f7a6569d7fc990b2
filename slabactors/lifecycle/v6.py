"""The series as it was posted for the last time: destroying a root cancels the works of its children."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from slabactors.kernel.workqueue import cancel_work_sync
from slabactors.lifecycle.v5 import V5, find_cache
from slabactors.mm.memcg_caches import next_child
from slabactors.mm.slab_common import try_destroy

if TYPE_CHECKING:
    from slabactors.kernel.cpu import Cpu
    from slabactors.mm.memcontrol import MemCgroup
    from slabactors.mm.slab_common import KmemCache


class V6(V5):
    """As `V5`, but a root takes over the children that it destroys, children are made by kworkers only, groups have
    numbers of their own, and a child is ready before it is published.

    Models "[PATCH v6 24/29] memcg/sl[au]b Track all the memcg children of a kmem_cache", 25/29 and 19/29
    (mm/memcontrol.c, 2012-11-01).  The list of a group has parameter blocks now, so that whoever walks it looks each
    cache up through the array of its root.

    Attributes:
        initialises_at_offline: the work of a child is initialised when the child is marked dead.
    """

    name = "v6"
    release = "v6 posting 24/29 and 25/29, 2012-11-01"
    creates_in_place = False
    publishes_early = False
    publishes_locked = False
    puts_memcg_last = False
    frees_memcg_by_work = True
    kmemcg_ids = True
    initialises_at_offline: ClassVar[bool] = True

    async def mem_cgroup_destroy_all_caches(self, cpu: Cpu, memcg: MemCgroup) -> None:
        """Mark every child dead and queue its work; each is looked up through the array of its root."""
        await memcg.slab_caches_mutex.lock()
        caches = await memcg.slab_caches()
        for listed in caches:
            assert listed.params is not None
            # Window: on the list, and its slot is not filled yet, or not any more.
            cache = await find_cache(cpu, listed.params)
            params = cache.params
            assert params is not None
            await params.set_dead()
            if self.initialises_at_offline:
                # Window: dead, and its work was never initialised.
                await params.destroy.init(self.work_func(params))
            await self.schedule(cpu, params)
        await memcg.slab_caches_mutex.unlock()

    async def destroy_children(self, cpu: Cpu, root: KmemCache) -> str | None:
        """Slot by slot: not dead any more, its work cancelled, destroyed.

        Models kmem_cache_destroy_memcg_children() (mm/memcontrol.c, v6 24/29 and v3.8).
        """
        machine = cpu.machine
        complaint = None
        await machine.set_limit_mutex.lock()
        index = -1
        while (slot := await next_child(cpu, root, index)) is not None:
            index, child = slot
            assert child.params is not None
            # Window: its own work may be destroying it, or offline may be about to queue that work.
            await child.params.set_dead(False)
            await cancel_work_sync(machine.system_wq, child.params.destroy)
            complaint = await try_destroy(cpu, child) or complaint
        await machine.set_limit_mutex.unlock()
        return complaint
