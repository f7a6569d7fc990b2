"""``make fuzz``: exhaustive search against brute force on thousands of random programs.

Arguments: how many programs, and the number of the first.
"""

from __future__ import annotations

import sys
import time as wall

from slabactors.runtime.step import TimePolicy
from tests.explore.counted import COUNTING, KINDS, TAKING, random_program
from tests.explore.test_dpor import check

KIND_SETS = {"KINDS": KINDS, "COUNTING": COUNTING, "TAKING": TAKING}
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


if __name__ == "__main__":
    numbers = [int(text) for text in sys.argv[1:]]
    sys.exit(1 if main(*(numbers + [10_000, 0][len(numbers) :])) else 0)
