"""``slabactors why``."""

from __future__ import annotations

import textwrap
from pathlib import Path

from slabactors.cli import BUG
from slabactors.cli.output import say, say_json, write_whole
from slabactors.cli.replay import opened, seen_again
from slabactors.explore.lasso import lasso
from slabactors.explore.racing import RacingPair, decisive, racing_pairs
from slabactors.report.looping import in_words, loop_json
from slabactors.report.racing import pair_json, sentences
from slabactors.trace.causality import tell
from slabactors.trace.formats.mermaid import sequence_diagram
from slabactors.trace.race_table import race_table


def why_finding(file: Path, *, mermaid: Path | None, json: bool) -> int:
    """Tell the story of a finding."""
    finding, program = opened(file)
    again, bug = seen_again(finding, program)
    table = race_table(again.history, bug.about)
    rows = [row.step for row in table.rows if row.step < len(again.history.events)]
    chain = tell(again.history, rows)
    pairs = racing_pairs(program, again)
    loop = lasso(program, again.decisions) if again.outcome.culprit is None else None
    if mermaid is not None:
        notes = _notes(decisive(pairs, finding.signature))
        diagram = sequence_diagram(again.history, title=finding.signature, notes=notes, matter=rows)
        write_whole(mermaid, diagram, "--mermaid")
    if json:
        say_json(
            {
                "signature": finding.signature,
                "kind": bug.kind,
                "message": bug.message,
                "racing_pairs": [pair_json(pair) for pair in pairs],
                "loop": loop_json(loop) if loop is not None else None,
                "chain": [link.as_json() for link in chain],
                "steps": table.as_json(),
            }
        )
        return BUG
    say(f"{finding.signature}")
    say(f"  {bug.message}")
    if pairs:
        say()
        say("The order of these steps matters; each pair was run the other way round, and on from there:")
        for pair in pairs:
            say()
            for line in sentences(pair, finding.signature):
                say(textwrap.fill(line, 110, initial_indent="  ", subsequent_indent="      ", break_long_words=False))
    if loop is not None:
        say()
        say(textwrap.fill(in_words(loop), 110, initial_indent="  ", subsequent_indent="      "))
    say()
    say("What led to it, each step with the steps of others that it depends on:")
    for link in chain:
        say(f"  {link.text}")
    say()
    say(table.render())
    return BUG


def _notes(pair: RacingPair | None) -> dict[int, str]:
    """What the diagram says beside the two steps whose order it was."""
    if pair is None:
        return {}
    notes = {pair.first.index: "race: this came first"}
    if not pair.to_come:
        notes[pair.second.index] = "race: and this after it"
    return notes
