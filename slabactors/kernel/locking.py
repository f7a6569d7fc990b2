"""Mutexes."""

from __future__ import annotations

from slabactors.actors import Actor, Narrow, operation

__all__ = ["Mutex", "member_of"]


class Mutex(Actor):
    """``struct mutex``: asking is always possible, the answer comes when nobody else holds it.

    Args:
        name: how reports call it.
        container: the object that embeds it.
        lock_class: what lockdep calls it and all that are used alike; the member of its container, else the name.
    """

    def __init__(self, name: str, container: Actor | None = None, *, lock_class: str = "") -> None:
        super().__init__(name, container)
        if not lock_class:
            lock_class = name if container is None else member_of(container, name)
        self.lock_class = lock_class
        self.locked = False

    def _unlocked(self) -> bool:
        return not self.locked

    def _taken(self) -> bool:
        return self.locked

    @operation(guard=_unlocked, acquires=True, sleeps=True)
    def lock(self) -> None:
        """``mutex_lock()``: returns once the mutex is ours.  May sleep."""
        self.locked = True

    @operation(guard=_unlocked, acquires=True, nested=True, sleeps=True)
    def lock_nested(self) -> None:
        """``mutex_lock_nested()``: while another mutex of its class is held, in an order that all keep.  May sleep."""
        self.locked = True

    @operation(tries=True, narrow=[Narrow(_taken, reads="locked")])
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


def member_of(container: Actor, name: str) -> str:
    """The class of what is embedded, of whichever object: the role of its container with the member's name."""
    return f"{container.role}.{name.rpartition('.')[2]}"
