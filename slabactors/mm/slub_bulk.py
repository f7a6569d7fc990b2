"""Which objects of a bulk free go together."""

from __future__ import annotations

from slabactors.mm.slab_page import SlabObject

LOOKAHEAD = 3
"""So many objects of other slabs are met before the search for more of the same slab is given up."""


def one_slab_from_the_end(objects: list[SlabObject]) -> list[SlabObject]:
    """Take the last object off a list, with those of the same slab that lie not far before it.

    What is taken changes places with the last one left, so that the others are in another order afterwards.

    Models build_detached_freelist() (mm/slub.c, v6.1).

    Args:
        objects: what is to be freed; loses what is returned.

    Returns:
        Objects of one slab, in the order in which they were found.
    """
    taken = [objects.pop()]
    slab = taken[0].slab
    others = 0
    for position in range(len(objects) - 1, -1, -1):
        if objects[position].slab is slab:
            taken.append(objects[position])
            objects[position] = objects[-1]
            objects.pop()
        else:
            others += 1
            if others == LOOKAHEAD:
                break
    return taken
