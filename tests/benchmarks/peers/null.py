"""The null driver on the micro-problem: the same paths, first in first out, no choice, no record, no checks."""

from __future__ import annotations

from slabactors.actors import Clock, parallel
from tests.benchmarks.null_driver import drive
from tests.benchmarks.workers import Answer, rate, serve
from tests.explore.micro import DeadCache, cpu, offline, shrinker, worker


def speed(cpus: int, frees: int, executions: int) -> Answer:
    def run(count: int) -> int:
        steps = 0
        for _ in range(count):
            clock = Clock()
            cache = DeadCache(clock, cpus * frees + 1, "fixed")
            everybody = parallel(
                worker(cache), *[cpu(cache, frees) for _ in range(cpus)], shrinker(cache), offline(cache)
            )
            steps += drive(everybody, (), clock)
        return steps

    return rate(run, executions)


if __name__ == "__main__":
    serve({"speed": speed})
