"""A search: many executions of one program, and what they found."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count

from slabactors.errors import UnknownName
from slabactors.explore.determinism import check_determinism
from slabactors.explore.finding import signature
from slabactors.explore.program import Program
from slabactors.explore.strategy import STRATEGIES, member_of
from slabactors.runtime.simulated import Strategy
from slabactors.runtime.step import Ending, Outcome, TimePolicy
from slabactors.runtime.tripwires import guarded_search

BLOCK = 256
"""Executions that share one random stream; blocks are numbered, so that any of them can be run anywhere."""

REPORT_SECONDS = 0.1
"""How often a search shows how far it is."""


@dataclass(slots=True)
class Found:
    """One distinct bug.

    Attributes:
        signature: what it is called.
        outcome: of the first execution that showed it.
        record: that execution's choices.
        execution: its number, from 0.
        count: executions that showed it.
        strategy: which one picked the steps of that execution; of a portfolio, the member.
    """

    signature: str
    outcome: Outcome
    record: list[int]
    execution: int
    count: int = 1
    strategy: str = ""


@dataclass(slots=True)
class Share:
    """What one strategy has done of a search; of a portfolio, one member.

    Attributes:
        executions: how many it has played.
        found: in how many of them something broke.
    """

    executions: int = 0
    found: int = 0


@dataclass(slots=True)
class SearchResult:
    """What a search has found so far.

    Attributes:
        executions: how many runs.
        deliveries: how many steps in all.
        seconds: wall time.
        bounded: runs that hit the bound on steps.
        pipelined: runs in which a message could overtake another one by the same sender to another actor.
        found: distinct bugs by signature, in the order in which they were found.
        sometimes: for each sentence of `Program.sometimes`, whether a run has reached it.
        all_reached: whether each was.
        finished: false while it goes on, and when it was interrupted.
        shares: what each strategy has done, by name, in the order of their first turns.
    """

    executions: int = 0
    deliveries: int = 0
    seconds: float = 0.0
    bounded: int = 0
    pipelined: int = 0
    found: dict[str, Found] = field(default_factory=dict)
    sometimes: dict[str, bool] = field(default_factory=dict)
    all_reached: bool = False
    finished: bool = False
    shares: dict[str, Share] = field(default_factory=dict)

    def first_found(self, strategy: str) -> int:
        """How many distinct bugs a strategy was the first to find."""
        return sum(found.strategy == strategy for found in self.found.values())

    @property
    def verdict(self) -> str:
        """``broken``, ``clean``, or ``undetermined``: a bound was hit, or the search is not finished."""
        if self.found:
            return "broken"
        return "clean" if self.finished and not self.bounded else "undetermined"


@guarded_search
def search(
    program: Program,
    *,
    strategy: str = "random",
    seed: int = 0,
    runs: int = 1000,
    seconds: float | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[SearchResult]:
    """Run a program many times; yields one growing result: before the first run, now and then, and at the end.

    Args:
        program: what to run.
        strategy: name of the strategy.
        seed: of the search; the same seed gives the same executions.
        runs: how many executions.
        seconds: stop after so much wall time.
        stop: asked before each run; true ends the search unfinished.

    Raises:
        UnknownName: there is no such strategy.
        NondeterminismError: the program does not repeat itself.
        ForeignCall: it calls what no schedule can repeat.
    """
    if strategy not in STRATEGIES:
        raise UnknownName("strategy", strategy, sorted(STRATEGIES))
    result = SearchResult(sometimes=dict.fromkeys(program.sometimes, False))
    yield result
    check_determinism(program, seed=seed)
    started = reported = time.monotonic()
    for picker in pickers(strategy, seed):
        if result.finished or stop():
            break
        run_once(program, picker, result)
        now = time.monotonic()
        result.seconds = now - started
        result.finished = result.executions >= runs or (seconds is not None and result.seconds >= seconds)
        if now - reported >= REPORT_SECONDS:
            reported = now
            yield result
    yield result


def pickers(strategy: str, seed: int) -> Iterator[Strategy]:
    """What picks the steps of each execution."""
    for block in count():
        picker = STRATEGIES[strategy](f"{seed}/{block}")
        for _ in range(BLOCK):
            yield picker


def run_once(program: Program, picker: Strategy, result: SearchResult, *, time: TimePolicy | None = None) -> None:
    """Run a program once more, and add what came of it to a result."""
    execution = program.execute(picker, time=time)
    outcome = execution.outcome
    number = result.executions
    result.executions += 1
    result.deliveries += outcome.deliveries
    if execution.simulation.pipelined:
        result.pipelined += 1
    member = member_of(picker)
    share = result.shares.get(member)
    if share is None:
        share = result.shares[member] = Share()
    share.executions += 1
    if outcome.bug is not None:
        share.found += 1
        name = signature(outcome)
        known = result.found.get(name)
        if known is None:
            result.found[name] = Found(name, outcome, list(execution.simulation.record), number, strategy=member)
        else:
            known.count += 1
    elif outcome.ending is Ending.BOUND:
        result.bounded += 1
    if not result.all_reached:
        for text, reached in zip(result.sometimes, program.reached(execution), strict=True):
            result.sometimes[text] |= reached
        result.all_reached = all(result.sometimes.values())
    program.dispose(execution)
