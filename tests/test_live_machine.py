"""A live machine inside a program of somebody's own: who gets which result, what comes out of the block, and how."""

from __future__ import annotations

import asyncio
import gc
import re
import signal
from dataclasses import dataclass
from enum import Enum
from hashlib import sha256

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest
import trio
from anyio.lowlevel import checkpoint

from slabactors.actors import parallel, sleep
from slabactors.calls import program_of
from slabactors.cli.once import caches_of
from slabactors.errors import FindingFileError, KernelBug, Kind, MachineOff, UsageError
from slabactors.explore.finding import load, save, signature
from slabactors.explore.replay import replay
from slabactors.explore.shrink import replayed
from slabactors.kernel.jiffies import HZ
from slabactors.live import Failed, LiveMachine, live_machine
from slabactors.mm.memcontrol import mem_cgroup_create, mem_cgroup_rmdir, memcg_create_kmem_cache
from slabactors.mm.slab_common import kmem_cache_alloc, kmem_cache_create, kmem_cache_free, kmem_cache_shrink
from slabactors.runtime.step import Ending
from slabactors.testing import explore_sync
from slabactors.trace.log import StepFields
from tests.runtime.test_live import living

BACKENDS = ["asyncio", "trio"]
both = pytest.mark.parametrize("backend", BACKENDS)


def run(backend, main, *arguments):
    """Run a program, and check that it leaves no task behind, and nothing open."""

    async def go():
        before = living()
        try:
            return await main(*arguments)
        finally:
            assert living() == before, "tasks are left behind"

    return anyio.run(go, backend=backend)


@pytest.fixture(autouse=True)
def nothing_left_open():
    """What was left open complains when it is collected, and every warning is an error here."""
    yield
    gc.collect()


def replays(machine: LiveMachine):
    """Run what the machine did in the simulator, step for step, and see that it comes to the same."""
    again = replay(machine.program(), machine.decisions())
    assert caches_of(again.world) == caches_of(machine)
    return again.outcome


async def race(machine: LiveMachine) -> None:
    """A cgroup goes while its last object is freed, by two tasks."""
    cpu0, cpu1 = machine.cpus
    dentry = await machine.call(kmem_cache_create(cpu0, "dentry", 1000, min_partial=0))
    web = await machine.call(mem_cgroup_create(cpu0, "web"))
    await machine.call(memcg_create_kmem_cache(cpu0, dentry, web))
    obj = await machine.call(kmem_cache_alloc(cpu0, dentry, web))
    await machine.call(kmem_cache_shrink(cpu0, obj.slab.cache))
    async with anyio.create_task_group() as group:
        group.start_soon(machine.call, cpu0.task(mem_cgroup_rmdir(cpu0, web), "rmdir"))
        group.start_soon(machine.call, cpu1.task(kmem_cache_free(cpu1, obj), "free"))


# -- calls -------------------------------------------------------------------------------------------------------------


@both
def test_several_tasks_call_at_the_same_time_and_each_gets_its_result(backend):
    """Ten tasks share a cache; no object is given out twice, and the machine is in order when the block is left."""
    held = []

    async def user(machine, dentry, number):
        cpu = machine.cpus[number % 2]
        for _ in range(5):
            obj = await machine.call(kmem_cache_alloc(cpu, dentry))
            assert obj not in held
            held.append(obj)
            await checkpoint()
            held.remove(obj)
            await machine.call(kmem_cache_free(cpu, obj))

    async def main():
        async with live_machine(cpus=2, jitter=0.3, seed=1) as machine:
            dentry = await machine.call(kmem_cache_create(machine.cpus[0], "dentry", 192))
            async with anyio.create_task_group() as group:
                for number in range(10):
                    group.start_soon(user, machine, dentry, number)
        return machine

    machine = run(backend, main)
    assert replays(machine).ending is Ending.DONE


@both
def test_a_run_without_a_bug_replays_in_the_simulator(backend):
    """Whatever the event loop did: the same steps fit, the same caches are left, and the same time has passed."""

    async def main(seed):
        async with live_machine("repaired", cpus=2, jitter=0.5, seed=seed, time_scale=100_000) as machine:
            await race(machine)
            await machine.settle()
            assert dict(machine.destroyed)
            await machine.call(kmem_cache_create(machine.cpus[0], "inode", 500))
        return machine

    schedules = set()
    for seed in range(10):
        machine = run(backend, main, seed)
        outcome = replays(machine)
        assert (outcome.ending, outcome.now) == (Ending.DONE, machine.clock.now)
        schedules.add(tuple(machine.decisions()))
    assert len(schedules) > 1


