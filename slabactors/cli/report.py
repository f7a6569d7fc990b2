"""What explore and verify show of a finding, and how they can be interrupted."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

from slabactors.cli.output import say
from slabactors.explore.campaign import SearchResult
from slabactors.explore.finding import file_name
from slabactors.explore.finding import save as save_finding
from slabactors.report.finding import Report, lines_of
from slabactors.report.words import counted


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
    first, *rest = lines_of(report)
    say()
    say(f"{number}. {first}")
    for line in rest:
        say(line)


def print_no_bug(result: SearchResult) -> None:
    """The last word of a random search that has found none."""
    if result.verdict == "clean":
        say(f"No bug in {counted(result.executions, 'execution')}.  That is not a proof.")
    elif result.finished:
        say(f"Undetermined: {result.bounded} of {result.executions} executions hit the bound on steps.")
        say("  Who goes on in one of them: slabactors run TARGET, with the same options.")
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
