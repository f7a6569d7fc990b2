"""Exhaustive search by several processes: the executions of `slabactors.explore.verify`, in another order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, fields

from slabactors.explore.campaign import REPORT_SECONDS, Limits, check_determinism
from slabactors.explore.crew import STOP, Crew, Flight
from slabactors.explore.dpor import Statistics
from slabactors.explore.parallel import crew_of, pickled, received, telling
from slabactors.explore.program import Program
from slabactors.explore.subtrees import WINDOW, Coordinator, Part, Subtree, SubtreeGuide, Visit
from slabactors.explore.verify import Verification, explore_once
from slabactors.runtime.step import TimePolicy


@dataclass(frozen=True, slots=True)
class Task:
    """What a worker has to know besides its subtree.

    Attributes:
        program: pickled.
        digest: of the first execution, which has to be the same everywhere.
        time: overrides the program's own policy.
    """

    program: bytes
    digest: str
    time: TimePolicy | None


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
    """As `slabactors.explore.verify.verify`: as many executions, and the same bugs as often, each first seen elsewhere.

    What is found in which execution does not depend on how many processes there are (up to as many as `WINDOW`), nor
    on how fast they are.

    Args:
        program: what to run; it must be possible to pickle it.
        jobs: how many processes to start; with an executor, how many visits it makes at once.
        executor: makes the visits, instead of processes of our own.
        time: overrides the program's own policy.
        runs: give up after so many executions.
        seconds: give up after so much wall time.
        stop: asked now and then; give up when it says so.

    Raises:
        UsageError: the program cannot be pickled.
        NondeterminismError: the program does not repeat itself, or not in another process.
        WorkersLost: workers died again and again.
    """
    result = Verification(Statistics(), sometimes=dict.fromkeys(program.sometimes, False))
    task = Task(pickled(program), check_determinism(program, seed=0), time)
    limits = Limits(seconds, stop)

    def describe(number: int) -> tuple[str, str]:
        return f"visit {number} of the search", "--jobs 1"

    with crew_of(jobs, executor) as crew:
        coordinator = Coordinator(max(WINDOW, crew.width))
        flight: Flight[int, tuple[bytes, Verification]] = Flight(crew, describe)
        parts: dict[int, Part] = {}
        waiting: list[tuple[int, bytes]] = []
        back: dict[int, tuple[bytes, Verification]] = {}
        handed_out = taken_back = 0
        while not coordinator.done:
            for part, subtree in coordinator.hand_out():
                parts[handed_out] = part
                waiting.append((handed_out, subtree.pack()))
                handed_out += 1
            while waiting and flight.has_room:
                number, data = waiting.pop(0)
                flight.start(number, visit, task, data)
            back.update(flight.landed(REPORT_SECONDS))
            while taken_back in back:
                one = Visit.unpack(back.pop(taken_back))
                _count(result, one.result)
                coordinator.take_back(parts.pop(taken_back), one)
                taken_back += 1
            result.seconds = limits.elapsed
            result.progress = coordinator.progress
            late = runs is not None and result.statistics.executions >= runs
            if late or limits.reached(result.statistics.executions):
                break
            yield result
        back.update((number, sent) for number, sent in flight.land() if sent is not None)
        for _, (_, part_result) in sorted(back.items()):
            _count(result, part_result)
    result.exhaustive = coordinator.done and not result.bounded
    result.finished = coordinator.done or not limits.stopped
    result.seconds = limits.elapsed
    yield result


def visit(task: Task, data: bytes) -> tuple[bytes, Verification]:
    """In a worker: explore some of a subtree.

    Raises:
        UsageError: the user's mistake, said here.
        NondeterminismError: the program is not what it is where the search was started.
        RuntimeError: anything else, with its traceback.
    """
    with telling():
        program = received(task.program, 0, task.digest)
        subtree = Subtree.unpack(data)
        guide = SubtreeGuide(subtree)
        result = Verification(guide.statistics, sometimes=dict.fromkeys(program.sometimes, False))
        more = True
        for _ in range(subtree.executions):
            explore_once(program, guide, result, task.time)
            more = guide.advance()
            if not more or STOP.is_set():
                break
        return guide.visit(result, more=more).pack()


def _count(result: Verification, part: Verification) -> None:
    """Add what a visit has found; its executions come after those before."""
    base = result.statistics.executions
    for one in fields(Statistics):
        before, more = getattr(result.statistics, one.name), getattr(part.statistics, one.name)
        setattr(result.statistics, one.name, max(before, more) if one.name == "depth" else before + more)
    for name, found in part.found.items():
        known = result.found.get(name)
        if known is not None:
            known.count += found.count
        else:
            found.execution += base
            result.found[name] = found
    for text, reached in part.sometimes.items():
        result.sometimes[text] |= reached
    result.bounded += part.bounded
    result.held_back |= part.held_back
