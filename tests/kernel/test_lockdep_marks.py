"""What lockdep knows of each kernel service: who holds what, who waits for whom, who may sleep."""

from __future__ import annotations

import pytest

from slabactors.actors import Actor, join, might_sleep, operation, parallel, sleep, start
from slabactors.errors import Kind
from slabactors.kernel.cpu import Cpu
from slabactors.kernel.locking import Mutex, RwSem, SpinLock, down_read, down_write
from slabactors.kernel.rcu import (
    call_rcu,
    call_rcu_sched,
    rcu_barrier,
    rcu_barrier_sched,
    synchronize_rcu,
    synchronize_sched,
)
from slabactors.kernel.sysfs import SysfsDirent, sysfs_remove
from slabactors.kernel.workqueue import (
    Work,
    alloc_workqueue,
    cancel_work_sync,
    destroy_workqueue,
    drain_workqueue,
    flush_work,
    flush_workqueue,
    queue_work,
)
from slabactors.machine import Machine
from tests.support import kinds, play, verified


def clause(story) -> str | None:
    """What one run in order of age reports."""
    bug = play(story).outcome.bug
    return None if bug is None else bug.clause


def deadlock(story) -> str:
    """What the first of some random runs says that ends in one."""
    bugs = (play(story, seed=seed).outcome.bug for seed in range(100))
    return next(bug.message for bug in bugs if bug is not None and bug.kind is Kind.DEADLOCK)


async def briefly(lock: Mutex) -> None:
    await lock.lock()
    await lock.unlock()


# -- what works take ---------------------------------------------------------------------------------------------------


async def cancel(machine: Machine, work: Work) -> None:
    await cancel_work_sync(machine.workqueues[-1], work)


async def flush(machine: Machine, work: Work) -> None:
    await flush_work(machine.workqueues[-1], work)


async def flush_all(machine: Machine, work: Work) -> None:
    await flush_workqueue(machine.workqueues[-1])


async def drain(machine: Machine, work: Work) -> None:
    await drain_workqueue(machine.workqueues[-1])


async def destroy(machine: Machine, work: Work) -> None:
    await destroy_workqueue(machine.cpus[0], machine.workqueues[-1])


@pytest.mark.parametrize(
    ("waits", "name"), [(cancel, "item"), (flush, "item"), (flush_all, "wq"), (drain, "wq"), (destroy, "wq")]
)
def test_waiting_for_a_work_under_a_mutex_that_it_takes_is_reported_when_it_is_long_over(waits, name):
    """By item or by workqueue; one run in which nobody waits is enough, and without the mutex all is well."""

    def story(under_mutex: bool):
        async def both(machine: Machine) -> None:
            cpu = machine.cpus[0]
            workqueue = await alloc_workqueue(cpu, "wq", 1)
            work = Work("item", machine.clock, machine.debugobjects)

            async def function(cpu: Cpu) -> None:
                await briefly(machine.slab_mutex)

            await work.init(function)
            await queue_work(cpu, workqueue, work)
            await flush_work(workqueue, work)
            if under_mutex:
                await machine.slab_mutex.lock()
            await waits(machine, work)
            if under_mutex:
                await machine.slab_mutex.unlock()

        return both

    first, second = sorted((name, "slab_mutex"))
    assert clause(story(under_mutex=True)) == f"{first} -> {second} -> {first}"
    assert clause(story(under_mutex=False)) is None


def test_a_work_that_is_done_is_not_held_any_more():
    """A kworker runs items that take the same locks in two orders of items, one after the other."""

    async def story(machine: Machine) -> None:
        cpu = machine.cpus[0]
        for first, second in ("ab", "ba"):
            for name in (first, second):
                work = Work(name, machine.clock, machine.debugobjects)

                async def function(cpu: Cpu) -> None:
                    await briefly(machine.slab_mutex)
                    await might_sleep()

                await work.init(function)
                await queue_work(cpu, machine.system_wq, work)
                await flush_work(machine.system_wq, work)

    assert clause(story) is None


def test_a_kworker_that_leaves_holds_nothing():
    """It has found no item: its workqueue is destroyed."""

    async def story(machine: Machine) -> None:
        workqueue = await alloc_workqueue(machine.cpus[0], "wq", 1)
        await destroy_workqueue(machine.cpus[0], workqueue)

    played = play(story)
    assert played.outcome.bug is None
    assert not played.simulation.locks.inside


