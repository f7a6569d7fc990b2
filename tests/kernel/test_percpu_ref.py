"""percpu_ref: four states, and what may be done in which."""

from __future__ import annotations

import pytest

from slabactors.actors import Actor, operation, operation_of, parallel
from slabactors.errors import Kind
from slabactors.explore.footprints import FootprintError
from slabactors.kernel.cpu import Cpu
from slabactors.kernel.percpu_ref import (
    PercpuRef,
    RefMode,
    percpu_ref_exit,
    percpu_ref_kill,
    percpu_ref_kill_and_confirm,
    percpu_ref_put,
)
from slabactors.kernel.rcu import rcu_barrier_sched, synchronize_sched
from slabactors.machine import Machine
from tests.support import executions, kinds, play, verified


class Holder(Actor):
    """An object with a percpu_ref in it, which frees itself with the last reference if told to."""

    def __init__(self, machine: Machine, *, frees: bool = True) -> None:
        super().__init__("holder")
        self.released = 0
        self.frees = frees
        self.ref = PercpuRef("holder.ref", self.release, machine.debugobjects, self)

    async def release(self, cpu: Cpu) -> None:
        await self.note_release()
        if self.frees:
            await percpu_ref_exit(cpu, self.ref)
            await self.free()

    @operation(writes="released")
    def note_release(self) -> None:
        """``release(ref)``."""
        self.released += 1

    @operation(reads="contents")
    def use(self) -> None:
        """``holder->contents``."""

    @operation(frees=True)
    def free(self) -> None:
        """``kfree(holder)``."""


def test_the_last_put_after_the_switch_releases_exactly_once_and_no_user_is_left():
    """Users with references beside a kill: the object goes when the last of them is done, in every interleaving."""

    async def story(machine: Machine) -> None:
        holder = Holder(machine)
        cpu0, cpu1 = machine.cpus

        async def user() -> None:
            await holder.use()
            await percpu_ref_put(cpu1, holder.ref)

        for _ in range(2):
            await holder.ref.get()
        await parallel(cpu0.task(percpu_ref_kill(cpu0, holder.ref)), cpu1.task(user()), cpu1.task(user()))
        await rcu_barrier_sched(cpu0)
        assert holder.released == 1
        assert holder.tombstone is not None

    assert not verified(story)


def test_a_user_without_a_reference_uses_freed_memory():
    """The mutant of the same story."""

    async def story(machine: Machine) -> None:
        holder = Holder(machine)
        cpu0, cpu1 = machine.cpus
        await parallel(cpu0.task(percpu_ref_kill(cpu0, holder.ref)), cpu1.task(holder.use()))

    assert kinds(verified(story)) == {Kind.USE_AFTER_FREE}


def test_nobody_sees_a_count_of_zero_before_the_switch():
    """More puts than gets are not noticed while CPUs count for themselves; the switch may find it, or a user pays."""

    async def story(machine: Machine) -> None:
        holder = Holder(machine)
        last = await holder.ref.put()
        assert not last
        assert (holder.ref.mode, holder.ref.count, holder.released) == (RefMode.PERCPU, 0, 0)
        await percpu_ref_kill(machine.cpus[0], holder.ref)

    # If the switch comes before the kill has put the first reference, there is one when it adds up.
    assert kinds(verified(story)) == {Kind.ACCOUNTING, Kind.USE_AFTER_FREE}


def test_tryget_works_until_the_last_reference_is_gone_and_tryget_live_until_the_kill():
    """Four states, four answers."""

    async def story(machine: Machine) -> None:
        cpu = machine.cpus[0]
        holder = Holder(machine, frees=False)
        ref = holder.ref
        answers = []

        async def ask() -> None:
            live = await ref.tryget_live()
            if live:
                await percpu_ref_put(cpu, ref)
            there = await ref.tryget()
            if there:
                await percpu_ref_put(cpu, ref)
            answers.append((ref.mode, live, there))

        await ref.get()
        await ask()
        token = await machine.rcu_sched.read_lock()
        await percpu_ref_kill(cpu, ref)
        await ask()
        await machine.rcu_sched.read_unlock(token)
        await rcu_barrier_sched(cpu)
        await ask()
        await percpu_ref_put(cpu, ref)
        await ask()
        assert answers == [
            (RefMode.PERCPU, True, True),
            (RefMode.SWITCHING, False, True),
            (RefMode.ATOMIC, False, True),
            (RefMode.ATOMIC, False, False),
        ]
        await percpu_ref_exit(cpu, ref)
        assert ref.mode is RefMode.EXITED
        assert holder.released == 1

    assert not verified(story)


