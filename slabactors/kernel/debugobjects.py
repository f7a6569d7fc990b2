"""debugobjects for work items and RCU heads (lib/debugobjects.c, v3.8): what may be done to them in which state."""

from __future__ import annotations

from typing import NoReturn

from slabactors.errors import KernelBug, Kind


class DebugObjects:
    """The checks that CONFIG_DEBUG_OBJECTS_WORK, _TIMERS, _RCU_HEAD and _FREE make; none when switched off."""

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

    def activate_active_head(self, name: str) -> None:
        """An RCU head is registered that is on a list of callbacks.  ``ODEBUG: activate active``."""
        if self.enabled:
            _report(
                Kind.ACTIVE_RCU_HEAD,
                f"ODEBUG: activate active (object type: rcu_head): {name} is registered already",
                "second call_rcu of an active rcu head",
            )

    def overwrite_active_head(self, name: str) -> None:
        """The memory of an RCU head becomes a work item while it is on a list of callbacks."""
        if self.enabled:
            _report(
                Kind.ACTIVE_RCU_HEAD,
                f"ODEBUG: init active (object type: rcu_head): {name} is registered, and a work item is made of it",
                "work item made of an active rcu head",
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
