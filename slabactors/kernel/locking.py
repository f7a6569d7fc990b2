"""Mutexes."""

from __future__ import annotations

from slabactors.actors import Actor, Narrow, operation

__all__ = ["Mutex"]


class Mutex(Actor):
    """``struct mutex``: asking is always possible, the answer comes when nobody else holds it."""

    def __init__(self, name: str, container: Actor | None = None) -> None:
        super().__init__(name, container)
        self.locked = False

    def _unlocked(self) -> bool:
        return not self.locked

    def _taken(self) -> bool:
        return self.locked

    @operation(guard=_unlocked, acquires=True)
    def lock(self) -> None:
        """``mutex_lock()``: returns once the mutex is ours.  May sleep."""
        self.locked = True

    @operation(narrow=[Narrow(_taken, reads="locked")])
    def trylock(self) -> bool:
        """``mutex_trylock()``: true when the mutex was free and is ours now.  Any context that may not wait for it."""
        if self.locked:
            return False
        self.locked = True
        return True

    @operation(releases=True)
    def unlock(self) -> None:
        """``mutex_unlock()``."""
        self.locked = False
