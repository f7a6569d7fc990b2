"""What explore and verify show of a finding, and how they can be interrupted."""

from __future__ import annotations

import signal
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

from slabactors.cli.looping import in_words, loop_json
from slabactors.cli.output import counted, say
from slabactors.cli.racing import one_line, pair_json
from slabactors.explore.campaign import SearchResult
from slabactors.explore.finding import Finding, file_name
from slabactors.explore.finding import save as save_finding
from slabactors.explore.lasso import Lasso
from slabactors.explore.racing import RacingPair
from slabactors.explore.shrink import Shrunken
from slabactors.trace.race_table import RaceTable


@dataclass(slots=True)
class Report:
    """A finding with what its report shows.

    Attributes:
        finding: what is kept in a file.
        count: executions that showed it.
        steps: how many steps the first of them had.
        shrunken: the shortest schedule found.
        table: the steps that matter.
        reduced: settings that are smaller than those that were searched with.
        pair: the two steps whose order it was, if they were found.
        loop: what goes on for ever, for a bug that was found when the run was over.
        file: where the finding is kept, if it is.
    """

    finding: Finding
    count: int
    steps: int
    shrunken: Shrunken
    table: RaceTable
    reduced: dict[str, int]
    pair: RacingPair | None
    loop: Lasso | None = None
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
            "parameters": self.finding.parameters,
            "racing_pair": pair_json(self.pair) if self.pair is not None else None,
            "loop": loop_json(self.loop) if self.loop is not None else None,
            "steps": self.table.as_json(),
            "schedule": self.finding.schedule,
            "file": str(self.file) if self.file is not None else None,
        }


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
        f"with {preemptions_of(report.shrunken)} ({report.shrunken.replays} replays)"
    )
    if report.reduced:
        say(f"   reduced to {', '.join(f'{name}={value}' for name, value in report.reduced.items())}, as shown here")
    if report.pair is not None:
        for line in textwrap.wrap(one_line(report.pair), 110, subsequent_indent="  ", break_long_words=False):
            say(f"   {line}")
    if report.loop is not None:
        for line in textwrap.wrap(in_words(report.loop), 110, subsequent_indent="  ", break_long_words=False):
            say(f"   {line}")
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


def print_no_bug(result: SearchResult) -> None:
    """The last word of a random search that has found none."""
    if result.verdict == "clean":
        say(f"No bug in {counted(result.executions, 'execution')}.  That is not a proof.")
    elif result.finished:
        say(f"Undetermined: {result.bounded} of {result.executions} executions hit the bound on steps.")
    else:
        say("Undetermined: interrupted before a bug was found.")


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
