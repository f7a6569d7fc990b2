"""Proofs of the micro-problem: how many executions, states and seconds they take, and shrinking what breaks."""

from __future__ import annotations

import statistics
import time
import tracemalloc

from slabactors.explore.campaign import search
from slabactors.explore.shrink import shrink
from slabactors.explore.verify import Verification, verify
from slabactors.explore.verify_parallel import verify_parallel
from slabactors.scenario import find
from tests.benchmarks.peers import models
from tests.benchmarks.table import Tally, table
from tests.explore.micro import Micro

ROUNDS = 5
SEEDS = 20
STORY = "dead-cache/root-destroyed"


def proof(program: Micro, **options: object) -> tuple[Verification, float]:
    """The last word of an exhaustive search, and the median of its CPU seconds."""
    spent = []
    for _ in range(ROUNDS):
        started = time.process_time()
        *_, result = verify(program, **options)  # type: ignore[arg-type]
        spent.append(time.process_time() - started)
    assert result.verdict == "verified", result
    return result, statistics.median(spent)


def small(tally: Tally) -> None:
    """The smallest proof that is not trivial, by every way."""
    rows = []
    by_traces, seconds = proof(Micro("fixed", 4, 1), search="dpor")
    count = tally.judge("executions of the proof by traces", by_traces.statistics.executions, at_most=900)
    rows.append(("by traces", f"{by_traces.statistics.executions}", f"{by_traces.statistics.probes}", "", count))
    fast = tally.judge("seconds of the proof by traces", seconds, at_most=0.1)
    rows.append(("", "", "", f"{seconds:.4f}", fast))
    by_running, seconds = proof(Micro("fixed", 4, 1, sometimes=("it ran",)), search="states")
    count = tally.judge("executions of the proof by fingerprints", by_running.statistics.executions, at_most=400)
    rows.append(("by fingerprints", f"{by_running.statistics.executions}", "", f"{seconds:.4f}", count))
    by_tables, seconds = proof(Micro("fixed", 4, 1), search="states")
    rows.append(("by tables", f"{by_tables.statistics.executions}", "", f"{seconds:.4f}", ""))
    table("Proof of fixed at 4x1", ("way", "executions", "given up", "CPU seconds", ""), rows)


def large(tally: Tally) -> None:
    """All states at 4x10, beside the model checkers."""
    plain, seconds = proof(Micro("fixed", 4, 10), search="states", symmetry=False)
    symmetric, fast = proof(Micro("fixed", 4, 10), search="states")
    tracemalloc.start()
    *_, _last = verify(Micro("fixed", 4, 10), search="states", symmetry=False)
    peak = tracemalloc.get_traced_memory()[1] / plain.states
    tracemalloc.stop()
    states = tally.judge("symmetric states", symmetric.states, at_most=10_100)
    rows = [
        ("by tables", f"{plain.states:,}", f"{seconds:.2f}", f"{peak:.0f} bytes a state at the peak"),
        ("by tables, symmetry", f"{symmetric.states:,}", f"{fast:.3f}", states),
    ]
    for name, check, tools, most in (
        ("SPIN", models.spin, ("spin", "gcc"), 6),
        ("rumur", models.rumur, ("rumur", "gcc"), None),
    ):
        if models.missing(*tools):
            rows.append((name, "", "", f"not installed: {', '.join(models.missing(*tools))}"))
            continue
        theirs = statistics.median(check(4, 10).seconds for _ in range(ROUNDS))
        ratio = seconds / theirs
        verdict = tally.judge(f"state search against {name}", ratio, at_most=most) if most is not None else ""
        rows.append((name, "", f"{theirs:.2f}", f"ours takes {ratio:.1f} times as long {verdict}".rstrip()))
    table("All states of fixed at 4x10", ("tool", "states", "CPU seconds", ""), rows)


def shrinking(tally: Tally) -> None:
    """Failing runs of v5 at 3x3, each shrunken to its minimum."""
    program = Micro("v5", 3, 3)
    replays, sizes, spent = [], set(), []
    for seed in range(SEEDS):
        *_, result = search(program, seed=seed, runs=200)
        found = next(iter(result.found.values()))
        started = time.process_time()
        done = shrink(program, found.record, found.signature)
        spent.append(time.process_time() - started)
        replays.append(done.replays)
        sizes.add((done.preemptions, len(done.decisions)))
    verdict = tally.judge("replays to shrink", max(replays), at_most=30)
    print(
        f"\nShrinking v5 at 3x3, {SEEDS} seeds: {statistics.median(replays):.0f} replays, "
        f"at most {max(replays)}, {verdict}"
    )
    print(
        f"  to (preemptions, steps) {sorted(sizes)}; {1000 * statistics.median(spent):.0f} ms, "
        "with the proof that there is none with fewer preemptions"
    )


def jobs(tally: Tally) -> None:
    """One process and two, in wall time; only where nothing else runs is the ratio worth anything."""
    program = find(STORY).bind(lifecycle_name="v5")
    took = {}
    for number in (1, 2):
        started = time.monotonic()
        *_, result = verify_parallel(program, jobs=number)
        took[number] = time.monotonic() - started
        assert result.exhaustive
    ratio = took[1] / took[2]
    verdict = tally.judge("two processes against one", ratio, at_least=1.7)
    print(
        f"\n{STORY} verified by one process in {took[1]:.1f} s, by two in {took[2]:.1f} s: {ratio:.2f} times, {verdict}"
    )


def main(tally: Tally) -> None:
    small(tally)
    large(tally)
    shrinking(tally)
    jobs(tally)
