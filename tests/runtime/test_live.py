"""The live driver, by itself: what a path may ask for, what ends a run, and that nothing is left behind."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest
import trio
import trio.testing

from slabactors.actors import Actor, Request, Spawn, Timed, choose, join, operation, parallel, sleep, spawn, tell
from slabactors.actors.path import _serve
from slabactors.errors import ForeignAwait, KernelBug, Kind
from slabactors.runtime.live import LiveRuntime, checkpoint
from slabactors.runtime.step import Decision, Ending, Outcome

BACKENDS = ["asyncio", "trio"]
both = pytest.mark.parametrize("backend", BACKENDS)


class Box(Actor):
    """A number."""

    def __init__(self, name="box", container=None):
        super().__init__(name, container)
        self.value = 0
        self.log = []

    @operation(writes="value")
    def add(self, amount):
        self.value += amount
        return self.value

    @operation
    def note(self, what):
        self.log.append(what)

    def _positive(self, *_):
        return self.value > 0

    @operation(guard=_positive)
    def take(self, who=None):
        self.value -= 1
        self.log.append(who)
        return self.value

    @operation(guard=_positive, parks=True)
    def serve(self):
        self.value -= 1

    @operation(frees=True)
    def free(self):
        pass

    @operation
    def break_down(self):
        raise KernelBug(Kind.BUG_ON, "it broke", clause="broken")

    @operation
    def divide(self):
        return 1 // (self.value - self.value)


class Lock(Actor):
    """A mutex."""

    def __init__(self, name="lock"):
        super().__init__(name)
        self.locked = False

    def _free(self):
        return not self.locked

    @operation(guard=_free, acquires=True)
    def lock(self):
        """``lock()``"""
        self.locked = True

    @operation(releases=True)
    def unlock(self):
        self.locked = False


class Alarm(Timed):
    """A timer that adds one to a box."""

    def __init__(self, clock, box, name="alarm", container=None):
        super().__init__(name, clock, container)
        self.box = box
        self.rang = []

    @operation(clock=True)
    def set(self, delay):
        self.deadline = self.clock.now + delay

    @operation(clock=True)
    def clear(self):
        self.deadline = None

    @operation(clock=True)
    def read(self):
        return self.clock.now

    def on_expiry(self):
        self.rang.append(self.clock.now)
        return Spawn(self._ring(), name="ring", lane="softirq")

    async def _ring(self):
        await self.box.add(1)

    @operation(frees=True)
    def free(self):
        pass


def run(backend: str, main: Any, *, daemons=(), at_rest=None, runtime: LiveRuntime | None = None, **options) -> Outcome:
    """One live run, and the check that no task is left when it is over."""
    runtime = runtime or LiveRuntime(**options)

    async def go() -> Outcome:
        before = living()
        outcome = await runtime.run(main, daemons=daemons, at_rest=at_rest)
        assert living() == before, "tasks are left behind"
        return outcome

    return anyio.run(go, backend=backend)


def living() -> int:
    try:
        return len(asyncio.all_tasks())
    except RuntimeError:
        return trio.lowlevel.current_statistics().tasks_living


def fine(outcome: Outcome) -> Outcome:
    assert outcome.bug is None, outcome.bug
    assert outcome.ending is Ending.DONE
    return outcome


def keys(runtime: LiveRuntime) -> list[tuple[str, str]]:
    return [(path.key, operation.name) for path, operation, _ in runtime.steps]


# -- what a path may ask for -------------------------------------------------------------------------------------------


@both
def test_ask_gives_the_reply_and_is_recorded(backend):
    """An ask is answered with what the operation returned, and leaves a decision."""
    box, got = Box(), []

    async def main():
        got.append(await box.add(2))
        got.append(await box.add(3))

    runtime = LiveRuntime()
    outcome = fine(run(backend, main(), runtime=runtime))
    assert got == [2, 5]
    assert outcome.deliveries == 2
    assert runtime.decisions() == [Decision("main.0", "add", "box")] * 2
    assert not runtime.hosted


@both
def test_the_observer_sees_every_delivery(backend):
    """Steps are numbered from 0 and carry arguments, reply and virtual time."""
    box, seen = Box(), []

    async def main():
        await box.add(2)
        await sleep(7)
        await box.add(3)

    fine(run(backend, main(), observer=seen.append))
    assert [(s.index, s.now, s.operation.name, s.args, s.reply, s.act) for s in seen] == [
        (0, 0, "add", (2,), 2, 1),
        (1, 7, "wake", (), None, 1),
        (2, 7, "add", (3,), 5, 1),
    ]


@both
def test_keys_are_chains_of_spawns(backend):
    """A path is known by its ancestors, each by name and by position among its siblings; roots count daemons, too."""
    box = Box()

    async def leaf():
        await box.add(1)

    async def branch():
        await parallel(Spawn(leaf(), name="leaf"), Spawn(leaf(), name="leaf"))

    async def main():
        await tell(box.add(0))
        await parallel(Spawn(branch(), name="branch"))

    async def daemon():
        await box.add(1)

    runtime = LiveRuntime()
    fine(run(backend, main(), daemons=[Spawn(daemon(), name="kthread", daemon=True)], runtime=runtime))
    assert sorted(key for key, _ in keys(runtime)) == [
        "kthread.0",
        "main.1/branch.1/leaf.0",
        "main.1/branch.1/leaf.1",
        "main.1/tell box.0",
    ]


@both
def test_parallel_gives_all_results_in_their_order(backend):
    """Whoever returns first; some may have returned at once, and a member of the group may be joined by others."""
    box, got = Box(), []

    async def child(value, jiffies):
        if jiffies:
            await sleep(jiffies)
            await box.add(1)
        return value

    async def waiter(task):
        got.append(await join(task))

    async def main():
        task = await spawn(child("z", 20))
        got.append(await parallel(child("a", 30), child("b", 0), waiter(task), child("c", 10)))
        got.append(await parallel())

    fine(run(backend, main()))
    assert got == ["z", ["a", "b", None, "c"], []]


@both
def test_join_gives_the_result_to_everybody_who_waits(backend):
    """Two paths may wait for a third, and a third may have returned long ago."""
    box, got = Box(), []

    async def worker():
        return await box.take()

    async def waiter(task):
        got.append(await join(task))

    async def main():
        task = await spawn(worker())
        waiters = [await spawn(waiter(task)), await spawn(waiter(task))]
        await box.add(1)
        for one in waiters:
            await join(one)
        got.append(await join(task))

    fine(run(backend, main()))
    assert got == [0, 0, 0]


@both
def test_told_messages_of_one_path_to_one_actor_stay_in_order(backend):
    """A told message that has to wait for its guard is not overtaken by one told later."""
    box = Box()

    async def main():
        await tell(box.take("first"))
        await tell(box.note("second"))
        await tell(box.note("third"))
        await box.note("asked")
        await box.add(1)

    fine(run(backend, main()))
    assert box.log == ["asked", "first", "second", "third"]


@both
def test_guarded_messages_wait_in_order_of_arrival(backend):
    """Messages whose guard does not hold are retried after every operation, oldest first."""
    box = Box()

    async def taker(who):
        await box.take(who)

    async def main():
        takers = []
        for who in "abc":
            takers.append(await spawn(taker(who)))
            await box.note(f"{who} is on its way")
            await checkpoint()
        await box.add(3)
        for task in takers:
            await join(task)

    fine(run(backend, main()))
    assert [entry for entry in box.log if len(entry) == 1] == ["a", "b", "c"]


@both
def test_a_lock_has_one_holder(backend):
    """Asking for a lock is answered when nobody else holds it, whatever the event loop and the jitter do."""
    lock, inside = Lock(), []

    async def user(who):
        for _ in range(5):
            await lock.lock()
            assert lock.holder.name == who
            inside.append(who)
            assert inside == [who]
            inside.remove(who)
            await lock.unlock()

    async def main():
        await parallel(*(Spawn(user(who), name=who) for who in "abcd"))

    for seed in range(5):
        assert fine(run(backend, main(), seed=seed, jitter=0.5)).deliveries == 40


@both
def test_choose_comes_from_the_seed_and_is_recorded(backend):
    """The same seed gives the same values to a lone path, and each is a decision after the step that led to it."""
    box = Box()

    def chosen(seed):
        values = []

        async def main():
            await box.add(1)
            values.extend([await choose(1), await choose(2), await choose(1000)])

        runtime = LiveRuntime(seed=seed)
        fine(run(backend, main(), runtime=runtime))
        assert runtime.decisions() == [
            Decision("main.0", "add", "box"),
            *(Decision("main.0", "choose", "", value) for value in values),
        ]
        return values

    assert chosen(1) == chosen(1) != chosen(2)
    assert chosen(3)[0] == 0


# -- time --------------------------------------------------------------------------------------------------------------


@both
def test_idle_time_is_not_waited_for(backend):
    """With nothing else to do, a sleep of years is over at once, and the clock says so."""

    async def main():
        await sleep(10**12)
        await sleep(10**12)

    assert fine(run(backend, main())).now == 2 * 10**12


@both
def test_the_sleeper_with_the_earliest_deadline_wakes_first(backend):
    """Sleepers wake in the order of their deadlines, not of their going to sleep."""
    order = []

    async def sleeper(jiffies):
        await sleep(jiffies)
        order.append(jiffies)

    async def main():
        await parallel(*(sleeper(jiffies) for jiffies in (30, 10, 20)))

    # A jiffy is a second here, so that nobody is due before all are asleep.
    assert fine(run(backend, main(), jiffies_per_second=1)).now == 30
    assert order == [10, 20, 30]


@both
def test_a_sleep_is_dated_by_the_last_step(backend):
    """However late a path gets to fall asleep, its deadline counts from the virtual time of its last step."""
    box = Box()

    async def sleeper(jiffies):
        for _ in range(4):
            await box.add(1)
            await sleep(jiffies)

    async def main():
        await parallel(*(Spawn(sleeper(jiffies), name=str(jiffies)) for jiffies in (1, 10, 100, 1000)))

    late = 0
    for seed in range(20):
        steps = []
        # So fast that a sleeper is due at once, while others are on their way.
        fine(run(backend, main(), observer=steps.append, seed=seed, jitter=0.7, jiffies_per_second=1e12))
        fell_asleep = {}
        for before, step in zip([None, *steps], steps, strict=False):
            if step.operation.name == "wake":
                deadline = fell_asleep[step.path] + int(step.path.name)
                assert step.now == max(before.now, deadline)
                late += step.now > deadline
            fell_asleep[step.path] = step.now
    assert late, "in some runs somebody must have been overtaken"


@both
def test_a_timer_expires_and_its_path_follows(backend):
    """The actor's expiry is a step of the timer; what comes of it runs as the timer's child."""
    box = Box()

    def program(runtime):
        alarm = Alarm(runtime.clock, box)

        async def main():
            await alarm.set(50)
            await box.take()
            await alarm.set(25)
            await box.take()

        return main()

    runtime = LiveRuntime()
    outcome = fine(run(backend, program(runtime), runtime=runtime))
    assert outcome.now == 75
    assert keys(runtime) == [
        ("main.0", "set"),
        ("timer alarm.0", "expire"),
        ("timer alarm.0/ring.0", "add"),
        ("main.0", "take"),
        ("main.0", "set"),
        ("timer alarm.1", "expire"),
        ("timer alarm.1/ring.0", "add"),
        ("main.0", "take"),
    ]


@both
def test_a_timer_that_was_cleared_or_set_anew_does_not_expire(backend):
    """Only the deadline that was set last counts; each arming has a number of its own."""
    runtime = LiveRuntime(jiffies_per_second=1)
    alarm = Alarm(runtime.clock, Box())

    async def main():
        await alarm.set(50)
        await alarm.clear()
        await alarm.set(70)
        await alarm.set(90)
        await sleep(80)
        assert alarm.rang == []
        await sleep(20)

    fine(run(backend, main(), runtime=runtime))
    assert alarm.rang == [90]
    assert ("timer alarm.2", "expire") in keys(runtime)


@both
def test_an_expiry_on_its_way_is_void_when_the_timer_is_cleared_first(backend):
    """A timer that fires while its clearing is in the mailbox already does not expire, however often it is tried."""
    cleared = 0
    for seed in range(30):
        runtime = LiveRuntime(seed=seed, jitter=0.8, jiffies_per_second=1e15)
        alarm = Alarm(runtime.clock, Box())

        async def main(alarm=alarm):
            await alarm.set(1)
            await alarm.clear()
            await alarm.read()

        fine(run(backend, main(), runtime=runtime))
        names = [operation.name for _, operation, _ in runtime.steps]
        assert "expire" not in names[names.index("clear") :]
        cleared += "expire" not in names
    assert cleared


@both
def test_a_due_timer_fires_while_others_are_busy(backend):
    """Real time counts when somebody can move: a path that never rests does not keep a timer from firing."""
    runtime = LiveRuntime(jiffies_per_second=1e12)
    alarm = Alarm(runtime.clock, Box())

    async def main():
        await alarm.set(50)
        while not alarm.rang:
            await alarm.read()

    assert fine(run(backend, main(), runtime=runtime)).now == 50


def test_without_autojump_virtual_time_is_scaled_real_time():
    """Five million jiffies at a million a second take five seconds of the event loop's clock."""
    took = []

    async def main():
        await sleep(5_000_000)

    async def go():
        began = anyio.current_time()
        fine(await LiveRuntime(autojump=False, jiffies_per_second=1_000_000).run(main()))
        took.append(anyio.current_time() - began)

    anyio.run(go, backend="trio", backend_options={"clock": trio.testing.MockClock(autojump_threshold=0)})
    assert took == [pytest.approx(5.0)]


