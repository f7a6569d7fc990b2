"""A SLAB slab: the page block that objects are carved from, and the descriptor that says which of them are free."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from slabactors.actors import operation
from slabactors.mm.slab_page import SlabPage

if TYPE_CHECKING:
    from slabactors.mm.memcontrol import MemCgroup
    from slabactors.mm.slab_common import KmemCache

Entry: TypeAlias = "tuple[SlabDescriptor, int]"
"""A free object in an array: its slab and its place there."""


class SlabDescriptor(SlabPage):
    """``struct slab``: how many objects of a page block are in use, and the index of the free ones (mm/slab.c, v3.8).

    Objects in a CPU's array, and in the one that CPUs share, count as in use.  All of it is protected by the
    ``list_lock`` of the node that lists the slab.
    """

    role = "struct slab"

    def __init__(
        self, number: int, cache: KmemCache, order: int, objects: int, memcg: MemCgroup | None, node: int = 0
    ) -> None:
        super().__init__(number, cache, order, objects, memcg, node)
        self.freelist = list(range(objects))[::-1]
        """Places of free objects; the kernel's head is the last element."""

    @operation(writes="objects")
    def get_objects(self, count: int) -> tuple[list[Entry], bool]:
        """``slab_get_obj()``, as often as is wanted and possible: the objects, and whether that was the last."""
        taken: list[Entry] = []
        while self.freelist and len(taken) < count:
            taken.append((self, self.freelist.pop()))
        self.inuse += len(taken)
        return taken, not self.freelist

    @operation(writes="objects")
    def put_objects(self, places: list[int]) -> int:
        """``slab_put_obj()`` for each: how many objects are in use afterwards."""
        self.freelist.extend(places)
        self.inuse -= len(places)
        return self.inuse