@both
def test_a_bug_comes_out_of_the_block_with_a_schedule_that_replays(backend):
    """The founding patch breaks in one run or another: Failed, with the table of its shortest schedule."""
    machines = []

    async def main(seed):
        async with live_machine("v5", cpus=2, jitter=0.5, seed=seed) as machine:
            machines.append(machine)
            await race(machine)

    # Two of three runs break, so that forty miss it with p < 1e-19.
    for seed in range(40):
        try:
            run(backend, main, seed)
        except Failed as failed:
            broken = failed
            break
    else:
        pytest.fail("no run broke")
    again = replay(machines[-1].program(), machines[-1].decisions())
    name = signature(again.outcome)
    assert str(broken).startswith(f"{name}, live on {backend} (seed {seed})\n")
    [report] = broken.reports
    assert report.finding.signature == name
    assert len(report.finding.schedule) <= len(machines[-1].decisions())
    assert "race: " in broken.text


@both
def test_an_exception_of_a_path_reaches_its_caller_and_nobody_else(backend):
    """It is no bug of the machine's: others go on, and so does the caller."""

    async def careless(cpu, cache):
        obj = await kmem_cache_alloc(cpu, cache)
        await kmem_cache_free(cpu, obj)
        raise LookupError("no such thing")

    async def main():
        async with live_machine(cpus=2) as machine:
            cpu = machine.cpus[0]
            dentry = await machine.call(kmem_cache_create(cpu, "dentry", 192))
            with pytest.raises(LookupError, match="no such thing"):
                await machine.call(careless(cpu, dentry))
            obj = await machine.call(kmem_cache_alloc(cpu, dentry))
            await machine.call(kmem_cache_free(cpu, obj))
        return machine

    assert replays(run(backend, main)).ending is Ending.DONE


@both
def test_a_path_in_the_background_can_be_waited_for_by_many(backend):
    """And the block waits for those for whom nobody does, however long their timers take."""
    got = []

    async def later(cache, jiffies):
        await sleep(jiffies)
        return await kmem_cache_alloc(cache.geometry and machine_of[0].cpus[1], cache)

    machine_of = []

    async def main():
        async with live_machine(cpus=2, time_scale=1_000_000) as machine:
            machine_of.append(machine)
            dentry = await machine.call(kmem_cache_create(machine.cpus[0], "dentry", 192))
            running = machine.start(later(dentry, 60 * HZ))
            assert not running.done

            async def waiter():
                got.append(await running.wait())

            async with anyio.create_task_group() as group:
                group.start_soon(waiter)
                group.start_soon(waiter)
            forgotten = machine.start(later(dentry, 3600 * HZ))
        assert forgotten.done
        return machine

    machine = run(backend, main)
    assert got[0] is got[1] is not None
    assert machine.clock.now >= 3660 * HZ


# -- what comes out of the block ---------------------------------------------------------------------------------------


async def freed_twice(machine):
    """A path that breaks the machine."""
    cpu = machine.cpus[0]
    dentry = await machine.call(kmem_cache_create(cpu, "dentry", 192))
    obj = await machine.call(kmem_cache_alloc(cpu, dentry))
    await machine.call(kmem_cache_free(cpu, obj))
    await machine.call(kmem_cache_free(cpu, obj))


@both
def test_a_bug_reaches_every_caller_and_failed_comes_out(backend):
    """Whoever waits in a call gets the bug, the rest of the block is cancelled, and so is what comes after."""
    told = []

    async def sleeper(machine):
        try:
            await machine.call(sleep(10**9))
        except KernelBug as bug:
            told.append(bug.kind)
            raise

    async def main():
        async with live_machine() as machine:
            try:
                async with anyio.create_task_group() as group:
                    group.start_soon(sleeper, machine)
                    group.start_soon(freed_twice, machine)
            except* KernelBug as bugs:
                told.append(len(bugs.exceptions))
            with pytest.raises(KernelBug):
                machine.start(sleep(1))
            await anyio.sleep_forever()

    with pytest.raises(Failed, match="double-free: double free of an object") as caught:
        run(backend, main)
    assert told == [Kind.DOUBLE_FREE, 2]
    assert caught.value.reports[0].finding.kind is Kind.DOUBLE_FREE


