"""Compares states recorded as text: a line for the cache, one for each CPU that has any, one for each node.

Slabs are labelled there by the physical page they lie in, in the order in which pages were first seen.  A page that
went back and came again has its old label, so labels are matched and not compared: each of our slabs has one label as
long as it lives, and no two living ones the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

from slabactors.errors import WorkloadError
from slabactors.workload.compare import Difference
from slabactors.workload.recording import AGAIN, Entry

if TYPE_CHECKING:
    from slabactors.mm.slab_common import KmemCache
    from slabactors.mm.slab_page import SlabPage
    from slabactors.mm.slub_sizes import SlubGeometry
    from slabactors.mm.slub_slab import Slab
    from slabactors.workload.player import Document, Player

Pair = tuple[str, Any, Any]
"""A field, what was recorded, and what is ours."""

_KEY = re.compile(r"(\w+)=(\S+)")
_CURRENT = re.compile(r"\bcpu=P(\d+)\(inuse=(\d+),fz=(\d+),fl=(\d+),cfl=(\d+)\)")
_PARTIAL = re.compile(r"\bpart=P(\d+)\(inuse=(\d+),pages=(\d+),pobj=(\d+)\)")
_LISTED = re.compile(r"P(\d+)\((\d+)\)")


class Labels:
    """Which of our slabs has which label."""

    def __init__(self) -> None:
        self._of: dict[SlabPage, int] = {}
        self._taken: dict[int, SlabPage] = {}

    def forget_gone(self) -> None:
        """Labels of slabs that went back may come again."""
        for slab in [slab for slab in self._of if slab.tombstone is not None]:
            del self._taken[self._of.pop(slab)]

    def match(self, slab: SlabPage, label: int) -> bool:
        """Whether a slab may be the one with that label; it is from here on."""
        if slab not in self._of and label not in self._taken:
            self._of[slab] = label
            self._taken[label] = slab
        return self._of.get(slab) == label

    def name(self, slab: SlabPage) -> str:
        """The label, for messages."""
        return f"P{self._of[slab]}" if slab in self._of else "P?"


class StateComparer:
    """See `slabactors.workload.compare.Comparer`.

    Args:
        layout: whose states they are, ``slub`` or ``slab``.
    """

    def __init__(self, layout: str) -> None:
        self.layout = layout
        self.labels = Labels()

    def differences(self, player: Player, entry: Entry, document: Document) -> Iterator[Difference]:
        """See `slabactors.workload.compare.Comparer`."""
        self.labels.forget_gone()
        cache = next(iter(player.caches.values())).cache
        lines = entry.seen["state"]
        if not lines:
            raise WorkloadError(entry.line, "expected the state of a cache, found no line of it.", AGAIN)
        if self.layout == "slub":
            pairs = self._slub(entry, cache, lines)
        else:
            from slabactors.workload.slab_states import slab_pairs

            pairs = slab_pairs(self.labels, entry, cache, lines)
        yield from (Difference(name, recorded, ours) for name, recorded, ours in pairs if recorded != ours)

    def _slub(self, entry: Entry, cache: KmemCache, lines: list[str]) -> Iterator[Pair]:
        shape = cast("SlubGeometry", cache.geometry)
        head = dict(_KEY.findall(lines[0]))
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
                yield from self._slab(f"{name}.cpu", c.page, int(current[1]))
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
                yield from self._slab(f"{name}.part", slab, int(label))
                yield f"{name}.part.inuse", int(inuse), slab.inuse
                yield f"{name}.part.pages", int(pages), slabs
                yield f"{name}.part.pobj", int(pobj), pobjects
        for number, row in cpus.items():
            yield f"state.C{number}", row.strip(), None
        for number, node in enumerate(cache.nodes):
            row = nodes.pop(number, "")
            name = f"state.N{number}"
            head = dict(_KEY.findall(row))
            yield f"{name}.nr_slabs", head.get("nr_slabs"), str(node.nr_slabs)
            yield f"{name}.objs", head.get("objs"), str(node.total_objects)
            yield f"{name}.nr_partial", head.get("nr_partial"), str(len(node.partial))
            yield from self.listed(f"{name}.partial", row.partition(":")[2].partition(":")[2], node.partial)
        for number, row in nodes.items():
            yield f"state.N{number}", row.strip(), None

    def listed(self, name: str, text: str, slabs: list[Slab]) -> Iterator[Pair]:
        """A list of slabs with their objects in use, from the head."""
        yield from listed(self.labels, name, text, slabs)

    def _slab(self, name: str, slab: SlabPage, label: int) -> Iterator[Pair]:
        if not self.labels.match(slab, label):
            yield name, f"P{label}", self.labels.name(slab)


def listed(labels: Labels, name: str, text: str, slabs: list[Any]) -> Iterator[Pair]:
    """A list of slabs with their objects in use, from the head: every label, then every count."""
    seen = [(int(label), int(inuse)) for label, inuse in _LISTED.findall(text)]
    shown = text.strip()
    if [inuse for _, inuse in seen] != [slab.inuse for slab in slabs]:
        yield name, shown, " ".join(f"{labels.name(slab)}({slab.inuse})" for slab in slabs)
        return
    for slab, (label, _) in zip(slabs, seen, strict=True):
        if not labels.match(slab, label):
            yield name, shown, " ".join(f"{labels.name(one)}({one.inuse})" for one in slabs)
            return


def rows_of(entry: Entry, lines: list[str]) -> tuple[dict[int, str], dict[int, str]]:
    """The lines of the CPUs and of the nodes, by number.

    Raises:
        WorkloadError: a line is neither.
    """
    cpus: dict[int, str] = {}
    nodes: dict[int, str] = {}
    for line in lines[1:]:
        found = re.match(r"\s*([CN])(\d{1,4}):", line)
        if found is None:
            raise WorkloadError(entry.line, f"expected the state of a CPU or a node, found {ascii(line)[:60]}.", AGAIN)
        (cpus if found[1] == "C" else nodes)[int(found[2])] = line
    return cpus, nodes
