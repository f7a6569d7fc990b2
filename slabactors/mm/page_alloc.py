"""The page allocator: how many pages there are, who has how many, and when kswapd wakes.

Pages have identity: each slab is an actor of its own and none is ever reused, so a stale reference is always seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slabactors.actors import Actor, Narrow, operation
from slabactors.errors import KernelBug, Kind

if TYPE_CHECKING:
    from slabactors.kernel.cpu import Cpu

__all__ = ["PAGE_SIZE", "PageAllocator", "alloc_pages"]

PAGE_SIZE = 4096
"""Bytes."""


class PageAllocator(Actor):
    """One zone: a number of pages, and its min, low and high watermarks.

    Args:
        pages: how many pages the zone has.
        watermark_min: below this many free pages an allocation reclaims by itself first.
        watermark_low: below this many kswapd is woken.
        watermark_high: kswapd works until this many are free.
    """

    role = "page_alloc"
    reports = ("failures", "frees")

    def __init__(self, pages: int, watermark_min: int = 0, watermark_low: int = 0, watermark_high: int = 0) -> None:
        super().__init__("page_alloc")
        self.pages = pages
        self.free = pages
        self.watermark_min = watermark_min
        self.watermark_low = watermark_low
        self.watermark_high = watermark_high
        self.kswapd_woken = False
        self.slabs_made = 0
        self.failures = 0
        self.frees = 0

    def _plenty(self, order: int, *_: object) -> bool:
        return self.free - (1 << order) >= self.watermark_low

    @operation(narrow=[Narrow(_plenty, writes="free slabs_made")])
    def get_pages(self, order: int, *, reclaiming: bool = False) -> int | None:
        """``get_page_from_freelist()``: the number of the new page block, or none.

        Args:
            order: log2 of how many pages.
            reclaiming: the caller has reclaimed already and may go below the min watermark.
        """
        after = self.free - (1 << order)
        if after < self.watermark_low:
            self.kswapd_woken = True
        if after < (0 if reclaiming else self.watermark_min):
            self.failures += 1
            return None
        self.free = after
        self.slabs_made += 1
        return self.slabs_made - 1

    @operation(writes="free")
    def free_pages(self, order: int) -> None:
        """``__free_pages()``."""
        self.free += 1 << order
        self.frees += 1
        if self.free > self.pages:
            raise KernelBug(Kind.ACCOUNTING, "more pages are free than there are", clause="too many free pages")

    def _woken(self) -> bool:
        return self.kswapd_woken

    @operation(guard=_woken, reads="kswapd_woken", parks=True)
    def kswapd_sleep(self) -> None:
        """``kswapd_try_to_sleep()``: returns when an allocation has found the zone below its low watermark."""

    def _short(self) -> bool:
        return self.free < self.watermark_high

    @operation(reads="free", writes="kswapd_woken", narrow=[Narrow(_short, reads="free")])
    def balanced(self) -> bool:
        """``zone_watermark_ok()`` for the high watermark; kswapd may sleep again when it holds."""
        if self.free >= self.watermark_high:
            self.kswapd_woken = False
            return True
        return False

    @operation(writes="kswapd_woken")
    def give_up(self) -> None:
        """``prepare_kswapd_sleep()``: nothing to reclaim was found; sleeps until the next allocation wakes it."""
        self.kswapd_woken = False


async def alloc_pages(cpu: Cpu, order: int) -> int | None:
    """A block of ``2**order`` pages, after direct reclaim if need be; none when there is no memory.  May sleep.

    Models __alloc_pages_nodemask() (mm/page_alloc.c, v3.8).
    """
    machine = cpu.machine
    number = await machine.page_alloc.get_pages(order)
    if number is None and machine.shrinkers:
        await machine.vmscan.direct_reclaim(cpu)
        number = await machine.page_alloc.get_pages(order, reclaiming=True)
    return number
