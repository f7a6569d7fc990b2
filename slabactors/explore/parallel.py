"""A search by several processes: the same blocks as in one, and so the same findings.

A process that runs blocks (a *worker*) gets the program, the plan and the number of a block, and gives back what the
block found.  Which worker runs which block, when and how often says nothing about the sum.
"""

from __future__ import annotations

import pickle
import time as wall
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

from slabactors.errors import NondeterminismError, UsageError
from slabactors.explore.campaign import (
    BLOCK,
    REPORT_SECONDS,
    Blocks,
    Limits,
    Plan,
    SearchResult,
    run_block,
)
from slabactors.explore.crew import STOP, Crew, Flight, Processes
from slabactors.explore.determinism import check_determinism
from slabactors.explore.finding import REPEAT_HINT
from slabactors.explore.program import Program
from slabactors.runtime.step import TimePolicy
from slabactors.runtime.tripwires import guarded_search, tripwires


@dataclass(frozen=True, slots=True)
class Task:
    """What a worker has to know besides the number of its block.

    Attributes:
        program: pickled.
        plan: of the search.
        digest: of the first execution, which has to be the same everywhere.
    """

    program: bytes
    plan: Plan
    digest: str


@guarded_search
def search_parallel(
    program: Program,
    *,
    jobs: int = 2,
    executor: Executor | Crew | None = None,
    strategy: str = "random",
    seed: int = 0,
    runs: int = 1000,
    seconds: float | None = None,
    stop: Callable[[], bool] = lambda: False,
    blocks: Blocks | None = None,
) -> Iterator[SearchResult]:
    """As `slabactors.explore.campaign.search`, with the same result but for the time it takes.

    Args:
        program: what to run; it must be possible to pickle it.
        jobs: how many processes to start; with an executor, how many blocks it runs at once.
        executor: runs the blocks, instead of processes of our own.
        strategy: name of the strategy.
        seed: of the search; the same seed gives the same executions.
        runs: how many executions.
        seconds: stop after so much wall time.
        stop: asked now and then; true ends the search unfinished.
        blocks: those of this very search that are left to be run, when they are kept or shared.

    Raises:
        UnknownName: there is no such strategy.
        UsageError: the program cannot be pickled.
        NondeterminismError: the program does not repeat itself, or not in another process.
        WorkersLost: workers died again and again.
    """
    plan = Plan(strategy, seed, runs)
    blocks = blocks or Blocks(plan, program)
    result = SearchResult()
    result.show(blocks.total)
    yield result
    task = Task(pickled(program), plan, check_determinism(program, seed=seed).digest)
    limits = Limits(seconds, stop)

    def describe(block: int) -> tuple[str, str]:
        last = min((block + 1) * BLOCK, runs)
        return f"executions {block * BLOCK} to {last - 1}", f"--jobs 1 --runs {last}"

    try:
        with crew_of(jobs, executor) as crew:
            flight: Flight[int, SearchResult] = Flight(crew, describe)
            while not limits.reached(blocks.total.executions):
                while flight.has_room and (block := blocks.take()) is not None:
                    flight.start(block, work, task, block, limits.left)
                if flight.busy:
                    for block, part in flight.landed(REPORT_SECONDS):
                        _count(blocks, block, part)
                elif blocks.others:
                    wall.sleep(REPORT_SECONDS)
                else:
                    break
                result.seconds = limits.elapsed
                result.show(blocks.total)
                blocks.beat()
                yield result
            for block, left in flight.land():
                _count(blocks, block, left)
    finally:
        result.seconds = limits.elapsed
        result.show(blocks.total)
    result.finished = not limits.stopped
    yield result


def crew_of(jobs: int, executor: Executor | Crew | None) -> Crew:
    """Who is to run the parts of a search."""
    if executor is None:
        return Processes(jobs)
    return Crew(executor, 2 * jobs) if isinstance(executor, Executor) else executor


def _count(blocks: Blocks, block: int, part: SearchResult | None) -> None:
    if part is not None and part.executions == blocks.plan.size(block):
        blocks.keep(block, part)
    else:
        blocks.cut(block, part)


def pickled(program: Program) -> bytes:
    """A program as it is sent to workers.

    Raises:
        UsageError: it cannot be.
    """
    try:
        data = pickle.dumps(program)
        pickle.loads(data)
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(
            f"{type(program).__name__} cannot be sent to another process, for it cannot be pickled: {error}.\n"
            "  Make it of functions and classes at the top level of a module, or search with one process: jobs=1"
        ) from error
    return data


def work(task: Task, block: int, seconds: float | None) -> SearchResult:
    """In a worker: run a block, or as much of it as there is time for.

    Raises:
        UsageError: the user's mistake, said here.
        NondeterminismError: the program is not what it is where the search was started.
        RuntimeError: anything else, with its traceback.
    """
    limits = Limits(seconds, STOP.is_set)
    part = SearchResult()
    with telling(), tripwires():
        program = received(task.program, task.plan.seed, task.digest)
        for part in run_block(program, task.plan, block):
            if limits.reached(part.executions):
                break
    return part


@contextmanager
def telling() -> Iterator[None]:
    """In a worker: what goes wrong in a form that can be sent.

    Raises:
        UsageError: the user's mistake.
        NondeterminismError: the program does not repeat itself.
        RuntimeError: anything else, with its traceback.
    """
    try:
        yield
    except (UsageError, NondeterminismError) as error:
        # Not all of them can be pickled; their text is what matters.
        kind = UsageError if isinstance(error, UsageError) else NondeterminismError
        raise kind(str(error)) from None
    except MemoryError:
        raise
    except Exception:
        raise RuntimeError(f"a worker failed:\n{traceback.format_exc()}") from None


@lru_cache(maxsize=2)
def received(data: bytes, seed: int, digest: str, time: TimePolicy | None = None) -> Program:
    """The program, unpickled once in each worker, and seen to do the same as where the search was started."""
    program: Program = pickle.loads(data)
    if check_determinism(program, seed=seed, time=time).digest != digest:
        raise NondeterminismError(
            "the first execution differs between the process that started the search and one that works for it: "
            f"other sources there, or a scenario that depends on the process.\n{REPEAT_HINT}"
        )
    return program
