"""Programs whose states are hard to tell apart: the search by states says what the search by traces says."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from enum import IntFlag
from typing import Any, NamedTuple

import pytest

from slabactors.actors import Actor, Clock, Timed, choose, operation, parallel, sleep
from slabactors.errors import KernelBug, Kind
from slabactors.explore.program import Execution, prepared
from slabactors.explore.verify import verify
from slabactors.runtime.simulated import Simulation
from slabactors.runtime.step import TimePolicy


def broken(clause: str) -> KernelBug:
    return KernelBug(Kind.PROPERTY, clause, clause=clause)


class Story:
    """A program of one path."""

    sometimes = ()

    def __init__(self, main: Callable[[Clock], Coroutine[Any, Any, Any]], at_rest=None, **options: Any) -> None:
        self.main = main
        self.at_rest = at_rest
        self.options = {"time": TimePolicy.QUIESCENT, **options}

    def execute(self, strategy, *, observer=None, time=None, driver=Simulation) -> Execution:
        options = self.options if time is None else {**self.options, "time": time}
        simulation = prepared(driver, strategy, observer, **options)
        return Execution(simulation, simulation.run(self.main(simulation.clock), at_rest=self.at_rest), None)

    def reached(self, execution: Execution) -> list[bool]:
        return []

    def dispose(self, execution: Execution) -> None:
        pass


class Thing(Actor):
    """Holds a value, and an attribute that only its class has at first."""

    count = 0

    def __init__(self, name: str, value: Any = 0) -> None:
        super().__init__(name)
        self.value = value

    @operation
    def put(self, value: Any) -> None:
        """``put``."""
        self.value = value

    @operation
    def get(self) -> Any:
        """``get``."""
        return self.value

    @operation
    def increase(self) -> None:
        """``++count``."""
        self.count += 1

    @operation
    def twice(self) -> bool:
        """``count == 2``."""
        return self.count == 2


class Alarm(Timed):
    """Goes off, and says when."""

    rang = False

    @operation(clock=True)
    def set(self, jiffies: int) -> None:
        """``mod_timer``."""
        self.deadline = self.clock.now + jiffies

    @operation(clock=True)
    def stop(self) -> None:
        """``del_timer``."""
        self.deadline = None

    @operation(clock=True)
    def expire(self) -> None:
        """``expires``."""
        self.deadline = None
        self.rang = True

    @operation(clock=True, reads="rang")
    def has_rung(self) -> bool:
        """``rang``."""
        return self.rang

    @operation(clock=True)
    def is_late(self) -> bool:
        """``time_after(jiffies, 10)``."""
        return self.clock.now > 10


class Periodic(Alarm):
    """Sets itself again."""

    @operation(clock=True)
    def expire(self) -> None:
        """``expires``."""
        self.deadline = self.clock.now + 1


class Good(NamedTuple):
    value: int


class Bad(NamedTuple):
    value: int


class Letter(IntFlag):
    A = 1


class Own(int):
    pass


class Pile(list):
    mark = 0


def never(_: Any = None) -> None:
    raise broken("at rest")


async def class_attribute(clock: Clock) -> None:
    thing = Thing("thing")

    async def looks() -> None:
        if await thing.twice():
            raise broken("twice")

    await parallel(thing.increase(), thing.increase(), looks())


async def named_tuples(clock: Clock) -> None:
    thing = Thing("thing", Good(1))

    async def looks() -> None:
        if isinstance(await thing.get(), Bad):
            raise broken("bad")

    await parallel(thing.put(Bad(1)), looks())


async def time_of_day(clock: Clock) -> None:
    alarm = Alarm("alarm", clock)
    await sleep(20 if await choose(2) == 0 else 5)
    if not await alarm.is_late():
        raise broken("early")


async def early_firings(clock: Clock) -> None:
    alarm = Alarm("alarm", clock)
    if await choose(2) == 0:
        await alarm.set(7)
        await alarm.stop()
    await alarm.set(5)
    if await alarm.has_rung():
        raise broken("rang early")


def differing(
    make: Callable[[int], Any], differs: Callable[[Any], bool]
) -> Callable[[Clock], Coroutine[Any, Any, Any]]:
    """A path that holds one of two values that are easily taken for one another."""

    async def main(clock: Clock) -> None:
        held = make(await choose(2))
        await Thing("thing").get()
        if differs(held):
            raise broken("seen")

    return main


def marked(number: int) -> Pile:
    pile = Pile()
    pile.mark = number
    return pile


def with_default(number: int) -> Callable[[], int]:
    def function(value: int = number) -> int:
        return value

    return function


STORIES = {
    "an attribute of the class": Story(class_attribute),
    "tuples of two kinds": Story(named_tuples),
    "the time of day": Story(time_of_day),
    "how often a timer was set": Story(early_firings, time=TimePolicy.ADVERSARIAL),
    "an int of its own class": Story(differing(Own, lambda number: number == 1)),
    "what an exception was given": Story(differing(ValueError, lambda error: error.args == (1,))),
    "an attribute of a list": Story(differing(marked, lambda pile: pile.mark == 1)),
    "a function's default": Story(differing(with_default, lambda function: function() == 1)),
    "how long a deque may be": Story(differing(lambda n: deque(maxlen=n + 1), lambda one: one.maxlen == 2)),
    "flags without a name": Story(differing(lambda n: Letter(8 << n), lambda flag: flag == Letter(16))),
    "what a method is bound to": Story(differing(lambda n: [n].count, lambda method: method(1) == 1)),
}


@pytest.mark.parametrize("name", STORIES)
def test_what_makes_a_difference_later_is_a_different_state(name: str) -> None:
    """Broken in one of its states; that state is not taken for the other one."""
    found = {}
    for search in ("dpor", "states", "auto"):
        *_, result = verify(STORIES[name], search=search)
        assert result.exhaustive
        found[search] = set(result.found)
    assert found["dpor"]
    assert found["states"] == found["auto"] == found["dpor"]


@pytest.mark.parametrize("search", ["dpor", "states"])
def test_a_run_that_is_cut_while_the_machine_settles_proves_nothing(search: str) -> None:
    """A timer that sets itself again outlasts the bound on steps: nobody has looked at the machine at rest."""

    async def main(clock: Clock) -> None:
        await Periodic("alarm", clock).set(1)

    *_, cut = verify(Story(main, never, settle_jiffies=100, steps_max=50), search=search)
    assert (cut.verdict, cut.exhaustive) == ("undetermined", False)
    *_, whole = verify(Story(main, never, settle_jiffies=100, steps_max=500), search=search)
    assert whole.verdict == "broken"


@pytest.mark.parametrize("search", ["dpor", "states"])
def test_timers_are_no_reason_not_to_look_at_the_end(search: str) -> None:
    """The story is over, and a timer is armed for ever: what looks at the end is asked all the same."""

    async def main(clock: Clock) -> None:
        await Periodic("alarm", clock).set(1)

    *_, result = verify(Story(main, never), search=search)
    assert result.verdict == "broken"
