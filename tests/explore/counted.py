"""Small actor programs with known numbers of traces, and a way to make random ones."""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine, Hashable
from typing import Any

from slabactors.actors import (
    Actor,
    Clock,
    CountsDown,
    Narrow,
    Timed,
    choose,
    join,
    operation,
    parallel,
    sleep,
    spawn,
    start,
    tell,
)
from slabactors.actors import Spawn as SpawnRequest
from slabactors.explore.dpor import Dpor
from slabactors.explore.happens_before import trace_key
from slabactors.explore.program import Execution, prepared
from slabactors.runtime.guided import GuidedSimulation
from slabactors.runtime.simulated import Simulation
from slabactors.runtime.step import TimePolicy


class World:
    """The actors of one run, by name."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.actors: dict[str, Any] = {}

    def look(self) -> None:
        """Look at the actors of a run that is over."""

    def var(self, name: str, value: int = 0) -> Var:
        return self.actors.setdefault(name, Var(name, value))

    def tank(self, name: str) -> Tank:
        return self.actors.setdefault(name, Tank(name, 2))

    def lock(self, name: str) -> Lock:
        return self.actors.setdefault(name, Lock(name))

    def alarm(self, name: str) -> Alarm:
        return self.actors.setdefault(name, Alarm(name, self))

    def late(self, name: str) -> Late:
        return self.actors.setdefault(name, Late(name, self))


class Var(Actor):
    """A shared variable: reads commute."""

    def __init__(self, name: str, value: int) -> None:
        super().__init__(name)
        self.value = value

    @operation(reads="value")
    def get(self) -> int:
        """``R``."""
        return self.value

    @operation(writes="value")
    def put(self, value: int) -> None:
        """``W``."""
        self.value = value

    @operation
    def add(self, value: int) -> int:
        """``RMW``."""
        self.value += value
        return self.value

    def _at_least(self, value: int) -> bool:
        return self.value >= value

    @operation(guard=_at_least, reads="value")
    def wait(self, value: int) -> None:
        """``wait_event``."""

    @operation(guard=_at_least)
    def down(self, value: int) -> None:
        """``down``."""
        self.value -= value

    @operation(frees=True)
    def free(self) -> None:
        """``kfree``."""


class Tank(Actor):
    """A counter whose taker is told when it has taken the last; a light goes on then, for somebody to put out."""

    def __init__(self, name: str, level: int) -> None:
        super().__init__(name)
        self.level = level
        self.light = False

    def _level(self) -> int:
        return self.level

    def _number(self, number: int) -> int:
        return number

    def _nothing(self) -> int:
        return 0

    def _dark(self) -> bool:
        return not self.light

    @operation(writes="level light", narrow=[CountsDown("level", _level, _number)])
    def take(self, number: int) -> bool:
        """``atomic_sub_and_test()``."""
        self.level -= number
        if self.level == 0:
            self.light = True
        return self.level == 0

    @operation(reads="level", narrow=[CountsDown("level", _level, _nothing)])
    def is_empty(self) -> bool:
        """``atomic_read() == 0``."""
        return self.level <= 0

    @operation(writes="level")
    def fill(self) -> None:
        """``atomic_inc()``."""
        self.level += 1

    @operation(writes="light", narrow=[Narrow(_dark, reads="light")])
    def claim(self) -> bool:
        """``xchg(&light, false)``."""
        was, self.light = self.light, False
        return was


class Lock(Actor):
    """A mutex."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.taken = False

    def _free(self) -> bool:
        return not self.taken

    @operation(guard=_free, acquires=True)
    def lock(self) -> None:
        """``lock``."""
        self.taken = True

    @operation(releases=True)
    def unlock(self) -> None:
        """``unlock``."""
        self.taken = False


class Alarm(Timed):
    """A timer that adds one to a variable when it fires."""

    def __init__(self, name: str, world: World) -> None:
        super().__init__(name, world.clock)
        self.world = world

    @operation(clock=True)
    def set(self, jiffies: int) -> None:
        """``mod_timer``."""
        self.deadline = self.clock.now + jiffies

    @operation(clock=True)
    def clear(self) -> None:
        """``del_timer``."""
        self.deadline = None

    def on_expiry(self) -> SpawnRequest[Any]:
        return SpawnRequest(self.ring(), name="ring")

    async def ring(self) -> None:
        await self.world.var(f"{self.name}.rung").add(1)


