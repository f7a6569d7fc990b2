"""Locks and active references."""

from __future__ import annotations

import pytest

from slabactors.actors import Actor, operation, parallel
from slabactors.errors import Kind
from slabactors.kernel.locking import Mutex, RwSem, SpinLock, down_write, spin_lock_irqsave, spin_unlock_irqrestore
from slabactors.kernel.sysfs import SysfsDirent, sysfs_remove
from slabactors.machine import Machine
from tests.support import executions, kinds, play, verified


class Section(Actor):
    """Says when somebody is where he must be alone."""

    def __init__(self) -> None:
        super().__init__("section")
        self.inside = 0
        self.alone = True

    @operation
    def enter(self) -> None:
        """``inside++``."""
        self.inside += 1
        self.alone = self.alone and self.inside == 1

    @operation
    def leave(self) -> None:
        """``inside--``."""
        self.inside -= 1

    @operation(frees=True)
    def free(self) -> None:
        """``kfree(section)``."""


async def within(section: Section) -> None:
    await section.enter()
    await section.leave()


def test_which_locks_sleep():
    """Waiting for a mutex or a semaphore sleeps; a spinlock spins."""
    assert (Mutex.sleeps, RwSem.sleeps, SpinLock.sleeps) == (True, True, False)


@pytest.mark.parametrize("fair", [True, False])
def test_a_writer_is_alone_and_readers_need_not_be(fair):
    """No interleaving of two readers and a writer lets the writer in beside anybody."""

    async def story(machine: Machine) -> None:
        sem, section = RwSem("sem", fair=fair), Section()

        async def reads() -> None:
            await sem.down_read()
            assert not sem.writing
            await machine.cpus[0].is_online()
            await sem.up_read()

        async def writes() -> None:
            await down_write(sem)
            assert sem.readers == 0
            await within(section)
            await sem.up_write()

        await parallel(reads(), reads(), writes(), writes())
        assert section.alone

    assert not verified(story)


def test_a_reader_may_read_again_while_a_writer_waits_only_where_that_is_unfair():
    """The recursion that 4.13 forbids: the second reading waits for the writer, and he for the first."""

    def story(fair: bool):
        async def recursion(machine: Machine) -> None:
            sem = RwSem("sem", fair=fair)

            async def reads() -> None:
                await sem.down_read()
                await sem.down_read()
                await sem.up_read()
                await sem.up_read()

            async def writes() -> None:
                await down_write(sem)
                await sem.up_write()

            await parallel(reads(), writes())

        return recursion

    assert not verified(story(fair=False))
    assert kinds(verified(story(fair=True))) == {Kind.DEADLOCK}


def test_readers_of_a_semaphore_are_independent_of_each_other():
    """Any number of them is one trace."""

    def story(readers: int):
        async def side_by_side(machine: Machine) -> None:
            sem = RwSem("sem")

            async def reads() -> None:
                await sem.down_read()
                await sem.up_read()

            await parallel(*[reads() for _ in range(readers)])

        return side_by_side

    assert [executions(story(readers)) for readers in (1, 2, 4)] == [1, 1, 1]


def test_a_reading_that_ends_twice_is_reported():
    """Unbalanced."""

    async def story(machine: Machine) -> None:
        await RwSem("sem").up_read()

    assert kinds(verified(story)) == {Kind.BUG_ON}


def test_a_spinlock_keeps_others_out_and_with_irqsave_interrupts_too():
    """Two CPUs take turns; an interrupt of the CPU that holds it waits until it is given back."""

    async def story(machine: Machine) -> None:
        cpu0, cpu1 = machine.cpus
        lock, section = SpinLock("lock"), Section()

        async def task(cpu) -> None:
            await spin_lock_irqsave(cpu, lock)
            await within(section)
            await spin_unlock_irqrestore(cpu, lock)

        async def interrupt() -> None:
            await cpu0.irq_enter()
            assert not cpu0.irqs_off

        await parallel(cpu0.task(task(cpu0)), cpu1.task(task(cpu1)), cpu0.task(interrupt()))
        assert section.alone

    assert not verified(story)


# -- sysfs -------------------------------------------------------------------------------------------------------------


async def store(dirent: SysfsDirent, section: Section) -> bool:
    if not await dirent.get_active():
        return False
    await within(section)
    await dirent.put_active()
    return True


def test_removing_a_file_waits_for_its_users_and_refuses_new_ones():
    """When the removal is over nobody is inside, and nobody gets in any more."""

    async def story(machine: Machine) -> None:
        dirent, section = SysfsDirent("shrink"), Section()

        async def removes() -> None:
            await sysfs_remove(dirent)
            assert section.inside == 0
            assert not await store(dirent, section)

        await parallel(removes(), store(dirent, section), store(dirent, section))

    assert not verified(story)


def test_a_removal_that_does_not_wait_lets_a_user_go_on():
    """The mutant of the same story."""

    async def story(machine: Machine) -> None:
        dirent, section = SysfsDirent("shrink"), Section()

        async def removes() -> None:
            await dirent.deactivate()
            await section.free()

        await parallel(removes(), store(dirent, section))

    assert kinds(verified(story)) == {Kind.USE_AFTER_FREE}


def test_removing_a_file_under_a_mutex_that_its_users_take_is_a_deadlock():
    """The remover holds slab_mutex and waits for the user, who waits for slab_mutex."""

    def story(under_mutex: bool):
        async def removal(machine: Machine) -> None:
            dirent = SysfsDirent("shrink")

            async def writer() -> None:
                if await dirent.get_active():
                    await machine.slab_mutex.lock()
                    await machine.slab_mutex.unlock()
                    await dirent.put_active()

            async def remover() -> None:
                await machine.slab_mutex.lock()
                if not under_mutex:
                    await machine.slab_mutex.unlock()
                await sysfs_remove(dirent)
                if under_mutex:
                    await machine.slab_mutex.unlock()

            await parallel(remover(), writer())

        return removal

    assert kinds(verified(story(under_mutex=True))) == {Kind.DEADLOCK}
    assert not verified(story(under_mutex=False))


def test_a_user_that_leaves_twice_is_reported():
    """Unbalanced."""

    async def story(machine: Machine) -> None:
        await SysfsDirent("shrink").put_active()

    bug = play(story).outcome.bug
    assert bug is not None
    assert bug.kind is Kind.BUG_ON
