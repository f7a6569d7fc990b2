"""Search from a point of a known run: the beginning of its schedule strictly, and then whatever a strategy picks."""

from __future__ import annotations

import time as wall
from collections.abc import Callable, Iterator, Sequence

from slabactors.explore.campaign import REPORT_SECONDS, Found, SearchResult, pickers, run_once
from slabactors.explore.lenient import schedule_of
from slabactors.explore.program import Program
from slabactors.explore.replay import ReplayStrategy
from slabactors.explore.strategy import FollowRecord
from slabactors.runtime.step import Decision, Step, TimePolicy
from slabactors.runtime.tripwires import guarded, guarded_search


@guarded_search
def explore_from(
    program: Program,
    prefix: Sequence[Decision],
    *,
    time: TimePolicy,
    strategy: str = "portfolio",
    seed: int = 0,
    runs: int = 1000,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[SearchResult]:
    """Run a program many times, each time with the same beginning; yields one growing result, as `search` does.

    Args:
        program: what to run.
        prefix: the beginning of every run.
        time: the clock policy after it.
        strategy: name of the strategy that goes on after it.
        seed: of the search.
        runs: how many executions.
        stop: asked before each run; true ends the search unfinished.

    Raises:
        ReplayDiverged: the beginning does not fit.
        ForeignCall: the program calls what no schedule can repeat.
    """
    result = SearchResult(sometimes=dict.fromkeys(program.sometimes, False))
    yield result
    started = reported = wall.monotonic()
    for then in pickers(strategy, seed):
        if result.finished or stop():
            break
        run_once(program, ReplayStrategy(prefix, then, time), result, time=TimePolicy.RECORDED)
        now = wall.monotonic()
        result.seconds = now - started
        result.finished = result.executions >= runs
        if now - reported >= REPORT_SECONDS:
            reported = now
            yield result
    yield result


@guarded
def whole_schedule(program: Program, prefix: Sequence[Decision], found: Found, *, time: TimePolicy) -> list[Decision]:
    """The schedule of a run that `explore_from` made, beginning included.

    Args:
        program: what was run.
        prefix: the beginning.
        found: what the run showed.
        time: the clock policy after the beginning.
    """
    steps: list[Step] = []
    again = ReplayStrategy(prefix, FollowRecord(found.record), time)
    execution = program.execute(again, observer=steps.append, time=TimePolicy.RECORDED)
    decisions = schedule_of(execution, steps)
    program.dispose(execution)
    return decisions