@both
def test_what_breaks_in_the_background_cancels_the_block(backend):
    """As in a task group one of whose tasks has failed; the exception is the cause of what comes out."""

    async def careless():
        await sleep(5)
        raise LookupError("nobody hears me")

    async def main():
        async with live_machine() as machine:
            machine.start(careless())
            await anyio.sleep_forever()

    with pytest.raises(
        Failed, match=r"careless raised LookupError at test_live_machine.py:\d+: nobody hears me"
    ) as caught:
        run(backend, main)
    assert isinstance(caught.value.__cause__, LookupError)


@both
def test_the_checkers_look_when_the_block_is_left_and_when_it_settles(backend):
    """Before the founding patch an empty dead cache stays for ever: that is told to whoever settles."""

    async def main(settle):
        async with live_machine("pre-patch") as machine:
            cpu = machine.cpus[0]
            dentry = await machine.call(kmem_cache_create(cpu, "dentry", 192))
            web = await machine.call(mem_cgroup_create(cpu, "web"))
            await machine.call(memcg_create_kmem_cache(cpu, dentry, web))
            obj = await machine.call(kmem_cache_alloc(cpu, dentry, web))
            await machine.settle()
            await machine.call(mem_cgroup_rmdir(cpu, web))
            await machine.call(kmem_cache_free(cpu, obj))
            if settle:
                with pytest.raises(KernelBug) as caught:
                    await machine.settle()
                assert caught.value.kind is Kind.ZOMBIE

    for settle in (False, True):
        with pytest.raises(Failed, match="zombie: empty dead cache never destroyed") as caught:
            run(backend, main, settle)
        assert caught.value.reports[0].finding.kind is Kind.ZOMBIE


@both
def test_what_the_body_raises_comes_out_as_it_is(backend):
    """The machine does not settle then, and does not put it into a group."""
    raised = LookupError("mine")

    async def main():
        async with live_machine("pre-patch") as machine:
            machine.start(sleep(10**9))
            await machine.call(kmem_cache_create(machine.cpus[0], "dentry", 192))
            raise raised

    with pytest.raises(LookupError) as caught:
        run(backend, main)
    assert caught.value is raised


@both
def test_a_bug_and_what_the_body_raised_besides_come_out_together(backend):
    """Nothing gets lost: one group has both."""

    async def main():
        async with live_machine() as machine:
            try:
                await freed_twice(machine)
            except KernelBug as bug:
                raise LookupError("something else") from bug

    with pytest.raises(ExceptionGroup, match="the machine broke, and its block raised") as caught:
        run(backend, main)
    failed, other = caught.value.exceptions
    assert isinstance(failed, Failed)
    assert isinstance(other, LookupError)


@both
def test_after_its_block_a_machine_is_off(backend):
    """It says so, and the path that it does not run does not complain of that."""

    async def main():
        async with live_machine() as machine:
            running = machine.start(sleep(1))
            path = kmem_cache_create(machine.cpus[0], "dentry", 192)
        with pytest.raises(MachineOff, match="its block was left"):
            await machine.call(path)
        with pytest.raises(MachineOff):
            machine.start(sleep(1))
        with pytest.raises(MachineOff):
            await machine.settle()
        assert await running.wait() is None

    run(backend, main)


@both
def test_a_machine_makes_no_more_steps_than_it_may(backend):
    """Whoever waits is told; it is neither fine nor broken, so the block says undetermined."""

    async def many(cpu, cache):
        for _ in range(100):
            await kmem_cache_alloc(cpu, cache)

    async def main():
        async with live_machine(steps_max=100) as machine:
            cpu = machine.cpus[0]
            dentry = await machine.call(kmem_cache_create(cpu, "dentry", 192))
            for _ in range(5):
                await machine.call(kmem_cache_alloc(cpu, dentry))
            with pytest.raises(MachineOff, match="100 steps, as many as it may"):
                await machine.call(many(cpu, dentry))

    with pytest.raises(Failed, match="undetermined: the machine made 100 steps") as caught:
        run(backend, main)
    assert caught.value.text == ""


# -- cancellation and timeouts -----------------------------------------------------------------------------------------


