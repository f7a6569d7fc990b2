"""What counts as a bug, named after the kernel's own detectors.

Most checks are made where the mistake is made and raise there: a message to a freed actor (kasan, in the drivers), the
states of a work item (debugobjects, in `slabactors.kernel`), counters below zero (accounting, in `slabactors.mm`), a
sleep where nobody may (lockdep, in the drivers).  In which order locks were taken the drivers look at when a run is
over.  Here is what is looked at when the machine has come to rest, and what a search must have seen for its verdict to
mean anything.
"""

from slabactors.checkers.accounting import Accounting
from slabactors.checkers.base import Checker
from slabactors.checkers.debug_list import DebugList
from slabactors.checkers.debugobjects import DebugObjectsSeen
from slabactors.checkers.hung_task import HungTask
from slabactors.checkers.kasan import Kasan
from slabactors.checkers.lockdep import Lockdep

CHECKERS: tuple[type[Checker], ...] = (Kasan, DebugObjectsSeen, Lockdep, Accounting, HungTask, DebugList)
"""Every checker, in the order in which they look at a machine at rest."""

__all__ = ["CHECKERS", "Accounting", "Checker", "DebugList", "DebugObjectsSeen", "HungTask", "Kasan", "Lockdep"]
