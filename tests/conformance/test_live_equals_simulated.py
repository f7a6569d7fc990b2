"""A live run is a simulated run: what the event loop happened to do replays in the simulator, step for step.

Compared are the paths' keys, operations, actors, arguments, replies, virtual time after each step, what it comes after
and what it changed, and the outcome.
The programs are stories over the machine, and small ones without any slab; then programs drawn at random, which use
whatever a path may do and often break.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any

import anyio
import pytest

from slabactors.actors import Actor, Clock, Spawn, Timed, choose, join, operation, parallel, sleep, spawn, tell
from slabactors.errors import KernelBug, Kind
from slabactors.explore.replay import ReplayStrategy
from slabactors.kernel.jiffies import HZ
from slabactors.lifecycle import lifecycle
from slabactors.machine import SETTLE_JIFFIES, Machine, MachineConfig
from slabactors.mm.memcontrol import mem_cgroup_create, mem_cgroup_rmdir
from slabactors.mm.slab_common import kmem_cache_alloc, kmem_cache_create, kmem_cache_destroy, kmem_cache_free
from slabactors.runtime.live import LiveRuntime
from slabactors.runtime.simulated import Simulation
from slabactors.runtime.step import Outcome, Step, TimePolicy
from slabactors.trace.log import StepFields
from slabactors.trace.render import plain

both = pytest.mark.parametrize("backend", ["asyncio", "trio"])


@dataclass
class World:
    """What a program runs on, made anew for each run."""

    main: Coroutine[Any, Any, Any]
    daemons: list[Spawn[Any]] = field(default_factory=list)
    at_rest: Callable[[], None] | None = None


Program = Callable[[Clock], World]


class Rows:
    """An observer that keeps what is compared of each step."""

    def __init__(self) -> None:
        self.rows: list[tuple[Any, ...]] = []
        self._fields = StepFields()
        self.about_to_change = self._fields.about_to_change
        self._ordinals: dict[int, int] = {}
        """Of steps, by index: a value that was chosen counts there, and where it does depends on the driver."""

    def __call__(self, step: Step) -> None:
        fields = self._fields.of(step)
        self._ordinals[step.index] = len(self.rows)
        causes = [self._ordinals[cause] for cause in fields["causes"]]
        called = step.path.key, step.operation.name, step.actor.name, plain(step.args)
        self.rows.append((*called, plain(step.reply), step.now, causes, fields["changed"]))


def verdict(outcome: Outcome) -> tuple[Any, ...]:
    bug = outcome.bug
    return (
        outcome.ending,
        outcome.now,
        outcome.deliveries,
        (bug.kind, bug.clause) if bug is not None else None,
        outcome.culprit.key if outcome.culprit is not None else None,
        outcome.operation.name if outcome.operation is not None else None,
        outcome.actor.name if outcome.actor is not None else None,
    )


def live_and_replayed(program: Program, backend: str, seed: int, **options: Any) -> tuple[list[Any], Outcome]:
    """Run a program live and replay it; the steps both made.  Fails where they differ."""
    observer = Rows()
    rows = observer.rows
    runtime = LiveRuntime(seed=seed, observer=observer, **options)
    world = program(runtime.clock)

    async def go() -> Outcome:
        return await runtime.run(world.main, daemons=world.daemons, at_rest=world.at_rest)

    outcome = anyio.run(go, backend=backend)
    decisions = runtime.decisions()
    assert not runtime.hosted

    observer = Rows()
    replayed = observer.rows
    strategy = ReplayStrategy(decisions)
    simulation = Simulation(strategy, time=TimePolicy.RECORDED, observer=observer)
    world = program(simulation.clock)
    again = simulation.run(world.main, daemons=world.daemons, at_rest=world.at_rest)
    assert strategy.exhausted

    # An observer of the live run has also seen what others did after the step that turned out to be the last.
    for index, (one, other) in enumerate(zip(rows, replayed, strict=False)):
        assert one == other, f"step {index} of {len(decisions)}, {backend}, seed {seed}"
    assert rows[: len(runtime.steps)] == replayed
    assert verdict(outcome) == verdict(again)
    return replayed, outcome


# -- stories over the machine ------------------------------------------------------------------------------------------


async def removed_while_the_last_object_is_freed(machine: Machine) -> None:
    cpu0, cpu1 = machine.cpus
    dentry = await kmem_cache_create(cpu0, "dentry", 192)
    web = await mem_cgroup_create(cpu0, "web")
    obj = await kmem_cache_alloc(cpu0, dentry, web)
    assert obj is not None
    await parallel(cpu0.task(mem_cgroup_rmdir(cpu0, web)), cpu1.task(kmem_cache_free(cpu1, obj)))


async def freed_much_later(machine: Machine) -> None:
    cpu0, cpu1 = machine.cpus
    dentry = await kmem_cache_create(cpu0, "dentry", 3000)
    web = await mem_cgroup_create(cpu0, "web")
    objects = []
    for number in range(3):
        obj = await kmem_cache_alloc(machine.cpus[number % 2], dentry, web)
        objects.append(obj)

    async def free_later(cpu, jiffies, held):
        await sleep(jiffies)
        for obj in held:
            await kmem_cache_free(cpu, obj)

    await parallel(
        cpu0.task(mem_cgroup_rmdir(cpu0, web)),
        cpu0.task(free_later(cpu0, 20 * HZ, objects[:2])),
        cpu1.task(free_later(cpu1, 60 * HZ, objects[2:])),
    )


async def two_groups_and_their_root(machine: Machine) -> None:
    cpu0, cpu1 = machine.cpus
    dentry = await kmem_cache_create(cpu0, "dentry", 192)

    async def tenant(cpu, name):
        group = await mem_cgroup_create(cpu, name)
        for _ in range(1 + await choose(3)):
            obj = await kmem_cache_alloc(cpu, dentry, group)
            if obj is not None:
                await kmem_cache_free(cpu, obj)
        await mem_cgroup_rmdir(cpu, group)

    await parallel(cpu0.task(tenant(cpu0, "web"), "web"), cpu1.task(tenant(cpu1, "db"), "db"))
    await kmem_cache_destroy(cpu0, dentry)


def on_a_machine(story: Callable[[Machine], Coroutine[Any, Any, None]], lifecycle_name: str) -> Program:
    def program(clock: Clock) -> World:
        machine = Machine(clock, lifecycle(lifecycle_name), MachineConfig())
        return World(story(machine), machine.daemons(), machine.at_rest)

    return program


@both
@pytest.mark.parametrize("lifecycle_name", ["v5", "pre-patch", "repaired"])
@pytest.mark.parametrize(
    "story",
    [removed_while_the_last_object_is_freed, freed_much_later, two_groups_and_their_root],
    ids=lambda program: program.__name__,
)
def test_a_story_over_the_machine(story, lifecycle_name, backend):
    """Whatever the event loop does to a lifecycle, sound or broken, the simulator does, too."""
    program = on_a_machine(story, lifecycle_name)
    orders = set()
    for seed in range(12):
        rows, _ = live_and_replayed(
            program,
            backend,
            seed,
            jitter=0.1 * (seed % 6),
            settle_jiffies=SETTLE_JIFFIES,
            jiffies_per_second=(1e6, 1e9)[seed % 2],
        )
        orders.add(tuple(key for key, *_ in rows))
    assert len(orders) > 3, "a dozen seeds of jitter ought to give several interleavings"


# -- small programs without a slab -------------------------------------------------------------------------------------


class Box(Actor):
    """A number, a lock, and memory that may go."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.value = 0
        self.locked = False

    @operation(writes="value")
    def add(self, amount: int) -> int:
        self.value += amount
        return self.value

    @operation(reads="value")
    def read(self) -> int:
        return self.value

    def _positive(self, *_: Any) -> bool:
        return self.value > 0

    @operation(guard=_positive)
    def take(self) -> int:
        self.value -= 1
        return self.value

    @operation(guard=_positive, parks=True)
    def serve(self, by: str) -> str:
        self.value -= 1
        return by

    def _unlocked(self) -> bool:
        return not self.locked

    @operation(guard=_unlocked, acquires=True)
    def lock(self) -> None:
        self.locked = True

    @operation(releases=True)
    def unlock(self) -> None:
        self.locked = False

    @operation(frees=True)
    def free(self) -> None:
        pass

    @operation
    def check(self, limit: int) -> None:
        if self.value > limit:
            raise KernelBug(Kind.BUG_ON, f"{self.name} holds {self.value}", clause="too much")


