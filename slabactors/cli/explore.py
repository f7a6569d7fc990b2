"""``slabactors explore``."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from pathlib import Path
from threading import Event
from typing import Any

from slabactors.cli import BUG, FINE, UNDETERMINED
from slabactors.cli.output import Progress, counted, note, say, say_json
from slabactors.errors import OutputError, UsageError
from slabactors.explore.campaign import Found, SearchResult, search
from slabactors.explore.finding import Choice, Finding, check_directory, file_name
from slabactors.explore.finding import save as save_finding
from slabactors.explore.shrink import Shrunken, shrink
from slabactors.scenario import BoundScenario, find
from slabactors.trace.race_table import RaceTable, race_table


@dataclass(slots=True)
class Report:
    """A finding with what its report shows."""

    finding: Finding
    found: Found
    shrunken: Shrunken
    table: RaceTable
    file: Path | None = None


def explore_scenario(
    target: str,
    lifecycle: str | None,
    settings: list[str],
    *,
    seed: int,
    strategy: str,
    runs: int,
    seconds: float | None,
    save: Path | None,
    json: bool,
) -> int:
    """Search, shrink what was found, print it, and keep it if asked to."""
    if runs < 1:
        raise UsageError(f"--runs must be at least 1, not {runs}.\n  Type for example: --runs 10000")
    if seconds is not None and not 0 < seconds < inf:
        raise UsageError(f"--time is in seconds and must be more than 0, not {seconds}.\n  Type for example: --time 10")
    program = find(target).bind(lifecycle_name=lifecycle, settings=settings)
    if save is not None:
        check_directory(save)  # now, and not after a search of an hour
    result = run_search(program, strategy=strategy, seed=seed, runs=runs, seconds=seconds)
    reports = shrink_all(program, result, strategy, seed)
    unsaved: OutputError | None = None
    if save is not None:
        try:
            save_all(reports, save)
        except OutputError as error:
            unsaved = error  # what was found is printed first
    if json:
        say_json(as_json(program, result, reports, strategy, seed))
    else:
        print_result(program, result, reports)
    if unsaved is not None:
        raise unsaved
    return {"broken": BUG, "clean": FINE}.get(result.verdict, UNDETERMINED)


def run_search(
    program: BoundScenario, *, strategy: str, seed: int, runs: int, seconds: float | None = None
) -> SearchResult:
    """Search with a progress bar; Ctrl-C ends it with what was found so far."""
    result = SearchResult()
    with interruptible() as interrupted, Progress(f"explore {program.scenario.name}", runs) as progress:
        for result in search(
            program, strategy=strategy, seed=seed, runs=runs, seconds=seconds, stop=interrupted.is_set
        ):
            progress.update(result.executions, len(result.found))
    if not result.finished:
        note(f"slabactors: interrupted after {counted(result.executions, 'execution')}; this is what was found so far.")
    return result


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


def shrink_all(program: BoundScenario, result: SearchResult, strategy: str, seed: int) -> list[Report]:
    """Shrink every bug; Ctrl-C ends it with those that are done."""
    reports: list[Report] = []
    try:
        for found in result.found.values():
            reports.append(report_of(program, found, strategy, seed))  # noqa: PERF401 -- those so far are kept
    except KeyboardInterrupt:
        note(f"slabactors: interrupted; {len(reports)} of {counted(len(result.found), 'distinct bug')} are shown.")
    return reports


def report_of(program: BoundScenario, found: Found, strategy: str, seed: int) -> Report:
    """Shrink a bug and make its finding."""
    shrunken = shrink(program, found.record, found.signature)
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
    return Report(finding, found, shrunken, race_table(shrunken.history, bug.about))


def save_all(reports: list[Report], directory: Path) -> None:
    """Write every finding's file."""
    for report in reports:
        file = directory / file_name(report.finding)
        save_finding(report.finding, file)
        report.file = file


def as_json(
    program: BoundScenario, result: SearchResult, reports: list[Report], strategy: str, seed: int
) -> dict[str, Any]:
    """The result as ``--json`` prints it."""
    return {
        "scenario": program.scenario.name,
        "lifecycle": program.lifecycle.name,
        "parameters": program.settings,
        "strategy": strategy,
        "seed": seed,
        "executions": result.executions,
        "deliveries": result.deliveries,
        "seconds": round(result.seconds, 3),
        "bounded": result.bounded,
        "exhaustive": False,
        "verdict": result.verdict,
        "sometimes": result.sometimes,
        "findings": [
            {
                "signature": report.finding.signature,
                "kind": report.finding.kind,
                "message": report.finding.message,
                "count": report.found.count,
                "first_execution": report.found.execution,
                "preemptions": report.finding.preemptions,
                "steps": report.table.as_json(),
                "schedule": report.finding.schedule,
                "file": str(report.file) if report.file is not None else None,
            }
            for report in reports
        ],
    }


def print_result(program: BoundScenario, result: SearchResult, reports: list[Report]) -> None:
    """The result for a person."""
    rate = result.executions / result.seconds if result.seconds else 0
    say(
        f"{program.scenario.name} under {program.lifecycle.name}: {counted(result.executions, 'execution')}, "
        f"{counted(result.deliveries, 'step')}, {result.seconds:.1f} s ({rate:,.0f} executions/s)"
    )
    for text, reached in result.sometimes.items():
        if not reached:
            say(f"  note: in no execution {text.partition(': ')[2]}, so {text.partition(':')[0]} had nothing to check")
    for number, report in enumerate(reports, 1):
        print_report(number, report)
    match result.verdict:
        case "clean":
            say(f"No bug in {counted(result.executions, 'execution')}.  That is not a proof.")
        case "undetermined" if result.finished:
            say(f"Undetermined: {result.bounded} of {result.executions} executions hit the bound on steps.")
        case "undetermined":
            say("Undetermined: interrupted before a bug was found.")
        case _:
            say()
            say(f"{counted(len(result.found), 'distinct bug')}.")


def print_report(number: int, report: Report) -> None:
    """One finding for a person."""
    finding, found = report.finding, report.found
    say()
    say(f"{number}. {finding.signature}")
    say(f"   {finding.message}")
    say(
        f"   in {counted(found.count, 'execution')}, first in number {found.execution}; "
        f"shrunk from {counted(len(found.record), 'step')} to {len(finding.schedule)} "
        f"with {counted(finding.preemptions, 'preemption')} ({report.shrunken.replays} replays)"
    )
    say()
    for line in report.table.render().splitlines():
        say(f"   {line}")
    if report.file is not None:
        say()
        say(f"   see it again: slabactors replay {report.file}")
