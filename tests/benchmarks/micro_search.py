"""How many executions it takes to the first bug of ``v5``, by each strategy and by detangle's."""

from __future__ import annotations

import statistics

from slabactors.explore.strategy import STRATEGIES
from tests.benchmarks.micro_speed import workers
from tests.benchmarks.table import Tally, table
from tests.benchmarks.workers import Worker

SEEDS = 20
RUNS = 4000
SIZE = {"cpus": 3, "frees": 8}
AIMS = {"portfolio": 40, "pct": 30}


def main(tally: Tally) -> None:
    rows = []
    with workers(Worker("slabactors", "ours"), Worker("detangle", "with_detangle", "detangle")) as tools:
        for tool, strategies in zip(tools, (tuple(STRATEGIES), ("random", "pct:3", "auto")), strict=True):
            if not tool.installed:
                rows.append((tool.name, "", "", "not installed: pip install --editable '.[bench]'"))
                continue
            for strategy in strategies:
                found = [
                    tool.ask("first_bug", strategy=strategy, seed=seed, runs=RUNS, **SIZE)["execution"] or RUNS
                    for seed in range(SEEDS)
                ]
                median = statistics.median(found)
                aim = AIMS.get(strategy) if tool.name == "slabactors" else None
                verdict = "" if aim is None else tally.judge(f"first bug by {strategy}", median, at_most=aim)
                rows.append((f"{tool.name}, {strategy}", f"{median:g}", f"{min(found)}..{max(found)}", verdict))
    table(
        f"Executions to the first bug of v5 at 3x8, {SEEDS} seeds, at most {RUNS}",
        ("tool", "median", "min..max", ""),
        rows,
    )
