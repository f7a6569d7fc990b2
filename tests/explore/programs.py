"""Small programs without any slab in them, for the search and what follows it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from slabactors.actors import Actor, Clock, Timed, choose, join, operation, sleep, spawn, tell
from slabactors.errors import KernelBug, Kind
from slabactors.explore.program import Driver, Execution, prepared
from slabactors.runtime.simulated import Simulation, Strategy
from slabactors.runtime.step import Observer, TimePolicy


class Box(Actor):
    """Two variables and a lock."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.a = 0
        self.b = 0
        self.locked = False

    @operation(reads="a")
    def read_a(self) -> int:
        """``box->a``."""
        return self.a

    @operation(writes="a")
    def write_a(self) -> int:
        """``++box->a``."""
        self.a += 1
        return self.a

    @operation(reads="b")
    def read_b(self) -> int:
        """``box->b``."""
        return self.b

    @operation(writes="b")
    def write_b(self) -> int:
        """``++box->b``."""
        self.b += 1
        return self.b

    @operation(reads="a", writes="b")
    def copy(self) -> int:
        """``box->b = box->a``."""
        self.b = self.a
        return self.b

    @operation(writes="a")
    def set_a(self, value: int) -> None:
        """``box->a = value``."""
        self.a = value

    def _free(self) -> bool:
        return not self.locked

    @operation(guard=_free, writes="locked", acquires=True, nested=True)
    def lock(self) -> None:
        """``mutex_lock_nested(&box->lock)``: lockdep is told that one box may be locked in another."""
        self.locked = True

    @operation(writes="locked", releases=True)
    def unlock(self) -> None:
        """``mutex_unlock(&box->lock)``."""
        self.locked = False

    def _positive(self) -> bool:
        return self.a > 0

    @operation(guard=_positive, writes="a")
    def take(self) -> int:
        """``wait_event(box->a > 0), box->a--``."""
        self.a -= 1
        return self.a

    @operation(frees=True)
    def free(self) -> None:
        """``kfree(box)``."""


class Alarm(Timed):
    """A timer that writes down that it went off."""

    def __init__(self, name: str, clock: Clock) -> None:
        super().__init__(name, clock)
        self.rang = False

    @operation(clock=True)
    def set(self, jiffies: int) -> None:
        """``mod_timer(&alarm)``."""
        self.deadline = self.clock.now + jiffies

    @operation(clock=True)
    def expire(self) -> None:
        """``alarm goes off``."""
        self.deadline = None
        self.rang = True

    @operation(reads="rang", clock=True)
    def has_rung(self) -> bool:
        """``alarm.rang``."""
        return self.rang


