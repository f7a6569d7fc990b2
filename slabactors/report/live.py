"""What is told of a live machine when something went wrong on it, and the file that the simulator can replay."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from slabactors.calls import program_of
from slabactors.errors import KernelBug, OutputError, ReplayDiverged, UsageError
from slabactors.explore.fewest import Fewest
from slabactors.explore.finding import Finding, file_name, save, signature
from slabactors.explore.replay import replay
from slabactors.explore.runs import replayed
from slabactors.report.finding import Report, replay_line
from slabactors.report.shrinking import LIVE, SeenLive, make_finding, reports_of, shorten_decisions
from slabactors.report.words import counted
from slabactors.runtime.step import Decision
from slabactors.runtime.turns import Turn
from slabactors.scenario import BoundScenario

SHRINKING_SECONDS: Final = 5.0
"""A test that fails should say so soon; the set-up is part of the schedule here, and proofs about it take long."""


def reports_of_live(
    program: BoundScenario,
    decisions: list[Decision],
    turns: list[Turn],
    name: str,
    bug: KernelBug,
    *,
    seed: int,
    directory: Path | None,
) -> list[Report]:
    """What the simulator makes of a run that broke.

    Args:
        program: its calls.
        decisions: its schedule.
        turns: its calls as a file holds them.
        name: the bug's signature.
        bug: what broke.
        seed: of the run.
        directory: where the finding is to be kept; None for nowhere.

    Raises:
        UsageError: the simulator cannot repeat it.
    """
    found = [SeenLive(name, 0, decisions, bug.kind, bug.message)]
    shorten, fewest = partial(shorten_decisions, program), Fewest(program)
    reasons: list[str] = []
    reports = reports_of(
        program, found, shorten, fewest, strategy=LIVE, seed=seed, seconds=SHRINKING_SECONDS, note=reasons.append
    )
    made = list(reports)
    if not made:
        raise UsageError(*reasons)
    for report in made:
        report.finding = msgspec.structs.replace(report.finding, calls=turns)
        if directory is not None:
            try:
                report.file = _kept(report.finding, directory)
            except (UsageError, OutputError) as reason:
                report.unkept = str(reason).partition("\n")[0]
    return made


def text_of_left(
    program: BoundScenario,
    decisions: list[Decision],
    turns: list[Turn],
    *,
    seed: int,
    directory: Path | None,
) -> str:
    """What is told of a run on which something else failed than the machine: where, and how to see the run again.

    Args:
        program: its calls, and at their end what failed.
        decisions: its schedule.
        turns: its calls as a file holds them.
        seed: of the run.
        directory: where the finding is to be kept; None for nowhere.

    Raises:
        UsageError: the simulator cannot repeat it.
        OutputError: it cannot be kept.
    """
    try:
        again = replayed(program, decisions)
    except ReplayDiverged as error:
        raise UsageError(str(error)) from error
    bug = again.outcome.bug
    assert bug is not None, "the last turn raises"
    seen = SeenLive(signature(again.outcome), 0, decisions, bug.kind, bug.message)
    finding = make_finding(program, again, seen, strategy=LIVE, seed=seed)
    lines = [bug.message, f"   after {counted(len(decisions) - 1, 'step')} of the live machine, which was in order"]
    if directory is not None:
        file = _kept(msgspec.structs.replace(finding, calls=turns), directory)
        lines.append(f"   see its run again: {replay_line(file)}")
    return "\n".join(lines)


def _kept(finding: Finding, directory: Path) -> Path:
    """The file of a finding, once what it says has been seen to be the same bug.

    Raises:
        UsageError: no other process could call what was called.
        OutputError: it cannot be written.
    """
    try:
        read = msgspec.json.decode(msgspec.json.encode(finding), type=Finding)
        again = replay(program_of(read), [choice.decision() for choice in read.schedule])
    except (msgspec.MsgspecError, ReplayDiverged) as error:
        raise UsageError(str(error)) from error
    if again.outcome.bug is None or signature(again.outcome) != finding.signature:
        found = "no bug" if again.outcome.bug is None else again.outcome.bug.message
        raise UsageError(f"called again from a file, the paths show {found}")
    file = directory / file_name(finding)
    save(finding, file)
    return file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file
