"""Exhaustive search of a program: everything it can do, and every distinct bug with a schedule for it.

Two ways: by traces (`slabactors.explore.dpor`: one execution for all orders that differ in independent steps only), and
by states (`slabactors.explore.packed` for programs of plain values, `slabactors.explore.states` for all others: every
step from every state once, however many ways lead there).  Which of them is shorter depends on the program, and can
differ by orders of magnitude; so both are tried in turn, a little longer each time, until one of them is through.
"""

from __future__ import annotations

import time as wall
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, Protocol

from slabactors.errors import UnknownName
from slabactors.explore.by_states import ByStates
from slabactors.explore.by_traces import ByTraces
from slabactors.explore.determinism import check_determinism
from slabactors.explore.dpor import Statistics
from slabactors.explore.fingerprint import NoFingerprint
from slabactors.explore.program import Program
from slabactors.explore.proved import Proved
from slabactors.runtime.step import TimePolicy
from slabactors.runtime.tripwires import guarded_search

__all__ = ["Verification", "Way", "verify"]

FIRST_TURN: Final = 300_000
"""Effort of each way's first turn: about as many steps of the search by traces; each later turn is twice as long."""

LOOK_SECONDS: Final = 0.5
"""After so much wall time the clock is looked at, however few executions there have been."""

SEARCHES: Final = ("auto", "dpor", "states")


class Way(Protocol):
    """One way of searching everything."""

    name: str
    statistics: Statistics
    found: dict[str, Proved]
    sometimes: dict[str, bool]
    bounded: int
    endless: int
    pipelined: int
    held_back: bool
    states: int
    transitions: int
    calls_between_looks: int
    """How often it goes on between two looks at the clock."""

    @property
    def effort(self) -> float:
        """How much work it has done, in steps of the search by traces."""
        ...

    @property
    def cut(self) -> bool:
        """Whether it has given up within a run, and must not go on."""
        ...

    def go_on(self) -> bool:
        """Do a little more; false when nothing is left."""
        ...

    def progress(self) -> float:
        """An estimate of the explored share, from 0 to 1."""
        ...


@dataclass(slots=True)
class Verification:
    """How far an exhaustive search has come.

    Attributes:
        statistics: executions, blocked ones, probes, deliveries, depth.
        search: the way that it is about: ``dpor``, ``states`` or ``tables``.
        states: distinct states seen, in a search by states.
        transitions: steps taken from them.
        seconds: wall time.
        found: distinct bugs by signature, in the order in which they were found.
        sometimes: which sentences of `Program.sometimes` were reached.
        bounded: executions that hit the bound on steps.
        endless: from how many states no order of steps comes to an end; known when the search was by states.
        pipelined: executions in which a message could overtake another one by the same sender to another actor.
        held_back: in some execution a timer had used up its early firings.
        exhaustive: everything was explored, and no bound on steps was hit.
        finished: nothing more will come.
        progress: an estimate of the explored share, from 0 to 1.
        tried: executions and states of each way that was tried.
    """

    statistics: Statistics
    search: str = "dpor"
    states: int = 0
    transitions: int = 0
    seconds: float = 0.0
    found: dict[str, Proved] = field(default_factory=dict)
    sometimes: dict[str, bool] = field(default_factory=dict)
    bounded: int = 0
    endless: int = 0
    pipelined: int = 0
    held_back: bool = False
    exhaustive: bool = False
    finished: bool = False
    progress: float = 0.0
    tried: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """``broken``, ``verified``, or ``undetermined``."""
        if self.found:
            return "broken"
        return "verified" if self.exhaustive else "undetermined"

    def take(self, way: Way) -> None:
        """Be about a way as far as it has come."""
        self.search = way.name
        self.statistics = way.statistics
        self.states, self.transitions = way.states, way.transitions
        self.found = way.found
        self.sometimes = way.sometimes
        self.endless = way.endless
        self.bounded, self.held_back, self.pipelined = way.bounded, way.held_back, way.pipelined
        self.progress = way.progress()


