"""``slabactors report``."""

from __future__ import annotations

import json as json_text
import webbrowser
from pathlib import Path
from typing import Any

from slabactors.cli import FINE
from slabactors.cli.output import note, say, say_json, write_whole
from slabactors.cli.replay import opened, seen_again
from slabactors.errors import UsageError
from slabactors.explore.finding import Finding
from slabactors.explore.lasso import lasso
from slabactors.explore.racing import RacingPair, decisive, racing_pairs
from slabactors.report.html.document import Telling, document_of
from slabactors.report.html.page import page_of
from slabactors.report.html.recording import Recording, of_finding, of_log, protocol_of, story_of
from slabactors.report.html.search import search_of
from slabactors.report.looping import in_words
from slabactors.report.racing import sentences
from slabactors.report.words import counted
from slabactors.trace.race_table import race_table
from slabactors.trace.reader import LogReader, RunLine


def write_report(file: Path, *, output: Path | None, show: bool, json: bool) -> int:
    """Make the page of a finding or of a log."""
    recording, telling = of_file(file)
    target = output or file.with_suffix(".html")
    if target.exists() and target.samefile(file):
        raise UsageError(f"{target} is what the report is made of.\n  Give another file: -o FILE.html")
    page = page_of(document_of(recording, telling))
    size = len(page.encode())
    write_whole(target, page, "-o")
    for text in telling.notes:
        note(f"slabactors: {text}")
    steps = len(recording.steps)
    if json:
        say_json({"file": str(target), "title": telling.title, "steps": steps, "bytes": size})
    else:
        say(f"{target}: {telling.title}, {counted(steps, 'step')}, {size / 1024:,.0f} KiB")
    if show:
        _open(target)
    return FINE


def _open(target: Path) -> None:
    try:
        opened_it = webbrowser.get().open(target.resolve().as_uri())
    except (webbrowser.Error, OSError):
        opened_it = False
    if not opened_it:
        note(f"slabactors: no browser could be started here; open {target} in one.")


def of_file(file: Path) -> tuple[Recording, Telling]:
    """The run that a file stands for, and what is told of it.

    Raises:
        UsageError: it is neither a finding nor a log, or is damaged, or cannot be run again here.
    """
    if _is_log(file):
        return _of_log(file)
    finding, program = opened(file)
    again, bug = seen_again(finding, program)
    pairs = racing_pairs(program, again, until_decisive=True)
    pair = decisive(pairs, finding.signature)
    loop = lasso(program, again.decisions) if again.outcome.culprit is None else None
    recording = of_finding(program, again)
    telling = Telling(
        title=f"{finding.scenario} under {finding.lifecycle}",
        facts=_facts_of(finding),
        story=program.scenario.story,
        protocol=protocol_of(program.lifecycle),
        bug=(finding.signature, bug.message),
        pair=None if pair is None else (sentences(pair, finding.signature), _steps_of(pair)),
        loop=None if loop is None else in_words(loop),
        table=race_table(again.history, bug.about),
        search=search_of(finding, file),
    )
    return recording, telling


def _is_log(file: Path) -> bool:
    """Whether a file is meant to be a log: its first line is an event, or its name says so."""
    try:
        with file.open("rb") as stream:
            first = stream.readline(1 << 20)
    except OSError as error:
        raise UsageError(
            f"cannot read {file}: {error.strerror}.\n"
            "  Give a finding (slabactors explore TARGET --save DIR) or a log (slabactors run TARGET --log FILE.jsonl)."
        ) from error
    try:
        facts = json_text.loads(first)
    except (ValueError, RecursionError):
        return file.suffix == ".jsonl"
    return file.suffix == ".jsonl" or (isinstance(facts, dict) and "event" in facts)


def _steps_of(pair: RacingPair) -> list[int]:
    return [pair.first.index] if pair.to_come else [pair.first.index, pair.second.index]


def _of_log(file: Path) -> tuple[Recording, Telling]:
    with LogReader(file) as log:
        recording = of_log(log)
        run = log.run
    end = recording.end
    notes = []
    if recording.cut or end is None:
        notes.append(f"{file.name} is not whole: its run was still going on, or was stopped; shown is what there is.")
    bug = None if end is None or end.signature is None else (end.signature, end.message or "")
    telling = Telling(
        title=f"{run.scenario or run.trace or file.name} under {run.lifecycle or 'an unknown lifecycle'}",
        facts=_facts_of_log(run, recording),
        story=story_of(run),
        protocol=_protocol(run),
        bug=bug,
        notes=notes,
    )
    return recording, telling


def _protocol(run: RunLine) -> str | None:
    from slabactors.lifecycle import LIFECYCLES

    return protocol_of(LIFECYCLES[run.lifecycle]()) if run.lifecycle in LIFECYCLES else None


def _parameters(parameters: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in parameters.items()) or "defaults"


def _facts_of(finding: Finding) -> list[tuple[str, str]]:
    minimum = ", and none with fewer shows it" if finding.preemptions_minimum and finding.preemptions else ""
    starvation = "" if finding.starvation is None else f", nobody waits longer than {finding.starvation:g} s for it"
    return [
        ("Scenario", finding.scenario),
        ("Lifecycle", finding.lifecycle),
        ("Parameters", _parameters(finding.parameters)),
        ("Kind of bug", finding.kind.value),
        ("Timers", f"{finding.time.value}{starvation}"),
        (
            "Schedule",
            f"{counted(len(finding.schedule), 'decision')}, {counted(finding.preemptions, 'preemption')}{minimum}",
        ),
        ("Found by", f"slabactors {finding.program_version}"),
    ]


def _facts_of_log(run: RunLine, recording: Recording) -> list[tuple[str, str]]:
    facts = [
        ("Scenario", run.scenario),
        ("Trace", run.trace),
        ("Replay of", run.replay),
        ("Lifecycle", run.lifecycle),
        ("Parameters", _parameters(run.parameters) if run.scenario else None),
        ("Runtime", run.runtime),
        ("Seed", None if run.seed is None else str(run.seed)),
        ("Ended", _ending(recording)),
        ("Written by", None if run.version is None else f"slabactors {run.version}"),
    ]
    return [(name, value) for name, value in facts if value is not None]


def _ending(recording: Recording) -> str:
    end = recording.end
    if end is None:
        return "not in the log"
    words = {"done": "by itself", "bug": "with a bug", "bound": "at the bound on steps"}
    return f"{words.get(end.ending, end.ending)}, after {end.seconds:.2f} virtual seconds"
