"""Exhaustive search of a program: every trace once, and every distinct bug with the shortest schedule found for it."""

from __future__ import annotations

import time as wall
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from slabactors.explore.dpor import Dpor, Statistics
from slabactors.explore.finding import signature
from slabactors.explore.program import Execution, Program
from slabactors.runtime.guided import ARM, Broken, GuidedSimulation
from slabactors.runtime.step import Decision, TimePolicy

REPORT_EVERY = 64
"""Executions between two looks at the clock."""


@dataclass(slots=True)
class Proved:
    """One distinct bug that an exhaustive search met.

    Attributes:
        signature: what it is called.
        decisions: the schedule that leads to it, of the first execution that showed it.
        execution: the number of that execution, from 0.
        count: executions (traces) that showed it.
    """

    signature: str
    decisions: list[Decision]
    execution: int
    count: int = 1


@dataclass(slots=True)
class Verification:
    """How far an exhaustive search has come.

    Attributes:
        statistics: executions, blocked ones, probes, deliveries, depth.
        seconds: wall time.
        found: distinct bugs by signature, in the order in which they were found.
        sometimes: which sentences of `Program.sometimes` were reached.
        bounded: executions that hit the bound on steps.
        held_back: in some execution a timer had used up its early firings.
        exhaustive: every trace was explored, and no bound on steps was hit.
        finished: nothing more will come.
        progress: an estimate of the explored share, from 0 to 1.
    """

    statistics: Statistics
    seconds: float = 0.0
    found: dict[str, Proved] = field(default_factory=dict)
    sometimes: dict[str, bool] = field(default_factory=dict)
    bounded: int = 0
    held_back: bool = False
    exhaustive: bool = False
    finished: bool = False
    progress: float = 0.0

    @property
    def verdict(self) -> str:
        """``broken``, ``verified``, or ``undetermined``."""
        if self.found:
            return "broken"
        return "verified" if self.exhaustive else "undetermined"


def verify(
    program: Program,
    *,
    time: TimePolicy | None = None,
    runs: int | None = None,
    seconds: float | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Verification]:
    """Explore every trace of a program; yields the growing result now and then, and when it is done.

    Args:
        program: what to run.
        time: overrides the program's own policy.
        runs: give up after so many executions.
        seconds: give up after so much wall time.
        stop: asked between two executions; give up when it says so.
    """
    guide = Dpor()
    result = Verification(guide.statistics, sometimes=dict.fromkeys(program.sometimes, False))
    started = wall.monotonic()
    while True:
        explore_once(program, guide, result, time)
        more = guide.advance()
        executions = guide.statistics.executions
        if not more:
            result.exhaustive = not result.bounded
        if not more or executions % REPORT_EVERY == 0 or stop():
            result.seconds = wall.monotonic() - started
            result.progress = 1.0 if not more else guide.progress()
            result.finished = (
                not more
                or (runs is not None and executions >= runs)
                or (seconds is not None and result.seconds >= seconds)
            )
            yield result
            if result.finished or stop():
                return


def explore_once(program: Program, guide: Dpor, result: Verification, time: TimePolicy | None) -> None:
    """Run a program once more, and add what came of it to a result."""
    execution = program.execute(guide, time=time, driver=GuidedSimulation)
    simulation = execution.simulation
    assert isinstance(simulation, GuidedSimulation)
    result.held_back = result.held_back or simulation.held_back
    if guide.complete:
        _collect(result, guide, simulation, execution)
        if not all(result.sometimes.values()):
            for text, reached in zip(program.sometimes, program.reached(execution), strict=True):
                result.sometimes[text] |= reached
    elif not simulation.given_up:
        result.bounded += 1
    program.dispose(execution)


def _collect(result: Verification, guide: Dpor, simulation: GuidedSimulation, execution: Execution) -> None:
    """Take the bugs of one execution: those that no other bug of it led to."""
    broken = simulation.broken
    if not broken and execution.outcome.bug is not None:
        broken = [Broken(len(guide.events), execution.outcome)]
    first_of_all = [one for one in broken if not _led_to(guide, broken, one)]
    for one in first_of_all:
        name = signature(one.outcome)
        known = result.found.get(name)
        if known is None:
            decisions = schedule_of(guide, one)
            result.found[name] = Proved(name, decisions, guide.statistics.executions - 1)
        else:
            known.count += 1


def _led_to(guide: Dpor, broken: list[Broken], one: Broken) -> bool:
    """Whether another bug of the run happened before this one."""
    position = guide.position_of(one.step)
    if position is None:
        return len(broken) > 1 and one.outcome.culprit is None
    past = guide.events[position].past
    return any(
        other is not one and (index := guide.position_of(other.step)) is not None and past >> index & 1
        for other in broken
    )


def schedule_of(guide: Dpor, one: Broken) -> list[Decision]:
    """The schedule of a guided run up to a bug, as an ordinary simulation can follow it.

    Only steps that happened before the bug are kept: others may have broken, too, and would end an ordinary run.
    """
    position = guide.position_of(one.step) if one.outcome.culprit is not None else None
    decisions = []
    culprit = one.outcome.culprit.key if one.outcome.culprit is not None else ""
    for index, event in enumerate(guide.events):
        key, value = event.dep.elem
        if position is not None and index != position and not guide.events[position].past >> index & 1:
            chosen_since = value is not None and key == culprit and index > position
            if not chosen_since:  # what the culprit chose after its last step may be why it broke
                continue
        if value is not None:
            decisions.append(Decision(key, "choose", "", value))
        elif event.name != ARM.name:
            decisions.append(Decision(key, event.name, event.dep.actor))
    return decisions
