"""A search: many executions of one program, and what they found."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from slabactors.errors import NondeterminismError, UnknownName
from slabactors.explore.finding import signature
from slabactors.explore.program import Program
from slabactors.explore.strategy import STRATEGIES, FollowRecord
from slabactors.runtime.step import Ending, Outcome, Step

BLOCK = 256
"""Executions that share one random stream; blocks are numbered, so that any of them can be run anywhere."""


@dataclass(slots=True)
class Found:
    """One distinct bug.

    Attributes:
        signature: what it is called.
        outcome: of the first execution that showed it.
        record: that execution's choices.
        execution: its number, from 0.
        count: executions that showed it.
    """

    signature: str
    outcome: Outcome
    record: list[int]
    execution: int
    count: int = 1


@dataclass(slots=True)
class SearchResult:
    """What a search has found so far.

    Attributes:
        executions: how many runs.
        deliveries: how many steps in all.
        seconds: wall time.
        bounded: runs that hit the bound on steps.
        found: distinct bugs by signature, in the order in which they were found.
        sometimes: for each sentence of `Program.sometimes`, in how many of the runs looked at it was reached.
        finished: false when it was interrupted.
    """

    executions: int = 0
    deliveries: int = 0
    seconds: float = 0.0
    bounded: int = 0
    found: dict[str, Found] = field(default_factory=dict)
    sometimes: dict[str, bool] = field(default_factory=dict)
    finished: bool = False

    @property
    def verdict(self) -> str:
        """``broken``, ``undetermined`` (a bound was hit, or nothing was there to check), or ``clean``."""
        if self.found:
            return "broken"
        return "undetermined" if self.bounded or not self.executions else "clean"


def search(
    program: Program, *, strategy: str = "random", seed: int = 0, runs: int = 1000, seconds: float | None = None
) -> Iterator[SearchResult]:
    """Run a program many times; yields the growing result once a block of executions, and when it is done.

    Args:
        program: what to run.
        strategy: name of the strategy.
        seed: of the search; the same seed gives the same executions.
        runs: how many executions.
        seconds: stop after so much wall time.

    Raises:
        UnknownName: there is no such strategy.
        NondeterminismError: the program does not repeat itself.
    """
    if strategy not in STRATEGIES:
        raise UnknownName("strategy", strategy, sorted(STRATEGIES))
    check_determinism(program, seed=seed)
    result = SearchResult(sometimes=dict.fromkeys(program.sometimes, False))
    started = time.monotonic()
    found = result.found
    missing = list(result.sometimes)
    execution_number = 0
    while execution_number < runs:
        picker = STRATEGIES[strategy](f"{seed}/{execution_number // BLOCK}")
        for _ in range(min(BLOCK, runs - execution_number)):
            execution = program.execute(picker)
            outcome = execution.outcome
            result.deliveries += outcome.deliveries
            if outcome.bug is not None:
                name = signature(outcome)
                known = found.get(name)
                if known is None:
                    found[name] = Found(name, outcome, list(execution.simulation.record), execution_number)
                else:
                    known.count += 1
            elif outcome.ending is Ending.BOUND:
                result.bounded += 1
            if missing:
                for text, reached in zip(program.sometimes, program.reached(execution), strict=True):
                    if reached and text in missing:
                        missing.remove(text)
                        result.sometimes[text] = True
            program.dispose(execution)
            execution_number += 1
        result.executions = execution_number
        result.seconds = time.monotonic() - started
        result.finished = execution_number >= runs or (seconds is not None and result.seconds >= seconds)
        yield result
        if result.finished:
            return


def check_determinism(program: Program, *, seed: int) -> None:
    """Run the first schedule twice and compare the two step by step.

    Raises:
        NondeterminismError: they differ; names the first step that does.
    """
    first: list[str] = []
    second: list[str] = []

    def render(step: Step) -> str:
        return f"{step.path.key} {step.operation!r} on {step.actor.name} at {step.now}"

    execution = program.execute(STRATEGIES["random"](f"{seed}/0"), observer=lambda step: first.append(render(step)))
    record = list(execution.simulation.record)
    program.dispose(execution)
    try:
        again = program.execute(FollowRecord(record), observer=lambda step: second.append(render(step)))
    except (StopIteration, IndexError):
        again = None
    if again is not None:
        program.dispose(again)
    for index, (one, other) in enumerate(zip(first, second, strict=False)):
        if one != other:
            raise NondeterminismError(
                f"the same schedule ran twice and differed at step {index}:\n  first  {one}\n  second {other}\n"
                "  A scenario must not keep state between runs, nor read clocks, random numbers or addresses."
            )
    if len(first) != len(second):
        raise NondeterminismError(
            f"the same schedule ran twice, for {len(first)} steps and for {len(second)}.\n"
            "  A scenario must not keep state between runs, nor read clocks, random numbers or addresses."
        )
