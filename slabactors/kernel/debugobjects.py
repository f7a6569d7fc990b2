"""debugobjects for work items (lib/debugobjects.c, v3.8): what may be done to them in which state."""

from __future__ import annotations

from typing import NoReturn

from slabactors.errors import KernelBug, Kind


class DebugObjects:
    """The checks that CONFIG_DEBUG_OBJECTS_WORK, _TIMERS and _FREE make; each does nothing when switched off."""

    def __init__(self, *, enabled: bool = True) -> None:
        self.enabled = enabled

    def init_active(self, name: str) -> None:
        """An active item is initialised.  ``ODEBUG: init active``."""
        if self.enabled:
            _report(
                Kind.REINITIALISED_ACTIVE_WORK,
                f"ODEBUG: init active (object type: work_struct): {name} is queued or its timer armed",
                "init of an active work item",
            )

    def activate_uninitialised(self, name: str) -> None:
        """An item is queued that nobody has initialised.  ``ODEBUG: activate not available``."""
        if self.enabled:
            _report(
                Kind.UNINITIALISED_WORK,
                f"ODEBUG: activate not available (object type: work_struct): {name} was never initialised",
                "queueing of an uninitialised work item",
            )

    def cancel_uninitialised(self, name: str) -> None:
        """An item is cancelled that nobody has initialised.  lockdep's ``INFO: trying to register non-static key``."""
        if self.enabled:
            _report(
                Kind.UNINITIALISED_WORK,
                f"lockdep: trying to register a non-static key: {name} is cancelled and was never initialised",
                "cancelling of an uninitialised work item",
            )

    def free_active(self, name: str) -> None:
        """Memory that holds an active item is freed.  ``ODEBUG: free active``."""
        if self.enabled:
            _report(
                Kind.FREED_ACTIVE_WORK,
                f"ODEBUG: free active (object type: work_struct): {name} is queued or its timer armed",
                "free of an active work item",
            )


def _report(kind: Kind, message: str, clause: str) -> NoReturn:
    raise KernelBug(kind, message, clause=clause)