class Alarm(Timed):
    """A timer that puts something into a box."""

    def __init__(self, name: str, clock: Clock, box: Box) -> None:
        super().__init__(name, clock)
        self.box = box

    @operation(clock=True)
    def set(self, delay: int) -> int | None:
        self.deadline, before = self.clock.now + delay, self.deadline
        return before

    @operation(clock=True)
    def clear(self) -> bool:
        pending, self.deadline = self.deadline is not None, None
        return pending

    @operation(clock=True)
    def read(self) -> int:
        return self.clock.now

    def on_expiry(self) -> Spawn[None]:
        return Spawn(self._ring(), name="ring", lane="softirq")

    async def _ring(self) -> None:
        await self.box.add(1)
        if await choose(4) == 0:
            await self.set(10)


def producers_and_consumers(clock: Clock) -> World:
    box = Box("box")

    async def producer():
        for _ in range(await choose(3) + 1):
            await box.add(1)
            await tell(box.add(await choose(2)))

    async def consumer(name):
        while True:
            await box.serve(name)

    daemons = [Spawn(consumer(name), name=name, daemon=True) for name in ("one", "two")]
    return World(parallel(producer(), producer()), daemons)


def sleepers_and_an_alarm(clock: Clock) -> World:
    box = Box("box")
    alarm = Alarm("alarm", clock, box)

    async def sleeper():
        for _ in range(3):
            await sleep(5 + await choose(20))
            await alarm.read()
            if await choose(2):
                await alarm.set(await choose(30))
            else:
                await alarm.clear()

    async def main():
        tasks = [await spawn(sleeper(), name="sleeper") for _ in range(3)]
        for task in tasks:
            await join(task)
        await alarm.set(7)
        await box.take()

    return World(main())


