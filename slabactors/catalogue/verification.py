"""One cell of the matrix: is a bug of the catalogue in a generation of the protocol, and with how few preemptions?

Where history has it, it is looked for at random, and then with no preemption, with one ..., for the fewest that show
it.  Where history does not, and where looking at random fails, everything is explored: with timers that fire at any
moment, else with such that fire when nothing else can move, else all schedules with so few preemptions.  All budgets
are in steps and executions: a cell comes out the same on any machine.
"""

from __future__ import annotations

import time as wall
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from math import inf
from typing import Final

from slabactors.catalogue.entry import Entry, Expected
from slabactors.catalogue.metered import Metered
from slabactors.errors import Kind
from slabactors.explore.bounded import BoundedResult, search_bounded
from slabactors.explore.campaign import Found, search_until_broken
from slabactors.explore.dpor import Statistics
from slabactors.explore.fewest import Budget
from slabactors.explore.shrink import shrink
from slabactors.explore.verify import Verification, verify
from slabactors.runtime.step import TimePolicy
from slabactors.scenario import BoundScenario

__all__ = ["Cell", "Verdict", "examine"]

SAMPLES: Final = 2000
"""Executions at random in which a bug has to show that is there."""

BOUND: Final = 2
"""Preemptions within which all schedules are tried."""

STEPS: Final = 200_000
"""Steps that each search may take: some thousand executions of a small story."""

SHRINK_REPLAYS: Final = 300
"""Executions to make a schedule small, where the fewest preemptions are not known."""

Stop = Callable[[], bool]


class Verdict(StrEnum):
    """What came of a cell."""

    FOUND = "found"
    CLEAN = "clean"
    NOT_APPLICABLE = "not-applicable"
    UNDETERMINED = "undetermined"


@dataclass
class Cell:
    """A bug and a lifecycle.

    Attributes:
        bug: number in the catalogue.
        lifecycle: its name.
        expected: what history says; None when it says nothing.
        verdict: what came of it.
        reason: why it is not applicable.
        signature: of the finding that is this bug.
        kind: its class.
        executions: at random until it was found; None when only a search of everything found it.
        preemptions: the fewest that show it, as far as is known.
        fewest: it is proved that none fewer do.
        how: what was explored for ``clean``: ``adversarial`` or ``quiescent`` time, or ``preemptions``.
        bound: the preemptions up to which all schedules were explored, where not everything was.
        explored: executions of that search.
        others: signatures of other bugs that were met on the way.
        interrupted: it was told to stop.
        seconds: wall time.
    """

    bug: str
    lifecycle: str
    expected: Expected | None
    verdict: Verdict = Verdict.UNDETERMINED
    reason: str = ""
    signature: str = ""
    kind: Kind | None = None
    executions: int | None = None
    preemptions: int | None = None
    fewest: bool = False
    how: str = ""
    bound: int | None = None
    explored: int = 0
    others: list[str] = field(default_factory=list)
    interrupted: bool = False
    seconds: float = 0.0

    @property
    def differs(self) -> bool:
        """History says something else."""
        match self.expected:
            case Expected.FOUND:
                return self.verdict is not Verdict.FOUND and not self.interrupted
            case Expected.CLEAN:
                return self.verdict is Verdict.FOUND
            case _:
                return False


def examine(entry: Entry, lifecycle: str, *, stop: Stop = lambda: False) -> Cell:
    """Find out about one cell.

    Args:
        entry: the bug and its story.
        lifecycle: name of a shipped one, or one of a file.
        stop: asked now and then; true ends it with what there is.

    Raises:
        UsageError: the lifecycle or the story is broken.
        NondeterminismError: the story does not repeat itself.
    """
    expected = entry.bug.expected(lifecycle)
    cell = Cell(entry.bug.id, lifecycle, expected)
    if expected is Expected.NOT_APPLICABLE:
        cell.verdict = Verdict.NOT_APPLICABLE
        cell.reason = entry.bug.not_applicable[lifecycle]
        return cell
    started = wall.monotonic()
    program = entry.scenario.bind(lifecycle_name=lifecycle)
    _Examination(cell, entry.bug.is_this, program, stop).run()
    cell.seconds = wall.monotonic() - started
    return cell


