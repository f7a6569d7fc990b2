"""Compares recorded states of SLUB; see `slabactors.workload.states`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

from slabactors.workload.recording import Entry
from slabactors.workload.states import KEY, Labels, Pair, listed, rows_of

if TYPE_CHECKING:
    from slabactors.mm.slab_common import KmemCache
    from slabactors.mm.slab_page import SlabPage
    from slabactors.mm.slub_sizes import SlubGeometry

_CURRENT = re.compile(r"\bcpu=P(\d+)\(inuse=(\d+),fz=(\d+),fl=(\d+),cfl=(\d+)\)")
_PARTIAL = re.compile(r"\bpart=P(\d+)\(inuse=(\d+),pages=(\d+),pobj=(\d+)\)")


def slub_pairs(labels: Labels, entry: Entry, cache: KmemCache, lines: list[str]) -> Iterator[Pair]:
    """Every field of a recorded state with ours."""
    shape = cast("SlubGeometry", cache.geometry)
    head = dict(KEY.findall(lines[0]))
    ours = {
        "size": shape.size,
        "osz": cache.spec.object_size,
        "off": shape.offset,
        "inuse": shape.inuse,
        "al": shape.align,
        "ord": shape.order,
        "objs": shape.objects,
        "min": f"{shape.min_order}/{shape.min_objects}",
        "minp": shape.min_partial,
        "cpup": shape.cpu_partial,
    }
    for key, value in ours.items():
        yield f"state.{key}", head.get(key), str(value)
    cpus, nodes = rows_of(entry, lines)
    for number, c in enumerate(cache.cpu_slabs):
        row = cpus.pop(number, "")
        current = _CURRENT.search(row)
        name = f"state.C{number}"
        if c.page is None or current is None:
            yield f"{name}.cpu", current and current[0], None if c.page is None else "a slab"
        else:
            yield from _slab(labels, f"{name}.cpu", c.page, int(current[1]))
            counts = {
                "inuse": c.page.inuse,
                "fz": int(c.page.frozen),
                "fl": len(c.page.freelist),
                "cfl": len(c.freelist),
            }
            for place, (key, value) in enumerate(counts.items(), 2):
                yield f"{name}.cpu.{key}", int(current[place]), value
        seen = _PARTIAL.findall(row)
        yield f"{name}.part", len(seen), len(c.partial)
        for (label, inuse, pages, pobj), (slab, slabs, pobjects) in zip(seen, reversed(c.partial), strict=False):
            yield from _slab(labels, f"{name}.part", slab, int(label))
            yield f"{name}.part.inuse", int(inuse), slab.inuse
            yield f"{name}.part.pages", int(pages), slabs
            yield f"{name}.part.pobj", int(pobj), pobjects
    for number, row in cpus.items():
        yield f"state.C{number}", row.strip(), None
    for number, node in enumerate(cache.nodes):
        row = nodes.pop(number, "")
        name = f"state.N{number}"
        head = dict(KEY.findall(row))
        yield f"{name}.nr_slabs", head.get("nr_slabs"), str(node.nr_slabs)
        yield f"{name}.objs", head.get("objs"), str(node.total_objects)
        yield f"{name}.nr_partial", head.get("nr_partial"), str(len(node.partial))
        yield from listed(labels, f"{name}.partial", row.partition(":")[2].partition(":")[2], node.partial)
    for number, row in nodes.items():
        yield f"state.N{number}", row.strip(), None


def _slab(labels: Labels, name: str, slab: SlabPage, label: int) -> Iterator[Pair]:
    if not labels.match(slab, label):
        yield name, f"P{label}", labels.name(slab)
