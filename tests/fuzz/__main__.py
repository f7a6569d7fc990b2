"""``make fuzz``: exhaustive search against brute force, and allocators against what must hold of them.

Thousands of random programs, and as many random workloads.  Arguments: how many of each, and the number of the first.
"""

from __future__ import annotations

import sys
import time as wall

from slabactors.mm.models import MODELS
from slabactors.runtime.step import TimePolicy
from tests.explore.counted import COUNTING, KINDS, LATE, TAKING, random_program
from tests.explore.test_dpor import check
from tests.workload.properties import play_random

KIND_SETS = {"KINDS": KINDS, "COUNTING": COUNTING, "TAKING": TAKING, "LATE": LATE}
POLICIES = (TimePolicy.QUIESCENT, TimePolicy.ADVERSARIAL, TimePolicy.UNTIMED)


def main(programs: int, first: int) -> int:
    """Check each program, of one sort after another, under every clock policy; how many failed."""
    started = wall.monotonic()
    traces = checked = skipped = failed = 0
    sorts = list(KIND_SETS.items())
    for seed in range(first, first + programs):
        name, kinds = sorts[seed % len(sorts)]
        for policy in POLICIES:
            try:
                traces += check(random_program(seed, kinds), policy)
                checked += 1
            except OverflowError:
                skipped += 1
            except AssertionError as error:
                failed += 1
                what = str(error).partition("\n")[0] or "outcomes differ"
                print(f"random_program({seed}, {name}), {policy}: {what}", flush=True)
        if (seed - first) % 500 == 499:
            print(f"{seed - first + 1} programs, {traces} traces, {wall.monotonic() - started:.0f} s", flush=True)
    seconds = wall.monotonic() - started
    print(f"{checked} checked, {skipped} too large, {traces} traces, {failed} failed, {seconds:.0f} s")
    return failed


def workloads(count: int, first: int) -> int:
    """Check what must hold of each allocator model after every line of random workloads; how many failed."""
    started = wall.monotonic()
    lines = failed = 0
    models = list(MODELS)
    for seed in range(first, first + count):
        model = models[seed % len(models)]
        try:
            lines += play_random(model, seed // len(models))
        except Exception as error:
            failed += 1
            print(f"play_random({model!r}, {seed // len(models)}): {type(error).__name__}: {error}", flush=True)
    print(f"{count} workloads, {lines} lines, {failed} failed, {wall.monotonic() - started:.0f} s")
    return failed


if __name__ == "__main__":
    numbers = [int(text) for text in sys.argv[1:]]
    arguments = numbers + [10_000, 0][len(numbers) :]
    failures = workloads(*arguments) + main(*arguments)
    sys.exit(1 if failures else 0)
