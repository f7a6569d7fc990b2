"""Schedules that broke a program before: which of them still do."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from slabactors.errors import ReplayDiverged
from slabactors.explore.finding import Finding, signature
from slabactors.explore.program import Program
from slabactors.explore.replay import replay


class State(StrEnum):
    """What became of a known bug."""

    FAILS = "fails"
    PASSES = "passes"
    DIVERGES = "diverges"


@dataclass(frozen=True, slots=True)
class Known:
    """A bug that is known, after its schedule was run again.

    Attributes:
        finding: as it was kept.
        state: whether its schedule still shows it; ``diverges`` when it does not fit any more, which says nothing.
        detail: what happened instead; empty when it still fails.
    """

    finding: Finding
    state: State
    detail: str = ""


def replay_known(program: Callable[[Finding], Program], findings: Iterable[Finding]) -> list[Known]:
    """Run the schedules of known bugs again.

    Args:
        program: what a finding is of: it may have been made simpler than what was searched.
        findings: the bugs.
    """
    return [_again(program(finding), finding) for finding in findings]


def _again(program: Program, finding: Finding) -> Known:
    try:
        execution = replay(program, [choice.decision() for choice in finding.schedule])
    except ReplayDiverged as error:
        return Known(finding, State.DIVERGES, str(error))
    outcome = execution.outcome
    program.dispose(execution)
    if outcome.bug is None:
        return Known(finding, State.PASSES, "the run ends without a bug")
    if signature(outcome) != finding.signature:
        return Known(finding, State.PASSES, f"it shows {signature(outcome)!r} instead")
    return Known(finding, State.FAILS)