class Late(Alarm):
    """A deferrable timer that goes on a few times; who waits for the variable is not waited for."""

    deferrable = True

    async def ring(self) -> None:
        await self.world.var(self.name[-1]).add(1)
        if self.armed < 3:
            await self.set(6)


class Pending(Actor):
    """The pending bit of a work item."""

    def __init__(self) -> None:
        super().__init__("pending")
        self.value = False

    @operation(reads="value")
    def test(self) -> bool:
        """``test``."""
        return self.value

    @operation(writes="value")
    def set(self, value: bool) -> None:
        """``set``."""
        self.value = value

    def _set(self) -> bool:
        return self.value

    @operation(guard=_set)
    def take(self) -> None:
        """``take``."""
        self.value = False


class Remote(Actor):
    """A value behind operations that declare nothing about themselves."""

    def __init__(self) -> None:
        super().__init__("remote")
        self.value = 0

    @operation
    def get(self) -> int:
        """``get``."""
        return self.value

    @operation
    def put(self, value: int) -> None:
        """``put``."""
        self.value = value


class Port(Timed):
    """A receiver whose messages and timers meet: whatever is delivered there reads the clock."""

    def _never(self) -> bool:
        return False

    @operation(guard=_never, parks=True)
    def park(self) -> None:
        """``schedule``."""

    @operation(clock=True)
    def receive(self) -> None:
        """``receive``."""

    @operation(clock=True)
    def clear(self) -> None:
        """``del_timer``."""
        self.deadline = None


class ActorProgram:
    """A program made of paths over a `World`."""

    sometimes = ()

    def __init__(
        self, *paths: Callable[[World], Coroutine[Any, Any, Any]], time: TimePolicy = TimePolicy.QUIESCENT
    ) -> None:
        self.paths = paths
        self.time = time

    def execute(self, strategy, *, observer=None, time=None, driver=Simulation) -> Execution:
        simulation = prepared(driver, strategy, observer, time=time or self.time)
        world = World(simulation.clock)

        async def main() -> None:
            await parallel(*[path(world) for path in self.paths])

        # Nothing to check: it only says that the world is looked at when all is over.
        outcome = simulation.run(main(), at_rest=world.look)
        return Execution(simulation, outcome, world)

    def reached(self, execution: Execution):
        return []

    def dispose(self, execution: Execution) -> None:
        pass


def values(execution: Execution) -> Hashable:
    """What a complete run left behind: the variables, and what was broken."""
    broken = sorted(one.outcome.bug.clause for one in execution.simulation.broken)
    return values_of(execution.world), tuple(broken)


def values_of(world: World) -> Hashable:
    """What the variables and tanks of a run hold."""
    actors = world.actors
    variables = sorted((name, actor.value) for name, actor in actors.items() if isinstance(actor, Var))
    variables += [(name, (actor.level, actor.light)) for name, actor in actors.items() if isinstance(actor, Tank)]
    return tuple(variables)


class Explored:
    """What an exhaustive search saw."""

    def __init__(
        self,
        program,
        *,
        time: TimePolicy | None = None,
        most: int = 50_000,
        observe: Callable[[Execution], Hashable] = values,
    ) -> None:
        self.dpor = Dpor()
        self.traces: list[frozenset] = []
        self.outcomes: set[Hashable] = set()
        for _ in range(most):
            execution = program.execute(self.dpor, time=time, driver=GuidedSimulation)
            if self.dpor.complete:
                self.traces.append(trace_key(self.dpor.events))
                self.outcomes.add(observe(execution))
            if not self.dpor.advance():
                return
        raise OverflowError(f"more than {most} runs")


# -- programs with counts that two independent methods gave ------------------------------------------------------------


def counter(n: int) -> ActorProgram:
    """n paths read and then write one variable."""

    async def path(world: World) -> None:
        value = await world.var("c").get()
        await world.var("c").put(value + 1)

    return ActorProgram(*[path] * n)


def readers(n: int) -> ActorProgram:
    """One writes x; n read a variable of their own, then x."""

    async def writer(world: World) -> None:
        await world.var("x").put(1)

    def reader(number: int):
        async def path(world: World) -> None:
            await world.var(f"own{number}").get()
            await world.var("x").get()

        return path

    return ActorProgram(writer, *[reader(number) for number in range(n)])


def last_zero(n: int) -> ActorProgram:
    """A reader scans a_n down to a_0 for a zero; writer j sets a_j to a_(j-1) + 1."""

    async def scan(world: World) -> None:
        for index in range(n, -1, -1):
            if await world.var(f"a{index}").get() == 0:
                break

    def writer(index: int):
        async def path(world: World) -> None:
            value = await world.var(f"a{index - 1}").get()
            await world.var(f"a{index}").put(value + 1)

        return path

    return ActorProgram(scan, *[writer(index) for index in range(1, n + 1)])


