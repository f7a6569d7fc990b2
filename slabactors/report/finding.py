"""The report of one distinct bug."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slabactors.explore.finding import Finding
from slabactors.explore.lasso import Lasso
from slabactors.explore.racing import RacingPair
from slabactors.explore.shrink import Shrunken
from slabactors.report.looping import in_words, loop_json
from slabactors.report.racing import one_line, pair_json
from slabactors.report.words import counted
from slabactors.trace.race_table import RaceTable

__all__ = ["Report", "lines_of"]


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
        unkept: why it is not, when it was to be.
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
    unkept: str = ""

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


def replay_line(file: Path) -> str:
    """What to type to see the finding of a file again."""
    return f"slabactors replay {file}"


def lines_of(report: Report, again: Callable[[Path], str] = replay_line) -> list[str]:
    """A report for a person; what comes after the first line is indented.

    Args:
        report: of one bug.
        again: says what to type to see a finding's file again.
    """
    finding = report.finding
    lines = [
        finding.signature,
        f"   {finding.message}",
        (
            f"   in {counted(report.count, 'execution')}, first in number {finding.execution}; "
            f"shrunk from {counted(report.steps, 'step')} to {len(finding.schedule)} "
            f"with {preemptions_of(report.shrunken)} ({report.shrunken.replays} replays)"
        ),
    ]
    if report.reduced:
        settings = ", ".join(f"{name}={value}" for name, value in report.reduced.items())
        lines.append(f"   reduced to {settings}, as shown here")
    if report.pair is not None:
        lines += _wrapped(one_line(report.pair))
    if report.loop is not None:
        lines += _wrapped(in_words(report.loop))
    lines.append("")
    lines += [f"   {line}" for line in report.table.render().splitlines()]
    if report.file is not None:
        lines += ["", f"   see it again: {again(report.file)}"]
    elif report.unkept:
        lines += ["", *_wrapped(f"it cannot be replayed elsewhere: {report.unkept}")]
    return lines


def _wrapped(text: str) -> list[str]:
    return [f"   {line}" for line in textwrap.wrap(text, 110, subsequent_indent="  ", break_long_words=False)]


def preemptions_of(shrunken: Shrunken) -> str:
    """How many preemptions a bug takes, and whether it is known to take as many."""
    number = counted(shrunken.preemptions, "preemption")
    if not shrunken.preemptions:
        return number
    return f"{number}, and none with fewer" if shrunken.minimum else f"{number}, maybe fewer"