@both
def test_the_second_act_lasts_as_long_as_it_may(backend):
    """After the scenario timers go on firing while they are due within the horizon, and the steps say act 2."""
    for settle, rings in ((0, 0), (49, 0), (50, 1), (1000, 1)):
        steps = []
        # A slow clock: what the test itself takes must not count, and waiting is jumped over.
        runtime = LiveRuntime(settle_jiffies=settle, observer=steps.append, jiffies_per_second=1)
        box = Box()
        alarm = Alarm(runtime.clock, box)

        async def main(alarm=alarm):
            await alarm.set(50)

        outcome = fine(run(backend, main(), runtime=runtime))
        assert box.value == rings
        assert outcome.now == 50 * rings
        assert [step.act for step in steps] == [1, 2, 2][: 1 + 2 * rings]


@both
def test_time_does_not_jump_while_a_path_is_with_the_host(backend):
    """A path that awaits the event loop may still act; no timer overtakes it for want of others."""
    box = Box()

    async def slow(event):
        await event.wait()
        await box.note("the host's")

    async def sleeper():
        await sleep(10**12)
        await box.note("the sleeper's")

    async def main():
        event = anyio.Event()
        tasks = [await spawn(slow(event)), await spawn(sleeper())]
        for _ in range(20):
            await checkpoint()
        event.set()
        for task in tasks:
            await join(task)

    fine(run(backend, main()))
    assert box.log == ["the host's", "the sleeper's"]