class World:
    """What a program runs on."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.x = Box("x")
        self.y = Box("y")
        self.alarm = Alarm("alarm", clock)

    @property
    def boxes(self) -> tuple[Box, Box]:
        """Both boxes."""
        return self.x, self.y


@dataclass(frozen=True)
class SmallProgram:
    """A `Program` made of one path over a `World`."""

    story: Callable[[World], Coroutine[Any, Any, None]]
    at_rest: Callable[[World], None] | None = None
    time: TimePolicy = TimePolicy.ADVERSARIAL
    settle_jiffies: int = 1000
    steps_max: int = 500

    @property
    def sometimes(self) -> Sequence[str]:
        return ["box: x was written to"]

    def execute(
        self,
        strategy: Strategy,
        *,
        observer: Observer | None = None,
        time: TimePolicy | None = None,
        driver: Driver = Simulation,
    ) -> Execution:
        simulation = prepared(
            driver,
            strategy,
            observer,
            time=time or self.time,
            settle_jiffies=self.settle_jiffies,
            steps_max=self.steps_max,
        )
        world = World(simulation.clock)
        look = self.at_rest
        outcome = simulation.run(self.story(world), at_rest=(lambda: look(world)) if look is not None else None)
        return Execution(simulation, outcome, world)

    def reached(self, execution: Execution) -> Sequence[bool]:
        return [execution.world.x.a > 0]

    def dispose(self, execution: Execution) -> None:
        execution.world.__dict__.clear()


def broken(clause: str) -> KernelBug:
    """A property that does not hold."""
    return KernelBug(Kind.PROPERTY, f"{clause} in this run", clause=clause)


async def adder(box: Box) -> None:
    """Adds one, badly: what another adds meanwhile is lost."""
    value = await box.read_a()
    await box.set_a(value + 1)


async def bystander(box: Box, steps: int) -> None:
    """Has nothing to do with anything."""
    for _ in range(steps):
        await box.write_b()


async def lost_update(world: World) -> None:
    """Two additions of which one is lost, and somebody who has nothing to do with it."""
    tasks = [await spawn(adder(world.x)), await spawn(bystander(world.y, 6)), await spawn(adder(world.x))]
    for task in tasks:
        await join(task)
    if await world.x.read_a() != 2:
        raise broken("an addition was lost")


async def unrepeatable(world: World) -> None:
    """A reader that reads twice, a writer, and somebody who has nothing to do with it."""

    async def reader() -> None:
        first = await world.x.read_a()
        second = await world.x.read_a()
        if first != second:
            raise broken("it changed between two reads")

    for path in (reader(), bystander(world.y, 6), adder(world.x)):
        await spawn(path)


async def chosen_free(world: World) -> None:
    """A path that may choose to free what another uses after a nap."""

    async def user() -> None:
        await sleep(5)
        await world.x.write_a()

    async def owner() -> None:
        await world.y.write_a()
        if await choose(3) == 2 and await choose(2) == 1:
            await world.x.free()

    tasks = [await spawn(user()), await spawn(bystander(world.y, 4)), await spawn(owner())]
    for task in tasks:
        await join(task)


async def deadlock(world: World) -> None:
    """Two locks in two orders."""

    async def both(first: Box, second: Box) -> None:
        await first.lock()
        await first.write_b()
        await second.lock()
        await second.unlock()
        await first.unlock()

    tasks = [await spawn(both(world.x, world.y)), await spawn(both(world.y, world.x))]
    for task in tasks:
        await join(task)


async def told(world: World) -> None:
    """Messages that are told arrive at some time, after the main path may have looked."""
    await tell(world.x.write_a())
    await tell(world.x.write_a())
    await spawn(bystander(world.y, 3))
    if await world.x.read_a() == 1:
        raise broken("only one of two messages had arrived")


async def alarmed(world: World) -> None:
    """A timer that goes off before the path that armed it has done its work."""
    await world.alarm.set(10)
    task = await spawn(bystander(world.y, 3))
    await world.x.write_a()
    if await world.alarm.has_rung():
        raise broken("the alarm was early")
    await join(task)


async def guarded(world: World) -> None:
    """A consumer that waits for a producer, and a second one that takes what was for the first."""

    async def consumer() -> None:
        await world.x.take()

    async def producer() -> None:
        await world.x.write_a()
        await world.y.write_b()
        await world.x.write_a()

    for path in (consumer(), consumer(), producer()):
        await spawn(path)
    await world.y.read_b()
    if await world.x.read_a() == 2:
        raise broken("both were there at once")


async def one_adder(world: World) -> None:
    """Adds one, with nobody to lose it to but somebody beside it."""
    await spawn(bystander(world.x, 2))
    await adder(world.x)


def left_over(world: World) -> None:
    """Nothing may be left when all is over."""
    if world.x.a == 1:
        raise KernelBug(Kind.ACCOUNTING, "x.a is 1", clause="left over", about=world.x)


async def raising(world: World) -> None:
    """A path that raises as soon as one that it has waited for returns."""
    task = await spawn(adder(world.x))
    await spawn(bystander(world.y, 2))
    await world.y.write_a()
    await join(task)
    assert world.y.a == 2, "it was one"


PROGRAMS = {
    "lost update": SmallProgram(lost_update),
    "unrepeatable": SmallProgram(unrepeatable),
    "chosen free": SmallProgram(chosen_free),
    "chosen free, quiescent": SmallProgram(chosen_free, time=TimePolicy.QUIESCENT),
    "deadlock": SmallProgram(deadlock),
    "told": SmallProgram(told),
    "alarmed": SmallProgram(alarmed),
    "guarded": SmallProgram(guarded),
    "left over": SmallProgram(one_adder, at_rest=left_over),
    "raising": SmallProgram(raising),
}
"""Programs that break in some of their runs, or in all."""
