"""kasan: no message reaches a freed actor, no object is freed twice.  The drivers and the model raise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slabactors.checkers.base import Checker

if TYPE_CHECKING:
    from slabactors.machine import Machine


class Kasan(Checker):
    """Use after free and double free are raised at the step that does it; this says whether anything was ever freed."""

    name = "kasan"
    sometimes = "a cache or a page was freed"

    def reached(self, machine: Machine) -> bool:
        """Something is there no more that a late message could have touched."""
        return bool(machine.destroyed) or machine.page_alloc.frees > 0
