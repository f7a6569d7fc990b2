"""Small random programs of locks, work items, callbacks and interrupts, for lockdep and the searches."""

from __future__ import annotations

import random
from typing import Any

from slabactors.actors import Actor, Interrupt, Spawn, choose, might_sleep, operation, parallel
from slabactors.explore.program import Execution, prepared
from slabactors.runtime.simulated import Simulation
from slabactors.runtime.step import TimePolicy


class Lock(Actor):
    """A mutex, or with ``atomic`` a spinlock."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.taken = False
        self.lock_class = name.partition("#")[0]

    def _free(self) -> bool:
        return not self.taken

    @operation(guard=_free, acquires=True, sleeps=True)
    def lock(self) -> None:
        """``mutex_lock``."""
        self.taken = True

    @operation(tries=True)
    def trylock(self) -> bool:
        """``mutex_trylock``."""
        was, self.taken = self.taken, True
        return not was

    @operation(releases=True)
    def unlock(self) -> None:
        """``mutex_unlock``."""
        self.taken = False


class Spin(Lock):
    """A spinlock."""

    atomic = "a spinlock held"

    def _free(self) -> bool:
        return not self.taken

    @operation(guard=_free, acquires=True)
    def lock(self) -> None:
        """``spin_lock``."""
        self.taken = True


class Item(Actor):
    """A work item: queued, run by one worker, waited for."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.queued = False
        self.running = False
        self.lock_class = name

    @operation(writes="queued")
    def queue(self) -> None:
        """``queue_work``."""
        self.queued = True

    def _queued(self) -> bool:
        return self.queued and not self.running

    def _itself(self, _: Any = None) -> tuple[Actor, ...]:
        return (self,)

    def _alone(self) -> Item:
        return self

    @operation(guard=_queued, parks=True, enters=_itself, writes="queued running")
    def take(self) -> None:
        """``process_one_work``."""
        self.queued, self.running = False, True

    @operation(leaves=True, writes="running")
    def done(self) -> None:
        """``current_work = NULL``."""
        self.running = False

    def _idle(self) -> bool:
        return not self.running

    @operation(guard=_idle, waits_for=_alone, sleeps=True, reads="running")
    def flush(self) -> None:
        """``flush_work``."""

    @operation(writes="queued")
    def cancel(self) -> bool:
        """``try_to_grab_pending``."""
        was, self.queued = self.queued, False
        return was


class Flag(Actor):
    """A variable that decides what comes next."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.value = 0

    @operation(reads="value")
    def get(self) -> int:
        """``R``."""
        return self.value

    @operation(writes="value")
    def add(self) -> None:
        """``W``."""
        self.value += 1


class World:
    """The actors of one run, by name."""

    def __init__(self) -> None:
        self.actors: dict[str, Any] = {}

    def get(self, kind: type[Actor], name: str) -> Any:
        """The actor of that name."""
        if name not in self.actors:
            self.actors[name] = kind(name)
        return self.actors[name]


Plan = list[tuple[str, Any, Any]]


async def play(world: World, plan: Plan) -> None:
    """Do what a plan says."""
    for kind, name, inner in plan:
        match kind:
            case "with":
                lock = world.get(Lock, name)
                await lock.lock()
                await play(world, inner)
                await lock.unlock()
            case "try":
                lock = world.get(Lock, name)
                if await lock.trylock():
                    await play(world, inner)
                    await lock.unlock()
            case "spin":
                lock = world.get(Spin, "s" + name)
                await lock.lock()
                await play(world, inner)
                await lock.unlock()
            case "queue":
                await world.get(Item, "w" + name).queue()
            case "flush":
                await world.get(Item, "w" + name).flush()
            case "cancel":
                item = world.get(Item, "w" + name)
                await item.cancel()
                await item.flush()
            case "if":
                if await world.get(Flag, "f").get():
                    await play(world, inner)
            case "set":
                await world.get(Flag, "f").add()
            case "choose":
                if await choose(2):
                    await play(world, inner)
            case "might_sleep":
                await might_sleep()


class LockingProgram:
    """A program of some paths, some of them interrupts, and a worker for each work item."""

    sometimes = ()

    def __init__(self, paths: list[tuple[str, Plan]], works: dict[str, Plan], settle: int = 0) -> None:
        self.paths = paths
        self.works = works
        self.settle = settle

    def execute(self, strategy, *, observer=None, time=None, driver=Simulation) -> Execution:
        simulation = prepared(driver, strategy, observer, time=time or TimePolicy.QUIESCENT, settle_jiffies=self.settle)
        world = World()

        async def worker(name: str, plan: Plan) -> None:
            item = world.get(Item, "w" + name)
            while True:
                await item.take()
                await play(world, plan)
                await item.done()

        async def main() -> None:
            await parallel(
                *[
                    Interrupt(play(world, plan), name=f"path{number}", context=context)
                    if context
                    else Spawn(play(world, plan), name=f"path{number}")
                    for number, (context, plan) in enumerate(self.paths)
                ]
            )

        daemons = [Spawn(worker(name, plan), name=f"worker {name}", daemon=True) for name, plan in self.works.items()]
        return Execution(simulation, simulation.run(main(), daemons=daemons), world)

    def reached(self, execution: Execution) -> list[bool]:
        return []

    def dispose(self, execution: Execution) -> None:
        execution.simulation.dispose()


KINDS = {
    "with": 8,
    "try": 1,
    "spin": 0.3,
    "queue": 3,
    "flush": 3,
    "cancel": 2,
    "if": 2,
    "set": 2,
    "choose": 1,
    "might_sleep": 0.3,
}
NESTING = ("with", "try", "spin", "if", "choose")


def random_plan(source: random.Random, depth: int, works: str) -> Plan:
    """What one path does: one to two things, some of them with others inside."""
    plan: Plan = []
    for _ in range(source.choice((1, 1, 2))):
        kind = source.choices(list(KINDS), list(KINDS.values()))[0]
        if kind in NESTING:
            name = source.choice("ab") + source.choice(("", "", "", "#2"))
            plan.append((kind, name, random_plan(source, depth - 1, works) if depth else []))
        elif kind in ("queue", "flush", "cancel"):
            if works:
                plan.append((kind, source.choice(works), None))
        else:
            plan.append((kind, "", None))
    return plan


def random_program(seed: int) -> LockingProgram:
    """Two or three paths, none or one or two works."""
    source = random.Random(seed)
    works = source.choice(("", "p", "p", "pq"))
    count = source.choice((2, 2, 3)) if len(works) < 2 else 2
    paths = [("a softirq" if source.random() < 0.03 else "", random_plan(source, 2, works)) for _ in range(count)]
    return LockingProgram(paths, {name: random_plan(source, 1, "") for name in works}, source.choice((0, 100)))
