"""What both allocators compute of a cache's sizes (mm/slab_common.c, v3.8)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from slabactors.mm.allocator import CacheSpec

CACHE_LINE_SIZE: Final = 64
"""Bytes."""

WORD: Final = 8
"""Bytes: the smallest alignment."""


def round_up(value: int, multiple: int) -> int:
    """The next multiple of a number that is not below a value."""
    return -(-value // multiple) * multiple


def calculate_alignment(spec: CacheSpec) -> int:
    """The alignment of a cache's objects, in bytes; that of small ones that ask for cache lines is a part of a line."""
    align = spec.align
    if spec.hwcache_align:
        line = CACHE_LINE_SIZE
        while spec.object_size <= line // 2:
            line //= 2
        align = max(align, line)
    return round_up(max(align, WORD), WORD)