@both
def test_cancelled_at_any_moment_a_block_leaves_nothing_behind(backend):
    """The cancellation comes through wherever the block is: at its first call, in a race, settling."""
    cancelled = finished = 0

    async def main(moment):
        nonlocal cancelled, finished
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:

                async def canceller():
                    for _ in range(moment):
                        await checkpoint()
                    scope.cancel()

                group.start_soon(canceller)
                async with live_machine("repaired", cpus=2, jitter=0.3, seed=moment, time_scale=1e6) as machine:
                    machine.start(sleep(7))
                    await race(machine)
                    await machine.settle()
                finished += 1
                group.cancel_scope.cancel()
        cancelled += scope.cancelled_caught

    for moment in range(0, 1200, 9):
        run(backend, main, moment)
    assert cancelled > 10
    assert finished > 10


def test_native_cancellation_of_asyncio_comes_through():
    """``Task.cancel()`` of the task that is in the block, wherever it is."""

    async def block():
        async with live_machine("repaired", cpus=2, time_scale=1e6) as machine:
            await race(machine)

    async def main(moment):
        task = asyncio.create_task(block())
        for _ in range(moment):
            await asyncio.sleep(0)
        if not task.done():
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert asyncio.all_tasks() == {asyncio.current_task()}

    for moment in range(1, 200, 7):
        asyncio.run(main(moment))


async def by_anyio(call):
    with anyio.fail_after(0.01):
        await call


async def by_asyncio(call):
    async with asyncio.timeout(0.01):
        await call


async def by_trio(call):
    with trio.fail_after(0.01):
        await call


@pytest.mark.parametrize(
    ("backend", "limited"),
    [("asyncio", by_anyio), ("asyncio", by_asyncio), ("trio", by_anyio), ("trio", by_trio)],
)
def test_a_call_that_takes_too_long_is_left_and_goes_on(backend, limited):
    """A kernel path cannot be interrupted: the caller gets what its timeout raises, and the path to its end."""

    async def slow(cpu, cache, held):
        await sleep(60 * HZ)
        held.append(await kmem_cache_alloc(cpu, cache))

    async def main():
        held = []
        async with live_machine(cpus=1) as machine:
            [cpu] = machine.cpus
            dentry = await machine.call(kmem_cache_create(cpu, "dentry", 192))
            with pytest.raises((TimeoutError, trio.TooSlowError)):
                await limited(machine.call(slow(cpu, dentry, held)))
            assert not held
            await machine.settle()
            assert len(held) == 1
        return machine

    assert replays(run(backend, main)).ending is Ending.DONE


@both
def test_nobody_is_left_to_hear_what_an_abandoned_path_raises(backend):
    """Errors do not pass silently: then it breaks the machine, live and in the replay."""
    machines = []

    async def careless():
        await sleep(60 * HZ)
        raise LookupError("too late")

    async def main():
        async with live_machine() as machine:
            machines.append(machine)
            with anyio.move_on_after(0.01) as scope:
                await machine.call(careless())
            assert scope.cancelled_caught

    with pytest.raises(Failed, match="careless raised LookupError"):
        run(backend, main)
    assert "careless raised LookupError" in replay(machines[0].program(), machines[0].decisions()).outcome.bug.message


@both
def test_a_timeout_around_a_deadlock_says_who_waits_for_whom(backend):
    """The machine cannot know that nobody outside will help, but it can say what it sees."""

    async def sleepy(mutex):
        await mutex.lock()

    async def main():
        with anyio.fail_after(0.05):
            async with live_machine() as machine:
                await machine.call(sleepy(machine.slab_mutex))
                await machine.call(kmem_cache_create(machine.cpus[0], "dentry", 192))

    async def other():
        async with live_machine() as machine:
            with anyio.fail_after(0.05):
                await machine.call(sleepy(machine.slab_mutex))
                await machine.call(kmem_cache_create(machine.cpus[0], "dentry", 192))

    with pytest.raises(TimeoutError):
        run(backend, main)
    with pytest.raises(TimeoutError) as caught:
        run(backend, other)
    [note] = caught.value.__notes__
    assert "nothing can move: kmem_cache_create waits for mutex_lock" in note


@both
def test_a_deadlock_is_found_when_the_block_is_left(backend):
    """There nobody outside can help any more."""

    async def forgetful(mutex):
        await mutex.lock()

    async def main():
        async with live_machine() as machine:
            await machine.call(forgetful(machine.slab_mutex))
            machine.start(kmem_cache_create(machine.cpus[0], "dentry", 192))

    with pytest.raises(Failed, match="deadlock: waits for"):
        run(backend, main)