def embrace(clock: Clock) -> World:
    """Two locks taken in two orders: a deadlock now and then."""
    a, b = Box("a"), Box("b")

    async def grab(one, other):
        for _ in range(await choose(4)):
            await one.read()
        await one.lock()
        await other.lock()
        await other.unlock()
        await one.unlock()

    return World(parallel(Spawn(grab(a, b), name="left"), Spawn(grab(b, a), name="right")))


def raised_by_a_path(clock: Clock) -> World:
    """A path that looks at a reply and gives up, among others that go on."""
    box = Box("box")

    async def one():
        for _ in range(3):
            if await box.add(1) == 5:
                raise RuntimeError("five")
        await box.check(6)

    return World(parallel(*(one() for _ in range(3))))


def raised_by_a_child_and_its_parent(clock: Clock) -> World:
    """One step sets two errors going: the child's comes first, for it runs when it is spawned."""
    box = Box("box")

    async def child():
        raise RuntimeError("the child's")

    async def parent():
        await box.add(1)
        await spawn(child())
        raise RuntimeError("the parent's")

    async def other():
        await box.add(1)
        await box.add(1)
        await box.check(2)

    return World(parallel(parent(), other()))


def freed_under_users(clock: Clock) -> World:
    """Somebody frees the box; the others may still be on their way, or waiting inside."""
    box = Box("box")

    async def user():
        await box.add(1)
        await box.take()

    async def owner():
        await box.add(-1)
        await box.free()

    return World(parallel(user(), owner(), user()))


@both
@pytest.mark.parametrize(
    "program",
    [
        producers_and_consumers,
        sleepers_and_an_alarm,
        embrace,
        raised_by_a_path,
        raised_by_a_child_and_its_parent,
        freed_under_users,
    ],
    ids=lambda program: program.__name__,
)
def test_a_small_program(program, backend):
    """Choices, tells, joins, sleeps, timers, guards and every way to break come out the same."""
    endings: Counter[Any] = Counter()
    for seed in range(50):
        _, outcome = live_and_replayed(
            program,
            backend,
            seed,
            jitter=0.15 * (seed % 5),
            settle_jiffies=100 * (seed % 2),
            jiffies_per_second=(1e4, 1e8, 1e12)[seed % 3],
        )
        endings[outcome.bug.kind if outcome.bug is not None else None] += 1
    match program.__name__:
        case "embrace":
            assert endings[Kind.DEADLOCK]
            assert endings[Kind.LOCK_ORDER]
        case "raised_by_a_path":
            assert endings[Kind.EXCEPTION]
        case "freed_under_users":
            assert endings[Kind.USE_AFTER_FREE]