def branching() -> ActorProgram:
    """The program on which source sets alone run into sleep-set blocked runs."""

    async def p(world: World) -> None:
        await world.var("x").put(1)

    async def q(world: World) -> None:
        await world.var("y").put(1)

    async def r(world: World) -> None:
        if await world.var("y").get() == 0:
            await world.var("z").put(1)

    async def s(world: World) -> None:
        if await world.var("z").get() == 1 and await world.var("y").get() == 0:
            await world.var("x").put(2)

    return ActorProgram(p, q, r, s)


def fan_in(senders: int, messages: int) -> ActorProgram:
    """Senders that each tell one receiver some messages, first in first out by sender."""

    def sender(number: int):
        async def path(world: World) -> None:
            for message in range(messages):
                await tell(world.var("mailbox").put(10 * number + message))

        return path

    return ActorProgram(*[sender(number) for number in range(senders)])


def triangle() -> ActorProgram:
    """A tells C, then B, which tells C in its turn: a queue in the order of sending has A's message first."""

    async def b(world: World) -> None:
        await world.var("b").wait(1)
        await tell(world.var("c").put(2))

    async def a(world: World) -> None:
        await tell(world.var("c").put(1))
        await tell(world.var("b").put(1))

    return ActorProgram(a, b)


def crossed() -> ActorProgram:
    """A tells C then D; B tells D then C."""

    async def a(world: World) -> None:
        await tell(world.var("c").put(1))
        await tell(world.var("d").put(1))

    async def b(world: World) -> None:
        await tell(world.var("d").put(2))
        await tell(world.var("c").put(2))

    return ActorProgram(a, b)


def remote_counter(n: int) -> ActorProgram:
    """n clients ask get, then put, of an actor whose operations declare nothing."""

    async def client(world: World) -> None:
        remote = world.actors.setdefault("remote", Remote())
        value = await remote.get()
        await remote.put(value + 1)

    return ActorProgram(*[client] * n)


def disjoint(n: int) -> ActorProgram:
    """n receivers that have nothing to do with each other."""

    def path(number: int):
        async def own(world: World) -> None:
            await world.var(f"v{number}").put(1)

        return own

    return ActorProgram(*[path(number) for number in range(n)])


def ping_pong(rounds: int) -> ActorProgram:
    """Two paths that take turns by waiting for each other."""

    async def ping(world: World) -> None:
        for number in range(rounds):
            await world.var(f"ping{number}").put(1)
            await world.var(f"pong{number}").wait(1)

    async def pong(world: World) -> None:
        for number in range(rounds):
            await world.var(f"ping{number}").wait(1)
            await world.var(f"pong{number}").put(1)

    return ActorProgram(ping, pong)


class TimerProgram:
    """Messages that come one after the other to one receiver, beside timers that are armed from the beginning.

    Args:
        messages: how many.
        deadlines: of the timers, in jiffies.
        cancels: the second message cancels the first timer.
    """

    sometimes = ()

    def __init__(self, messages: int, deadlines: tuple[int, ...], *, cancels: bool = False) -> None:
        self.messages = messages
        self.deadlines = deadlines
        self.cancels = cancels

    def execute(self, strategy, *, observer=None, time=None, driver=Simulation, **options) -> Execution:
        simulation = prepared(driver, strategy, observer, time=time or TimePolicy.QUIESCENT, **options)
        world = World(simulation.clock)
        port = Port("port", simulation.clock)
        timers = [Port(f"timer{number}", simulation.clock) for number in range(len(self.deadlines))]
        for timer, deadline in zip(timers, self.deadlines, strict=True):
            timer.deadline = deadline
            simulation._arm(timer, None)  # before anything happens, as no step of a path could

        async def main() -> None:
            parked = await spawn(port.park(), daemon=True)
            for number in range(self.messages):
                await (timers[0].clear() if self.cancels and number == 1 else port.receive())
            await join(parked)  # it never returns, so that timers fire as long as there are any

        return Execution(simulation, simulation.run(main()), world)

    def reached(self, execution: Execution):
        return []

    def dispose(self, execution: Execution) -> None:
        pass


