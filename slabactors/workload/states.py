"""States recorded as text: a line for the cache, one for each CPU that has any, one for each node.

Slabs are labelled there by the physical page they lie in, in the order in which pages were first seen.  A page that
went back and came again has its old label, so labels are matched and not compared: each of our slabs has one label as
long as it lives, and no two living ones the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from slabactors.errors import WorkloadError
from slabactors.workload.recording import AGAIN, Entry

if TYPE_CHECKING:
    from slabactors.mm.slab_page import SlabPage

Pair = tuple[str, Any, Any]
"""A field, what was recorded, and what is ours."""

KEY = re.compile(r"(\w+)=(\S+)")
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
