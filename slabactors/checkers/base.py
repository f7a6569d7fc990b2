"""What a checker is."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from slabactors.machine import Machine


class Checker:
    """One idea of what a kernel must not do.

    Attributes:
        name: after the kernel's own detector.
        sometimes: what at least one run of a search must reach for this checker to have had anything to check; empty
            when every run does.
    """

    name: ClassVar[str]
    sometimes: ClassVar[str] = ""

    def reached(self, machine: Machine) -> bool:
        """Whether the finished run reached what `sometimes` says."""
        return True

    def at_rest(self, machine: Machine) -> None:
        """Look at a machine in which nothing moves any more.

        Raises:
            KernelBug: it is not as it must be.
        """

    def at_bound(self, machine: Machine) -> None:
        """Look at a machine that has used up the steps of its run without coming to rest.

        Raises:
            KernelBug: it is not as it must be.
        """