# -- the host ----------------------------------------------------------------------------------------------------------


@both
def test_awaitables_of_the_host_pass_through(backend):
    """A path of a live run may await anything its event loop serves, between its messages."""
    box = Box()

    async def main():
        await box.add(1)
        await checkpoint()
        async with anyio.create_task_group() as group:
            group.start_soon(checkpoint)
        with anyio.move_on_after(0):
            await anyio.sleep_forever()
        await box.add(1)

    runtime = LiveRuntime()
    fine(run(backend, main(), runtime=runtime))
    assert box.value == 2
    assert runtime.hosted


async def call_away(cancel) -> None:
    """A path that lets the others come to rest, and then cancels one of them by way of the host.

    While it is with the host itself the run cannot be over, or hung.
    """
    for _ in range(20):
        await checkpoint()
    cancel()


async def hosting(main) -> None:
    """Run a path beside one that is with the host until it is done: the host may have timers the driver cannot see."""
    event = anyio.Event()

    async def wait() -> None:
        await event.wait()

    task = await spawn(wait(), name="with the host")
    await main
    event.set()
    await join(task)


def test_a_native_timeout_of_asyncio_reaches_the_path():
    """What asyncio throws into a path that waits for a reply arrives at that very await."""
    box, got = Box(), []

    async def main():
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(None) as timeout:
                await spawn(call_away(lambda: timeout.reschedule(loop.time())))
                await box.take()
        except TimeoutError:
            got.append("timeout")
        await box.add(1)
        got.append(await box.take())

    fine(run("asyncio", hosting(main())))
    assert got == ["timeout", 0]


