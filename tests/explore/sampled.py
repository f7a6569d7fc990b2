"""Small programs that say how likely a strategy is to do something, and the means to count how often it does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from slabactors.runtime.simulated import Strategy
from slabactors.runtime.step import Step
from tests.explore.counted import ActorProgram, World, patch

Order = tuple[str, ...]
"""Of a run: for each step the name of the path that took it, and of the operation, as ``writer.put``."""


def orders(program: ActorProgram, strategy: Strategy, runs: int) -> Counter[Order]:
    """How often each order of steps came about."""
    seen: Counter[Order] = Counter()
    for _ in range(runs):
        steps: list[str] = []

        def observe(step: Step, steps: list[str] = steps) -> None:
            steps.append(f"{step.path.name}.{step.operation.name}")

        program.execute(strategy, observer=observe)
        seen[tuple(steps)] += 1
    return seen


def rate(program: ActorProgram, strategy: Strategy, hit: Callable[[Order], bool], runs: int) -> float:
    """The share of runs whose order of steps is what is looked for."""
    return sum(times for order, times in orders(program, strategy, runs).items() if hit(order)) / runs


def chi_square(seen: Sequence[int], expected: Sequence[float]) -> float:
    """Pearson's statistic of counts against what they should be on average."""
    return sum((count - mean) ** 2 / mean for count, mean in zip(seen, expected, strict=True))


def two_by_two() -> ActorProgram:
    """Two paths of two steps that meet."""

    async def a(world: World) -> None:
        await world.var("x").add(1)
        await world.var("x").add(1)

    async def b(world: World) -> None:
        await world.var("x").add(1)
        await world.var("x").add(1)

    return ActorProgram(a, b)


def starved(steps: int = 30) -> ActorProgram:
    """``a`` has one step, and ``b`` many elsewhere: for a bug, ``a`` must come after all of them."""

    async def a(world: World) -> None:
        await world.var("x").put(1)

    async def b(world: World) -> None:
        for _ in range(steps):
            await world.var("own").add(1)

    return ActorProgram(a, b)


def alternating(steps: int = 4) -> ActorProgram:
    """Two paths, for a bug of which each must take one step after the other's, ``a`` first."""

    async def a(world: World) -> None:
        for _ in range(steps):
            await world.var("x").add(1)

    async def b(world: World) -> None:
        for _ in range(steps):
            await world.var("x").add(1)

    return ActorProgram(a, b)


def deep(depth: int, *, padding: int = 3) -> tuple[ActorProgram, Callable[[Order], bool]]:
    """A bug of so many ordering constraints between two paths, and what says that an order shows it.

    Depth 1: ``b`` before ``a`` has moved.  Depth 2: ``b`` between two steps of ``a``.  Depth 3: and its next step only
    after the second of them.
    """

    async def a(world: World) -> None:
        for _ in range(padding):
            await world.var("x").get()
        await world.var("x").put(1)
        await world.var("x").add(1)
        for _ in range(padding):
            await world.var("x").get()

    async def b(world: World) -> None:
        await world.var("x").put(2)
        await world.var("x").add(2)

    def hit(order: Order) -> bool:
        b_put, b_add = order.index("b.put"), order.index("b.add")
        if depth == 1:
            return b_put < next(index for index, step in enumerate(order) if step.startswith("a."))
        between = order.index("a.put") < b_put < order.index("a.add")
        return between and (depth == 2 or order.index("a.add") < b_add)

    return ActorProgram(a, b), hit


def noisy(program: ActorProgram, paths: int = 4, steps: int = 10) -> ActorProgram:
    """A program with some paths that have nothing to do with it, nor with each other."""

    def bystander(number: int):
        async def noise(world: World) -> None:
            for _ in range(steps):
                await world.var(f"noise{number}").put(1)

        return noise

    return ActorProgram(*program.paths, *[bystander(number) for number in range(paths)])


def distilled() -> ActorProgram:
    """The founding patch distilled."""
    return patch()


def fails(order: Order) -> bool:
    """Anything went wrong in a run of `distilled`."""
    return scheduled_before_init(order) or initialised_while_pending(order) or ran_after_destroy(order)


def rare(order: Order) -> bool:
    """One trace of the 29 of `distilled`: both go wrong that can go wrong with the initialisation."""
    return scheduled_before_init(order) and initialised_while_pending(order)


def _schedules(order: Order) -> tuple[list[int], int]:
    """When the releaser schedules, and when the destroyer initialises."""
    initialised = next(index for index, step in enumerate(order) if step == "destroyer.set")
    return [index for index, step in enumerate(order) if step == "releaser.set"], initialised


def scheduled_before_init(order: Order) -> bool:
    """The work was scheduled before it was initialised."""
    scheduled, initialised = _schedules(order)
    return any(index < initialised for index in scheduled)


def initialised_while_pending(order: Order) -> bool:
    """The work was initialised while it was pending."""
    scheduled, initialised = _schedules(order)
    return any(index < initialised and "worker.take" not in order[index:initialised] for index in scheduled)


def ran_after_destroy(order: Order) -> bool:
    """The work ran after it had destroyed the cache."""
    return "worker.put" in order and "worker.take" in order[order.index("worker.put") :]
