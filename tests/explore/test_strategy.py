"""Strategies: how likely each is to do what it is there for.  Seeds are fixed; margins are of several deviations."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial

import pytest

from slabactors.explore.campaign import search
from slabactors.explore.strategy import STRATEGIES, Pct, Pos, RandomWalk, Urw
from slabactors.runtime.simulated import Strategy
from tests.explore.counted import ActorProgram, World, patch
from tests.explore.micro import Micro
from tests.explore.programs import PROGRAMS
from tests.explore.sampled import (
    Order,
    alternating,
    chi_square,
    deep,
    distilled,
    fails,
    noisy,
    orders,
    rare,
    rate,
    starved,
    two_by_two,
)

CHI_SQUARE_5 = 20.5
"""What a statistic of six classes stays under in 999 of 1,000 samples."""

TWO_BY_TWO = {
    turns: tuple(f"{path}.add" for path in turns) for turns in ("aabb", "abab", "abba", "baab", "baba", "bbaa")
}


@pytest.mark.parametrize(
    ("strategy", "shares"),
    [
        # Who is alone has no choice: the first two steps decide where both are of one path.
        (RandomWalk, {"aabb": 1 / 4, "abab": 1 / 8, "abba": 1 / 8, "baab": 1 / 8, "baba": 1 / 8, "bbaa": 1 / 4}),
        (Urw, dict.fromkeys(TWO_BY_TWO, 1 / 6)),
    ],
)
def test_the_six_orders_of_two_by_two_steps_come_as_often_as_they_should(
    strategy: Callable[[int], Strategy], shares: dict[str, float]
) -> None:
    """A walk is uniform at each step, URW over whole runs (but for its first, in which it has seen nothing)."""
    runs = 6000
    seen = orders(two_by_two(), strategy(1), runs)
    assert set(seen) == set(TWO_BY_TWO.values())
    counts = [seen[TWO_BY_TWO[turns]] for turns in shares]
    assert chi_square(counts, [runs * share for share in shares.values()]) < CHI_SQUARE_5


def test_a_path_that_spawns_counts_for_those_it_will_spawn() -> None:
    """One path that starts a second one after its first step, and a third: uniform over the orders there are."""

    def steps(number: int):
        async def path(world: World) -> None:
            for _ in range(number):
                await world.var("x").add(1)

        return path

    async def parent(world: World) -> None:
        from slabactors.actors import join, spawn

        await world.var("x").put(0)
        task = await spawn(steps(2)(world), name="child")
        await join(task)

    async def other(world: World) -> None:
        await world.var("x").get()

    runs = 6000
    seen = orders(ActorProgram(parent, other), Urw(1), runs)
    assert len(seen) == 4  # the other's step before, between and after three steps
    assert chi_square(list(seen.values()), [runs / 4] * 4) < 16.3  # of four classes, as above


def test_every_enabled_path_is_as_likely_at_each_step_of_a_walk() -> None:
    """Five paths of one step: each is first in a fifth of the runs, and each is last in a fifth of them."""

    def path(number: int):
        async def own(world: World) -> None:
            await world.var(f"v{number}").put(1)

        own.__name__ = f"p{number}"
        return own

    runs = 5000
    seen = orders(ActorProgram(*[path(number) for number in range(5)]), RandomWalk(2), runs)
    assert len(seen) == 120
    for position in range(5):
        counts = [
            sum(times for order, times in seen.items() if order[position] == f"p{number}.put") for number in range(5)
        ]
        assert chi_square(counts, [runs / 5] * 5) < 18.5  # of five classes, as above


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_pct_finds_a_bug_of_its_depth_as_often_as_it_promises(depth: int) -> None:
    """At least once in n * k ** (d - 1) runs, with n paths and k steps; a bug deeper than it looks for never."""
    program, hit = deep(depth)
    paths, steps, runs = 2, 10, 4000
    promised = 1 / (paths * steps ** (depth - 1))
    assert rate(program, Pct(1, depth=depth), hit, runs) >= 0.9 * promised
    assert rate(program, Pct(1), hit, runs) >= 0.2 * promised  # a fifth of its runs, or more, are of that depth
    if depth > 1:
        assert rate(program, Pct(1, depth=depth - 1), hit, runs // 4) == 0


RATES: list[
    tuple[str, Callable[[], ActorProgram], Callable[[Order], bool], Callable[[int], Strategy], float, float]
] = [
    # what is looked for, in what, by whom, how often at least and at most
    ("any failure of the patch", distilled, fails, RandomWalk, 0.45, 0.52),
    ("any failure of the patch", distilled, fails, Pct, 0.30, 0.50),
    ("any failure of the patch", distilled, fails, partial(Pct, depth=1), 0.0, 0.0),
    ("any failure of the patch", distilled, fails, Pos, 0.32, 0.41),
    ("any failure of the patch", distilled, fails, Urw, 0.53, 0.70),
    ("its rarest failure", distilled, rare, RandomWalk, 0.022, 0.042),
    ("its rarest failure", distilled, rare, Pct, 0.009, 0.040),
    ("its rarest failure", distilled, rare, partial(Pct, depth=2), 0.0, 0.0),
    ("its rarest failure", distilled, rare, Pos, 0.028, 0.055),
    ("its rarest failure", distilled, rare, Urw, 0.008, 0.030),
    ("its rarest failure, in noise", lambda: noisy(distilled()), rare, Pct, 0.005, 0.035),
    ("its rarest failure, in noise", lambda: noisy(distilled()), rare, Pos, 0.024, 0.050),
    ("its rarest failure, in noise", lambda: noisy(distilled()), rare, Urw, 0.003, 0.020),
    ("a starved path", starved, lambda order: order[-1] == "a.put", RandomWalk, 0.0, 0.001),
    ("a starved path", starved, lambda order: order[-1] == "a.put", Pct, 0.35, 0.65),
    ("a starved path", starved, lambda order: order[-1] == "a.put", Pos, 0.0, 0.06),
    ("a starved path", starved, lambda order: order[-1] == "a.put", Urw, 0.015, 0.06),
    ("alternation", alternating, lambda order: order == ("a.add", "b.add") * 4, RandomWalk, 0.004, 0.013),
    ("alternation", alternating, lambda order: order == ("a.add", "b.add") * 4, Pct, 0.0, 0.0),
    ("alternation", alternating, lambda order: order == ("a.add", "b.add") * 4, Urw, 0.009, 0.022),
]


@pytest.mark.parametrize(("what", "program", "hit", "strategy", "least", "most"), RATES)
def test_what_a_strategy_is_good_at_and_what_it_is_not(
    what: str,
    program: Callable[[], ActorProgram],
    hit: Callable[[Order], bool],
    strategy: Callable[[int], Strategy],
    least: float,
    most: float,
) -> None:
    """Starvation takes priorities, alternation uniformity, noise an eye for who meets whom."""
    assert least <= rate(program(), strategy(3), hit, 1500) <= most, what


def test_noise_does_not_disturb_pos() -> None:
    """Paths that meet nobody change nothing but the length of the run."""
    quiet = rate(distilled(), Pos(5), rare, 2500)
    loud = rate(noisy(distilled()), Pos(5), rare, 2500)
    assert abs(quiet - loud) < 0.017  # three deviations of the difference


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_same_seed_gives_the_same_schedules(strategy: str) -> None:
    """Run after run, and another seed gives others."""

    def records(seed: int) -> list[list[int]]:
        picker = STRATEGIES[strategy](seed)
        return [list(PROGRAMS[name].execute(picker).simulation.record) for name in PROGRAMS for _ in range(4)]

    assert records(7) == records(7)
    assert records(7) != records(8)


def test_who_is_watched_walks_the_same_way() -> None:
    """An observer sees the schedule that a walk takes without one: what is drawn for a step is not asked for, it is."""

    def records(observer) -> list[list[int]]:
        picker = RandomWalk(11)
        return [list(patch().execute(picker, observer=observer).simulation.record) for _ in range(20)]

    assert records(None) == records(lambda step: None)


@pytest.mark.slow
@pytest.mark.parametrize(("strategy", "most"), [("pct", 30), ("portfolio", 40)])
def test_the_founding_bug_of_a_busy_cache_is_found_soon(strategy: str, most: int) -> None:
    """The work of a cache with 25 objects and three CPUs queued twice: one schedule in 140 of a walk shows it."""
    assert statistics.median(first_found(Micro("v5", 3, 8), strategy, seed) for seed in range(40)) <= most


def first_found(program, strategy: str, seed: int) -> int:
    """How many executions it took to the first bug."""
    growing = search(program, strategy=strategy, seed=seed, runs=2000, stop=lambda: bool(result.found))
    result = next(growing)
    assert all(one is result for one in growing)
    return min(bug.execution for bug in result.found.values()) + 1
