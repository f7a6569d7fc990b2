"""``slabactors replay``, and what every command needs that takes a finding's file."""

from __future__ import annotations

from pathlib import Path

from slabactors import __version__
from slabactors.cli import BUG
from slabactors.cli.once import logged, write_end
from slabactors.cli.output import counted, note, say, say_json
from slabactors.errors import FindingFileError, KernelBug, ReplayDiverged, UsageError
from slabactors.explore.finding import Finding, load, signature
from slabactors.explore.replay import replay
from slabactors.explore.shrink import Shrunken, replayed
from slabactors.scenario import BoundScenario, find
from slabactors.trace.race_table import race_table


def opened(file: Path) -> tuple[Finding, BoundScenario]:
    """A finding, and its program.

    Raises:
        FindingFileError: it is damaged, or cannot be run again here.
    """
    finding = load(file)
    try:
        program = find(finding.scenario).bind(lifecycle_name=finding.lifecycle, settings=finding.parameters)
    except UsageError as error:
        raise FindingFileError(
            f"{file} cannot be run again here: {error}\n"
            f"  It was found in {finding.scenario} under {finding.lifecycle} by slabactors {finding.program_version}; "
            "a file is looked for from the current directory."
        ) from error
    if program.scenario.digest != finding.scenario_digest:
        note(f"slabactors: the scenario {finding.scenario} has changed since {file} was written; it may not fit.")
    return finding, program


def seen_again(finding: Finding, program: BoundScenario) -> tuple[Shrunken, KernelBug]:
    """The finding's run, and its bug.

    Raises:
        ReplayDiverged: the schedule does not fit, or does not show the bug any more.
    """
    try:
        return _same_bug(finding, replayed(program, [choice.decision() for choice in finding.schedule]))
    except ReplayDiverged as error:
        error.add_note(
            f"  It was written by slabactors {finding.program_version}; this is {__version__}.\n"
            f"  Find it again: slabactors explore {finding.scenario} --lifecycle {finding.lifecycle} --save DIR"
        )
        raise


def _same_bug(finding: Finding, again: Shrunken) -> tuple[Shrunken, KernelBug]:
    bug = again.outcome.bug
    if bug is None or signature(again.outcome) != finding.signature:
        found = "the run ended without a bug" if bug is None else f"it showed {signature(again.outcome)!r}"
        raise ReplayDiverged(len(finding.schedule), repr(finding.signature), found)
    return again, bug


def replay_finding(file: Path, *, log: Path | None, json: bool) -> int:
    """Run the schedule strictly; exit 1 when it shows the bug again."""
    finding, program = opened(file)
    again, bug = seen_again(finding, program)
    if log is not None:
        with logged(log) as sink:
            sink.run(
                scenario=finding.scenario, lifecycle=finding.lifecycle, parameters=finding.parameters, replay=str(file)
            )
            execution = replay(program, again.whole_schedule, observer=sink)
            write_end(sink, execution.outcome, execution.world)
    table = race_table(again.history, bug.about)
    if json:
        say_json(
            {
                "scenario": finding.scenario,
                "lifecycle": finding.lifecycle,
                "reproduced": True,
                "signature": finding.signature,
                "kind": bug.kind,
                "message": bug.message,
                "preemptions": again.preemptions,
                "deliveries": again.outcome.deliveries,
                "steps": table.as_json(),
            }
        )
    else:
        say(f"{finding.scenario} under {finding.lifecycle}: reproduced in {counted(again.outcome.deliveries, 'step')}")
        say(f"  {finding.signature}")
        say(f"  {bug.message}")
        say()
        say(table.render())
    return BUG
