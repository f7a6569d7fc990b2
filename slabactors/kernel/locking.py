"""Locks: mutexes, spinlocks and semaphores for readers and writers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from slabactors.actors import Actor, CountsDown, Narrow, operation
from slabactors.errors import KernelBug, Kind

if TYPE_CHECKING:
    from slabactors.kernel.cpu import Cpu

__all__ = [
    "Mutex",
    "RwSem",
    "SpinLock",
    "down_read",
    "down_write",
    "member_of",
    "spin_lock_irqsave",
    "spin_unlock_irqrestore",
]

_NEVER_OUT: Final = 1 << 30
"""What a count of readers is said to have left on it: putting the last one is a step like the others."""


class Mutex(Actor):
    """``struct mutex``: asking is always possible, the answer comes when nobody else holds it.

    Args:
        name: how reports call it.
        container: the object that embeds it.
        lock_class: what lockdep calls it and all that are used alike; the member of its container, else the name.
    """

    def __init__(self, name: str, container: Actor | None = None, *, lock_class: str = "") -> None:
        super().__init__(name, container)
        self.lock_class = lock_class or (name if container is None else member_of(container, name))
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


class SpinLock(Actor):
    """``spinlock_t``: who waits for it spins, and who holds it must not sleep.

    Deviation: tasks of the CPU that holds it may go on between two steps of the holder, as everywhere.
    """

    role = "spinlock"
    atomic = "a spinlock held"

    def __init__(self, name: str, container: Actor | None = None) -> None:
        super().__init__(name, container)
        self.lock_class = name if container is None else member_of(container, name)
        self.locked = False

    def _unlocked(self) -> bool:
        return not self.locked

    @operation(guard=_unlocked, acquires=True)
    def lock(self) -> None:
        """``spin_lock()``: returns once the lock is ours.  Any context."""
        self.locked = True

    @operation(releases=True)
    def unlock(self) -> None:
        """``spin_unlock()``."""
        self.locked = False


async def spin_lock_irqsave(cpu: Cpu, lock: SpinLock) -> None:
    """Switch the interrupts of this CPU off and take a spinlock.  Any context.

    Models spin_lock_irqsave() (include/linux/spinlock.h, v3.8).
    Deviation: sections without interrupts are not nested, so a path takes one such lock at a time.
    """
    await cpu.local_irq_save()
    await lock.lock()


async def spin_unlock_irqrestore(cpu: Cpu, lock: SpinLock) -> None:
    """Give a spinlock back and switch interrupts on.

    Models spin_unlock_irqrestore() (include/linux/spinlock.h, v3.8).
    """
    await lock.unlock()
    await cpu.local_irq_restore()


class RwSem(Actor):
    """``struct rw_semaphore``, or a lock that works like one: many readers, or one writer.

    Args:
        name: how reports call it.
        fair: a writer that waits holds up readers that come later, as in a ``rw_semaphore`` and, from 4.13 on, in
            ``get_online_cpus()``.  Otherwise they go on, and a reader may take it again while a writer waits.
        container: the object that embeds it.
    """

    role = "rw_semaphore"

    def __init__(self, name: str, *, fair: bool = True, container: Actor | None = None) -> None:
        super().__init__(name, container)
        self.lock_class = name if container is None else member_of(container, name)
        self.fair = fair
        self.readers = 0
        self.writing = False
        self.writers_waiting = 0

    def _plenty(self) -> int:
        return _NEVER_OUT

    def _one(self) -> int:
        return 1

    def _readable(self) -> bool:
        return not self.writing and not self.writers_waiting

    @operation(
        guard=_readable,
        writes="readers",
        reads="writer",
        shares=True,
        sleeps=True,
        narrow=[CountsDown("readers", _plenty, _one, reads="writer")],
    )
    def down_read(self) -> None:
        """``down_read()``: returns once no writer has it, or, of a fair one, waits for it.  Sleeps."""
        self.readers += 1

    @operation(
        guard=_readable,
        writes="readers",
        reads="writer",
        shares=True,
        recursive=True,
        sleeps=True,
        narrow=[CountsDown("readers", _plenty, _one, reads="writer")],
    )
    def down_read_recursive(self) -> None:
        """``down_read()`` of one that is not fair: for lockdep it is another lock than one that writers hold up."""
        self.readers += 1

    @operation(writes="readers", releases=True, narrow=[CountsDown("readers", _plenty, _one)])
    def up_read(self) -> None:
        """``up_read()``.

        Raises:
            KernelBug: ``bug-on`` when nobody reads.
        """
        self.readers -= 1
        if self.readers < 0:
            raise KernelBug(Kind.BUG_ON, f"{self.name}: nobody reads", clause="unbalanced up_read")

    @operation(writes="writer")
    def queue_writer(self) -> None:
        """``list_add_tail(&waiter->list, &sem->wait_list)``: a writer waits; only told to a fair one."""
        self.writers_waiting += 1

    def _writable(self) -> bool:
        return not self.writing and self.readers == 0

    @operation(guard=_writable, reads="readers", writes="writer", acquires=True, sleeps=True)
    def take_write(self) -> None:
        """``down_write()``: returns once nobody else has it.  Sleeps."""
        self.writing = True
        if self.fair:
            self.writers_waiting -= 1

    @operation(writes="writer", releases=True)
    def up_write(self) -> None:
        """``up_write()``."""
        self.writing = False


async def down_read(sem: RwSem) -> None:
    """Take a semaphore for reading.  Sleeps.  Models down_read() (kernel/rwsem.c, v3.8)."""
    await (sem.down_read() if sem.fair else sem.down_read_recursive())


async def down_write(sem: RwSem) -> None:
    """Take a semaphore for writing.  Sleeps.  Models down_write() (kernel/rwsem.c, v3.8)."""
    if sem.fair:
        await sem.queue_writer()
        # Window: readers that come now wait for us, and we for those that are there.
    await sem.take_write()


def member_of(container: Actor, name: str) -> str:
    """The class of what is embedded, of whichever object: the role of its container with the member's name."""
    return f"{container.role}.{name.rpartition('.')[2]}"