class _Examination:
    """The searches of one cell, one after the other until one of them is decisive."""

    def __init__(self, cell: Cell, is_this: Callable[[str], bool], program: BoundScenario, stop: Stop) -> None:
        self.cell = cell
        self.is_this = is_this
        self.program = program
        self.stop = stop
        self.sampled: Found | None = None

    def run(self) -> None:
        cell = self.cell
        if cell.expected is not Expected.CLEAN:
            self.sample()
        if cell.verdict is Verdict.UNDETERMINED and not self.stop():
            self.explore()
        if cell.verdict is Verdict.FOUND and cell.preemptions is None:
            self.find_fewest()
        cell.interrupted = cell.verdict is Verdict.UNDETERMINED and self.stop()

    def take(self, signatures: Iterable[str]) -> str | None:
        """Note what a search has found, and give the first that is this bug."""
        cell = self.cell
        this = next(filter(self.is_this, signatures), None)
        cell.others += [name for name in signatures if not self.is_this(name) and name not in cell.others]
        if this is not None:
            cell.verdict, cell.signature, cell.kind = Verdict.FOUND, this, Kind(this.partition(":")[0])
        return this

    def metered(self) -> Metered:
        """The program with what one search may take."""
        return Metered(self.program, STEPS, self.stop)

    def sample(self) -> None:
        """At random."""
        found: dict[str, Found] = {}
        program = self.metered()
        for result in search_until_broken(program, strategy="portfolio", runs=SAMPLES, wanted=self.is_this):
            found = result.found
            if program.spent():
                break
        this = self.take(found)
        if this is not None:
            self.sampled = found[this]
            self.cell.executions = self.sampled.execution + 1

    def explore(self) -> None:
        """Everything, or as much as there is a budget for; it ends when the bug is found."""
        cell = self.cell
        policies = dict.fromkeys((self.program.scenario.time, TimePolicy.QUIESCENT))
        for policy in policies:
            program = self.metered()
            searched = Verification(Statistics())
            for searched in verify(program, time=policy, search="auto", stop=program.spent):
                if any(map(self.is_this, searched.found)):
                    break
            cell.how, cell.explored = policy.value, searched.statistics.executions
            found = self.take(searched.found) is not None
            if searched.exhaustive and not found:
                cell.verdict = Verdict.CLEAN
            if found or searched.exhaustive or self.stop():
                return
        within = self.bounded()
        cell.how, cell.explored = "preemptions", within.result.executions
        if cell.verdict is not Verdict.FOUND and within.exhausted >= 0 and not within.result.bounded:
            cell.verdict, cell.bound = Verdict.CLEAN, within.exhausted

    def bounded(self) -> BoundedResult:
        """All schedules with no preemption, with one ..., until one shows the bug: none with fewer does."""
        program = self.metered()
        *_, within = search_bounded(program, bound=BOUND, stop=program.spent, wanted=self.is_this)
        this = self.take(within.result.found)
        if this is not None:
            self.cell.preemptions, self.cell.fewest = within.first_bound[this], not within.result.bounded
        return within

    def find_fewest(self) -> None:
        """With how few preemptions it shows; else with how few the schedule at hand does when it is made small."""
        within = self.bounded()
        cell = self.cell
        if cell.preemptions is not None or self.sampled is None or self.stop():
            return
        budget = Budget(SHRINK_REPLAYS, inf, self.stop)
        cell.preemptions = shrink(self.program, self.sampled.record, self.sampled.signature, budget=budget).preemptions
        cell.fewest = cell.preemptions == within.exhausted + 1
