"""How many states the micro-problem has, by model checkers of its models: ours must count the same."""

from __future__ import annotations

from tests.benchmarks.peers import models
from tests.benchmarks.table import Tally, table

COUNTS = {
    (2, 1): (43, 96),
    (3, 1): (83, 228),
    (4, 1): (163, 532),
    (3, 3): (643, 2_276),
    (3, 8): (7_293, 28_921),
    (4, 10): (146_413, 722_737),
}
"""States and transitions of the fixed variant, by CPUs and frees."""

SYMMETRIC = 10_013
"""States at 4x10, when it does not matter which CPU is which."""


def main(tally: Tally) -> None:
    rows = []
    for name, tools in (("SPIN", ("spin", "gcc")), ("rumur", ("rumur", "gcc"))):
        lacking = models.missing(*tools)
        if lacking:
            rows.append((name, "", "", f"not installed: {', '.join(lacking)}"))
            continue
        check = models.spin if name == "SPIN" else models.rumur
        found = {size: check(*size) for size in COUNTS}
        agrees = all((found[size].states, found[size].transitions) == COUNTS[size] for size in COUNTS)
        largest = found[4, 10]
        verdict = tally.judge(f"state counts of {name}", float(agrees), at_least=1)
        rows.append((name, f"{largest.states:,}", f"{largest.seconds:.2f}", f"all sizes agree, {verdict}"))
    if not models.missing("rumur", "gcc"):
        symmetric = models.rumur(4, 10, symmetric=True)
        verdict = tally.judge("symmetric states of rumur", float(symmetric.states == SYMMETRIC), at_least=1)
        rows.append(("rumur, symmetric", f"{symmetric.states:,}", f"{symmetric.seconds:.2f}", verdict))
    table("All states of the micro-problem, fixed, at 4x10", ("tool", "states", "CPU seconds", ""), rows)
