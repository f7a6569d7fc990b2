"""What the texts that people read differ in from release to release."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from slabactors.errors import SurfaceError
from slabactors.mm.page_alloc import PAGE_SIZE

if TYPE_CHECKING:
    from slabactors.machine import Machine

LONG_MAX = (1 << 63) - 1

COMMON_SLAB_FILES = (
    "aliases",
    "align",
    "cache_dma",
    "cpu_partial",
    "cpu_slabs",
    "ctor",
    "destroy_by_rcu",
    "hwcache_align",
    "min_partial",
    "object_size",
    "objects",
    "objects_partial",
    "objs_per_slab",
    "order",
    "partial",
    "poison",
    "reclaim_account",
    "red_zone",
    "remote_node_defrag_ratio",
    "sanity_checks",
    "shrink",
    "slab_size",
    "slabs",
    "slabs_cpu_partial",
    "store_user",
    "total_objects",
    "trace",
    "validate",
)
"""The files of a cache's directory in every release, of a kernel with debugging and several nodes compiled in."""


@dataclass(frozen=True, slots=True)
class SurfacePolicy:
    """How a release words what it tells.

    Attributes:
        always_headed: /proc/slabinfo has its two header lines also when no cache follows.
        lists_children: memory.kmem.slabinfo has a row for each child cache.
        unlimited: what memory.kmem.limit_in_bytes says without a limit.
        slab_files: the files of a directory in /sys/kernel/slab, sorted.
        cgroup_stat: a hierarchy counts its removed groups in cgroup.stat.
    """

    always_headed: bool
    lists_children: bool
    unlimited: int
    slab_files: tuple[str, ...]
    cgroup_stat: bool


_3_8 = SurfacePolicy(
    always_headed=True,
    lists_children=True,
    unlimited=LONG_MAX,
    slab_files=tuple(sorted((*COMMON_SLAB_FILES, "alloc_calls", "free_calls", "reserved"))),
    cgroup_stat=False,
)
_6_1 = SurfacePolicy(
    always_headed=False,
    lists_children=False,
    unlimited=LONG_MAX // PAGE_SIZE * PAGE_SIZE,
    slab_files=tuple(sorted((*COMMON_SLAB_FILES, "usersize"))),
    cgroup_stat=True,
)
SURFACES = {"3.8": _3_8, "3.10": _3_8, "6.1": _6_1}
"""By release."""


def surface_policy(machine: Machine) -> SurfacePolicy:
    """How a machine words what it tells: as the release of its allocator.

    Raises:
        SurfaceError: nothing is known of that release.
    """
    name = machine.allocator.name
    release = name.rpartition("-")[2]
    if release not in SURFACES:
        raise SurfaceError(
            f"expected an allocator of Linux {', '.join(SURFACES)}, found {name}: nothing is known of its texts.\n"
            "  Set another one: allocator=slub-3.8"
        )
    return SURFACES[release]
