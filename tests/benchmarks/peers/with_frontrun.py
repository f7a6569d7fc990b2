"""frontrun's DPOR for asyncio on the micro-problem.  It wants every task to return, so the worker does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import frontrun

from tests.benchmarks.peers.asyncio_problem import Cache, cpu, offline, shrinker, worker
from tests.benchmarks.workers import Answer, serve


def speed(cpus: int, frees: int, executions: int) -> Answer:
    began = time.process_time()
    result = asyncio.run(_explore("fixed", cpus, frees, executions, stop_on_first=False))
    seconds = time.process_time() - began
    verdict = {True: "holds", False: "broken", None: "inconclusive"}[result.property_holds]
    return {"executions": result.num_explored / seconds, "verdict": verdict}


async def _explore(variant: str, cpus: int, frees: int, executions: int, *, stop_on_first: bool):
    def task(body: Callable[[Cache], Awaitable[None]]):
        async def start(cache: Cache) -> None:
            await asyncio.sleep(0)  # that a task is started is no choice of its own there
            await body(cache)

        return start

    return await frontrun.explore(
        setup=lambda: Cache(cpus * frees + 1, variant),
        workers=[
            *[task(lambda cache: cpu(cache, frees)) for _ in range(cpus)],
            task(shrinker),
            task(offline),
            task(lambda cache: worker(cache, forever=False)),
        ],
        invariant=lambda cache: cache.destroyed == 1 and not cache.queued,
        max_executions=executions,
        timeout_per_run=2.0,
        total_timeout=15.0,
        stop_on_first=stop_on_first,
        reproduce_on_failure=0,
    )


if __name__ == "__main__":
    serve({"speed": speed})
