"""lockdep: locks are taken in one order, and nobody sleeps where he must not.  The drivers raise."""

from __future__ import annotations

from slabactors.checkers.base import Checker


class Lockdep(Checker):
    """No circle in the order in which an execution takes locks, works and callbacks among them; no sleep in atomic.

    ``sleep-in-atomic`` is raised at the step that would sleep, ``lock-order`` at the end of a run that nothing else
    broke; see `slabactors.actors.locks`.  There is no run in which it has nothing to look at: whoever creates a cache
    takes a mutex, and one that sleeps.
    """

    name = "lockdep"
