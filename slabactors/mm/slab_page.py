"""A slab whatever the allocator: the block of pages that objects are carved from, and the objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slabactors.actors import Actor, operation
from slabactors.errors import KernelBug, Kind

if TYPE_CHECKING:
    from slabactors.mm.memcontrol import MemCgroup
    from slabactors.mm.slab_common import KmemCache

__all__ = ["SlabObject", "SlabPage"]


class SlabObject:
    """An allocated object; one is made for each allocation and never used again.

    Attributes:
        slab: where it lies.
        index: its place in the slab.
        allocated: false once it was freed.
    """

    __slots__ = ("allocated", "index", "slab")

    def __init__(self, slab: SlabPage, index: int) -> None:
        self.slab = slab
        self.index = index
        self.allocated = True

    def give_back(self) -> int:
        """Mark it freed.

        Raises:
            KernelBug: ``double-free`` when it was already.
        """
        if not self.allocated:
            raise KernelBug(Kind.DOUBLE_FREE, f"{self} is freed a second time", clause="double free of an object")
        self.allocated = False
        return self.index

    def __repr__(self) -> str:
        return f"{self.slab.name}[{self.index}]"


class SlabPage(Actor):
    """The block of pages of one slab.

    Args:
        number: the page block's number.
        cache: the cache it belongs to.
        order: log2 of its pages.
        objects: its capacity.
        memcg: the memcg its pages are charged to, if any.
        node: the memory node that it lies in.

    Attributes:
        inuse: objects in use, as the allocator counts them.
    """

    role = "slab"

    def __init__(
        self, number: int, cache: KmemCache, order: int, objects: int, memcg: MemCgroup | None, node: int = 0
    ) -> None:
        super().__init__(f"slab{number}")
        self.number = number
        self.cache = cache
        self.order = order
        self.objects = objects
        self.memcg = memcg
        self.node = node
        self.inuse = 0

    @operation(frees=True)
    def free(self) -> None:
        """``__free_pages(page)``: the pages go back."""
        if self.inuse:
            raise KernelBug(
                Kind.ACCOUNTING,
                f"{self.name} of {self.cache.name} goes back with {self.inuse} objects in use",
                clause="pages freed with objects in use",
            )