@both
def test_a_settle_that_is_cancelled_leaves_the_machine_as_it_was(backend):
    """Others may call meanwhile, and the next one who settles gets to the end."""

    async def main():
        async with live_machine("repaired", cpus=2) as machine:
            go_on = anyio.Event()
            guest = machine.start(go_on.wait())
            await race(machine)
            with anyio.move_on_after(0.01) as scope:
                await machine.settle()
            assert scope.cancelled_caught
            await machine.call(kmem_cache_create(machine.cpus[0], "inode", 192))
            go_on.set()
            async with anyio.create_task_group() as group:
                group.start_soon(machine.settle)
                group.start_soon(machine.settle)
            assert guest.done
            assert dict(machine.destroyed)

    run(backend, main)


# -- in the scopes of others -------------------------------------------------------------------------------------------


def anyio_group():
    return anyio.create_task_group()


def start_in(group, function, *arguments):
    """Of any of the three kinds of task groups."""
    if isinstance(group, asyncio.TaskGroup):
        group.create_task(function(*arguments))
    else:
        group.start_soon(function, *arguments)


in_any_group = pytest.mark.parametrize(
    ("backend", "task_group"),
    [
        ("asyncio", asyncio.TaskGroup),
        ("asyncio", anyio_group),
        ("trio", anyio_group),
        ("trio", trio.open_nursery),
    ],
    ids=["asyncio.TaskGroup", "anyio on asyncio", "anyio on trio", "trio nursery"],
)


@in_any_group
def test_a_group_that_fails_while_its_tasks_wait_for_the_machine_leaves_that_alone(backend, task_group):
    """Siblings of a task that raises are cancelled in their calls; the paths go on, and so does the machine."""
    held = []

    async def slow(cpu, cache):
        await sleep(60 * HZ)
        held.append(await kmem_cache_alloc(cpu, cache))

    async def fails():
        await anyio.sleep(0.01)
        raise LookupError("mine")

    async def main():
        async with live_machine(cpus=2) as machine:
            cpu = machine.cpus[0]
            dentry = await machine.call(kmem_cache_create(cpu, "dentry", 192))

            async def grouped():
                async with task_group() as group:
                    for _ in range(3):
                        start_in(group, machine.call, slow(cpu, dentry))
                    start_in(group, fails)

            with pytest.raises(ExceptionGroup) as caught:
                await grouped()
            assert [type(one) for one in caught.value.exceptions] == [LookupError]
            assert not held
            await machine.settle()
            assert len(held) == 3
        return machine

    assert replays(run(backend, main)).ending is Ending.DONE


@in_any_group
def test_what_a_path_raises_comes_out_of_the_group_of_its_caller(backend, task_group):
    """The others of the group are cancelled by that, and nobody outside of it."""

    async def careless():
        await sleep(HZ)
        raise LookupError("no such thing")

    async def main():
        async with live_machine() as machine:

            async def grouped():
                async with task_group() as group:
                    start_in(group, machine.call, careless())
                    start_in(group, anyio.sleep_forever)

            with pytest.raises(ExceptionGroup) as caught:
                await grouped()
            assert [str(one) for one in caught.value.exceptions] == ["no such thing"]
            await machine.call(kmem_cache_create(machine.cpus[0], "dentry", 192))

    run(backend, main)


@in_any_group
def test_a_machine_that_breaks_ends_all_groups_in_its_block(backend, task_group):
    """However deep they are; out of the groups around the block comes one failure."""
    ended = []

    async def waits(name):
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(name)

    async def block():
        async with live_machine() as machine, task_group() as outer:
            start_in(outer, waits, "outer")
            async with task_group() as inner:
                start_in(inner, waits, "inner")
                await checkpoint()
                machine.start(freed_twice_by(machine.cpus[0]))

    async def main():
        async with task_group() as group:
            start_in(group, waits, "around")
            start_in(group, block)

    with pytest.raises(ExceptionGroup) as caught:
        run(backend, main)
    [failed] = caught.value.exceptions
    assert isinstance(failed, Failed)
    assert str(failed).startswith("double-free: ")
    assert sorted(ended) == ["around", "inner", "outer"]


