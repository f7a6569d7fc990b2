"""``slabactors replay`` and ``slabactors why``."""

from __future__ import annotations

from pathlib import Path

from slabactors.cli import BUG
from slabactors.cli.output import note, say, say_json
from slabactors.cli.run import logged, write_end
from slabactors.errors import ReplayDiverged
from slabactors.explore.finding import Finding, load, signature
from slabactors.explore.replay import replay
from slabactors.explore.shrink import Shrunken, replayed
from slabactors.scenario import BoundScenario, find
from slabactors.trace.causality import tell
from slabactors.trace.race_table import race_table


def _open(file: Path) -> tuple[Finding, BoundScenario]:
    finding = load(file)
    program = find(finding.scenario).bind(lifecycle_name=finding.lifecycle, settings=finding.parameters)
    if program.scenario.digest != finding.scenario_digest:
        note(f"slabactors: the scenario {finding.scenario} has changed since {file} was written; it may not fit.")
    return finding, program


def _again(finding: Finding, program: BoundScenario) -> Shrunken:
    return replayed(program, [choice.decision() for choice in finding.schedule])


def replay_finding(file: Path, *, log: Path | None, json: bool) -> int:
    """Run the schedule strictly; exit 1 when it shows the bug again."""
    finding, program = _open(file)
    if log is not None:
        with logged(log) as sink:
            sink.run(
                scenario=finding.scenario, lifecycle=finding.lifecycle, parameters=finding.parameters, replay=str(file)
            )
            execution = replay(program, [choice.decision() for choice in finding.schedule], observer=sink)
            write_end(sink, execution.outcome, execution.world)
    again = _again(finding, program)
    bug = again.outcome.bug
    if bug is None or signature(again.outcome) != finding.signature:
        found = "the run ended without a bug" if bug is None else f"it showed {signature(again.outcome)!r}"
        raise ReplayDiverged(len(finding.schedule), repr(finding.signature), found)
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
        say(f"{finding.scenario} under {finding.lifecycle}: reproduced in {again.outcome.deliveries} steps")
        say(f"  {finding.signature}")
        say(f"  {bug.message}")
        say()
        say(table.render())
    return BUG


def why_finding(file: Path, *, json: bool) -> int:
    """Tell the story of a finding."""
    finding, program = _open(file)
    again = _again(finding, program)
    bug = again.outcome.bug
    if bug is None:
        raise ReplayDiverged(len(finding.schedule), repr(finding.signature), "the run ended without a bug")
    table = race_table(again.history, bug.about)
    chain = tell(again.history, [row.step for row in table.rows])
    if json:
        say_json(
            {
                "signature": finding.signature,
                "kind": bug.kind,
                "message": bug.message,
                "chain": [link.as_json() for link in chain],
                "steps": table.as_json(),
            }
        )
        return BUG
    say(f"{finding.signature}")
    say(f"  {bug.message}")
    say()
    say("What led to it, each step with the steps of others that it depends on:")
    for link in chain:
        say(f"  {link.text}")
    say()
    say(table.render())
    return BUG
