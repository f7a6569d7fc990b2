"""detangle on the micro-problem, by its own search loop."""

from __future__ import annotations

from typing import Any

import detangle

from tests.benchmarks.peers.asyncio_problem import Cache, story
from tests.benchmarks.workers import Answer, rate, serve


def speed(
    cpus: int, frees: int, executions: int, steps: float, strategy: str = "random", watched: bool = True
) -> Answer:
    def watch(cache: Cache) -> None:
        detangle.invariant(lambda: cache.destroyed <= 1, "destroyed at most once")

    def run(count: int) -> int:
        explore(cpus, frees, "fixed", runs=count, strategy=strategy, seed=1, watch=watch if watched else None)
        return round(count * steps)

    return rate(run, executions)


def first_bug(cpus: int, frees: int, strategy: str, seed: int, runs: int) -> Answer:
    try:
        explore(cpus, frees, "v5", runs=runs, strategy=strategy, seed=seed)
    except detangle.BugFound as found:
        return {"execution": found.report.runs}
    return {"execution": None}


def explore(cpus: int, frees: int, variant: str, *, watch: Any = None, **options: Any) -> None:
    async def main() -> None:
        await story(cpus, frees, variant, watch)

    detangle.explore(main, database=False, shrink=False, **options)


if __name__ == "__main__":
    serve({"speed": speed, "first_bug": first_bug})