@guarded_search
def verify(
    program: Program,
    *,
    time: TimePolicy | None = None,
    search: str = "dpor",
    symmetry: bool = True,
    runs: int | None = None,
    seconds: float | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Verification]:
    """Explore everything that a program can do; yields the growing result now and then, and when it is done.

    Args:
        program: what to run.
        time: overrides the program's own policy.
        search: ``dpor`` by traces, ``states`` by states, ``auto`` for both in turn until one is through.
        symmetry: in a search by states, take interchangeable paths for one another.
        runs: give up after so many executions.
        seconds: give up after so much wall time.
        stop: asked between two executions; give up when it says so.

    Raises:
        UnknownName: there is no such search.
        NoFingerprint: the states of the program cannot be told apart.
        NondeterminismError: the program does not repeat itself.
        ForeignCall: it calls what no schedule can repeat.
    """
    if search not in SEARCHES:
        raise UnknownName("search", search, list(SEARCHES))
    first = check_determinism(program, seed=0, time=time)
    started = wall.monotonic()

    def late() -> bool:
        return stop() or (seconds is not None and wall.monotonic() - started >= seconds)

    ways: list[Way] = []
    if search != "states":
        ways.append(ByTraces(program, time, late=late))
    if search != "dpor":
        ways.append(ByStates(program, time, symmetry=symmetry))
    result = Verification(ways[0].statistics)
    turn = FIRST_TURN if len(ways) > 1 else float("inf")
    while not result.finished:
        for way in list(ways):
            try:
                for _ in _turn(way, turn, result, started, stop):
                    executions = sum(one.statistics.executions for one in ways)
                    if result.exhaustive:
                        first.repeat()
                    if way.cut or late() or (runs is not None and executions >= runs):
                        result.finished = True
                    _sum_up(result, way, ways)
                    yield result
                    if result.finished or stop():
                        return
            except NoFingerprint:
                if len(ways) == 1:
                    raise
                ways.remove(way)  # the other one goes on alone, and knows what this one has found
                for name, bug in way.found.items():
                    ways[0].found.setdefault(name, bug)
        turn = turn * 2 if len(ways) > 1 else float("inf")


def _turn(way: Way, turn: float, result: Verification, started: float, stop: Callable[[], bool]) -> Iterator[None]:
    """Let a way go on until it has had its turn, and look at the clock now and then."""
    count = 0
    until = way.effort + turn
    looked = wall.monotonic()
    while way.effort < until:
        more = way.go_on()
        count += 1
        now = wall.monotonic()
        if not more:
            result.finished = True
            result.exhaustive = not (way.bounded or way.endless)
        if way.bounded and turn != float("inf"):
            until = way.effort  # it will prove nothing any more, so the other one is to go on
        if not more or now - looked >= LOOK_SECONDS or count % way.calls_between_looks == 0 or way.cut or stop():
            looked = now
            result.seconds = now - started
            yield
            if not more or stop():
                return


def _sum_up(result: Verification, way: Way, ways: list[Way]) -> None:
    """The result is that of the way that is through; while none is, that of the first, with what all have seen."""
    result.take(way if result.exhaustive else ways[0])
    # Another way may have met a bug that this one calls otherwise: whatever was found is there.
    result.found = dict(result.found)
    for one in ways:
        for name, bug in one.found.items():
            result.found.setdefault(name, bug)
    if result.exhaustive:
        result.progress = 1.0
    else:
        result.sometimes = {text: any(one.sometimes[text] for one in ways) for text in way.sometimes}
        result.bounded = sum(one.bounded for one in ways)
        result.endless = sum(one.endless for one in ways)
        result.held_back = any(one.held_back for one in ways)
        result.progress = max(one.progress() for one in ways)
    if len(ways) > 1:
        result.tried = {
            one.name: {"executions": one.statistics.executions, "states": one.states} for one in ways if one.effort
        }