def test_a_deadlock_through_a_work_is_told_as_a_circle():
    """Who flushes waits for the kworker, which waits for the mutex of who flushes."""

    async def story(machine: Machine) -> None:
        cpu = machine.cpus[0]
        work = Work("item", machine.clock, machine.debugobjects)

        async def function(cpu: Cpu) -> None:
            await briefly(machine.slab_mutex)

        await work.init(function)
        await machine.slab_mutex.lock()
        await queue_work(cpu, machine.system_wq, work)
        await flush_work(machine.system_wq, work)

    assert "in a circle: kworker/0 -> main -> kworker/0" in deadlock(story)


# -- callbacks ---------------------------------------------------------------------------------------------------------


class Bit(Actor):
    """A lock in a bit of a word that does not keep its holder from sleeping, as it should."""

    lock_class = "bit"

    def __init__(self) -> None:
        super().__init__("bit")
        self.taken = False

    def _clear(self) -> bool:
        return not self.taken

    @operation(guard=_clear, acquires=True)
    def lock(self) -> None:
        """``while (test_and_set_bit(0, word));``."""
        self.taken = True

    @operation(releases=True)
    def unlock(self) -> None:
        """``clear_bit(0, word)``."""
        self.taken = False


@pytest.mark.parametrize(("calls", "waits"), [(call_rcu, rcu_barrier), (call_rcu_sched, rcu_barrier_sched)])
def test_a_barrier_waits_for_what_callbacks_take(calls, waits):
    """Under a lock that a callback spins for; a grace period may be waited for there, as no callback has to run."""

    def story(waiting):
        async def both(machine: Machine) -> None:
            cpu, bit = machine.cpus[0], Bit()

            async def callback() -> None:
                await bit.lock()
                await bit.unlock()

            await calls(cpu, callback)
            await bit.lock()
            await waiting(cpu)
            await bit.unlock()

        return both

    found = verified(story(waits))
    assert kinds(found) == {Kind.DEADLOCK, Kind.LOCK_ORDER}
    assert "lock-order: bit -> rcu_callback -> bit" in found
    assert "in a circle: main -> RCU callback -> main" in deadlock(story(waits))
    assert not verified(story(synchronize_rcu))


# -- who may sleep -----------------------------------------------------------------------------------------------------


async def with_spinlock(machine: Machine, path) -> None:
    lock = SpinLock("list_lock")
    await lock.lock()
    await path
    await lock.unlock()


async def without_interrupts(machine: Machine, path) -> None:
    await machine.cpus[0].local_irq_save()
    await path
    await machine.cpus[0].local_irq_restore()


async def in_rcu_section(machine: Machine, path) -> None:
    token = await machine.rcu.read_lock()
    await path
    await machine.rcu.read_unlock(token)


async def in_sched_section(machine: Machine, path) -> None:
    token = await machine.rcu_sched.read_lock()
    await path
    await machine.rcu_sched.read_unlock(token)


async def in_interrupt(machine: Machine, path) -> None:
    await join(await start(machine.cpus[0].interrupt(path)))


async def in_softirq(machine: Machine, path) -> None:
    await join(await start(machine.cpus[0].softirq(path)))


async def in_callback(machine: Machine, path) -> None:
    await call_rcu(machine.cpus[0], lambda: path)
    await rcu_barrier(machine.cpus[0])


ATOMIC = {
    with_spinlock: "with a spinlock held",
    without_interrupts: "with interrupts off",
    in_rcu_section: "with rcu_read_lock held",
    in_sched_section: "with rcu_read_lock_sched held",
    in_interrupt: "in an interrupt",
    in_softirq: "in a softirq",
    in_callback: "in a softirq",
}


@pytest.mark.parametrize("context", ATOMIC, ids=lambda context: context.__name__)
def test_nobody_sleeps_in(context):
    """Whether it would have to or not; what does not sleep is fine there, and afterwards everybody may."""

    def story(path):
        async def there(machine: Machine) -> None:
            await context(machine, path(machine))
            await might_sleep()

        return there

    async def sleeps(machine: Machine) -> None:
        await might_sleep()

    async def spins(machine: Machine) -> None:
        lock = SpinLock("other")
        await lock.lock()
        await lock.unlock()
        token = await machine.rcu.read_lock()
        await machine.rcu.read_unlock(token)
        if await machine.slab_mutex.trylock():
            await machine.slab_mutex.unlock()

    assert clause(story(sleeps)) == f"might_sleep() {ATOMIC[context]}"
    assert clause(story(spins)) is None