def test_a_native_cancel_scope_of_trio_reaches_the_path():
    """What trio throws into a path that waits for a reply arrives at that very await."""
    box, got = Box(), []

    async def main():
        with trio.CancelScope() as scope:
            await spawn(call_away(scope.cancel))
            await box.take()
        got.append(scope.cancelled_caught)
        await box.add(1)
        got.append(await box.take())

    fine(run("trio", hosting(main())))
    assert got == [True, 0]


@both
def test_a_withdrawn_message_is_not_delivered(backend):
    """A path that the host called away from a lock does not get the lock later, and its next reply is the right one."""
    lock, box = Lock(), Box()

    async def impatient():
        with anyio.CancelScope() as scope:
            await spawn(call_away(scope.cancel))
            await lock.lock()
        assert await box.add(5) == 5

    async def main():
        await lock.lock()
        task = await spawn(impatient())
        await join(task)
        await lock.unlock()
        await lock.lock()
        await lock.unlock()

    for seed in range(5):
        box.value = 0
        fine(run(backend, hosting(main()), seed=seed, jitter=0.5))


@both
@pytest.mark.parametrize("what", ["sleep", "join", "ask"])
def test_every_kind_of_waiting_can_be_withdrawn(backend, what):
    """A path goes on after the host called it away from a sleep, from another path, or from an actor."""
    box = Box()

    async def never():
        await box.take()

    async def main():
        task = await spawn(never())
        with anyio.CancelScope() as scope:
            await spawn(call_away(scope.cancel))
            match what:
                case "sleep":
                    while True:
                        await sleep(10**9)
                case "join":
                    await join(task)
                case "ask":
                    while True:
                        await box.note("again")
        assert scope.cancelled_caught
        await box.add(1)
        await join(task)

    fine(run(backend, hosting(main())))


