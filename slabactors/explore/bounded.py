"""Search by the number of preemptions: all schedules with none, then all with one ... so the first failure has fewest.

A preemption is a switch away from a path that could have gone on, or a timer that fires while one could have; switches
at which the path waits or ends are free.  Nothing is reduced: it is for small bounds, and for the proof that a bug
needs as many preemptions as it is found with.
"""

from __future__ import annotations

import time as wall
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from slabactors.explore.campaign import REPORT_SECONDS, SearchResult, run_once
from slabactors.explore.determinism import check_determinism, not_repeated
from slabactors.explore.program import Program
from slabactors.runtime.simulated import SimPath, Simulation
from slabactors.runtime.step import TimePolicy
from slabactors.runtime.tripwires import guarded_search


@dataclass(slots=True)
class _Choice:
    """One point of the schedule under way: what could be picked there, cheapest first, and what is."""

    options: list[int]
    costs: list[int]
    met: tuple[object, ...]
    """What there was to choose from when it was first come to: paths with their operations, or how many values."""
    index: int = 0


class PreemptionBounded:
    """Every schedule with at most so many preemptions, one run each, in a fixed order.

    Args:
        bound: how many.

    Attributes:
        cut: some schedule would have needed more.
    """

    name = "preemption-bounded"

    def __init__(self, bound: int) -> None:
        self.bound = bound
        self.cut = False
        self._stack: list[_Choice] = []
        self._position = 0
        self._spent = 0
        self._simulation: Simulation | None = None

    def follow(self, simulation: Simulation) -> None:
        """The run that is about to start."""
        self._simulation = simulation
        self._position = 0
        self._spent = 0

    def pick(self, enabled: Sequence[SimPath]) -> SimPath:
        """The path of this schedule."""
        simulation = self._simulation
        assert simulation is not None
        last = next((number for number in reversed(simulation.record) if number >= 0), None)
        met = tuple((path.id, path.request[0].name) for path in enabled)
        if self._position == len(self._stack):
            running = any(path.id == last and path.deadline is None for path in enabled)  # a sleeper waits for time
            order = sorted(enabled, key=lambda path: (path.id != last, path.id))
            costs = [int(running and path.id != last) for path in order]
            affordable = sum(self._spent + cost <= self.bound for cost in costs)
            self.cut = self.cut or affordable < len(order)
            self._stack.append(_Choice([path.id for path in order[:affordable]], costs[:affordable], met))
        choice = self._next(met)
        chosen = choice.options[choice.index]
        return next(path for path in enabled if path.id == chosen)

    def choose(self, count: int) -> int:
        """The value of this schedule; every value costs nothing."""
        if self._position == len(self._stack):
            self._stack.append(_Choice(list(range(count)), [0] * count, (count,)))
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


@dataclass(slots=True)
class BoundedResult:
    """How far a search by preemptions has come.

    Attributes:
        result: executions and what was found, in all.
        bound: the bound under way, or the last one.
        first_bound: for each signature, the bound at which it was found: no schedule with fewer preemptions shows it.
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
    preemptions: int,
    time: TimePolicy | None = None,
    runs: int | None = None,
    seconds: float | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[BoundedResult]:
    """Explore bound after bound; yields the growing result now and then, and at the end.

    Args:
        program: what to run.
        preemptions: the largest bound.
        time: overrides the program's own policy.
        runs: give up after so many executions.
        seconds: give up after so much wall time.
        stop: asked between two executions; give up when it says so.

    Raises:
        NondeterminismError: the program does not repeat itself.
        ForeignCall: it calls what no schedule can repeat.
    """
    first = check_determinism(program, seed=0, time=time)
    found = BoundedResult(SearchResult(sometimes=dict.fromkeys(program.sometimes, False)))
    result = found.result
    started = reported = wall.monotonic()
    for bound in range(preemptions + 1):
        found.bound = bound
        strategy = PreemptionBounded(bound)
        while True:
            run_once(program, strategy, result, time=time)
            for name in result.found:
                found.first_bound.setdefault(name, bound)
            now = wall.monotonic()
            result.seconds = now - started
            if now - reported >= REPORT_SECONDS:
                reported = now
                yield found
            if not strategy.advance():
                break
            late = seconds is not None and result.seconds >= seconds
            if late or (runs is not None and result.executions >= runs) or stop():
                yield found
                return
        found.exhausted = bound
        found.complete = not strategy.cut
        if found.complete:
            break
    first.repeat()
    result.finished = True
    yield found
