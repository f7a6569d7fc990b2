"""A search by several processes: the same blocks as in one, and so the same findings.

A process that runs blocks (a *worker*) gets the program, the plan and the number of a block, and gives back what the
block found.  Which worker runs which block, when and how often says nothing about the sum.
"""

from __future__ import annotations

import pickle
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Executor, Future, wait
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from slabactors.errors import NondeterminismError, UsageError, WorkersLost
from slabactors.explore.campaign import (
    BLOCK,
    REPORT_SECONDS,
    Blocks,
    Limits,
    Plan,
    SearchResult,
    check_determinism,
    run_block,
)
from slabactors.explore.crew import STOP, Crew, Processes
from slabactors.explore.finding import REPEAT_HINT
from slabactors.explore.program import Program

RETRIES_MAX: Final = 3
"""How often a block is run again whose worker died."""

GRACE_SECONDS: Final = 5.0
"""How long blocks that are under way are waited for when the search is to end."""


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
    task = Task(pickled(program), plan, check_determinism(program, seed=seed))
    limits = Limits(seconds, stop)
    if isinstance(executor, Executor):
        executor = Crew(executor, 2 * jobs)
    try:
        with executor or Processes(jobs) as crew:
            flight = _Flight(crew, task, blocks)
            while flight.goes_on(limits):
                result.seconds = limits.elapsed
                result.show(blocks.total)
                blocks.beat()
                yield result
            flight.land()
    finally:
        result.seconds = limits.elapsed
        result.show(blocks.total)
    result.finished = not limits.stopped
    yield result


class _Flight:
    """The blocks that workers have.

    Args:
        crew: the workers.
        task: what they have to know.
        blocks: where blocks come from, and go to when they are done.
    """

    def __init__(self, crew: Crew, task: Task, blocks: Blocks) -> None:
        self._crew = crew
        self._task = task
        self._blocks = blocks
        self._under_way: dict[Future[SearchResult], int] = {}
        self._again: list[int] = []
        self._lost: Counter[int] = Counter()

    def goes_on(self, limits: Limits) -> bool:
        """Hand out blocks, and wait a little for some to come back; false when all is done, or a limit was reached."""
        if limits.reached(self._blocks.total.executions):
            return False
        self._hand_out(limits.left)
        if not self._under_way:
            if not self._again and not self._blocks.others:
                return False
            time.sleep(REPORT_SECONDS)
            return True
        done, _ = wait(self._under_way, REPORT_SECONDS, FIRST_COMPLETED)
        for future in done:
            self._collect(future)
        return True

    def _hand_out(self, seconds: float | None) -> None:
        """Keep all workers busy; with a block whose worker died, one block at a time, to see which one is to blame."""
        suspected = self._again or any(self._lost[block] for block in self._under_way.values())
        while len(self._under_way) < (1 if suspected else self._crew.width):
            block = self._again[0] if self._again else self._blocks.take()
            if block is None:
                return
            try:
                future = self._crew.submit(work, self._task, block, seconds)
            except self._crew.lost as error:
                if not self._again:
                    self._again.append(block)  # nothing was tried yet, so nothing is held against it
                self._give_up_all(error)
                self._repair(error)
                return
            if self._again:
                self._again.pop(0)
            self._under_way[future] = block

    def _collect(self, future: Future[SearchResult]) -> None:
        block = self._under_way.pop(future, None)
        if block is None:
            return  # it was lost together with another one
        error = CancelledError() if future.cancelled() else future.exception()
        if error is None:
            self._count(block, future.result())
        elif isinstance(error, self._crew.lost):
            self._note_lost(block, error)
            if isinstance(error, BrokenExecutor):
                self._give_up_all(error)
                self._repair(error)
        else:
            raise error

    def _give_up_all(self, error: BaseException) -> None:
        """A pool that breaks loses all that it has; it says so of each, but for those that have come back already."""
        wait(self._under_way, GRACE_SECONDS)
        for future, block in self._under_way.items():
            if future.done() and not future.cancelled() and future.exception() is None:
                self._count(block, future.result())
            else:
                self._note_lost(block, error)
        self._under_way.clear()

    def _count(self, block: int, part: SearchResult) -> None:
        if part.executions == self._task.plan.size(block):
            self._blocks.keep(block, part)
        else:
            self._blocks.cut(block, part)

    def _note_lost(self, block: int, error: BaseException) -> None:
        """A block is to be run again, unless it was often enough.

        Raises:
            WorkersLost: it was.
        """
        self._lost[block] += 1
        if self._lost[block] > RETRIES_MAX:
            last = min((block + 1) * BLOCK, self._task.plan.runs)
            raise WorkersLost(
                f"{self._lost[block]} processes died that ran executions {block * BLOCK} to {last - 1} "
                f"({type(error).__name__}: {error}); memory may have run out, or the program ends its process.\n"
                f"  See what happens, in one process: --jobs 1 --runs {last}"
            )
        if block not in self._again:
            self._again.append(block)
            self._again.sort()

    def _repair(self, error: BaseException) -> None:
        if not self._crew.repair():
            raise WorkersLost(
                f"the executor cannot be used any more ({type(error).__name__}: {error}).\n"
                "  Give a new one, or leave it out and say how many processes to start: jobs=2"
            ) from error

    def land(self) -> None:
        """Wait a little for what is under way, and count what was run of it."""
        for future in [one for one in self._under_way if one.cancel()]:
            self._blocks.cut(self._under_way.pop(future), None)
        self._crew.stop()
        wait(self._under_way, GRACE_SECONDS)
        for future, block in self._under_way.items():
            if future.done() and not future.cancelled() and future.exception() is None:
                self._count(block, future.result())
            else:
                self._blocks.cut(block, None)


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
    try:
        program = _received(task.program, task.plan.seed, task.digest)
        part = SearchResult()
        for part in run_block(program, task.plan, block):
            if limits.reached(part.executions):
                break
    except (UsageError, NondeterminismError) as error:
        # Not all of them can be pickled; their text is what matters.
        kind = UsageError if isinstance(error, UsageError) else NondeterminismError
        raise kind(str(error)) from None
    except MemoryError:
        raise
    except Exception:
        raise RuntimeError(f"a worker failed:\n{traceback.format_exc()}") from None
    return part


@lru_cache(maxsize=2)
def _received(data: bytes, seed: int, digest: str) -> Program:
    """The program, unpickled once in each worker, and seen to do the same as where the search was started."""
    program: Program = pickle.loads(data)
    if check_determinism(program, seed=seed) != digest:
        raise NondeterminismError(
            "the first execution differs between the process that started the search and one that works for it: "
            f"other sources there, or a scenario that depends on the process.\n{REPEAT_HINT}"
        )
    return program
