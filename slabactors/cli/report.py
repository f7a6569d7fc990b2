"""What explore and verify show of a finding, and how they can be interrupted."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any, Protocol

from slabactors.cli.output import counted, say
from slabactors.explore.finding import Choice, Finding, file_name
from slabactors.explore.finding import save as save_finding
from slabactors.explore.shrink import Shrunken
from slabactors.kernel.jiffies import HZ
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
        time=program.scenario.time,
        starvation=None if program.starvation_jiffies is None else program.starvation_jiffies / HZ,
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


def print_pipelined(executions: int) -> None:
    """Say that the order of messages was weaker than that of any queue, where it was."""
    if executions:
        say(
            f"  note: in {counted(executions, 'execution')} a path told an actor something while another one had not "
            "got what it was told before; such messages could overtake each other, which no queue allows"
        )


def print_report(number: int, report: Report) -> None:
    """One finding for a person."""
    finding = report.finding
    say()
    say(f"{number}. {finding.signature}")
    say(f"   {finding.message}")
    say(
        f"   in {counted(report.count, 'execution')}, first in number {finding.execution}; "
        f"shrunk from {counted(report.steps, 'step')} to {len(finding.schedule)} "
        f"with {counted(finding.preemptions, 'preemption')} ({report.shrunken.replays} replays)"
    )
    say()
    for line in report.table.render().splitlines():
        say(f"   {line}")
    if report.file is not None:
        say()
        say(f"   see it again: slabactors replay {report.file}")


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
