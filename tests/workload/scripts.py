"""Scripts to play, and what came of them."""

from __future__ import annotations

from slabactors.workload.language import Op, parse_script
from slabactors.workload.player import Player, script_sense


def parsed(script: str) -> list[Op]:
    """The operations of a script, which must make sense line by line."""
    return [*parse_script(line.encode() + b"\n" for line in script.splitlines())]


def played(script: str, model: str = "slub-6.1", *, cpus: int = 4, nodes: int = 1, **options) -> list[dict]:
    """A log line for each operation."""
    sense = script_sense(model, cpus, nodes)
    player = Player(model, cpus, nodes, **options)
    found = []
    for op in parsed(script):
        sense.check(op)
        found.append(player.play(op))
    return found