# -- programs drawn at random ------------------------------------------------------------------------------------------


@dataclass
class Drawn:
    """A random program: a tree of paths, each a list of things to do on a few actors."""

    number: int

    def __call__(self, clock: Clock) -> World:
        draw = Random(f"program {self.number}")
        boxes = [Box(f"box{index}") for index in range(1 + draw.randrange(3))]
        alarms = [Alarm(f"alarm{index}", clock, draw.choice(boxes)) for index in range(1 + draw.randrange(2))]
        box_0 = boxes[0]

        async def daemon(name):
            while True:
                await box_0.serve(name)

        daemons = [
            Spawn(daemon(f"kthread{index}"), name=f"kthread{index}", daemon=True) for index in range(draw.randrange(2))
        ]
        return World(self.path(draw, boxes, alarms, depth=0), daemons)

    def path(self, draw: Random, boxes: list[Box], alarms: list[Alarm], depth: int) -> Coroutine[Any, Any, int]:
        """A path that does what was drawn for it, here and now: nothing is drawn while it runs."""
        children = [partial(self.path, Random(draw.random()), boxes, alarms, depth + 1) for _ in range(3 - depth)]
        todo: list[tuple[str, Any, int]] = []
        kinds = ["add"] * 6 + ["tell", "tell", "sleep", "choose", "locked", "set", "clear", "now"]
        kinds += ["take"] * (depth > 0) + ["spawn", "spawn", "join"] * (depth < 2)
        for _ in range(2 + draw.randrange(6)):
            kind = draw.choice(kinds)
            if draw.random() < 0.02:
                kind = draw.choice(["free", "raise", "check"])
            target = draw.choice(alarms if kind in ("set", "clear", "now") else boxes)
            todo.append((kind, target, draw.randrange(4)))
        return self.play(todo, children)

    async def play(self, todo: list[tuple[str, Any, int]], children: list[Any]) -> int:
        running = []
        total = 0
        await todo[0][1].read()
        for kind, target, number in todo:
            match kind:
                case "add":
                    total += await target.add(number)
                case "tell":
                    await tell(target.add(number) if number else target.take())
                case "sleep":
                    await sleep(number * 10)
                case "choose":
                    for _ in range(await choose(number + 1)):
                        total += await target.read()
                case "locked":
                    await target.lock()
                    await target.add(await choose(2))
                    await target.unlock()
                case "set":
                    await target.set(number * 7 + await choose(3))
                case "clear":
                    await target.clear()
                case "now":
                    total += await target.read()
                case "take":
                    await target.take()
                case "free":
                    await target.free()
                case "check":
                    await target.check(number)
                case "raise":
                    if number % 2:
                        await sleep(number)
                    else:
                        await target.read()
                    raise RuntimeError(f"drawn, after {total}")
                case "spawn" if children:
                    task = await spawn(children.pop()(), name="child")
                    running.append(task)
                case "join" if running:
                    total += await join(running.pop())
        for task in running:
            total += await join(task)
        return total


@both
def test_programs_drawn_at_random(backend):
    """Two hundred programs, live twice each; many end well, and each way to break is among them."""
    endings: Counter[Any] = Counter()
    for number in range(200):
        for seed in range(2):
            _, outcome = live_and_replayed(
                Drawn(number),
                backend,
                seed,
                jitter=(0.0, 0.4)[seed],
                settle_jiffies=(0, 50)[number % 2],
                jiffies_per_second=(1e5, 1e12)[number % 2],
            )
            endings[outcome.bug.kind if outcome.bug is not None else None] += 1
    assert endings[None] > 50
    assert {Kind.DEADLOCK, Kind.EXCEPTION, Kind.USE_AFTER_FREE} <= endings.keys()
