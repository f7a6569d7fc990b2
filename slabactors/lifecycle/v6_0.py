"""As 5.19, with directories that are removed when ``slab_mutex`` has been given back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slabactors.kernel.hotplug import hold_hotplug, release_hotplug
from slabactors.lifecycle.v5_19 import V519

if TYPE_CHECKING:
    from slabactors.kernel.cpu import Cpu
    from slabactors.mm.slab_common import KmemCache


class V60Rc4(V519):
    """Destroying a cache releases it at the end, without a lock, unless it is an RCU cache: then the work does.

    Models "mm/slab_common: Deleting kobject in kmem_cache_destroy() without holding slab_mutex/cpu_hotplug_lock"
    (0495e337b703, mm/slab_common.c, v6.0-rc4).  Whether it is an RCU cache is read when the work may have released it;
    whether it could be shut down is not asked.
    """

    name = "v6.0-rc4"
    release = "6.0-rc4, 2022-09-04"

    async def destroy_cache(self, cpu: Cpu, cache: KmemCache) -> str | None:
        """``kmem_cache_destroy()``."""
        machine = cpu.machine
        complaint = None
        await hold_hotplug(cpu)
        await machine.slab_mutex.lock()
        rcu = await self.read_flags_early(cache)
        names = await cache.drop_name()
        if names == 0:
            complaint = await self.shutdown(cpu, cache)
        await machine.slab_mutex.unlock()
        await release_hotplug(cpu)
        # Window: the work may have released the cache, if it is one for the work.
        if names == 0 and not (await cache.typesafe_by_rcu() if rcu is None else rcu) and self.may_release(complaint):
            await self.kmem_cache_release(cpu, cache)
        return self.complain(machine, cache, complaint)

    async def read_flags_early(self, cache: KmemCache) -> bool | None:
        """Not yet: they are read at the end."""
        return None

    def may_release(self, complaint: str | None) -> bool:
        """Whatever came of shutting it down."""
        return True

    async def unlink_from_sysfs(self, cpu: Cpu, cache: KmemCache) -> None:
        """Not under slab_mutex."""

    async def release_after_rcu(self, cpu: Cpu, cache: KmemCache) -> None:
        """``kmem_cache_release()``."""
        await self.kmem_cache_release(cpu, cache)


class V60(V60Rc4):
    """As it was at first, and whether it is an RCU cache is read while it is surely there.

    Models "mm/slab_common: fix possible double free of kmem_cache" (d71608a87736, mm/slab_common.c, v6.0).
    """

    name = "v6.0"
    release = "6.0, 2022-10-02, to 6.5"

    async def read_flags_early(self, cache: KmemCache) -> bool | None:
        """Under slab_mutex."""
        return await cache.typesafe_by_rcu()


class V66(V60):
    """As 6.0, and a cache that could not be shut down is not released.

    Models "mm/slab_common: fix slab_caches list corruption after kmem_cache_destroy()" (46a9ea668190,
    mm/slab_common.c, v6.6).
    """

    name = "v6.6"
    release = "6.6, 2023-10-29"

    def may_release(self, complaint: str | None) -> bool:
        """Only what was shut down."""
        return complaint is None
