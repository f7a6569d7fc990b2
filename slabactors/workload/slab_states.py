"""Compares recorded states of SLAB; see `slabactors.workload.states`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

from slabactors.mm.slab_sizes import STRUCT_SLAB
from slabactors.workload.recording import Entry
from slabactors.workload.states import KEY, Labels, Pair, listed, rows_of

if TYPE_CHECKING:
    from slabactors.mm.slab_common import KmemCache
    from slabactors.mm.slab_lists import KmemList3
    from slabactors.mm.slab_sizes import SlabGeometry

_LISTS = re.compile(r"full:(.*) partial:(.*) free:(.*)")


def slab_pairs(labels: Labels, entry: Entry, cache: KmemCache, lines: list[str]) -> Iterator[Pair]:
    """Every field of a recorded state with ours."""
    shape = cast("SlabGeometry", cache.geometry)
    head = dict(KEY.findall(lines[0]))
    ours = {
        "size": shape.size,
        "osz": cache.spec.object_size,
        "num": shape.objects,
        "order": shape.order,
        "off": int(shape.off_slab),
        "slabsz": shape.management,
        "col": f"{shape.colour}/{shape.colour_off}",
        "limit": shape.limit,
        "batch": shape.batchcount,
        "shared": shape.shared,
        "sizeofslab": STRUCT_SLAB,
    }
    for key, value in ours.items():
        yield f"state.{key}", head.get(key), str(value)
    cpus, nodes = rows_of(entry, lines)
    for number, ac in enumerate(cache.arrays):
        seen = dict(KEY.findall(cpus.pop(number, "avail=0 touched=0")))
        yield f"state.C{number}.avail", seen.get("avail"), str(len(ac.entries))
        yield f"state.C{number}.touched", seen.get("touched"), str(int(ac.touched))
    for number, l3 in enumerate(cache.nodelists):
        yield from _node(labels, f"state.N{number}", nodes.pop(number, ""), l3)
    for number, row in (*cpus.items(), *nodes.items()):
        yield f"state.{number}", row.strip(), None


def _node(labels: Labels, name: str, row: str, l3: KmemList3) -> Iterator[Pair]:
    seen = dict(KEY.findall(row))
    ours = {
        "free_objects": l3.free_objects,
        "free_limit": l3.free_limit,
        "ft": int(l3.free_touched),
        "shared": f"{len(l3.shared)}/{l3.shared_limit}" if l3.shared_limit else "-1/-1",
        "st": int(l3.shared_touched) if l3.shared_limit else -1,
    }
    for key, value in ours.items():
        yield f"{name}.{key}", seen.get(key), str(value)
    found = _LISTS.search(row)
    lists = (("full", l3.slabs_full), ("partial", l3.slabs_partial), ("free", l3.slabs_free))
    for place, (which, slabs) in enumerate(lists, 1):
        yield from listed(labels, f"{name}.{which}", found[place] if found else "", slabs)
