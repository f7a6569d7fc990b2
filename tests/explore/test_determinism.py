"""The first schedule is run twice by every search, and the first difference is named with its line."""

from __future__ import annotations

from itertools import count

import pytest

from slabactors.actors import choose, parallel, sleep, spawn
from slabactors.errors import NondeterminismError
from slabactors.explore.bounded import search_bounded
from slabactors.explore.campaign import search
from slabactors.explore.determinism import check_determinism
from slabactors.explore.verify import verify
from slabactors.runtime.step import TimePolicy
from tests.explore.programs import PROGRAMS, SmallProgram, World


def line_of(function, text: str) -> str:
    """``file:line`` of the first line of a function that has this text."""
    import inspect

    lines, first = inspect.getsourcelines(function)
    number = next(number for number, line in enumerate(lines) if text in line)
    return f"test_determinism.py:{first + number}"


def unrepeatable() -> SmallProgram:
    """It keeps a counter from run to run."""
    ticks = count(1)

    async def story(world: World) -> None:
        await world.x.read_a()
        await world.x.set_a(next(ticks))

    return SmallProgram(story)


@pytest.mark.parametrize(
    "started",
    [lambda program: search(program, runs=5), verify, lambda program: search_bounded(program, bound=0)],
    ids=["sampling", "exhaustive", "preemptions"],
)
def test_every_search_refuses_a_program_that_does_not_repeat_itself(started):
    """Both steps are named with the line that asked for them."""
    program = unrepeatable()
    with pytest.raises(NondeterminismError) as caught:
        list(started(program))
    text = str(caught.value)
    at = line_of(program.story, "set_a")
    assert "differed at step 1:" in text
    assert f"set_a(1) = None on x at 0 jiffies, at {at} in story()" in text
    assert f"set_a(2) = None on x at 0 jiffies, at {at} in story()" in text


def test_who_else_could_have_come_is_compared_as_well():
    """A path that only the second run has shows before it takes its first step."""
    runs = count()

    async def late(world: World) -> None:
        await world.y.write_a()

    async def story(world: World) -> None:
        second = next(runs)
        await world.x.read_a()
        await world.x.read_b()
        if second:
            await spawn(late(world), name="late")
        await world.x.read_a()

    with pytest.raises(NondeterminismError) as caught:
        check_determinism(SmallProgram(story), seed=3)
    text = str(caught.value)
    assert "differed at step 2:" in text
    assert "second could also have had main.0/late.0 (write_a of y)" in text


def test_a_run_that_ends_early_has_the_line_before():
    """Where one run goes on and the other has ended, the last step that was the same says where."""
    runs = count()

    async def story(world: World) -> None:
        await world.x.read_a()
        if next(runs):
            raise RuntimeError("second time")
        await world.x.write_a()

    with pytest.raises(NondeterminismError) as caught:
        check_determinism(SmallProgram(story), seed=0)
    text = str(caught.value)
    assert "differed at step 1:" in text
    assert f"the last step that was the same is at {line_of(story, 'read_a')} in story()" in text


async def later_choice(world: World, late: bool) -> None:
    if late:
        await choose(2)
    await world.x.write_a()


async def later_step(world: World, late: bool) -> None:
    await (world.y.read_b() if late else world.x.write_a())
    await world.x.write_a()


async def later_path(world: World, late: bool) -> None:
    await world.x.write_a()
    if late:
        await spawn(world.y.write_b(), name="late")
    await world.x.write_a()


@pytest.mark.parametrize("forgets", [later_choice, later_step, later_path])
@pytest.mark.parametrize("exhaustive", [True, False])
@pytest.mark.parametrize("after", [2, 3, 4, 5])
def test_a_program_that_changes_in_the_middle_is_not_verified(forgets, exhaustive, after):
    """Two runs repeat each other; a later one differs, in a state that was met before or from the first one.

    What has changed may not show in any state that is come to twice, so the first schedule is run again at the end.
    """
    runs = count()

    async def steady(world: World) -> None:
        for _ in range(3):
            await world.x.write_a()

    async def story(world: World) -> None:
        late = next(runs) >= after
        await parallel(steady(world), forgets(world, late))

    program = SmallProgram(story)
    with pytest.raises(NondeterminismError, match=r"went different ways after them|ran twice and differed"):
        list(verify(program) if exhaustive else search_bounded(program, bound=3))


def test_the_policy_of_the_search_is_that_of_the_check():
    """What differs only when timers are early is not refused under quiescent time."""
    runs = count()

    async def nap(world: World) -> None:
        await sleep(10)
        if world.x.a == 0 and next(runs) % 2:
            await world.x.read_b()

    async def story(world: World) -> None:
        await parallel(nap(world), world.x.write_a())

    program = SmallProgram(story)
    for seed in range(20):
        check_determinism(program, seed=seed, time=TimePolicy.QUIESCENT)
    refused = 0
    for seed in range(20):
        try:
            check_determinism(program, seed=seed, time=TimePolicy.ADVERSARIAL)
        except NondeterminismError:
            refused += 1
    assert refused


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_that_repeats_itself_passes_under_every_policy(name):
    """Choices, timers and bugs are in the schedule."""
    for time in (TimePolicy.ADVERSARIAL, TimePolicy.QUIESCENT, TimePolicy.UNTIMED):
        for seed in range(5):
            check_determinism(PROGRAMS[name], seed=seed, time=time)
    assert PROGRAMS[name].sometimes
