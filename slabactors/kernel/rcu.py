"""Read-copy update, as far as what is freed by it: after a grace period, some time later."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from slabactors.actors import Actor, CountsDown, operation, start

if TYPE_CHECKING:
    from slabactors.kernel.cpu import Cpu

__all__ = ["Rcu", "call_rcu"]


class Rcu(Actor):
    """Callbacks that wait for the end of a grace period, or run.

    Deviation: nobody's read-side sections are known, so a grace period may end at any moment after it began.
    """

    role = "rcu"
    lock_class = "rcu_callback"

    def __init__(self) -> None:
        super().__init__("rcu")
        self.callbacks = 0

    def _callbacks(self) -> int:
        return self.callbacks

    def _one(self) -> int:
        return 1

    @operation(writes="callbacks")
    def enqueue(self) -> None:
        """``call_rcu(head, func)``."""
        self.callbacks += 1

    @operation(writes="callbacks", narrow=[CountsDown("callbacks", _callbacks, _one)])
    def done(self) -> None:
        """``rcu_do_batch()``: a callback has run."""
        self.callbacks -= 1

    def _none_left(self) -> bool:
        return self.callbacks == 0

    def _itself(self) -> Rcu:
        return self

    @operation(guard=_none_left, reads="callbacks", waits_for=_itself, sleeps=True)
    def barrier(self) -> None:
        """``rcu_barrier()``: returns when every callback has run.  Sleeps."""


async def call_rcu(cpu: Cpu, callback: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a path on this CPU after a grace period.  Any context.

    Models call_rcu() (kernel/rcutree.c, v3.8).

    Args:
        cpu: where the task runs.
        callback: makes the path.
    """
    rcu = cpu.machine.rcu
    await rcu.enqueue()
    await start(cpu.softirq(_after_grace_period(rcu, callback), "RCU callback", inside=rcu))


async def _after_grace_period(rcu: Rcu, callback: Callable[[], Coroutine[Any, Any, None]]) -> None:
    await callback()
    await rcu.done()
