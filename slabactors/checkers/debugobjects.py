"""debugobjects: work items are used as their states allow.  `slabactors.kernel.debugobjects` raises."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slabactors.checkers.base import Checker

if TYPE_CHECKING:
    from slabactors.machine import Machine


class DebugObjectsSeen(Checker):
    """Wrong use is raised where it happens; this says whether any work item ever ran."""

    name = "debugobjects"
    sometimes = "a work item ran"

    def reached(self, machine: Machine) -> bool:
        """A kworker has finished an item or has one in its hands."""
        return any(workqueue.executed > 0 or workqueue.executing for workqueue in machine.workqueues)