async def _works(machine: Machine, waits) -> None:
    work = Work("item", machine.clock, machine.debugobjects)

    async def function(cpu: Cpu) -> None:
        pass

    await work.init(function)
    await waits(machine.system_wq, work)


async def _all_works(machine: Machine, waits) -> None:
    await waits(machine.system_wq)


async def _leaving(machine: Machine) -> None:
    await machine.system_wq.start_leaving()
    await machine.system_wq.wait_left()


SLEEPERS = {
    "sleep": lambda machine: sleep(1),
    "mutex_lock": lambda machine: machine.slab_mutex.lock(),
    "mutex_lock_nested": lambda machine: machine.slab_mutex.lock_nested(),
    "down_read": lambda machine: down_read(RwSem("sem")),
    "down_read of an unfair one": lambda machine: down_read(RwSem("sem", fair=False)),
    "down_write": lambda machine: down_write(RwSem("sem")),
    "cancel_work_sync": lambda machine: _works(machine, cancel_work_sync),
    "flush_work": lambda machine: _works(machine, flush_work),
    "flush_workqueue": lambda machine: _all_works(machine, flush_workqueue),
    "drain_workqueue": lambda machine: _all_works(machine, drain_workqueue),
    "destroy_worker": lambda machine: _leaving(machine),
    "alloc_workqueue": lambda machine: alloc_workqueue(machine.cpus[0], "wq", 1),
    "synchronize_rcu": lambda machine: synchronize_rcu(machine.cpus[0]),
    "synchronize_sched": lambda machine: synchronize_sched(machine.cpus[0]),
    "rcu_barrier": lambda machine: rcu_barrier(machine.cpus[0]),
    "rcu_barrier_sched": lambda machine: rcu_barrier_sched(machine.cpus[0]),
    "sysfs_remove": lambda machine: sysfs_remove(SysfsDirent("file")),
}


@pytest.mark.parametrize("name", SLEEPERS)
def test_what_may_sleep_is_reported_where_nobody_may_although_nothing_is_in_its_way(name):
    """In an RCU section; outside of it the same is fine."""

    async def there(machine: Machine) -> None:
        await in_rcu_section(machine, SLEEPERS[name](machine))

    async def elsewhere(machine: Machine) -> None:
        await in_rcu_section(machine, machine.cpus[0].is_online())
        await SLEEPERS[name](machine)
        if name.startswith("mutex"):
            await machine.slab_mutex.unlock()

    bug = play(there).outcome.bug
    assert bug is not None
    assert bug.kind is Kind.SLEEP_IN_ATOMIC
    assert clause(elsewhere) is None


def test_sections_are_nested_and_nobody_sleeps_before_the_last_has_ended():
    """As `rcu_read_lock()` may be taken by who has it; it has no order with locks, nor with itself."""

    async def story(machine: Machine) -> None:
        outer = await machine.rcu.read_lock()
        inner = await machine.rcu.read_lock()
        await machine.rcu.read_unlock(inner)
        await machine.rcu.read_unlock(outer)
        await might_sleep()
        token = await machine.rcu.read_lock()
        await in_rcu_section(machine, might_sleep())
        await machine.rcu.read_unlock(token)

    bug = play(story).outcome.bug
    assert bug is not None
    assert bug.kind is Kind.SLEEP_IN_ATOMIC
    assert bug.message.endswith("holding rcu_read_lock, rcu_read_lock")


def test_sections_have_no_order_with_spinlocks():
    """Nobody waits for a reader with a spinlock held: that would sleep."""

    async def story(machine: Machine) -> None:
        lock = SpinLock("list_lock")
        token = await machine.rcu.read_lock()
        await lock.lock()
        await lock.unlock()
        await machine.rcu.read_unlock(token)
        await lock.lock()
        token = await machine.rcu.read_lock()
        await machine.rcu.read_unlock(token)
        await lock.unlock()

    assert clause(story) is None


