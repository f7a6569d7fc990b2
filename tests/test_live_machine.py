"""A live machine inside a program of somebody's own: who gets which result, what comes out of the block, and how."""

from __future__ import annotations

import asyncio
import gc
from dataclasses import dataclass

import anyio
import pytest
import trio
from anyio.lowlevel import checkpoint

from slabactors.actors import parallel, sleep
from slabactors.cli.once import caches_of
from slabactors.errors import KernelBug, Kind, MachineOff, UsageError
from slabactors.explore.finding import signature
from slabactors.explore.replay import replay
from slabactors.kernel.jiffies import HZ
from slabactors.live import Failed, LiveMachine, live_machine
from slabactors.mm.memcontrol import mem_cgroup_create, mem_cgroup_rmdir, memcg_create_kmem_cache
from slabactors.mm.slab_common import kmem_cache_alloc, kmem_cache_create, kmem_cache_free, kmem_cache_shrink
from slabactors.runtime.step import Ending
from slabactors.testing import explore_sync
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


# -- mistakes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lifecycle": "v7"}, "unknown lifecycle 'v7'"),
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