def test_the_switch_waits_for_who_stays_on_a_cpu():
    """As long as a section of the sched flavour is open, the count is not atomic."""

    async def story(machine: Machine) -> None:
        cpu0, cpu1 = machine.cpus
        holder = Holder(machine, frees=False)
        token = await machine.rcu_sched.read_lock()
        await percpu_ref_kill(cpu0, holder.ref)

        async def section() -> None:
            assert holder.ref.mode is RefMode.SWITCHING
            await machine.rcu_sched.read_unlock(token)

        await parallel(cpu1.task(section()), cpu0.task(rcu_barrier_sched(cpu0)))
        assert holder.ref.mode is RefMode.ATOMIC

    assert not verified(story)


def test_confirmation_comes_when_no_get_can_find_it_alive():
    """In the callback of the switch, before the count can reach zero."""

    async def story(machine: Machine) -> None:
        cpu = machine.cpus[0]
        holder = Holder(machine)

        async def confirm(cpu: Cpu) -> None:
            assert holder.ref.mode is RefMode.ATOMIC
            await holder.use()

        await percpu_ref_kill_and_confirm(cpu, holder.ref, confirm)
        await rcu_barrier_sched(cpu)
        assert holder.released == 1

    assert not verified(story)


@pytest.mark.parametrize("waits_for", ["nothing", "a grace period", "callbacks"])
@pytest.mark.parametrize("freed", [True, False])
def test_exit_while_the_callback_of_the_switch_is_registered_is_a_use_after_free(waits_for, freed):
    """Only a callback barrier helps: of the counts when the object stays, of the object when it is freed, too."""

    async def story(machine: Machine) -> None:
        cpu = machine.cpus[0]
        holder = Holder(machine, frees=False)
        await percpu_ref_kill(cpu, holder.ref)
        if waits_for == "a grace period":
            await synchronize_sched(cpu)
        elif waits_for == "callbacks":
            await rcu_barrier_sched(cpu)
        await percpu_ref_exit(cpu, holder.ref)
        if freed:
            await holder.free()

    found = verified(story)
    assert kinds(found) == (set() if waits_for == "callbacks" else {Kind.USE_AFTER_FREE})


def test_exit_during_the_switch_is_warned_about():
    """One line in the log, and the machine goes on."""

    def lines(early: bool) -> list[str]:
        async def story(machine: Machine) -> None:
            cpu = machine.cpus[0]
            holder = Holder(machine, frees=False)
            await percpu_ref_kill(cpu, holder.ref)
            if not early:
                await rcu_barrier_sched(cpu)
            await percpu_ref_exit(cpu, holder.ref)

        return list(play(story).machine.dmesg)

    assert lines(early=False) == []
    (line,) = lines(early=True)
    assert line.startswith("WARNING: percpu_ref_exit() of holder.ref")


def test_a_second_kill_is_reported():
    """``called more than once``."""

    async def story(machine: Machine) -> None:
        cpu0, cpu1 = machine.cpus
        ref = Holder(machine).ref
        await ref.get()
        await parallel(cpu0.task(percpu_ref_kill(cpu0, ref)), cpu1.task(percpu_ref_kill(cpu1, ref)))

    assert Kind.BUG_ON in kinds(verified(story))


def test_users_of_a_live_reference_are_independent_of_each_other():
    """Gets and puts are one trace while nobody kills it; after the switch the last put is told apart."""

    def story(users: int, killed: bool):
        async def gets_and_puts(machine: Machine) -> None:
            cpu = machine.cpus[0]
            holder = Holder(machine)
            if killed:
                for _ in range(users):
                    await holder.ref.get()
                await percpu_ref_kill(cpu, holder.ref)
                await rcu_barrier_sched(cpu)

            async def user() -> None:
                if not killed:
                    await holder.ref.get()
                await percpu_ref_put(cpu, holder.ref)

            await parallel(*[user() for _ in range(users)])

        return gets_and_puts

    assert [executions(story(users, False)) for users in (1, 2, 3)] == [1, 1, 1]
    # Times two: the put of the kill itself comes before the switch or after it.
    assert [executions(story(users, True)) for users in (1, 2, 3)] == [2 * 1, 2 * 2, 2 * 3]


def test_a_count_that_is_never_tested_when_it_should_be_is_caught(monkeypatch):
    """Said to commute in atomic mode, too: the check of footprints sees the last put."""

    async def story(machine: Machine) -> None:
        cpu = machine.cpus[0]
        holder = Holder(machine)
        await holder.ref.get()
        await percpu_ref_kill(cpu, holder.ref)
        await rcu_barrier_sched(cpu)
        await holder.ref.get()
        await parallel(*[percpu_ref_put(cpu, holder.ref) for _ in range(2)])

    monkeypatch.setattr(PercpuRef, "_if_untested", lambda ref: 1)
    put = operation_of(PercpuRef.put)
    from slabactors.actors import CountsDown

    monkeypatch.setattr(put, "narrow", (CountsDown("count", lambda ref: 99, lambda ref: 1),))
    with pytest.raises(FootprintError):
        verified(story)
