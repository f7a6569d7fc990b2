"""How a cache looks to a log: one view for each family of allocators, with slabs numbered as they are first seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from slabactors.machine import Machine
    from slabactors.mm.slab_common import KmemCache
    from slabactors.mm.slab_page import SlabObject, SlabPage


class Numbered:
    """The slabs of one cache, by the number that each got when it was first seen.

    Attributes:
        numbers: of those that have not gone back, in the order of their numbers.
        held: how many objects of each the script holds.
    """

    def __init__(self) -> None:
        self.numbers: dict[SlabPage, int] = {}
        self.held: dict[SlabPage, int] = {}
        self._next = 0

    def see(self, slab: SlabPage) -> int:
        """The number of a slab."""
        number = self.numbers.get(slab)
        if number is None:
            number = self.numbers[slab] = self._next
            self.held[slab] = 0
            self._next += 1
        return number

    def forget_gone(self) -> list[int]:
        """Drop the slabs that went back to the page allocator; their numbers, lowest first."""
        gone = [slab for slab in self.numbers if slab.tombstone is not None]
        return [self._drop(slab) for slab in gone]

    def _drop(self, slab: SlabPage) -> int:
        del self.held[slab]
        return self.numbers.pop(slab)


class View(Protocol):
    """What a log says of a cache under one family of allocators."""

    def geometry(self, machine: Machine, cache: KmemCache) -> dict[str, Any]:
        """What ``create`` answers."""
        ...

    def marks(self, cache: KmemCache, cpu: int) -> tuple[int, ...]:
        """What ``steps`` says when one of it has changed: slabs first."""
        ...

    def state(self, machine: Machine, cache: KmemCache, slabs: Numbered) -> dict[str, Any]:
        """The whole state of a cache: ``cpu``, ``node`` and ``slab``."""
        ...

    def counters(self, machine: Machine, cache: KmemCache) -> dict[str, Any]:
        """What userspace reads of it: ``ctr``."""
        ...

    def written(self, cache: KmemCache) -> None:
        """A file of the cache was written to: what was remembered of its settings is stale."""
        ...

    def taker(self, cache: KmemCache, cpu: int) -> Callable[[int], list[SlabObject]]:
        """Gives up to so many objects of one slab that this CPU has at hand, each by the one operation that it takes.

        Driving a coroutine for each of them takes five times as long, and they are nearly all there are.
        """
        ...

    def giver(self, cache: KmemCache, cpu: int) -> Callable[[list[SlabObject], int], int]:
        """Frees objects of a list from some position on, as long as each takes one operation and changes no `marks`.

        What is called returns the position of the first one that it has left, which has to be driven.
        """
        ...

    def columns(self, machine: Machine, cache: KmemCache) -> dict[str, str]:
        """What a table has of a cache after each operation."""
        ...

    def sections(self, cache: KmemCache) -> dict[int, int]:
        """For each CPU that owns something: how many critical sections it has in a flush."""
        ...

    def fingerprint(self, machine: Machine, cache: KmemCache, slabs: Numbered) -> object:
        """Equal for two states of a cache from which the same follows."""
        ...