def patch(*, runs: int = 3) -> ActorProgram:
    """The founding patch distilled: a destroyer, one releaser of one page, a worker that runs at most so often.

    Destroyer: publish dead, initialise the work (clears pending), schedule.  Releaser: decrement pages (stop unless
    zero), stop unless dead, stop if pending, schedule.  Worker, when pending: clear pending and start, read pages, if
    zero destroy, else shrink and read pages again, stop if zero now, else re-arm.
    """

    def pending(world: World) -> Pending:
        return world.actors.setdefault("pending", Pending())

    async def destroyer(world: World) -> None:
        await world.var("dead").put(1)
        await pending(world).set(False)
        await pending(world).set(True)

    async def releaser(world: World) -> None:
        if await world.var("pages", 1).add(-1) != 0 or not await world.var("dead").get():
            return
        if not await pending(world).test():
            await pending(world).set(True)

    async def worker(world: World) -> None:
        for _ in range(runs):
            await pending(world).take()
            if await world.var("pages", 1).get() == 0:
                await world.var("destroyed").put(1)
                continue
            if await world.var("pages", 1).get() == 0:
                continue
            await pending(world).set(True)

    return ActorProgram(destroyer, releaser, worker)


# -- random programs ---------------------------------------------------------------------------------------------------


KINDS = {
    "get": 3,
    "put": 4,
    "add": 2,
    "if": 3,
    "lock": 3,
    "wait": 2,
    "down": 2,
    "tell": 1,
    "alarm": 1,
    "clear": 1,
    "sleep": 1,
    "spawn": 1,
    "choose": 1,
    "free": 1,
}
"""Operations with how often they come up."""

COUNTING = {"take": 6, "empty": 4, "fill": 2, "claim": 3, "get": 1, "put": 1, "if": 2, "lock": 1}
"""Those of programs that are about footprints that depend on the state."""

TAKING = {"take": 6, "empty": 3, "fill": 2, "claim": 4, "if": 2}
"""Those of programs about nothing else."""


LATE = {**KINDS, "alarm": 2, "sleep": 2, "late": 4}
"""Those of programs with deferrable timers."""


def random_program(seed: int, kinds: dict[str, int] = KINDS) -> ActorProgram:
    """Two or three paths of up to four operations."""
    source = random.Random(f"program {seed}")
    plans = [
        [_random_operation(source, kinds) for _ in range(source.randint(1, 4))] for _ in range(source.randint(2, 3))
    ]
    if sum(map(len, plans)) > 8:
        plans = plans[:2]

    def make(plan):
        async def path(world: World) -> None:
            await _play(world, plan)

        return path

    return ActorProgram(*[make(plan) for plan in plans])


def _random_operation(source: random.Random, kinds: dict[str, int]) -> tuple[Any, ...]:
    kind = source.choices(list(kinds), list(kinds.values()))[0]
    return kind, source.choice("xyz"), source.choice("xyz"), source.randint(0, 2)


async def _play(world: World, plan: list[tuple[Any, ...]]) -> None:
    for kind, one, other, number in plan:
        match kind:
            case "get":
                await world.var(one).get()
            case "put":
                await world.var(one).put(number)
            case "add":
                await world.var(one).add(1)
            case "if":
                if await world.var(one).get() == number:
                    await world.var(other).put(number + 1)
            case "lock":
                await world.lock("m" + one).lock()
                await world.var(other).add(1)
                await world.lock("m" + one).unlock()
            case "wait":
                await world.var(one).wait(number)
            case "down":
                await world.var(one).down(1)
            case "tell":
                await tell(world.var(one).put(number))
            case "alarm":
                await world.alarm("alarm" + one).set(5 + number)
            case "late":
                await world.late("late" + one).set(4 + 2 * number)
            case "clear":
                await world.alarm("alarm" + one).clear()
            case "sleep":
                await sleep(5 + number)
            case "take":
                if await world.tank("tank").take(1 + number // 2):
                    await world.var(one).put(number)
            case "empty":
                if await world.tank("tank").is_empty():
                    await world.var(one).add(1)
            case "fill":
                await world.tank("tank").fill()
            case "claim":
                if await world.tank("tank").claim():
                    await world.var(one).put(number)
            case "spawn":
                task = await spawn(_play(world, [("put", one, other, number)]), name="child")
                await world.var(other).get()
                if number:
                    await join(task)
            case "choose":
                value = await choose(2)
                await world.var(one).put(value)
            case "free":
                if number == 2:
                    await world.var(one).free()
                else:
                    child = await start(SpawnRequest(_play(world, [("get", one, other, 0)]), name="late"))
                    await join(child)
