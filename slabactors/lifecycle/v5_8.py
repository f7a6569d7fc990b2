"""As 5.5, with a root that is dying only once it has lost its last name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slabactors.kernel.hotplug import hold_hotplug, release_hotplug
from slabactors.lifecycle.v5_5 import V55

if TYPE_CHECKING:
    from slabactors.kernel.cpu import Cpu
    from slabactors.mm.slab_common import KmemCache


class V58(V55):
    """Destroying one name of several leaves a cache as it is; the last one marks it as dying, and gives ``slab_mutex``
    back to wait for its children.

    Models "mm: memcg/slab: fix memory leak at non-root kmem_cache destroy" (d38a2b7a9c93, mm/slab_common.c, v5.8).
    A dying cache is not merged with.
    """

    name = "v5.8"
    release = "5.8, 2020-08-02"
    puts_memcg_without_request = True

    async def destroy_cache(self, cpu: Cpu, cache: KmemCache) -> str | None:
        """``kmem_cache_destroy()``: names first."""
        machine = cpu.machine
        await hold_hotplug(cpu)
        await machine.slab_mutex.lock()
        if await cache.drop_name() != 0:
            await machine.slab_mutex.unlock()
            await release_hotplug(cpu)
            return None
        await self.set_dying(cpu, cache)
        await machine.slab_mutex.unlock()
        await release_hotplug(cpu)
        # Window: without a name and dying, and everything about it can be found.
        await self.wait_for_children(cpu, cache)
        await hold_hotplug(cpu)
        await machine.slab_mutex.lock()
        return await self.destroy_nameless(cpu, cache)

    async def may_merge(self, cache: KmemCache) -> bool:
        """Not with one that is dying."""
        return not await cache.is_dying()


class V58Stable(V58):
    """A dying root may get a name again while it waits for its children, and lives on then.

    Models "mm: slab: fix kmem_cache_create failed when sysfs node not destroyed" (mm/slab_common.c, v5.4.y, 2021),
    which mainline, rid of all this by then, never had.
    """

    name = "v5.8-stable"
    release = "5.4.y, 2021"

    async def may_merge(self, cache: KmemCache) -> bool:
        """With any."""
        return True

    async def destroy_nameless(self, cpu: Cpu, cache: KmemCache) -> str | None:
        """Look at the names again: slab_mutex was given back meanwhile."""
        if await cache.names() == 0:
            return await super().destroy_nameless(cpu, cache)
        await cache.set_dying(False)
        await cpu.machine.slab_mutex.unlock()
        await release_hotplug(cpu)
        return None