async def freed_twice_by(cpu):
    dentry = await kmem_cache_create(cpu, "dentry", 192)
    obj = await kmem_cache_alloc(cpu, dentry)
    await kmem_cache_free(cpu, obj)
    await kmem_cache_free(cpu, obj)


@in_any_group
def test_two_machines_on_one_event_loop_do_not_know_of_each_other(backend, task_group):
    """Each has its own time, names and schedule; one breaks and is told to its own block only."""
    machines, failed = [], []

    async def sound():
        async with live_machine("repaired", cpus=2, jitter=0.3) as machine:
            machines.append(machine)
            for _ in range(3):
                await machine.call(sleep(10 * HZ))
            await race(machine)
            await machine.settle()
            assert dict(machine.destroyed)

    async def broken():
        try:
            async with live_machine() as machine:
                await freed_twice(machine)
        except Failed as failure:
            failed.append(failure)

    async def main():
        async with task_group() as group:
            start_in(group, sound)
            start_in(group, broken)
            start_in(group, sound)

    run(backend, main)
    assert len(failed) == 1
    for machine in machines:
        assert replays(machine).now == machine.clock.now


@both
def test_a_machine_inside_of_another_ones_block(backend):
    """The inner one breaks: that comes out of its block, as anything would, and then out of the outer one."""

    async def main():
        async with live_machine() as outer:
            await outer.call(kmem_cache_create(outer.cpus[0], "dentry", 192))
            async with live_machine() as inner:
                await freed_twice(inner)

    with pytest.raises(Failed, match="double-free"):
        run(backend, main)

    async def sound():
        async with live_machine() as outer, live_machine() as inner:
            for machine in (outer, inner, outer):
                await machine.call(kmem_cache_shrink_all(machine.cpus[0]))
        return outer, inner

    async def kmem_cache_shrink_all(cpu):
        cache = await kmem_cache_create(cpu, f"cache{len(cpu.machine.caches)}", 192)
        await kmem_cache_shrink(cpu, cache)

    for machine in run(backend, sound):
        assert replays(machine).ending is Ending.DONE


@pytest.mark.parametrize("moment", ["in the body", "in a call", "while it settles"])
@both
def test_ctrl_c_comes_through_and_takes_the_machine_down(backend, moment):
    """Wherever the block is when the signal comes; what was running does not complain."""
    machines = []

    async def later():
        await anyio.sleep(0.02)
        signal.raise_signal(signal.SIGINT)

    async def main():
        async with anyio.create_task_group() as group:
            group.start_soon(later)
            async with live_machine() as machine:
                machines.append(machine)
                machine.start(waits_for(anyio.Event()))
                if moment == "in a call":
                    await machine.call(waits_for(anyio.Event()))
                elif moment == "in the body":
                    await anyio.sleep_forever()

    async def waits_for(event):
        await event.wait()

    with pytest.raises(BaseException) as caught:  # noqa: PT011 -- a bare interrupt, or a group of trio's with one in it
        anyio.run(main, backend=backend)
    raised = caught.value
    while isinstance(raised, BaseExceptionGroup):
        [raised] = raised.exceptions
    assert isinstance(raised, KeyboardInterrupt)
    del caught, raised

    async def asked_again():
        with pytest.raises(MachineOff):
            machines[0].start(sleep(1))

    run(backend, asked_again)


@both
def test_an_interrupt_that_a_path_raises_is_nobodys_bug(backend):
    """It is the user's; it comes out of the block as it is, and not as a finding."""

    async def interrupted():
        await sleep(1)
        raise KeyboardInterrupt

    async def main():
        async with live_machine() as machine:
            await machine.call(interrupted())

    with pytest.raises(BaseException) as caught:  # noqa: PT011 -- as above
        anyio.run(main, backend=backend)
    raised = caught.value
    while isinstance(raised, BaseExceptionGroup):
        [raised] = raised.exceptions
    assert isinstance(raised, KeyboardInterrupt)


