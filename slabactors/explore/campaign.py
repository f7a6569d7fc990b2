"""A search: many executions of one program, and what they found.

Executions come in numbered blocks, each with a random stream of its own.  A block is the unit of work: any of them can
be run anywhere, in any order and again, and what they found adds up to the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace
from itertools import count
from typing import Final

from slabactors.errors import Kind, UnknownName
from slabactors.explore.determinism import check_determinism
from slabactors.explore.finding import signature
from slabactors.explore.program import Program
from slabactors.explore.strategy import STRATEGIES, member_of
from slabactors.runtime.simulated import Strategy
from slabactors.runtime.step import Ending, TimePolicy
from slabactors.runtime.tripwires import guarded_search

BLOCK: Final = 256
"""Executions that share one random stream."""

REPORT_SECONDS: Final = 0.1
"""How often a search shows how far it is."""


@dataclass(slots=True)
class Found:
    """One distinct bug.

    Attributes:
        signature: what it is called.
        record: the choices of the first execution that showed it.
        execution: the number of that execution, from 0.
        count: executions that showed it.
        strategy: which one picked the steps of that execution; of a portfolio, the member.
    """

    signature: str
    record: list[int]
    execution: int
    count: int = 1
    strategy: str = ""

    @property
    def kind(self) -> Kind:
        """The class of bug; a signature begins with it."""
        return Kind(self.signature.partition(":")[0])


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
    """What a search, or a part of one, has found so far; plain data, so that it can be sent and kept.

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
        begin: the number of its first execution.
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
    begin: int = 0

    def first_found(self, strategy: str) -> int:
        """How many distinct bugs a strategy was the first to find."""
        return sum(found.strategy == strategy for found in self.found.values())

    @property
    def verdict(self) -> str:
        """``broken``, ``clean``, or ``undetermined``: a bound was hit, or the search is not finished."""
        if self.found:
            return "broken"
        return "clean" if self.finished and not self.bounded else "undetermined"

    def add(self, part: SearchResult) -> None:
        """Count a part in; the sum is the same in whatever order parts come."""
        self.executions += part.executions
        self.deliveries += part.deliveries
        self.bounded += part.bounded
        self.pipelined += part.pipelined
        for name, share in part.shares.items():
            known_share = self.shares.setdefault(name, Share())
            known_share.executions += share.executions
            known_share.found += share.found
        for name, other in part.found.items():
            known = self.found.get(name)
            if known is None:
                self.found[name] = replace(other)
            else:
                first = min(known, other, key=lambda one: one.execution)
                self.found[name] = replace(first, count=known.count + other.count)
        if part.found:
            self.found = dict(sorted(self.found.items(), key=lambda item: item[1].execution))
        for text, reached in part.sometimes.items():
            self.sometimes[text] = self.sometimes.get(text, False) or reached
        self.all_reached = all(self.sometimes.values())

    def show(self, *parts: SearchResult) -> None:
        """Become the sum of some parts; how long it took and whether it is finished stay as they are."""
        total = SearchResult(seconds=self.seconds, finished=self.finished, begin=self.begin)
        for part in parts:
            total.add(part)
        for one in fields(self):
            setattr(self, one.name, getattr(total, one.name))


def nothing_yet(program: Program, begin: int = 0) -> SearchResult:
    """The result of a search that has not run anything."""
    return SearchResult(sometimes=dict.fromkeys(program.sometimes, False), begin=begin)