@both
def test_a_daemon_with_the_host_holds_nothing_up(backend):
    """The run is over when the others are done, even if a daemon awaits the event loop for ever."""
    box = Box()

    async def server():
        await anyio.sleep_forever()

    async def main():
        await box.add(1)
        await sleep(10)

    assert fine(run(backend, main(), daemons=[Spawn(server(), daemon=True)])).now == 10


def test_a_future_that_somebody_cancelled_is_an_error_and_no_hang():
    """A path whose future is cancelled under it ends the run as a finding; the run itself was not cancelled."""
    box = Box()

    async def main():
        await box.add(1)
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.cancel)
        await future

    outcome = run("asyncio", main())
    assert outcome.bug is not None
    assert outcome.bug.kind is Kind.EXCEPTION
    assert "CancelledError" in outcome.bug.message


@both
def test_an_unknown_request_is_the_users_mistake(backend):
    """A request that no driver knows is refused with the place where it was made."""

    class Wish(Request):
        pass

    async def main():
        await _serve(Wish())

    with pytest.raises(ForeignAwait, match=r"made an unknown request Wish"):
        run(backend, main())


@pytest.mark.asyncio
async def test_it_runs_inside_an_event_loop_that_is_there_already():
    """The runtime is awaited like anything else, here by a test of pytest-asyncio."""
    box = Box()

    async def main():
        await parallel(*(adder() for _ in range(3)))

    async def adder():
        await box.add(1)

    fine(await LiveRuntime().run(main()))
    assert box.value == 3
    assert asyncio.all_tasks() == {asyncio.current_task()}