def test_whoever_tries_and_gets_a_mutex_holds_it_and_whoever_nests_means_to():
    """Two of one class: by `mutex_lock_nested()` that is meant, else it is not; what was tried counts, too."""

    def story(nested: bool, tried: bool = False):
        async def both(machine: Machine) -> None:
            one, other = (Mutex(name, lock_class="inode->i_mutex") for name in ("parent", "child"))
            if tried:
                assert await one.trylock()
                assert not await one.trylock()
            else:
                await one.lock()
            await (other.lock_nested() if nested else other.lock())
            await briefly(machine.slab_mutex)
            await other.unlock()
            await one.unlock()
            await briefly(machine.slab_mutex)

        return both

    assert clause(story(nested=True)) is None
    assert clause(story(nested=False)) == "inode->i_mutex inside inode->i_mutex"
    assert clause(story(nested=False, tried=True)) == "inode->i_mutex inside inode->i_mutex"

    async def other_way_round(machine: Machine) -> None:
        await story(nested=True)(machine)
        await machine.slab_mutex.lock()
        nested = Mutex("child", lock_class="inode->i_mutex")
        await nested.lock_nested()
        await nested.unlock()
        await machine.slab_mutex.unlock()

    assert clause(other_way_round) == "inode->i_mutex -> slab_mutex -> inode->i_mutex"


def test_interrupts_that_are_off_have_no_order():
    """Switched off under a spinlock or before it."""

    async def story(machine: Machine) -> None:
        cpu, lock = machine.cpus[0], SpinLock("list_lock")
        await cpu.local_irq_save()
        await lock.lock()
        await lock.unlock()
        await cpu.local_irq_restore()
        await lock.lock()
        await cpu.local_irq_save()
        await cpu.local_irq_restore()
        await lock.unlock()

    assert clause(story) is None


def test_a_lock_goes_by_what_it_lies_in():
    """All that lie in objects of one kind are one class, whatever the objects are called."""
    box = Bit()
    mutex, sem, lock = Mutex("bit.mutex", box), RwSem("bit.sem", container=box), SpinLock("bit.lock", box)
    assert [one.lock_class for one in (mutex, sem, lock)] == ["Bit.mutex", "Bit.sem", "Bit.lock"]
    assert [one.lock_class for one in (Mutex("m"), RwSem("r"), SpinLock("s"))] == ["m", "r", "s"]
    assert Mutex("m", lock_class="other").lock_class == "other"


# -- readers and writers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fair", [True, False])
@pytest.mark.parametrize("writes", [True, False])
def test_a_semaphore_is_held_until_it_is_given_back_and_no_longer(fair, writes):
    """Then what is taken comes after nothing; before, it comes after the semaphore."""

    def story(given_back: bool):
        async def both(machine: Machine) -> None:
            sem = RwSem("sem", fair=fair)

            async def taken() -> None:
                await (down_write(sem) if writes else down_read(sem))

            async def give_back() -> None:
                await (sem.up_write() if writes else sem.up_read())

            await taken()
            if given_back:
                await give_back()
            await briefly(machine.slab_mutex)
            if not given_back:
                await give_back()
            await machine.slab_mutex.lock()
            await down_write(sem)
            await sem.up_write()
            await machine.slab_mutex.unlock()

        return both

    found = clause(story(given_back=False))
    assert found is not None
    assert "sem" in found
    assert clause(story(given_back=True)) is None


# -- files -------------------------------------------------------------------------------------------------------------


def test_a_file_is_removed_under_a_mutex_that_a_writer_takes_though_he_is_long_gone():
    """One run after the other; a file that was being removed when he came is none that he holds."""

    def story(removed: bool):
        async def both(machine: Machine) -> None:
            dirent = SysfsDirent("/sys/kernel/slab/dentry")
            if removed:
                await sysfs_remove(dirent)
            if await dirent.get_active():
                await briefly(machine.slab_mutex)
                await dirent.put_active()
            elif removed:
                await briefly(machine.slab_mutex)
            await machine.slab_mutex.lock()
            await (SysfsDirent("another") if removed else dirent).deactivate()
            await (SysfsDirent("another") if removed else dirent).wait_unused()
            await machine.slab_mutex.unlock()

        return both

    assert clause(story(removed=False)) == "s_active -> slab_mutex -> s_active"
    assert clause(story(removed=True)) is None


def test_a_deadlock_through_a_file_is_told_as_a_circle():
    """Who removes waits for who writes, who waits for the mutex of who removes."""

    async def story(machine: Machine) -> None:
        dirent = SysfsDirent("/sys/kernel/slab/dentry")

        async def writer() -> None:
            if await dirent.get_active():
                await briefly(machine.slab_mutex)
                await dirent.put_active()

        async def remover() -> None:
            await machine.slab_mutex.lock()
            await sysfs_remove(dirent)
            await machine.slab_mutex.unlock()

        await parallel(remover(), writer())

    assert "in a circle: remover -> writer -> remover" in deadlock(story)
