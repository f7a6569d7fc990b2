"""CPUs: where paths run, and the interrupts that may come between their steps."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from slabactors.actors import Actor, Interrupt, Spawn, operation

if TYPE_CHECKING:
    from slabactors.machine import Machine

__all__ = ["Cpu"]

T = TypeVar("T")


class Cpu(Actor):
    """One CPU: its number and whether interrupts are enabled.

    Any number of tasks may run on a CPU and be preempted between any two steps.  Per-CPU allocator state is in
    `slabactors.mm.slub_cpu`, which keeps the tasks and interrupts of a CPU apart by itself.
    """

    atomic = "interrupts off"
    ordered = False

    def __init__(self, number: int, machine: Machine) -> None:
        super().__init__(f"cpu{number}")
        self.id = number
        self.node = number * machine.config.nodes // machine.config.cpus
        """The memory node that it is nearest to."""
        self.machine = machine
        self.irqs_off = False
        self.online = True

    @operation(reads="online")
    def is_online(self) -> bool:
        """``cpu_online(cpu)``."""
        return self.online

    @operation(writes="online")
    def set_online(self, online: bool) -> None:
        """``set_cpu_online(cpu, online)``."""
        self.online = online

    def _irqs_on(self) -> bool:
        return not self.irqs_off

    @operation(guard=_irqs_on, writes="irqs_off", acquires=True)
    def local_irq_save(self) -> None:
        """``local_irq_save()``: from here on no interrupt is taken on this CPU."""
        self.irqs_off = True

    @operation(writes="irqs_off", releases=True)
    def local_irq_restore(self) -> None:
        """``local_irq_restore()``: interrupts that waited are taken now."""
        self.irqs_off = False

    @operation(guard=_irqs_on, reads="irqs_off")
    def irq_enter(self) -> None:
        """``irq_enter()``: an interrupt begins; it waits while interrupts are off."""

    def task(self, coroutine: Coroutine[Any, Any, T], name: str = "") -> Spawn[T]:
        """A task on this CPU, to be given to `start` or `parallel`."""
        return Spawn(coroutine, name=name, lane=self.name)

    def interrupt(self, coroutine: Coroutine[Any, Any, T], name: str = "") -> Spawn[T]:
        """An interrupt on this CPU, which must not sleep."""
        return Interrupt(coroutine, name=name, lane=self.name)

    def softirq(self, coroutine: Coroutine[Any, Any, T], name: str = "", *, inside: Actor | None = None) -> Spawn[T]:
        """What comes between the interrupts and the tasks of this CPU, and must not sleep: a timer, an RCU callback.

        Args:
            coroutine: the path.
            name: what it does.
            inside: whom others wait for when they wait for it; see `slabactors.actors.operation`.
        """
        return Interrupt(coroutine, name=name, lane=self.name, context="a softirq", inside=inside)
