"""What explore and verify show of a finding, and how they can be interrupted."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any, Protocol, TypeVar

from slabactors.cli.output import counted, note, say
from slabactors.errors import NondeterminismError, ReplayDiverged
from slabactors.explore.fewest import Budget
from slabactors.explore.finding import Choice, Finding, file_name
from slabactors.explore.finding import save as save_finding
from slabactors.explore.shrink import Shrunken
from slabactors.scenario import BoundScenario
from slabactors.trace.race_table import RaceTable, race_table


@dataclass(slots=True)
class Report:
    """A finding with what its report shows.

    Attributes:
        finding: what is kept in a file.
        count: executions that showed it.
        steps: how many steps the first of them had.
        shrunken: the shortest schedule found.
        table: the steps that matter.
        file: where the finding is kept, if it is.
    """

    finding: Finding
    count: int
    steps: int
    shrunken: Shrunken
    table: RaceTable
    file: Path | None = None

    def as_json(self) -> dict[str, Any]:
        """The finding as ``--json`` prints it."""
        return {
            "signature": self.finding.signature,
            "kind": self.finding.kind,
            "message": self.finding.message,
            "count": self.count,
            "first_execution": self.finding.execution,
            "preemptions": self.finding.preemptions,
            "preemptions_minimum": self.shrunken.minimum,
            "steps": self.table.as_json(),
            "schedule": self.finding.schedule,
            "file": str(self.file) if self.file is not None else None,
        }


class Seen(Protocol):
    """A distinct bug, as a search saw it."""

    @property
    def signature(self) -> str:
        """What it is called."""
        ...

    @property
    def execution(self) -> int:
        """The first execution that showed it."""
        ...

    @property
    def count(self) -> int:
        """How many executions did."""
        ...


S = TypeVar("S", bound=Seen)


def make_report(
    program: BoundScenario, shrunken: Shrunken, found: Seen, *, steps: int, strategy: str, seed: int
) -> Report:
    """Make a bug's finding, and its table.

    Args:
        program: what was searched.
        shrunken: the shortest schedule of the bug.
        found: the bug as the search saw it.
        steps: how many steps the execution had that showed it first.
        strategy: what found it.
        seed: of the search.
    """
    bug = shrunken.outcome.bug
    assert bug is not None
    finding = Finding(
        scenario=program.scenario.name,
        scenario_digest=program.scenario.digest,
        lifecycle=program.lifecycle.name,
        parameters=program.settings,
        strategy=strategy,
        seed=seed,
        execution=found.execution,
        signature=found.signature,
        kind=bug.kind,
        message=bug.message,
        preemptions=shrunken.preemptions,
        schedule=[Choice(one.path, one.operation, one.actor, one.value) for one in shrunken.decisions],
    )
    return Report(finding, found.count, steps, shrunken, race_table(shrunken.history, bug.about))


def shrink_each(
    program: BoundScenario,
    found: list[S],
    shorten: Callable[[S, Budget], tuple[Shrunken, int]],
    *,
    strategy: str,
    seed: int,
) -> list[Report]:
    """Shrink every bug of a search, and report it.

    The first Ctrl-C ends it with the best schedule so far of each bug, another one with the bugs that are done.

    Args:
        program: what was searched.
        found: its bugs.
        shorten: gives the best schedule of a bug that a budget allows, and how many steps it had when it was found.
        strategy: what found them.
        seed: of the search.
    """
    reports: list[Report] = []
    try:
        with interruptible() as interrupted:
            for one in found:
                try:
                    shrunken, steps = shorten(one, Budget(stop=interrupted.is_set))
                except (ReplayDiverged, NondeterminismError) as error:
                    if strategy != "dpor":
                        raise
                    # An exhaustive search goes on after a bug, and may meet one that no ordinary run shows.
                    note(f"slabactors: {one.signature} was found, but its schedule cannot be shown: {error}")
                    continue
                reports.append(make_report(program, shrunken, one, steps=steps, strategy=strategy, seed=seed))
            if interrupted.is_set():
                note("slabactors: interrupted; the schedules shown are the best so far.")
    except KeyboardInterrupt:
        note(f"slabactors: interrupted; {len(reports)} of {counted(len(found), 'distinct bug')} are shown.")
    return reports


def save_all(reports: list[Report], directory: Path) -> None:
    """Write every finding's file."""
    for report in reports:
        file = directory / file_name(report.finding)
        save_finding(report.finding, file)
        report.file = file


def print_unreached(sometimes: dict[str, bool]) -> None:
    """Say which checkers had nothing to check."""
    for text, reached in sometimes.items():
        if not reached:
            say(f"  note: in no execution {text.partition(': ')[2]}, so {text.partition(':')[0]} had nothing to check")


def print_report(number: int, report: Report) -> None:
    """One finding for a person."""
    finding = report.finding
    say()
    say(f"{number}. {finding.signature}")
    say(f"   {finding.message}")
    say(
        f"   in {counted(report.count, 'execution')}, first in number {finding.execution}; "
        f"shrunk from {counted(report.steps, 'step')} to {len(finding.schedule)} "
        f"with {preemptions_of(report.shrunken)} ({report.shrunken.replays} replays)"
    )
    say()
    for line in report.table.render().splitlines():
        say(f"   {line}")
    if report.file is not None:
        say()
        say(f"   see it again: slabactors replay {report.file}")


def preemptions_of(shrunken: Shrunken) -> str:
    """How many preemptions a bug takes, and whether it is known to take as many."""
    number = counted(shrunken.preemptions, "preemption")
    if not shrunken.preemptions:
        return number
    return f"{number}, and none with fewer" if shrunken.minimum else f"{number}, maybe fewer"


@contextmanager
def interruptible() -> Iterator[Event]:
    """Let the first Ctrl-C say that it is time to stop, between two runs; another one interrupts at once."""
    interrupted = Event()

    def note_it(*_: object) -> None:
        interrupted.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = signal.signal(signal.SIGINT, note_it)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)
