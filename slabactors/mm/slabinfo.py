"""/proc/slabinfo and memory.kmem.slabinfo, written and read: version 2.1 (mm/slab_common.c, v3.8 and v6.1).

Plain functions, for who looks at a machine from outside.  They take everything in at once and are no step of a run: a
story may print what they say, and must not do one thing or another because of it, or a search would miss orders.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slabactors.errors import SurfaceError
from slabactors.mm.surfaces import surface_policy

if TYPE_CHECKING:
    from slabactors.machine import Machine
    from slabactors.mm.memcontrol import MemCgroup
    from slabactors.mm.slab_common import KmemCache

__all__ = ["SlabinfoRow", "format_slabinfo", "kmem_slabinfo", "parse_slabinfo", "slabinfo", "slabinfo_row"]

VERSION = "slabinfo - version: 2.1"
COLUMNS = (
    "# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab>"
    " : tunables <limit> <batchcount> <sharedfactor>"
    " : slabdata <active_slabs> <num_slabs> <sharedavail>"
)
HEADER = f"{VERSION}\n{COLUMNS}\n"
ROW = re.compile(
    r"(\S|\S.*\S) +(\d+) +(\d+) +(\d+) +(\d+) +(\d+)"
    r" : tunables +(\d+) +(\d+) +(\d+) : slabdata +(\d+) +(\d+) +(\d+)",
    re.ASCII,
)
"""A line, without its end.  A name may have blanks in it: nothing in the kernel forbids that."""


@dataclass(frozen=True, slots=True)
class SlabinfoRow:
    """One cache's line of /proc/slabinfo, with the kernel's names for its columns.

    Attributes:
        name: of the cache.
        active_objs: objects in use; of SLUB, all that are not free in a slab that a node lists.
        num_objs: objects there is room for.
        objsize: bytes an object takes, with what the allocator adds.
        objperslab: objects in a slab of the usual order.
        pagesperslab: pages of such a slab.
        limit: SLAB's tunable; 0 in SLUB, as the next two.
        batchcount: SLAB's tunable.
        sharedfactor: SLAB's tunable.
        active_slabs: slabs with objects in use; all of them in SLUB.
        num_slabs: all slabs.
        sharedavail: objects in the arrays that CPUs share; 0 in SLUB.
    """

    name: str
    active_objs: int
    num_objs: int
    objsize: int
    objperslab: int
    pagesperslab: int
    limit: int
    batchcount: int
    sharedfactor: int
    active_slabs: int
    num_slabs: int
    sharedavail: int

    def __str__(self) -> str:
        """The line, without its end."""
        return (
            f"{self.name:<17} {self.active_objs:6} {self.num_objs:6} {self.objsize:6} {self.objperslab:4}"
            f" {self.pagesperslab:4} : tunables {self.limit:4} {self.batchcount:4} {self.sharedfactor:4}"
            f" : slabdata {self.active_slabs:6} {self.num_slabs:6} {self.sharedavail:6}"
        )


# -- writing -----------------------------------------------------------------------------------------------------------


def slabinfo(machine: Machine) -> str:
    """The text of /proc/slabinfo.

    Models s_start() and s_show() (mm/slab_common.c, v3.8), slab_show() (v6.1).  Deviation: the kernel holds
    ``slab_mutex`` meanwhile and so sees no half-made cache; this looks at once, and at a cache until it is freed.

    Returns:
        Header, then a row for each root cache, newest first, with what its children have added.  In 6.1 the header
        comes with the first row.

    Raises:
        SurfaceError: nothing is known of the release's texts.
    """
    rows = [slabinfo_row(machine, cache) for cache in listed_caches(machine) if cache.root is None]
    return format_slabinfo(rows, headed=bool(rows) or surface_policy(machine).always_headed)


def kmem_slabinfo(machine: Machine, memcg: MemCgroup | None) -> str:
    """The text of a memcg's memory.kmem.slabinfo.

    Models mem_cgroup_slabinfo_read() (mm/memcontrol.c, v3.8).

    Args:
        machine: where the group is.
        memcg: which group; None for the root group.

    Returns:
        Header, then a row for each of its child caches, newest first and by the name of its root.  Nothing at all in
        6.1, which has no child caches.

    Raises:
        SurfaceError: EIO: the kernel memory of that group is not accounted; or as for `slabinfo`.
    """
    if not surface_policy(machine).lists_children:
        return ""
    if memcg is None or not memcg.active:
        which = "the root group" if memcg is None else memcg.label
        raise SurfaceError(
            f"expected a group whose kernel memory is accounted, found {which}: reading its "
            "memory.kmem.slabinfo gives EIO.\n  Read that of a group that was made with a limit, or /proc/slabinfo"
        )
    return format_slabinfo(slabinfo_row(machine, cache) for cache in memcg.caches if cache.tombstone is None)


def listed_caches(machine: Machine) -> list[KmemCache]:
    """``slab_caches``: every cache that has not been freed, newest first, children among them."""
    return [cache for cache in reversed(machine.caches) if cache.tombstone is None]


def slabinfo_row(machine: Machine, cache: KmemCache) -> SlabinfoRow:
    """A cache's row: of a root with its children's objects and slabs, of a child by the name of its root.

    Models cache_show() and memcg_accumulate_slabinfo() (mm/slab_common.c, v3.8).
    """
    # A run that a bug has ended may have left a freed child in its slot; its memory tells nothing.
    children = [child for child in cache.slots.values() if child.tombstone is None]
    family = [machine.allocator.slabinfo(one) for one in (cache, *children)]
    own = family[0]
    return SlabinfoRow(
        name=(cache.root or cache).name,
        active_objs=_unsigned(one.active_objs for one in family),
        num_objs=_unsigned(one.num_objs for one in family),
        objsize=cache.geometry.size,
        objperslab=cache.geometry.objects,
        pagesperslab=1 << cache.geometry.order,
        limit=own.limit,
        batchcount=own.batchcount,
        sharedfactor=own.shared,
        active_slabs=_unsigned(one.active_slabs for one in family),
        num_slabs=_unsigned(one.num_slabs for one in family),
        sharedavail=_unsigned(one.shared_avail for one in family),
    )


def _unsigned(counts: Iterable[int]) -> int:
    """Their sum as an unsigned long: a bug that discards a slab twice makes it huge, not negative."""
    return sum(counts) % (1 << 64)


def format_slabinfo(rows: Iterable[SlabinfoRow], *, headed: bool = True) -> str:
    """The text of these rows, in their order.  Models print_slabinfo_header() (mm/slab_common.c, v3.8)."""
    return (HEADER if headed else "") + "".join(f"{row}\n" for row in rows)


# -- reading -----------------------------------------------------------------------------------------------------------


def parse_slabinfo(text: str) -> list[SlabinfoRow]:
    """The rows of a text that `slabinfo` or a kernel wrote; formatted again, they are the same bytes.

    Args:
        text: with its header, or empty, as 6.1 has it without caches.

    Raises:
        ValueError: it is of another version (statistics of SLAB's debugging count as one), or a line is no row.
    """
    if not text:
        return []
    version, _, rest = text.partition("\n")
    columns, _, rows = rest.partition("\n")
    if version != VERSION or columns != COLUMNS:
        raise ValueError(f"expected {VERSION!r} and its columns, found {version!r}, {columns!r}")
    lines = rows.removesuffix("\n").split("\n") if rows else []
    return [_parse_row(line, number) for number, line in enumerate(lines, 3)]


def _parse_row(line: str, number: int) -> SlabinfoRow:
    found = ROW.fullmatch(line)
    if found is None:
        raise ValueError(f"line {number}: expected a name and 11 numbers, found {line!r}")
    name, *values = found.groups()
    return SlabinfoRow(name, *map(int, values))
