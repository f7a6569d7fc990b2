"""Which names are taken in a directory of sysfs (fs/sysfs/dir.c, v3.8)."""

from __future__ import annotations

from slabactors.actors import Actor, operation
from slabactors.errors import KernelBug, Kind

__all__ = ["SysfsNames"]


class SysfsNames(Actor):
    """The names in one directory, such as ``/sys/kernel/slab``: none can be taken twice.

    Whoever puts off the removal of a name (to a work, behind a grace period) keeps it taken until then, and a cache
    that is created again meanwhile cannot be.
    """

    role = "sysfs_dirent"

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.taken: list[str] = []

    @operation(writes="names")
    def add(self, entry: str) -> None:
        """``sysfs_add_one(acxt, sd)``.

        Raises:
            KernelBug: ``duplicate-name`` when the name is taken.
        """
        if entry in self.taken:
            raise KernelBug(
                Kind.DUPLICATE_NAME,
                f"sysfs: cannot create duplicate filename '/{self.name}/{entry}'",
                clause="duplicate filename in sysfs",
            )
        self.taken.append(entry)

    @operation(writes="names")
    def remove(self, entry: str) -> None:
        """``sysfs_remove_one(acxt, sd)``: the name is free from here on."""
        self.taken.remove(entry)
