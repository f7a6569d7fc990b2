"""``slabactors why``."""

from __future__ import annotations

from pathlib import Path

from slabactors.cli import BUG
from slabactors.cli.output import say, say_json
from slabactors.cli.replay import opened, seen_again
from slabactors.trace.causality import tell
from slabactors.trace.race_table import race_table


def why_finding(file: Path, *, json: bool) -> int:
    """Tell the story of a finding."""
    finding, program = opened(file)
    again, bug = seen_again(finding, program)
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
