"""Happens-before of a run, against a reference that knows the definition alone; and what a causal slice is worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slabactors.actors import Actor, Operation, choose, join, sleep, spawn, tell
from slabactors.explore.replay import replay
from slabactors.explore.strategy import RandomWalk
from slabactors.runtime.history import Event, History, past_of
from slabactors.runtime.simulated import SimPath, Simulation
from slabactors.runtime.step import CHOOSE, CLOCK, WAKE, Decision, TimePolicy
from tests.explore.programs import Box, SmallProgram, World

OPERATIONS = ["read_a", "write_a", "read_b", "write_b", "copy"]

derandomized = settings(
    max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
"""The same examples in every run; what they are worth is said where they are used."""


# -- programs as data --------------------------------------------------------------------------------------------------

an_operation = st.tuples(st.just("op"), st.integers(0, 1), st.sampled_from(OPERATIONS))
a_choice = st.tuples(st.just("choose"), st.integers(2, 3))
a_step = st.one_of(an_operation, an_operation, st.just(("sleep",)), a_choice)


def forking(depth: int) -> Any:
    """Paths that start others side by side and wait for all of them; between any two of those, a step of their own."""
    steps = st.lists(a_step, max_size=3)
    if not depth:
        return steps
    fork = st.tuples(st.just("parallel"), st.lists(forking(depth - 1), min_size=1, max_size=2))
    return st.lists(st.one_of(a_step, fork), max_size=3)


def free(depth: int) -> Any:
    """Paths that start others, and wait for those or for who was started before them, or not, at any time."""
    steps = st.lists(a_step, max_size=3)
    if not depth:
        return steps
    start = st.tuples(st.just("spawn"), free(depth - 1))
    return st.lists(st.one_of(a_step, start, st.just(("join",)), st.just(("join elder",))), max_size=5)


@dataclass
class Reference:
    """What happened, and what before it, by the definition alone.

    Each path carries the set of the events that it knows of: its own, those its starter knew, those that who it has
    waited for knew.  To these a step adds every earlier one that it conflicts with, and all that happened before that.
    """

    events: list[tuple[Actor, Operation, frozenset[int]]] = field(default_factory=list)

    def add(self, known: set[int], actor: Actor, operation: Operation) -> None:
        past = set(known)
        for index, (other, its, before) in enumerate(self.events):
            meets = other is actor and its.footprint.conflicts(operation.footprint)
            if meets or (its.clock and operation.clock):
                past |= before | {index}
        known |= past | {len(self.events)}
        self.events.append((actor, operation, frozenset(past)))

    async def play(self, world: World, instructions: list[Any], known: set[int], elder: Any = None) -> None:
        """A path that does what it is told, and writes down what it knows.

        Args:
            world: the actors.
            instructions: what it does.
            known: the events that it knows of; grows.
            elder: the path started before it by the same one, with the set of what that knows.
        """
        waiting: list[Any] = []
        youngest = None
        for instruction in instructions:
            match instruction:
                case ("op", number, name):
                    box = world.boxes[number]
                    await getattr(box, name)()
                    self.add(known, box, getattr(Box, name).operation)
                case ("sleep",):
                    await sleep(1)
                    self.add(known, CLOCK, WAKE)
                case ("choose", count):
                    await choose(count)
                case ("spawn", child):
                    its = set(known)
                    youngest = await spawn(self.play(world, child, its, youngest), name="child"), its
                    waiting.append(youngest)
                case ("join",) if waiting:
                    await self.wait(world, waiting.pop(0), known)
                case ("join elder",) if elder is not None:
                    await self.wait(world, elder, known)
                case ("parallel", children):
                    tasks = []
                    for child in children:
                        its = set(known)
                        tasks.append((await spawn(self.play(world, child, its), name="child"), its))
                    for task, its in tasks:
                        await join(task)
                        known |= its
                    await world.x.read_b()
                    self.add(known, world.x, Box.read_b.operation)

    async def wait(self, world: World, whom: Any, known: set[int]) -> None:
        """Wait for a path, and take a step as one who has waited."""
        task, its = whom
        await join(task)
        known |= its
        await world.x.read_b()
        self.add(known, world.x, Box.read_b.operation)


def run(instructions: list[Any], seed: int) -> tuple[History, Reference]:
    """Run a program once, watched by both."""
    history, reference = History(), Reference()

    def story(world: World) -> Any:
        return reference.play(world, instructions, set())

    outcome = SmallProgram(story).execute(RandomWalk(seed), observer=history).outcome
    assert outcome.bug is None
    return history, reference


def pasts(history: History) -> list[set[int]]:
    """What happened before each event, as the history has it."""
    return [set(past_of(history.events, event.index)) - {event.index} for event in history.events]


# -- against the reference ---------------------------------------------------------------------------------------------


@derandomized
@given(forking(2), st.integers(0, 3))
def test_the_past_of_a_step_is_what_the_definition_says(instructions, seed):
    """No event too many and none too few, for programs that fork and wait."""
    history, reference = run(instructions, seed)
    assert [(event.actor, event.operation) for event in history.events] == [one[:2] for one in reference.events]
    assert pasts(history) == [set(before) for _, _, before in reference.events]


@derandomized
@given(free(2), st.integers(0, 3))
def test_the_past_of_a_step_is_what_the_definition_says_of_any_program(instructions, seed):
    """No event too many and none too few, whoever waits for whom and when."""
    history, reference = run(instructions, seed)
    assert pasts(history) == [set(before) for _, _, before in reference.events]


@derandomized
@given(forking(2), st.integers(0, 3))
def test_the_past_is_closed(instructions, seed):
    """What happened before something that happened before a step happened before that step."""
    history, _ = run(instructions, seed)
    before = pasts(history)
    for event, past in zip(history.events, before, strict=True):
        assert past == set().union(*({cause} | before[cause] for cause in event.causes))
        assert set(event.conflicts) <= set(event.causes) <= past
        assert all(index < event.index for index in past)


# -- what it is good for -----------------------------------------------------------------------------------------------


def schedule(history: History, indices: list[int]) -> list[Decision]:
    """Some events of a run as a schedule."""

    def chosen(made: Any) -> list[Decision]:
        return [Decision(path.key, CHOOSE, "", value) for path, value in made]

    decisions = chosen(history.initial_choices)
    for index in indices:
        event = history.events[index]
        decisions.append(Decision(event.path.key, event.operation.name, event.actor.name))
        decisions += chosen(event.choices)
    return decisions


def facts(event: Event) -> tuple[Any, ...]:
    """What a step did, told without its place in the run."""
    return event.path.key, event.actor.name, event.operation.name, event.args, event.reply


@derandomized
@given(forking(2), st.integers(0, 3))
def test_a_causal_slice_is_the_beginning_of_a_run(instructions, seed):
    """The past of any step can be replayed without the rest, and every step of it replies as it did."""
    history, _ = run(instructions, seed)
    program = SmallProgram(lambda world: Reference().play(world, instructions, set()))
    for event in history.events:
        indices = past_of(history.events, event.index)
        again = History()
        replay(program, schedule(history, indices), observer=again)
        assert [facts(one) for one in again.events[: len(indices)]] == [facts(history.events[one]) for one in indices]


@derandomized
@given(forking(2), st.integers(0, 3), st.randoms(use_true_random=False))
def test_steps_that_do_not_depend_on_each_other_may_be_swapped(instructions, seed, random):
    """Any order that keeps what happened before what is a run, too, in which every step replies as it did."""
    history, _ = run(instructions, seed)
    before = pasts(history)
    left, order = set(range(len(before))), []
    while left:
        ready = sorted(index for index in left if not before[index] & left)
        order.append(random.choice(ready))
        left.remove(order[-1])
    again = History()
    replay(
        SmallProgram(lambda world: Reference().play(world, instructions, set())),
        schedule(history, order),
        observer=again,
    )
    assert [facts(one) for one in again.events[: len(order)]] == [facts(history.events[one]) for one in order]


# -- by hand -----------------------------------------------------------------------------------------------------------


class Turns(RandomWalk):
    """Paths in a given order, by their keys; then any."""

    def __init__(self, keys: list[str]) -> None:
        super().__init__(0)
        self.keys = list(keys)

    def pick(self, enabled: Sequence[SimPath]) -> SimPath:
        if not self.keys:
            return super().pick(enabled)
        wanted = self.keys.pop(0)
        return next(path for path in enabled if path.key == wanted)


def watched(story: Any, strategy: RandomWalk | None = None) -> list[Event]:
    """The events of one run of a story."""
    history = History()
    simulation = Simulation(strategy or RandomWalk(0), time=TimePolicy.QUIESCENT, observer=history)
    history.follow(simulation)
    assert simulation.run(story(World(simulation.clock))).bug is None
    return history.events


def names(events: list[Event], index: int) -> list[str]:
    """What happened before an event, in words."""
    return [f"{events[one].actor.name}.{events[one].operation.name}" for one in sorted(past_of(events, index))][:-1]


def test_freeing_depends_on_everything_that_touched_the_object():
    """Whatever came to an object before it was freed came before that, readers of other variables too."""

    async def story(world: World) -> None:
        await world.x.read_a()
        await world.y.write_a()
        await tell(world.x.read_b())
        await sleep(1)
        await spawn(world.x.free())

    events = watched(story)
    free_at = next(event.index for event in events if event.operation.name == "free")
    assert {"x.read_a", "x.read_b"} <= set(names(events, free_at))


def test_a_timer_depends_on_who_armed_it():
    """An alarm goes off after it was set, and who looks whether it has looks after that."""

    async def story(world: World) -> None:
        await world.alarm.set(5)
        await spawn(world.y.write_a())
        await sleep(10)
        await world.alarm.has_rung()

    events = watched(story)
    expired = next(event.index for event in events if event.operation.name == "expire")
    assert names(events, expired) == ["alarm.set"]
    assert "alarm.expire" in names(events, len(events) - 1)
    assert "y.write_a" not in names(events, expired)


def test_who_is_started_after_a_wait_comes_after_what_was_waited_for():
    """A path is started by one who has waited, with no step between the wait and the start."""

    async def story(world: World) -> None:
        first = await spawn(world.x.write_a())
        await sleep(1)
        await join(first)
        await spawn(world.y.write_a())

    events = watched(story)
    started = next(event.index for event in events if event.actor.name == "y")
    assert names(events, started) == ["x.write_a", "clock.wake"]


def test_a_path_that_is_locked_out_by_the_next_step_was_preempted():
    """It could have gone on until the other one took the lock that it was about to take."""

    async def story(world: World) -> None:
        async def locker() -> None:
            await world.y.read_a()
            await world.x.lock()
            await world.x.unlock()

        for _ in range(2):
            await spawn(locker())

    turns = ["main.0/locker.0", "main.0/locker.1", "main.0/locker.0"]
    first, second, lock = watched(story, Turns(turns))[:3]
    assert [event.path.key for event in (first, second, lock)] == turns
    assert lock.preempts
    assert not first.preempts


def test_readers_do_not_depend_on_each_other():
    """Two paths that only read the same variable have nothing to do with each other."""

    async def story(world: World) -> None:
        for _ in range(2):
            await spawn(world.x.read_a())

    first, second = watched(story)
    assert (first.causes, second.causes) == ([], [])


def test_the_reference_tells_a_conflict_from_none():
    """The reference itself: a write comes after a read of the same variable, and not after one of another."""
    reference = Reference()
    x, known_by_a, known_by_b = Box("x"), set(), set()
    reference.add(known_by_a, x, Box.read_a.operation)
    reference.add(known_by_b, x, Box.write_b.operation)
    reference.add(known_by_b, x, Box.write_a.operation)
    assert [set(before) for _, _, before in reference.events] == [set(), set(), {0, 1}]
