"""Mutexes."""

from __future__ import annotations

from slabactors.actors import Actor, operation


class Mutex(Actor):
    """``struct mutex``: asking is always possible, the answer comes when nobody else holds it."""

    def __init__(self, name: str, container: Actor | None = None) -> None:
        super().__init__(name, container)
        self.locked = False

    def _unlocked(self) -> bool:
        return not self.locked

    @operation(guard=_unlocked, acquires=True)
    def lock(self) -> None:
        """``mutex_lock()``: returns once the mutex is ours.  May sleep."""
        self.locked = True

    @operation(releases=True)
    def unlock(self) -> None:
        """``mutex_unlock()``."""
        self.locked = False
