"""/sys/kernel/slab, which only SLUB has: a directory for each cache (mm/slub.c, v3.8 and v6.1).

Plain functions, for who looks at a machine from outside; as in `slabactors.mm.slabinfo`, no story may depend on them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slabactors.errors import SurfaceError
from slabactors.mm.slabinfo import listed_caches
from slabactors.mm.slub import Slub
from slabactors.mm.surfaces import surface_policy

if TYPE_CHECKING:
    from slabactors.machine import Machine
    from slabactors.mm.slab_common import KmemCache

__all__ = ["slab_attribute", "slab_directories", "slab_files"]


def slab_directories(machine: Machine) -> dict[str, KmemCache]:
    """The names in /sys/kernel/slab, sorted: that of each cache, root or child.

    Models create_unique_id() (mm/slub.c, v3.8) and kobject_set_name_vargs() (lib/kobject.c, v3.8).  Deviation: caches
    are never merged, so that each has a directory of its own name; a second cache of a name has none, where the kernel
    does not even make the cache.

    Raises:
        SurfaceError: the allocator has no such directory.
    """
    _slub(machine)
    # A name in sysfs cannot have a slash.
    found = {cache.name.replace("/", "!"): cache for cache in listed_caches(machine)}  # the oldest of a name stays
    return dict(sorted(found.items()))


def slab_attribute(machine: Machine, cache: KmemCache, name: str) -> str:
    """The text of a file in a cache's directory.

    Models slab_attr_show() (mm/slub.c, v3.8).

    Args:
        machine: where the cache is.
        cache: root or child.
        name: one of `slab_files`.

    Raises:
        SurfaceError: ENOENT: there is no such file in this release; ENOSYS: it is for debugging; or the allocator has
            no such directory.
    """
    slub = _slub(machine)
    if name in surface_policy(machine).unreadable:
        raise SurfaceError(
            f"reading {name} of {cache.name} gives ENOSYS: the cache does not keep who used its objects last.\n"
            "  Read another file"
        )
    known = slub.attributes(cache)
    if name not in known:
        raise SurfaceError(
            f"/sys/kernel/slab/{cache.name} of {slub.name} has no file {name} (ENOENT).\n  It has: {', '.join(known)}"
        )
    text = slub.attribute(machine, cache, name)
    # What is for writing only, or of a cache without constructor, gives nothing at all.
    return f"{text}\n" if text else ""


def slab_files(machine: Machine, cache: KmemCache) -> dict[str, str]:
    """Name and text of each file of a cache's directory that can be read, in the order of their names.

    Raises:
        SurfaceError: the allocator has no such directory.
    """
    return {name: slab_attribute(machine, cache, name) for name in _slub(machine).attributes(cache)}


def _slub(machine: Machine) -> Slub:
    allocator = machine.allocator
    if not isinstance(allocator, Slub):
        raise SurfaceError(
            f"{allocator.name} has no /sys/kernel/slab: only SLUB makes it.  Read /proc/slabinfo instead.\n"
            "  Set a SLUB model: allocator=slub-3.8"
        )
    return allocator
