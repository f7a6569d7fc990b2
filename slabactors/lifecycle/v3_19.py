"""The css is the reference: caches go when their group is freed, and whatever uses them holds the group."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slabactors.lifecycle.v3_16 import V316
from slabactors.mm.memcontrol import mem_cgroup_free, mem_cgroup_put, memcg_create_cache_enqueue

if TYPE_CHECKING:
    from slabactors.kernel.cpu import Cpu
    from slabactors.machine import Machine
    from slabactors.mm.memcontrol import MemCgroup
    from slabactors.mm.slab_common import KmemCache


class V319(V316):
    """Every allocation holds its group until it has ended, and every page holds it; a group that is freed destroys its
    children, which have no pages then.

    Models "memcg: fix possible use-after-free in memcg_kmem_get_cache()" (8135be5a8012, mm/memcontrol.c, v3.19).
    Children hold no reference any more, and their pages are not counted.
    """

    name = "v3.19"
    release = "3.19, 2015-02-08"
    holds_cache_while_allocating = True
    counts_pages = False
    kmem_pins_memcg = False

    async def get_cache(self, cpu: Cpu, root: KmemCache, memcg: MemCgroup, *, may_sleep: bool) -> KmemCache:
        """``__memcg_kmem_get_cache()``: with a child comes a reference of the group."""
        if not memcg.active or not await memcg.css_tryget():
            return root
        child = await root.read_slot(memcg.id)
        if child is not None:
            return child
        await memcg_create_cache_enqueue(cpu, root, memcg)
        await mem_cgroup_put(cpu, memcg)
        return root

    async def put_cache(self, cpu: Cpu, cache: KmemCache) -> None:
        """``__memcg_kmem_put_cache()``."""
        assert cache.params is not None
        await mem_cgroup_put(cpu, cache.params.memcg)

    async def charge_slab(self, cpu: Cpu, cache: KmemCache, memcg: MemCgroup, order: int) -> bool:
        """``memcg_charge_kmem()``: every page that is charged holds the group."""
        if not await memcg.charge(1 << order):
            return False
        await memcg.get(1 << order)
        return True

    async def bind_pages(self, cpu: Cpu, cache: KmemCache, order: int) -> None:
        """Nobody counts."""

    async def release_pages(self, cpu: Cpu, cache: KmemCache, order: int) -> None:
        """Nobody counts."""

    async def uncharge_slab(self, cpu: Cpu, cache: KmemCache, memcg: MemCgroup, order: int) -> None:
        """``memcg_uncharge_kmem()``: the last of this may be what frees the group, and with it the cache."""
        await memcg.uncharge(1 << order)
        await mem_cgroup_put(cpu, memcg, 1 << order)

    async def offline(self, cpu: Cpu, memcg: MemCgroup) -> None:
        """Nothing is done to the children: empty slabs that an allocator keeps go on holding the group."""
        await memcg.css_offline()

    async def register_cache(self, cpu: Cpu, cache: KmemCache) -> None:
        """A child counts nothing, and holds nothing."""

    async def put_child(self, cpu: Cpu, memcg: MemCgroup) -> None:
        """It held nothing."""

    async def css_free(self, cpu: Cpu, memcg: MemCgroup) -> None:
        """``mem_cgroup_css_free()``, by a kworker: the children first, which nobody can have a page of."""
        machine = cpu.machine
        await machine.memcg_slab_mutex.lock()
        caches = await memcg.slab_caches()
        for cache in caches:
            await self.unregister(cpu, cache)
        await machine.memcg_slab_mutex.unlock()
        await mem_cgroup_free(memcg)

    def expected_references(self, machine: Machine, memcg: MemCgroup) -> int:
        """One of the directory, and one of every page."""
        pages = sum(1 << slab.order for slab in machine.slabs if slab.tombstone is None and slab.memcg is memcg)
        return pages + (0 if memcg.dead else 1)

    def needed(self, machine: Machine, cache: KmemCache) -> bool:
        """The children of a group go together: somebody holds an object of one of them."""
        assert cache.params is not None
        memcg = cache.params.memcg
        return any(
            machine.allocator.live_objects(machine, child) > 0
            for child in machine.children()
            if child.params is not None and child.params.memcg is memcg
        )
