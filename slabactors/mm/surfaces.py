"""What the texts that people read differ in from release to release."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from slabactors.errors import SurfaceError
from slabactors.mm.page_alloc import PAGE_SIZE

if TYPE_CHECKING:
    from slabactors.machine import Machine

LONG_MAX = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class SurfacePolicy:
    """How a release words what it tells.

    Attributes:
        always_headed: /proc/slabinfo has its two header lines also when no cache follows.
        lists_children: memory.kmem.slabinfo has a row for each child cache.
        unlimited: what memory.kmem.limit_in_bytes says without a limit.
        unreadable: files of a directory in /sys/kernel/slab that give ENOSYS, unless each object's last user is kept
            (SLAB_STORE_USER), which is not modelled.
        cgroup_stat: a hierarchy counts its removed groups in cgroup.stat.
    """

    always_headed: bool
    lists_children: bool
    unlimited: int
    unreadable: tuple[str, ...]
    cgroup_stat: bool


_3_8 = SurfacePolicy(
    always_headed=True,
    lists_children=True,
    unlimited=LONG_MAX,
    unreadable=("alloc_calls", "free_calls"),
    cgroup_stat=False,
)
_6_1 = SurfacePolicy(
    always_headed=False,
    lists_children=False,
    unlimited=LONG_MAX // PAGE_SIZE * PAGE_SIZE,
    unreadable=(),
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