@dataclass(frozen=True, slots=True)
class Plan:
    """Which executions a search makes.

    Attributes:
        strategy: name of the strategy.
        seed: of the search; the same seed gives the same executions.
        runs: how many executions.

    Raises:
        UnknownName: there is no such strategy.
    """

    strategy: str
    seed: int
    runs: int

    def __post_init__(self) -> None:
        if self.strategy not in STRATEGIES:
            raise UnknownName("strategy", self.strategy, sorted(STRATEGIES))

    @property
    def blocks(self) -> int:
        """How many blocks there are; the last one may be short."""
        return -(-self.runs // BLOCK)

    def size(self, block: int) -> int:
        """How many executions a block has."""
        return min(BLOCK, self.runs - block * BLOCK)


class Blocks:
    """Which blocks of a search are still to be run, and what came of the others; for one process, which keeps nothing.

    Attributes:
        plan: which blocks there are.
        total: the sum of what was run.
        others: some blocks are with other processes, and may come back.
    """

    def __init__(self, plan: Plan, program: Program) -> None:
        self.plan = plan
        self.total = nothing_yet(program)
        self.others = False
        self._next = 0

    def take(self) -> int | None:
        """A block that nobody has taken; None when there is none at the moment."""
        if self._next >= self.plan.blocks:
            return None
        self._next += 1
        return self._next - 1

    def keep(self, block: int, part: SearchResult) -> None:
        """A block that was taken is done."""
        self.total.add(part)

    def cut(self, block: int, part: SearchResult | None) -> None:
        """A block that was taken was not run to its end, and nobody here will; what came of it counts all the same."""
        if part is not None:
            self.total.add(part)

    def beat(self) -> None:
        """Say now and then that this process is alive."""


class Limits:
    """When a search ends before everything is done.

    Args:
        seconds: of wall time from now; None for no limit.
        stop: says so when it is to end at once.

    Attributes:
        stopped: it was to end at once.
    """

    def __init__(self, seconds: float | None, stop: Callable[[], bool]) -> None:
        self._seconds = seconds
        self._stop = stop
        self._started = time.monotonic()
        self.stopped = False

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._started

    @property
    def left(self) -> float | None:
        """Seconds to the end; None for no limit."""
        return None if self._seconds is None else max(0.0, self._seconds - self.elapsed)

    def reached(self, executions: int) -> bool:
        """Whether it ends here, after so many executions; there is time for one in any case."""
        if executions and self._seconds is not None and self.elapsed >= self._seconds:
            return True
        self.stopped = self.stopped or self._stop()
        return self.stopped


@guarded_search
def search(
    program: Program,
    *,
    strategy: str = "random",
    seed: int = 0,
    runs: int = 1000,
    seconds: float | None = None,
    stop: Callable[[], bool] = lambda: False,
    blocks: Blocks | None = None,
) -> Iterator[SearchResult]:
    """Run a program many times; yields one growing result: before the first run, now and then, and at the end.

    Args:
        program: what to run.
        strategy: name of the strategy.
        seed: of the search; the same seed gives the same executions.
        runs: how many executions.
        seconds: stop after so much wall time.
        stop: asked before each run; true ends the search unfinished.
        blocks: those of this very search that are left to be run, when they are kept or shared.

    Raises:
        UnknownName: there is no such strategy.
        NondeterminismError: the program does not repeat itself.
        ForeignCall: it calls what no schedule can repeat.
    """
    plan = Plan(strategy, seed, runs)
    blocks = blocks or Blocks(plan, program)
    result = SearchResult()
    result.show(blocks.total)
    yield result
    check_determinism(program, seed=seed)
    limits = Limits(seconds, stop)
    reported = 0.0
    cut = False
    try:
        while not cut and ((block := blocks.take()) is not None or blocks.others):
            if block is None:
                cut = limits.reached(blocks.total.executions)
                time.sleep(REPORT_SECONDS)
                yield result
                continue
            part = SearchResult()
            for part in run_block(program, plan, block):
                if limits.reached(blocks.total.executions + part.executions):
                    cut = True
                    blocks.cut(block, part)
                    break
                result.seconds = limits.elapsed
                if result.seconds - reported >= REPORT_SECONDS:
                    reported = result.seconds
                    blocks.beat()
                    result.show(blocks.total, part)
                    yield result
            else:
                blocks.keep(block, part)
    finally:
        result.seconds = limits.elapsed
        result.show(blocks.total)
    result.finished = not limits.stopped
    yield result


def _any(_: str) -> bool:
    return True


@guarded_search
def search_until_broken(
    program: Program,
    *,
    strategy: str = "random",
    seed: int = 0,
    runs: int = 1000,
    wanted: Callable[[str], bool] = _any,
) -> Iterator[SearchResult]:
    """Run a program until an execution breaks; yields the result so far after each execution, and at the end.

    Unlike that of `search` told to stop, the result depends on nothing but the seed, however fast the machine is.

    Args:
        program: what to run.
        strategy: name of the strategy.
        seed: of the search.
        runs: how many executions at most.
        wanted: whether a bug of this signature ends it; others are collected on the way.

    Raises:
        UnknownName: there is no such strategy.
        NondeterminismError: the program does not repeat itself.
        ForeignCall: it calls what no schedule can repeat.
    """
    plan = Plan(strategy, seed, runs)
    check_determinism(program, seed=seed)
    limits = Limits(None, lambda: False)
    total = nothing_yet(program)
    for block in range(plan.blocks):
        part = SearchResult()
        for part in run_block(program, plan, block):
            yield total
            if any(map(wanted, part.found)):
                break
        total.add(part)
        if any(map(wanted, part.found)):
            break
    total.seconds = limits.elapsed
    total.finished = True
    yield total


def run_block(program: Program, plan: Plan, block: int) -> Iterator[SearchResult]:
    """Run one block; yields its growing result before each run.  It is whole when the iterator ends."""
    picker = STRATEGIES[plan.strategy](f"{plan.seed}/{block}")
    part = nothing_yet(program, block * BLOCK)
    for _ in range(plan.size(block)):
        yield part
        run_once(program, picker, part)


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
    number = result.begin + result.executions
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
            result.found[name] = Found(name, list(execution.simulation.record), number, strategy=member)
        else:
            known.count += 1
    elif outcome.ending is Ending.BOUND:
        result.bounded += 1
    if not result.all_reached:
        for text, reached in zip(result.sometimes, program.reached(execution), strict=True):
            result.sometimes[text] |= reached
        result.all_reached = all(result.sometimes.values())
    program.dispose(execution)
