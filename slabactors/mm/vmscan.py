"""Memory pressure: kswapd and direct reclaim free objects through shrinkers (mm/vmscan.c, v3.8).

Nothing here calls kmem_cache_shrink(): reclaim frees objects; slabs go by the allocator's rules alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from slabactors.actors import Actor, operation
from slabactors.mm.slab_common import kmem_cache_free

if TYPE_CHECKING:
    from slabactors.kernel.cpu import Cpu
    from slabactors.mm.slab_page import SlabObject

__all__ = ["SHRINK_BATCH", "Shrinker", "direct_reclaim", "drop_slab", "shrink_slab"]

SHRINK_BATCH: Final = 128
"""Objects that a shrinker is asked for at a time, unless it says otherwise."""

DEFAULT_SEEKS: Final = 2
"""What it costs to make an object again, in disk seeks."""

SWAP_CLUSTER_MAX: Final = 32
"""Pages that count as scanned when none was."""


class Shrinker(Actor):
    """``struct shrinker`` with its LRU: unused objects that can be freed under pressure, of living and dead caches.

    Args:
        name: how reports call it.
        batch: objects that it is asked for at a time.
        seeks: what it costs to make one of them again; the more, the fewer are asked for.
    """

    role = "shrinker"

    def __init__(self, name: str, batch: int = SHRINK_BATCH, seeks: int = DEFAULT_SEEKS) -> None:
        super().__init__(name)
        self.batch = batch
        self.seeks = seeks
        self.nr_in_batch = 0
        self.lru: list[SlabObject] = []

    @operation(writes="lru")
    def add(self, obj: SlabObject) -> None:
        """``list_lru_add()``: nobody uses the object any more; it may go."""
        self.lru.append(obj)

    @operation(reads="lru")
    def count(self) -> int:
        """``do_shrinker_shrink(shrinker, sc, 0)``: how many objects could go."""
        return len(self.lru)

    @operation(writes="lru")
    def scan(self, count: int) -> list[SlabObject]:
        """``do_shrinker_shrink(shrinker, sc, count)``: the objects that lay unused longest; the caller frees them."""
        taken, self.lru = self.lru[:count], self.lru[count:]
        return taken

    @operation(writes="nr_in_batch")
    def take_in_batch(self) -> int:
        """``atomic_long_xchg(&shrinker->nr_in_batch, 0)``: what earlier calls have left to be scanned."""
        taken, self.nr_in_batch = self.nr_in_batch, 0
        return taken

    @operation(writes="nr_in_batch")
    def leave_in_batch(self, count: int) -> None:
        """``atomic_long_add_return(total_scan, &shrinker->nr_in_batch)``: less than a batch, for the next call."""
        self.nr_in_batch += count


def scan_total(freeable: int, in_batch: int, nr_scanned: int, lru_pages: int, seeks: int = DEFAULT_SEEKS) -> int:
    """How many objects a shrinker is to be asked for, in whole batches.

    Models the arithmetic of shrink_slab() (mm/vmscan.c, v3.8).

    Args:
        freeable: objects that could go.
        in_batch: what earlier calls have left to be scanned.
        nr_scanned: pages of the LRU lists that reclaim has looked at.
        lru_pages: pages on these lists: objects are asked for in the same proportion.
        seeks: what it costs to make an object again.
    """
    delta = 4 * (nr_scanned or SWAP_CLUSTER_MAX) // seeks * freeable // (lru_pages + 1)
    total = in_batch + delta
    if delta < freeable // 4:
        # Many calls that could not scan, as from file systems, must not add up to everything at once.
        total = min(total, freeable // 2)
    return min(total, 2 * freeable)


async def shrink_slab(cpu: Cpu, nr_scanned: int = 0, lru_pages: int = 0) -> int:
    """Ask every shrinker for objects and free them on this CPU; how many went.  Sleeps.

    Models shrink_slab() (mm/vmscan.c, v3.8).
    Deviations: what went is counted, not told from how many there were before and after; nobody registers a shrinker
    meanwhile.

    Args:
        cpu: where the task runs.
        nr_scanned: pages of the LRU lists that were looked at before.
        lru_pages: pages on these lists.  A machine here has none, and then the pressure on objects is the highest.
    """
    freed = 0
    for shrinker in cpu.machine.shrinkers:
        freeable = await shrinker.count()
        if freeable == 0:
            continue
        in_batch = await shrinker.take_in_batch()
        # Window: whoever reclaims at the same time finds nothing left over, and works out a total of its own.
        total = scan_total(freeable, in_batch, nr_scanned, lru_pages, shrinker.seeks)
        while total >= shrinker.batch:
            objects = await shrinker.scan(shrinker.batch)
            for obj in objects:
                await kmem_cache_free(cpu, obj)
            freed += len(objects)
            total -= shrinker.batch
        await shrinker.leave_in_batch(total)
    return freed


async def drop_slab(cpu: Cpu) -> None:
    """Shrink until hardly anything goes any more: 2 written to ``drop_caches``.  Sleeps.

    Models drop_slab() (fs/drop_caches.c, v3.8).
    """
    while await shrink_slab(cpu, 1000, 1000) > 10:
        pass


async def direct_reclaim(cpu: Cpu) -> int:
    """What an allocation does that finds no memory.  Models do_try_to_free_pages() (mm/vmscan.c, v3.8).

    Deviation: one pass; without LRU pages a pass of another priority would ask for the same.
    """
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
