"""How fast the micro-problem is searched at random, against peers and against driving it without any search."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import closing, contextmanager

from tests.benchmarks.table import Tally, table
from tests.benchmarks.workers import Answer, Worker

ROUNDS = 9
SHORT = {"cpus": 3, "frees": 3}
LONG = {"cpus": 4, "frees": 50}
STEPS = 206.9
"""Steps of an execution of the long problem, on average; peers do not count as we do."""


@contextmanager
def workers(*some: Worker) -> Iterator[tuple[Worker, ...]]:
    """End them when all is done."""
    try:
        yield some
    finally:
        for one in some:
            one.close()


def main(tally: Tally) -> None:
    with workers(
        Worker("slabactors", "ours"), Worker("null driver", "null"), Worker("detangle", "with_detangle", "detangle")
    ) as (ours, null, detangle):
        _speed(tally, ours, null, detangle)
    with closing(Worker("frontrun", "with_frontrun", "frontrun")) as frontrun:
        _frontrun(frontrun)


def _speed(tally: Tally, ours: Worker, null: Worker, detangle: Worker) -> None:
    rounds: list[dict[str, Answer]] = []
    for _ in range(ROUNDS):
        measured = {
            "ours 3x3": ours.ask("speed", executions=4000, **SHORT),
            "null 3x3": null.ask("speed", executions=4000, **SHORT),
            "ours 4x50": ours.ask("speed", executions=500, **LONG),
            "null 4x50": null.ask("speed", executions=500, **LONG),
            "pct 3x3": ours.ask("speed", executions=2000, strategy="pct", **SHORT),
            "pct 4x50": ours.ask("speed", executions=200, strategy="pct", **LONG),
            "portfolio 3x3": ours.ask("speed", executions=2000, strategy="portfolio", **SHORT),
            "portfolio 4x50": ours.ask("speed", executions=200, strategy="portfolio", **LONG),
        }
        if detangle.installed:
            measured |= {
                "detangle 3x3": detangle.ask("speed", executions=600, steps=0, **SHORT),
                "detangle 4x50": detangle.ask("speed", executions=60, steps=STEPS, **LONG),
            }
        rounds.append(measured)

    def median(what: str, unit: str) -> float:
        return statistics.median(one[what][unit] for one in rounds)

    def ratio(unit: str, one: str, other: str) -> float:
        """Of the rates of each round: what disturbs the machine disturbs both."""
        return statistics.median(found[one][unit] / found[other][unit] for found in rounds)

    rows = [
        (
            "slabactors, random",
            f"{median('ours 3x3', 'executions'):,.0f}",
            f"{median('ours 4x50', 'steps'):,.0f}",
            "",
            "",
            "",
        ),
        (
            "slabactors, pct",
            f"{median('pct 3x3', 'executions'):,.0f}",
            f"{median('pct 4x50', 'steps'):,.0f}",
            "",
            "",
            "",
        ),
        (
            "slabactors, portfolio",
            f"{median('portfolio 3x3', 'executions'):,.0f}",
            f"{median('portfolio 4x50', 'steps'):,.0f}",
            "",
            "",
            "",
        ),
    ]
    if detangle.installed:
        short = ratio("executions", "ours 3x3", "detangle 3x3")
        long = ratio("steps", "ours 4x50", "detangle 4x50")
        rows.append(
            (
                "detangle, random",
                f"{median('detangle 3x3', 'executions'):,.0f}",
                f"{median('detangle 4x50', 'steps'):,.0f}",
                f"{short:.1f}",
                f"{long:.1f}",
                "; ".join(
                    (
                        f"3x3 {tally.judge('speed at 3x3 against detangle', short, at_least=10)}",
                        f"4x50 {tally.judge('speed at 4x50 against detangle', long, at_least=8)}",
                    )
                ),
            )
        )
    else:
        rows.append(("detangle, random", "", "", "", "", "not installed: pip install --editable '.[bench]'"))
    short, long = ratio("executions", "ours 3x3", "null 3x3"), ratio("steps", "ours 4x50", "null 4x50")
    rows.append(
        (
            "null driver",
            f"{median('null 3x3', 'executions'):,.0f}",
            f"{median('null 4x50', 'steps'):,.0f}",
            f"{short:.2f}",
            f"{long:.2f}",
            f"4x50 {tally.judge('speed at 4x50 against the null driver', long, at_least=0.5)}",
        )
    )
    table(
        "The micro-problem, fixed, with one invariant on both sides: rates of a CPU second",
        ("tool", "3x3 executions/s", "4x50 steps/s", "ours/its 3x3", "ours/its 4x50", ""),
        rows,
    )


def _frontrun(frontrun: Worker) -> None:
    if not frontrun.installed:
        rows = [("frontrun, dpor", "", "not installed: pip install --editable '.[bench]'")]
    else:
        found = frontrun.ask("speed", executions=60, patience=30.0, **SHORT)
        rows = [
            ("frontrun, dpor", f"{found['executions']:,.0f}", found["verdict"])
            if found
            else ("frontrun, dpor", "", "no answer within 30 s")
        ]
    table("The micro-problem at 3x3 by others' reduction", ("tool", "executions/s", "after 60 executions"), rows)