# -- what goes wrong ---------------------------------------------------------------------------------------------------


@both
def test_a_kernel_bug_in_an_operation_ends_the_run(backend):
    """The outcome names the bug, the path, the operation and the actor; the step is in the schedule."""
    box = Box()

    async def bystander():
        await box.take()

    async def main():
        await spawn(bystander())
        await box.break_down()

    runtime = LiveRuntime()
    outcome = run(backend, main(), runtime=runtime)
    assert outcome.ending is Ending.BUG
    assert outcome.bug is not None
    assert outcome.bug.clause == "broken"
    assert (outcome.culprit.key, outcome.operation.name, outcome.actor) == ("main.0", "break_down", box)
    assert runtime.decisions()[-1].operation == "break_down"


@both
@pytest.mark.parametrize("where", ["operation", "path", "first line of a path", "observer", "at rest"])
def test_any_exception_becomes_a_finding_that_says_where(backend, where):
    """What is not a kernel bug is one of kind exception, with file and line; at rest nobody is to blame."""
    box = Box()

    def observer(step):
        if where == "observer":
            raise ValueError("by the observer")

    def at_rest():
        raise ValueError("by at_rest")

    async def main():
        if where == "first line of a path":
            raise ValueError("at once")
        await box.add(1)
        if where == "path":
            raise ValueError("by the path")
        if where == "operation":
            await box.divide()

    outcome = run(backend, main(), observer=observer, at_rest=at_rest if where == "at rest" else None)
    assert outcome.bug is not None
    assert outcome.bug.kind is Kind.EXCEPTION
    assert "test_live.py:" in outcome.bug.clause
    assert isinstance(outcome.error, ZeroDivisionError if where == "operation" else ValueError)
    assert (outcome.culprit is None) == (where == "at rest")


@both
def test_the_error_of_the_earliest_step_is_the_bug(backend):
    """A path that raises after step 1 comes before the operation that breaks at step 2, whatever happened first."""
    box = Box()

    async def first():
        await box.add(1)
        raise ValueError("after step 1")

    async def second():
        await box.break_down()

    async def main():
        await parallel(first(), second())

    for seed in range(10):
        runtime = LiveRuntime(seed=seed, jitter=0.5 if seed else 0.0)
        outcome = run(backend, main(), runtime=runtime)
        order = [operation.name for _, operation, _ in runtime.steps]
        assert outcome.bug is not None
        assert outcome.deliveries == len(order) == 1
        assert outcome.bug.kind is (Kind.EXCEPTION if order == ["add"] else Kind.BUG_ON)


