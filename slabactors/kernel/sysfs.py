"""sysfs: active references, which keep a file from being removed while it is used (fs/sysfs/dir.c, v3.8)."""

from __future__ import annotations

from typing import Final

from slabactors.actors import Actor, CountsDown, Narrow, operation
from slabactors.errors import KernelBug, Kind

__all__ = ["SysfsDirent", "sysfs_remove"]

_NEVER_OUT: Final = 1 << 30


class SysfsDirent(Actor):
    """``struct sysfs_dirent``, ``struct kernfs_node`` from 3.14 on: a file or directory that can be removed.

    A read or write of the file holds an active reference from `get_active` to `put_active`.  Removing waits for these
    (`sysfs_remove`), so whoever removes must not hold what a reader or writer may wait for.

    Args:
        name: how reports call it.
        container: the object that embeds it; normally none: the kernel counts its users apart.
    """

    role = "sysfs_dirent"
    lock_class = "s_active"

    def __init__(self, name: str, container: Actor | None = None) -> None:
        super().__init__(name, container)
        self.active = 0
        self.removed = False

    def _removed(self) -> bool:
        return self.removed

    def _plenty(self) -> int:
        return _NEVER_OUT

    def _one(self) -> int:
        return 1

    @operation(
        writes="active",
        reads="removed",
        tries=True,
        shares=True,
        narrow=[Narrow(_removed, reads="removed"), CountsDown("active", _plenty, _one, reads="removed")],
    )
    def get_active(self) -> bool:
        """``sysfs_get_active(sd)``: false when the file is being removed, and it must not be used."""
        if self.removed:
            return False
        self.active += 1
        return True

    @operation(writes="active", releases=True, narrow=[CountsDown("active", _plenty, _one)])
    def put_active(self) -> None:
        """``sysfs_put_active(sd)``.

        Raises:
            KernelBug: ``bug-on`` when nobody uses it.
        """
        self.active -= 1
        if self.active < 0:
            raise KernelBug(Kind.BUG_ON, f"{self.name}: nobody uses it", clause="unbalanced sysfs_put_active")

    @operation(writes="removed", narrow=[Narrow(_removed, reads="removed")])
    def deactivate(self) -> bool:
        """``atomic_add_return(SD_DEACTIVATED_BIAS, &sd->s_active)``: no new users; false when that was so before."""
        before, self.removed = self.removed, True
        return not before

    def _unused(self) -> bool:
        return self.active == 0

    def _itself(self) -> SysfsDirent:
        return self

    @operation(guard=_unused, reads="active", waits_for=_itself, sleeps=True)
    def wait_unused(self) -> None:
        """``wait_for_completion(&wait)``: until the last user has put it."""


async def sysfs_remove(dirent: SysfsDirent) -> None:
    """Remove a file or directory: refuse new users, wait for those there are.  Sleeps.

    Models sysfs_remove_dir() and sysfs_deactivate() (fs/sysfs/dir.c, v3.8), and kernfs_remove() (fs/kernfs/dir.c,
    v3.14).
    Deviation: who finds the file removed already does not wait for its users.
    """
    if await dirent.deactivate():
        await dirent.wait_unused()
