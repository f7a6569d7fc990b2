"""Search within a bound: all schedules that cost nothing, then all that cost one ... so the first failure is cheapest.

What costs is a departure from what a plain scheduler would do.  By *preemptions*: a switch away from a path that could
have gone on, or a timer that fires while one could have; switches at which the path waits or ends are free.
By *delays*: the plain scheduler goes round in the order of age and leaves a path only when it waits or ends; each path
that is passed over costs one, also there.  Nothing is reduced: it is for small bounds, and for the proof that a bug
needs as much as it is found with.
"""

from __future__ import annotations

import time as wall
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter

from slabactors.explore.campaign import REPORT_SECONDS, SearchResult, run_once
from slabactors.explore.determinism import check_determinism, not_repeated
from slabactors.explore.program import Program
from slabactors.runtime.simulated import SimPath, Simulation
from slabactors.runtime.step import TimePolicy
from slabactors.runtime.tripwires import guarded_search


@dataclass(slots=True)
class _Choice:
    """One point of the schedule under way: what could be picked there, cheapest first, and what is."""

    options: Sequence[int]
    costs: Sequence[int]
    met: tuple[object, ...]
    """What there was to choose from when it was first come to: paths with their operations, or how many values."""
    index: int = 0


class Bounded:
    """Every schedule that costs at most so much, one run each, in a fixed order.

    Args:
        bound: how much.

    Attributes:
        cut: some schedule would have cost more.
    """

    name = "bounded"
    unit = ""
    """What one is called that costs one."""

    def __init__(self, bound: int) -> None:
        self.bound = bound
        self.cut = False
        self._stack: list[_Choice] = []
        self._position = 0
        self._spent = 0
        self._simulation: Simulation | None = None

    @staticmethod
    def options(enabled: Sequence[SimPath], last: int) -> tuple[list[SimPath], list[int]]:
        """Who could be next, cheapest first, with what each costs.

        Args:
            enabled: who could.
            last: number of the path that took the step before; -1 when there is none.
        """
        raise NotImplementedError

    def follow(self, simulation: Simulation) -> None:
        """The run that is about to start."""
        self._simulation = simulation
        self._position = 0
        self._spent = 0

    def pick(self, enabled: Sequence[SimPath]) -> SimPath:
        """The path of this schedule."""
        simulation = self._simulation
        assert simulation is not None
        met = tuple([(path.id, path.request[0].name) for path in enabled])
        if self._position == len(self._stack):
            self._stack.append(self._affordable(enabled, simulation.record, met))
        choice = self._next(met)
        return simulation.paths[choice.options[choice.index]]

    def _affordable(self, enabled: Sequence[SimPath], record: Sequence[int], met: tuple[object, ...]) -> _Choice:
        position = len(record) - 1
        while position >= 0 and record[position] < 0:  # values that were chosen since
            position -= 1
        paths, costs = self.options(enabled, record[position] if position >= 0 else -1)
        left = self.bound - self._spent
        affordable = sum(cost <= left for cost in costs)
        self.cut = self.cut or affordable < len(costs)
        return _Choice([path.id for path in paths[:affordable]], costs[:affordable], met)

    def choose(self, count: int) -> int:
        """The value of this schedule; every value costs nothing."""
        if self._position == len(self._stack):
            self._stack.append(_Choice(range(count), [0] * count, (count,)))
        choice = self._next((count,))
        return choice.options[choice.index]

    def _next(self, met: tuple[object, ...]) -> _Choice:
        choice = self._stack[self._position]
        if choice.met != met:
            raise not_repeated(self._position)
        self._position += 1
        self._spent += choice.costs[choice.index]
        return choice

    def advance(self) -> bool:
        """On to the next schedule; false when there is none."""
        while self._stack:
            choice = self._stack[-1]
            if choice.index + 1 < len(choice.options):
                choice.index += 1
                return True
            self._stack.pop()
        return False


class PreemptionBounded(Bounded):
    """Every schedule with at most so many preemptions."""

    name = "preemption-bounded"
    unit = "preemption"

    @staticmethod
    def options(enabled: Sequence[SimPath], last: int) -> tuple[list[SimPath], list[int]]:
        """Who took the last step goes on; whoever else costs one, unless it cannot.

        A path that sleeps has given up the CPU, also where its timer may fire early.
        """
        order = sorted(enabled, key=lambda path: (path.id != last, path.id))
        running = order[0].id == last and order[0].deadline is None
        return order, [0, *[int(running)] * (len(order) - 1)]


class DelayBounded(Bounded):
    """Every schedule with at most so many delays."""

    name = "delay-bounded"
    unit = "delay"

    @staticmethod
    def options(enabled: Sequence[SimPath], last: int) -> tuple[list[SimPath], list[int]]:
        """Who took the last step goes on, or the next in the round; each that is passed over costs one."""
        order = sorted(enabled, key=attrgetter("id"))
        first = next((index for index, path in enumerate(order) if path.id >= last), 0)
        return order[first:] + order[:first], list(range(len(order)))


@dataclass(slots=True)
class BoundedResult:
    """How far a search within bounds has come.

    Attributes:
        result: executions and what was found, in all.
        bound: the bound under way, or the last one.
        first_bound: for each signature, the bound at which it was found: no cheaper schedule shows it.
        exhausted: the last bound that was explored to its end; -1 for none.
        complete: no schedule was cut by that bound: those were all there are.
    """

    result: SearchResult
    bound: int = 0
    first_bound: dict[str, int] = field(default_factory=dict)
    exhausted: int = -1
    complete: bool = False

    @property
    def verdict(self) -> str:
        """``broken``, ``verified`` when there are no more schedules, else ``undetermined``."""
        if self.result.found:
            return "broken"
        return "verified" if self.complete and not self.result.bounded else "undetermined"


@guarded_search
def search_bounded(
    program: Program,
    *,
    bound: int,
    by: type[Bounded] = PreemptionBounded,
    time: TimePolicy | None = None,
    runs: int | None = None,
    seconds: float | None = None,
    stop: Callable[[], bool] = lambda: False,
    wanted: Callable[[str], bool] | None = None,
) -> Iterator[BoundedResult]:
    """Explore bound after bound; yields the growing result now and then, and at the end.

    Args:
        program: what to run.
        bound: the largest one.
        by: what costs.
        time: overrides the program's own policy.
        runs: give up after so many executions.
        seconds: give up after so much wall time.
        stop: asked between two executions; give up when it says so.
        wanted: whether to give up once a bug of this signature was found: none cheaper shows any such.

    Raises:
        NondeterminismError: the program does not repeat itself.
        ForeignCall: it calls what no schedule can repeat.
    """
    first = check_determinism(program, seed=0, time=time)
    found = BoundedResult(SearchResult(sometimes=dict.fromkeys(program.sometimes, False)))
    result = found.result
    started = reported = wall.monotonic()
    for under_way in range(bound + 1):
        found.bound = under_way
        strategy = by(under_way)
        while True:
            run_once(program, strategy, result, time=time)
            for name in result.found:
                found.first_bound.setdefault(name, under_way)
            now = wall.monotonic()
            result.seconds = now - started
            if now - reported >= REPORT_SECONDS:
                reported = now
                yield found
            if wanted is not None and any(map(wanted, result.found)):
                yield found
                return
            if not strategy.advance():
                break
            late = seconds is not None and result.seconds >= seconds
            if late or (runs is not None and result.executions >= runs) or stop():
                yield found
                return
        found.exhausted = under_way
        found.complete = not strategy.cut
        if found.complete:
            break
    first.repeat()
    result.finished = True
    yield found
