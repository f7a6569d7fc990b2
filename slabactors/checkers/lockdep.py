"""lockdep: locks are taken in one order, and nobody sleeps where he must not.  The drivers raise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slabactors.checkers.base import Checker

if TYPE_CHECKING:
    from slabactors.machine import Machine


class Lockdep(Checker):
    """No circle in the order in which an execution takes locks, works and callbacks among them; no sleep in atomic.

    ``sleep-in-atomic`` is raised at the step that would sleep, ``lock-order`` at the end of a run that nothing else
    broke; see `slabactors.actors.locks`.
    """

    name = "lockdep"
    sometimes = "a lock was taken while another was held"

    def reached(self, machine: Machine) -> bool:
        """There was an order; a work item and its workqueue count as held while its function runs."""
        return machine.locks is not None and bool(machine.locks.edges())