@both
def test_a_machine_is_called_on_its_own_event_loop_only(backend):
    """From another thread, with an event loop or without one, it says so and is not touched; there is a way in."""
    told = []

    def without_a_loop(machine):
        for ask in (machine.start, lambda path: machine.call(path).send(None)):
            with pytest.raises(UsageError, match="another thread or event loop") as caught:
                ask(sleep(1))
            told.append(str(caught.value))

    def with_another(machine):
        async def asks():
            with pytest.raises(UsageError, match="another thread or event loop"):
                await machine.call(sleep(1))
            with pytest.raises(UsageError, match="another thread or event loop"):
                await machine.settle()
            told.append("")

        for other in BACKENDS:
            anyio.run(asks, backend=other)

    def by_the_way_in(machine):
        return anyio.from_thread.run(machine.call, kmem_cache_create(machine.cpus[0], "dentry", 192))

    async def main():
        async with live_machine() as machine:
            await anyio.to_thread.run_sync(without_a_loop, machine)
            await anyio.to_thread.run_sync(with_another, machine)
            assert not machine.decisions()
            cache = await anyio.to_thread.run_sync(by_the_way_in, machine)
            assert cache in machine.caches
        return machine

    machine = anyio.run(main, backend=backend)  # threads of anyio's stay for a while
    assert replays(machine).ending is Ending.DONE
    assert len(told) == 4


# -- the calls as a story ----------------------------------------------------------------------------------------------


def test_the_calls_of_a_run_that_went_well_can_be_searched():
    """What was called is a story: another order of its steps is the one that breaks."""

    async def main():
        async with live_machine("repaired", cpus=2) as machine:
            await race(machine)
        return machine

    machine = run("asyncio", main)
    result = explore_sync(machine.program().scenario, lifecycle="v5", runs=300, cpus=2)
    assert "freed-active-work: free of an active work item by kworker" in [
        report.finding.signature for report in result.reports
    ]
    assert explore_sync(machine.program().scenario, lifecycle="repaired", runs=300, cpus=2).verdict == "clean"


@dataclass
class Session:
    cache: object


def test_arguments_are_found_again_wherever_they_come_from():
    """Results, parts of results, parts of the machine, closures, containers, paths and tasks that are arguments."""

    async def pair(cpu, *, cache):
        return [await kmem_cache_alloc(cpu, cache), {"second": await kmem_cache_alloc(cpu, cache)}]

    async def all_of(*paths, **named):
        await parallel(*paths, *named.values())

    async def main():
        async with live_machine("repaired", cpus=2) as machine:
            cpu0, cpu1 = machine.cpus
            dentry = await machine.call(kmem_cache_create(cpu0, "dentry", 192))
            first, more = await machine.call(pair(cpu0, cache=dentry))
            third = await machine.call(kmem_cache_alloc(cpu0, dentry))

            async def free_it():
                await kmem_cache_free(cpu1, third)

            free = cpu1.task(kmem_cache_free(cpu1, more["second"]), "free")
            await machine.call(all_of(free_it(), kmem_cache_free(cpu0, first), last=free))
            await machine.call(machine.slab_mutex.lock())
            await machine.call(machine.slab_mutex.unlock())
        return machine

    assert replays(run("asyncio", main)).ending is Ending.DONE


def test_what_cannot_be_found_again_is_refused_when_a_replay_is_asked_for():
    """And not before: the call itself is as good as any other."""

    async def use(cpu, session):
        return await kmem_cache_alloc(cpu, session.cache)

    async def host():
        await checkpoint()

    async def main(hosted):
        async with live_machine() as machine:
            cpu = machine.cpus[0]
            dentry = await machine.call(kmem_cache_create(cpu, "dentry", 192))
            if hosted:
                await machine.call(host())
            else:
                assert await machine.call(use(cpu, Session(dentry))) is not None
        return machine

    with pytest.raises(UsageError, match=r"Session\(.*\) cannot be found again in another run"):
        run("asyncio", main, False).program()
    with pytest.raises(UsageError, match="awaited something of the event loop"):
        run("asyncio", main, True).program()


class Colour(Enum):
    RED = 1


async def uses(machine, *values, **named):
    """Whatever it is given it uses, so that another value would be another run."""
    for value in (*values, *named.values()):
        await machine.slab_mutex.lock()
        await sleep(int(sha256(repr(value).encode()).hexdigest()[:4], 16))
        await machine.slab_mutex.unlock()


async def awaits(path, task):
    await path
    await parallel(task)


async def calls_one(machine, make, *arguments):
    await make(machine, *arguments)