@both
@pytest.mark.parametrize("how", ["later", "deferred", "embedded", "timer"])
def test_a_message_to_a_freed_actor_is_a_use_after_free(backend, how):
    """Whether it comes later, waits in the mailbox, waits at what lay in the same memory, or is a timer's expiry."""
    runtime = LiveRuntime(jiffies_per_second=1)
    outer = Box("outer")
    inner = Box("inner", outer)
    alarm = Alarm(runtime.clock, outer, container=outer)

    async def waiter(box):
        await box.take()

    async def main():
        match how:
            case "deferred" | "embedded":
                box = outer if how == "deferred" else inner
                await spawn(waiter(box))
                await box.note("now it is there")
                await sleep(1)
            case "timer":
                await alarm.set(10)
        await outer.free()
        if how == "later":
            await outer.add(1)
        if how == "timer":
            await sleep(20)

    outcome = run(backend, main(), runtime=runtime)
    assert outcome.bug is not None
    assert outcome.bug.kind is Kind.USE_AFTER_FREE
    expected = {"later": "Box.add", "deferred": "Box.take", "embedded": "Box.take", "timer": "Alarm.expire"}[how]
    assert outcome.bug.clause == f"{expected} after free"
    assert "but main had freed it at step" in outcome.bug.message


@both
def test_a_second_free_is_a_double_free(backend):
    """Freeing what is freed has a name of its own."""
    box = Box()

    async def main():
        await box.free()
        await box.free()

    outcome = run(backend, main())
    assert outcome.bug is not None
    assert outcome.bug.kind is Kind.DOUBLE_FREE


@both
def test_nothing_moves_and_somebody_waits_is_a_deadlock(backend):
    """The report says who waits for whom, holding what."""
    a, b = Lock("a"), Lock("b")

    async def grab(one, other):
        await one.lock()
        await sleep(1)
        await other.lock()

    async def main():
        await parallel(Spawn(grab(a, b), name="left"), Spawn(grab(b, a), name="right"))

    outcome = run(backend, main())
    assert outcome.bug is not None
    assert outcome.bug.kind is Kind.DEADLOCK
    assert outcome.bug.clause == "waits for Lock.lock"
    assert "left waits for lock() of b, held by right" in outcome.bug.message
    assert "right waits for lock() of a, held by left" in outcome.bug.message


@both
def test_a_hung_daemon_is_a_deadlock_and_a_parked_one_is_not(backend):
    """When the machine has settled, a daemon may wait where idle daemons park, and nowhere else."""

    async def daemon(box, parks):
        if parks:
            await box.serve()
        else:
            await box.take()

    async def main():
        await sleep(1)

    for parks in (True, False):
        daemons = [Spawn(daemon(Box(), parks), name="kthread", daemon=True)]
        outcome = run(backend, main(), daemons=daemons, settle_jiffies=100)
        assert (outcome.bug is None) == parks


@both
def test_a_bound_on_steps_ends_a_run_that_never_does(backend):
    """A livelock is cut, and the outcome says so."""
    box = Box()

    async def main():
        while True:
            await box.add(1)

    outcome = run(backend, main(), steps_max=50)
    assert outcome.ending is Ending.BOUND
    assert outcome.bug is None
    assert outcome.deliveries == box.value == 50


# -- nothing is left behind --------------------------------------------------------------------------------------------


async def busy_world(runtime: LiveRuntime, log: list[str]) -> None:
    """A bit of everything that a run can be in the middle of when it is cancelled."""
    box, lock = Box(), Lock()
    alarm = Alarm(runtime.clock, box)

    async def holder():
        await lock.lock()
        try:
            await sleep(5)
            await box.take()
        finally:
            log.append("out")
            await lock.unlock()

    async def other():
        await alarm.set(7)
        await lock.lock()
        await tell(lock.unlock())
        await checkpoint()
        await choose(3)

    await parallel(holder(), other(), holder())
    victim = Box("victim")
    await victim.add(1)
    await victim.free()


