"""slabactors on the micro-problem: its own search loop, with record and names, as `slabactors explore` runs it."""

from __future__ import annotations

from slabactors.explore.campaign import search
from tests.benchmarks.workers import Answer, rate, serve
from tests.explore.micro import Micro


def speed(cpus: int, frees: int, executions: int, strategy: str = "random", watched: bool = True) -> Answer:
    program = Micro("fixed", cpus, frees, watched)

    def run(count: int) -> int:
        *_, result = search(program, strategy=strategy, seed=1, runs=count)
        assert result.verdict == "clean"
        return result.deliveries

    return rate(run, executions)


def first_bug(cpus: int, frees: int, strategy: str, seed: int, runs: int) -> Answer:
    program = Micro("v5", cpus, frees)
    growing = search(program, strategy=strategy, seed=seed, runs=runs, stop=lambda: bool(result.found))
    result = next(growing)
    for _ in growing:
        pass
    found = [bug.execution + 1 for bug in result.found.values()]
    return {"execution": found[0] if found else None}


if __name__ == "__main__":
    serve({"speed": speed, "first_bug": first_bug})