def test_a_finding_outlives_the_process_that_has_called(tmp_path):
    """Every kind of argument that has a counterpart is in its file: the same steps at the same times from there."""

    async def main():
        async with live_machine(cpus=2) as machine:
            unit = 3

            async def nested(machine, times=2, *, plus=5):
                await uses(machine, unit * times + plus)

            def chosen(machine):
                return uses(machine, "chosen")

            plain = [None, True, -7, 2**70, 1.5, "text", b"bytes", 2j]
            await machine.call(uses(machine, *plain, (1, [2]), {3}, frozenset("4"), {"five": {6: ()}}))
            await machine.call(uses(machine, Colour.RED, Kind.ZOMBIE, int, anyio, len, key=kmem_cache_free))
            await machine.call(calls_one(machine, nested))
            await machine.call(calls_one(machine, chosen))
            await machine.call(awaits(uses(machine, 1), machine.cpus[1].task(uses(machine, 2), "task")))
            cpu0, cpu1 = machine.cpus
            dentry = await machine.call(kmem_cache_create(cpu0, "dentry", 192))
            await machine.call(machine.slab_mutex.lock())
            await machine.call(machine.slab_mutex.unlock())
            running = machine.start(cpu1.task(kmem_cache_alloc(cpu1, dentry), "alloc"))
            await machine.settle()
            obj = await running.wait()
            await machine.call(kmem_cache_free(cpu0, obj))
            await machine.call(kmem_cache_free(cpu0, obj))

    with pytest.raises(Failed, match="double-free") as caught:
        run("asyncio", main)
    [report] = caught.value.reports
    save(report.finding, tmp_path / "finding.json")
    finding = load(tmp_path / "finding.json")
    here = replayed(program_of(finding), report.shrunken.decisions)
    assert signature(here.outcome) == report.finding.signature
    assert (here.outcome.now, here.outcome.deliveries) == (
        report.shrunken.outcome.now,
        report.shrunken.outcome.deliveries,
    )


def test_a_file_with_calls_that_are_none_is_refused(tmp_path):
    """As any damaged file is."""

    async def main():
        async with live_machine() as machine:
            await freed_twice(machine)

    with pytest.raises(Failed) as caught:
        run("asyncio", main)
    file = tmp_path / "finding.json"
    save(caught.value.reports[0].finding, file)
    assert load(file) == caught.value.reports[0].finding
    file.write_text(file.read_text().replace('"type": "Path"', '"type": "Paths"', 1))
    with pytest.raises(FindingFileError, match="damaged"):
        load(file)


def test_the_log_tells_where_the_block_waited_for_rest():
    """And what ``main`` has waited for: a call comes after those whose results were known."""
    fields, lines = StepFields(), []

    def observer(step):
        lines.append(fields.of(step))

    observer.about_to_change = fields.about_to_change

    async def main():
        async with live_machine("repaired", cpus=2, observer=observer) as machine:
            await race(machine)
            with anyio.move_on_after(0):
                await machine.settle()
            await machine.settle()
            await machine.call(kmem_cache_create(machine.cpus[0], "inode", 192))

    run("asyncio", main)
    mine = [line for line in lines if line["path"] == "main.2"]
    assert [line["operation"] for line in mine] == ["call"] * 7 + ["settle", "settle", "settled", "call"]
    [begins, _, rest, after] = mine[-4:]
    last = {line["path"]: line["step"] for line in lines}
    returned = {step for path, step in last.items() if re.fullmatch(r"main\.2/(rmdir|free)\.\d", path)}
    assert len(returned) == 2
    assert returned < set(begins["causes"])
    assert after["causes"] == [rest["step"]]
    assert rest["actor"] == "outside"


# -- mistakes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lifecycle": "v6"}, "unknown lifecycle 'v6'"),
        ({"cpu": 2}, "unknown parameter of live-machine 'cpu'; did you mean 'cpus'"),
        ({"cpus": 0}, "cpus of a machine is a number from 1 to 64"),
        ({"jitter": 2}, "jitter must be from 0 to 1"),
        ({"time_scale": 0}, "time_scale must be more than 0"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    async def main():
        async with live_machine(**options):
            pytest.fail("there is no such machine")

    with pytest.raises(UsageError, match=message):
        run("asyncio", main)


def test_what_is_no_path_is_refused_and_the_machine_goes_on():
    async def main():
        async with live_machine() as machine:
            cpu = machine.cpus[0]
            for wrong in (kmem_cache_create, "create", None):
                with pytest.raises(UsageError, match="expected a path that has not begun"):
                    await machine.call(wrong)
            await machine.call(kmem_cache_create(cpu, "dentry", 192))

    run("asyncio", main)
