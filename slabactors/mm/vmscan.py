"""Memory pressure: kswapd and direct reclaim free objects through shrinkers (mm/vmscan.c, v3.8).

Nothing here calls kmem_cache_shrink(): reclaim frees objects; slabs go by the allocator's rules alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slabactors.actors import Actor, operation
from slabactors.mm.slab_common import kmem_cache_free

if TYPE_CHECKING:
    from slabactors.kernel.cpu import Cpu
    from slabactors.mm.slab_page import SlabObject

SHRINK_BATCH = 128
"""Objects that kswapd asks a shrinker for at a time."""


class Shrinker(Actor):
    """``struct shrinker`` with its LRU: unused objects that can be freed under pressure, of living and dead caches."""

    role = "shrinker"

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.lru: list[SlabObject] = []

    @operation
    def add(self, obj: SlabObject) -> None:
        """``list_lru_add()``: nobody uses the object any more; it may go."""
        self.lru.append(obj)

    @operation
    def scan(self, count: int) -> list[SlabObject]:
        """``list_lru_walk()``: up to ``count`` of the objects that lay unused longest; the caller frees them."""
        taken, self.lru = self.lru[:count], self.lru[count:]
        return taken


async def shrink_slab(cpu: Cpu, count: int = SHRINK_BATCH) -> int:
    """Ask every shrinker for objects and free them on this CPU; how many went.  Models shrink_slab() (mm/vmscan.c)."""
    freed = 0
    for shrinker in cpu.machine.shrinkers:
        objects = await shrinker.scan(count)
        for obj in objects:
            await kmem_cache_free(cpu, obj)
        freed += len(objects)
    return freed


async def direct_reclaim(cpu: Cpu) -> int:
    """What an allocation does that finds no memory.  Models do_try_to_free_pages() (mm/vmscan.c, v3.8)."""
    return await shrink_slab(cpu)


async def kswapd(cpu: Cpu) -> None:
    """Reclaim whenever the zone is below its low watermark, until it is above the high one.

    Models kswapd() and balance_pgdat() (mm/vmscan.c, v3.8).
    """
    page_alloc = cpu.machine.page_alloc
    while True:
        await page_alloc.kswapd_sleep()
        while not await page_alloc.balanced():
            if not await shrink_slab(cpu):
                await page_alloc.give_up()
                break