@both
def test_cancelled_at_any_moment_it_leaves_nothing_behind(backend):
    """Whenever the caller is cancelled, the cancellation comes through, every path unwinds, and no task is left."""
    cancelled = finished = 0

    async def go(moment):
        nonlocal cancelled, finished
        before = living()
        log: list[str] = []
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:

                async def canceller():
                    for _ in range(moment):
                        await checkpoint()
                    scope.cancel()

                group.start_soon(canceller)
                runtime = LiveRuntime(jitter=0.3, seed=moment)
                outcome = await runtime.run(busy_world(runtime, log))
                assert outcome.bug is not None, "two holders, and one ring of the alarm"
                group.cancel_scope.cancel()
                finished += 1
        cancelled += scope.cancelled_caught
        assert living() == before
        return log

    for moment in range(120):
        anyio.run(go, moment, backend=backend)
    assert cancelled > 10
    assert finished > 10


def test_native_cancellation_of_asyncio_comes_through():
    """``Task.cancel()`` of the task that awaits the run ends the run and is not swallowed."""

    async def go(moment):
        runtime = LiveRuntime()
        task = asyncio.create_task(runtime.run(busy_world(runtime, [])))
        for _ in range(moment):
            await asyncio.sleep(0)
        if not task.done():
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert asyncio.all_tasks() == {asyncio.current_task()}

    # From 1 on: a task that is cancelled before it began does not begin, and nothing of ours is involved.
    for moment in range(1, 30):
        asyncio.run(go(moment))


@both
def test_a_bug_leaves_nothing_behind(backend):
    """After a bug every other path is unwound, wherever it was; what they raise on their way out is not reported."""
    box, lock, out = Box(), Lock(), []

    async def stubborn():
        try:
            await box.take()
        finally:
            out.append("stubborn")
            raise RuntimeError("on the way out")

    async def sleeper():
        try:
            await sleep(10**9)
        finally:
            out.append("sleeper")

    async def guest():
        try:
            await anyio.sleep_forever()
        finally:
            out.append("host")

    async def main():
        for path in (stubborn(), sleeper(), guest()):
            await spawn(path)
        await lock.lock()
        await box.break_down()

    outcome = run(backend, main())
    assert outcome.bug is not None
    assert outcome.bug.clause == "broken"
    assert sorted(out) == ["host", "sleeper", "stubborn"]


@both
@pytest.mark.parametrize("where", ["operation", "path"])
def test_ctrl_c_comes_through(backend, where):
    """A KeyboardInterrupt is no finding: it goes up to whoever called, by itself and not in a group."""

    class Interrupted(Box):
        @operation
        def interrupt(self):
            raise KeyboardInterrupt

    box = Interrupted()

    async def main():
        await box.add(1)
        if where == "path":
            raise KeyboardInterrupt
        await box.interrupt()

    with pytest.raises(KeyboardInterrupt):
        run(backend, main())


def test_an_actors_task_begins_with_its_first_message_and_ends_with_its_memory():
    """No mailbox is opened for an actor nobody talks to, and none is kept for one that was freed."""
    silent, box = Box("silent"), Box("victim")

    def tasks():
        return {task.get_name() for task in asyncio.all_tasks()}

    async def main():
        assert "victim" not in tasks()
        await box.add(1)
        assert "victim" in tasks()
        await box.free()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert "victim" not in tasks()
        assert silent.name not in tasks()

    fine(run("asyncio", main()))


# -- jitter ------------------------------------------------------------------------------------------------------------


def test_jitter_makes_seeds_differ():
    """On asyncio, which is fair and regular, one interleaving becomes many when mailboxes hesitate."""

    def order(seed, jitter):
        boxes = [Box(f"box{number}") for number in range(3)]

        async def visitor():
            for box in boxes:
                await box.add(1)

        async def main():
            await parallel(*(visitor() for _ in range(3)))

        runtime = LiveRuntime(seed=seed, jitter=jitter)
        fine(run("asyncio", main(), runtime=runtime))
        return tuple(keys(runtime))

    assert len({order(seed, 0.0) for seed in range(10)}) == 1
    assert len({order(seed, 0.5) for seed in range(30)}) > 10
