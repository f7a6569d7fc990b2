"""How long a workload of a million allocations and frees takes, against a list that is appended to and popped from."""

from __future__ import annotations

import random
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial

import msgspec

from slabactors.workload.language import parse_script
from slabactors.workload.player import Player, play_script, script_sense
from tests.benchmarks.table import Tally, table

OPERATIONS = 1_000_000
ROUNDS = 3
OBJECTS_AT_A_TIME = 100
HELD = 1_500
"""Objects that are held at a time, about."""


def script(operations: int) -> Iterator[bytes]:
    """Allocations and frees on four CPUs, mostly on the one that allocated."""
    rng = random.Random(1)
    yield b"create c 256\n"
    held: list[tuple[int, int]] = []
    done = 0
    while done < operations:
        if len(held) * OBJECTS_AT_A_TIME < HELD:
            held.append((done, rng.randrange(4)))
            yield f"alloc {held[-1][1]} c {OBJECTS_AT_A_TIME} t{done}\n".encode()
        else:
            tag, cpu = held.pop(rng.randrange(len(held)))
            yield f"free {cpu if rng.random() < 0.75 else rng.randrange(4)} c t{tag}\n".encode()
        done += OBJECTS_AT_A_TIME


def _seconds(once: Callable[[], object]) -> float:
    started = time.process_time()
    once()
    return time.process_time() - started


def plain() -> None:
    """As many appends and pops."""
    objects: list[object] = []
    for _ in range(OPERATIONS // (2 * OBJECTS_AT_A_TIME)):
        for _ in range(OBJECTS_AT_A_TIME):
            objects.append(None)  # noqa: PERF401 -- that is what is measured
        for _ in range(OBJECTS_AT_A_TIME):
            objects.pop()


def played(model: str, lines: list[bytes]) -> None:
    """All of `slabactors workload` but the printing: the script is looked at, then played, with a row for each line."""
    sense = script_sense(model, 4, 1)
    for op in parse_script(lines):
        sense.check(op)
    player = Player(model, states=False)
    for op in parse_script(lines):
        player.play(op)
        player.view.columns(player.machine, player.caches["c"].cache)
    player.close()


def logged(model: str, lines: list[bytes]) -> None:
    """All of `slabactors workload --json` but the printing: every slab after every line."""
    sense = script_sense(model, 4, 1)
    for op in parse_script(lines):
        sense.check(op)
    player = Player(model)
    encode = msgspec.json.Encoder().encode
    for document in play_script(player, parse_script(lines), "bench"):
        encode(document)
    player.close()


def main(tally: Tally) -> None:
    """A row for each allocator, and what memory it takes."""
    lines = [*script(OPERATIONS)]
    rows = []
    for model in ("slub-6.1", "slub-3.8", "slab-3.8"):
        rounds = [
            (_seconds(plain), _seconds(partial(played, model, lines)), _seconds(partial(logged, model, lines)))
            for _ in range(ROUNDS)
        ]
        ratio = statistics.median(ours / theirs for theirs, ours, _ in rounds)
        with_log = statistics.median(ours / theirs for theirs, _, ours in rounds)
        per_operation = statistics.median(ours for _, ours, _ in rounds) / OPERATIONS * 1e6
        verdict = tally.judge(f"a million operations on {model}", ratio, at_most=60)
        rows.append((model, f"{per_operation:.2f}", f"{ratio:.0f}", f"{with_log:.0f}", verdict))
    table(
        f"{OPERATIONS:,} allocations and frees in {len(lines):,} lines on four CPUs",
        ("model", "us each", "times a list", "with --json", ""),
        rows,
    )
    early = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    played("slub-6.1", [*script(2 * OPERATIONS)])
    late = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"  twice as many, with the script's text: peak {early / 1024:.1f} MiB before, {late / 1024:.1f} MiB after")
