"""The search by traces by several processes: shares of `slabactors.explore.shares`, and their sum."""

from __future__ import annotations

import time as wall
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, field, fields, replace
from typing import Final

from slabactors.explore.by_traces import ByTraces
from slabactors.explore.campaign import REPORT_SECONDS, Limits
from slabactors.explore.crew import STOP, Crew, Flight
from slabactors.explore.determinism import check_determinism
from slabactors.explore.dpor import Statistics
from slabactors.explore.parallel import crew_of, pickled, received, telling
from slabactors.explore.program import Program
from slabactors.explore.proved import Proved
from slabactors.explore.shares import SharedDpor, depth_for
from slabactors.explore.verify import Verification
from slabactors.runtime.step import TimePolicy
from slabactors.runtime.tripwires import guarded_search, tripwires

SHARES_EACH: Final = 4
"""How many shares there are for each process: some take longer than others."""


@dataclass(frozen=True, slots=True)
class Task:
    """What a process has to know besides the number of its share.

    Attributes:
        program: pickled.
        digest: of the first execution, which has to be the same everywhere.
        time: overrides the program's own policy.
        depth: how many steps are not reduced.
        shares: how many there are.
    """

    program: bytes
    digest: str
    time: TimePolicy | None
    depth: int
    shares: int


@dataclass(slots=True)
class Part:
    """What one share came to; plain data.

    Attributes:
        statistics: executions, probes, deliveries, depth.
        found: distinct bugs by signature.
        sometimes: which sentences of `Program.sometimes` were reached.
        bounded: executions that hit the bound on steps.
        pipelined: executions in which a message could overtake another one.
        held_back: in some execution a timer had used up its early firings.
        whole: every trace of the share was explored.
    """

    statistics: Statistics = field(default_factory=Statistics)
    found: dict[str, Proved] = field(default_factory=dict)
    sometimes: dict[str, bool] = field(default_factory=dict)
    bounded: int = 0
    pipelined: int = 0
    held_back: bool = False
    whole: bool = False


@guarded_search
def verify_parallel(
    program: Program,
    *,
    jobs: int = 2,
    executor: Executor | Crew | None = None,
    time: TimePolicy | None = None,
    runs: int | None = None,
    seconds: float | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Verification]:
    """As `slabactors.explore.verify.verify` by traces: as many executions, one for every trace, and the same bugs.

    Args:
        program: what to run; it must be possible to pickle it.
        jobs: how many processes to start; with an executor, how many shares it has at once.
        executor: runs the shares, instead of processes of our own.
        time: overrides the program's own policy.
        runs: give up after so many executions, when the shares that are under way have ended.
        seconds: give up after so much wall time.
        stop: asked now and then; give up when it says so.

    Raises:
        UsageError: the program cannot be pickled.
        NondeterminismError: the program does not repeat itself, or not in another process.
        WorkersLost: processes died again and again.
    """
    first = check_determinism(program, seed=0, time=time)
    shares = SHARES_EACH * (executor.width if isinstance(executor, Crew) else jobs)
    depth = depth_for(program, time, shares)
    task = Task(pickled(program), first.digest, time, depth, shares)
    result = Verification(Statistics(), search="dpor", sometimes=dict.fromkeys(program.sometimes, False))
    limits = Limits(seconds, stop)
    parts: dict[int, Part] = {}
    waiting = list(range(shares))
    with crew_of(jobs, executor) as crew:
        flight: Flight[int, Part] = Flight(crew, lambda share: (f"share {share} of {shares}", "verify without --jobs"))
        while waiting or flight.busy:
            executions = result.statistics.executions
            if limits.reached(executions) or (runs is not None and executions >= runs):
                break
            while flight.has_room and waiting:
                share = waiting.pop(0)
                flight.start(share, explore_share, task, share, limits.left)
            for share, part in flight.landed(REPORT_SECONDS):
                parts[share] = part
                _sum_up(result, parts, shares)
            result.seconds = limits.elapsed
            yield result
        parts |= {share: left for share, left in flight.land() if left is not None}
    _sum_up(result, parts, shares)
    if result.exhaustive:
        first.repeat()
    result.seconds = limits.elapsed
    result.finished = True
    yield result


def explore_share(task: Task, share: int, seconds: float | None) -> Part:
    """In a process of its own: explore a share, or as much of it as there is time for.

    Raises:
        UsageError: the user's mistake, said here.
        NondeterminismError: the program is not what it is where the search was started.
        RuntimeError: anything else, with its traceback.
    """
    with telling(), tripwires():
        program = received(task.program, 0, task.digest, task.time)
        started = wall.monotonic()

        def late() -> bool:
            return STOP.is_set() or (seconds is not None and wall.monotonic() - started >= seconds)

        way = ByTraces(program, task.time, SharedDpor(task.depth, share, task.shares), late=late)
        more = True
        while more and not way.cut and not late():
            more = way.go_on()
        return Part(way.statistics, way.found, way.sometimes, way.bounded, way.pipelined, way.held_back, not more)


def _sum_up(result: Verification, parts: dict[int, Part], shares: int) -> None:
    """The result is the sum of all shares so far, in their order whichever came first."""
    total = Statistics()
    found: dict[str, Proved] = {}
    for _, part in sorted(parts.items()):
        for one in part.found.values():
            known = found.get(one.signature)
            if known is None:
                found[one.signature] = replace(one, execution=total.executions + one.execution)
            else:
                known.count += one.count
        depth = max(total.depth, part.statistics.depth)
        for each in fields(Statistics):
            setattr(total, each.name, getattr(total, each.name) + getattr(part.statistics, each.name))
        total.depth = depth
        for text, reached in part.sometimes.items():
            result.sometimes[text] |= reached
    result.statistics = total
    result.found = found
    result.bounded = sum(part.bounded for part in parts.values())
    result.pipelined = sum(part.pipelined for part in parts.values())
    result.held_back = any(part.held_back for part in parts.values())
    done = sum(part.whole for part in parts.values())
    result.progress = done / shares
    result.exhaustive = done == shares and not result.bounded
