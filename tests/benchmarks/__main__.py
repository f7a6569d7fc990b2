"""``make bench``: ratios measured in one run, in CPU time, medians of interleaved rounds, each with its aim.

Figures are worth something beside others of the same run only; it prints where it was run, and how many aims were met.
"""

from __future__ import annotations

import os
import platform
import resource
import statistics
import time
from collections.abc import Callable

from slabactors.actors import Clock
from slabactors.explore.campaign import search
from slabactors.explore.strategy import RandomWalk
from slabactors.scenario import find
from tests.benchmarks import bench_live, micro_proof, micro_search, micro_speed, micro_states, workload_speed
from tests.benchmarks.null_driver import drive
from tests.benchmarks.table import Tally

STORY = "dead-cache/rmdir-races-last-free"
ROUNDS = 7
EXECUTIONS = 1500


def _rate(once: Callable[[], int]) -> tuple[float, float]:
    """Deliveries and executions a CPU second."""
    deliveries = 0
    started = time.process_time()
    for _ in range(EXECUTIONS):
        deliveries += once()
    seconds = time.process_time() - started
    return deliveries / seconds, EXECUTIONS / seconds


def simulated(tally: Tally) -> None:
    """The simulator with the random strategy, record and names on, against the null driver on the same paths."""
    program = find(STORY).bind(lifecycle_name="repaired")
    strategy = RandomWalk(1)

    def null() -> int:
        clock = Clock()
        machine = program.machine(clock)
        deliveries = drive(program.main(machine), machine.daemons(), clock)
        machine.dispose()
        return deliveries

    def random() -> int:
        execution = program.execute(strategy)
        deliveries = execution.outcome.deliveries
        program.dispose(execution)
        return deliveries

    rounds = [(_rate(null), _rate(random)) for _ in range(ROUNDS)]
    null_steps = statistics.median(one[0] for one, _ in rounds)
    steps = statistics.median(one[0] for _, one in rounds)
    executions = statistics.median(one[1] for _, one in rounds)
    ratio = statistics.median(other[0] / one[0] for one, other in rounds)
    verdict = tally.judge("a story against the null driver", ratio, at_least=0.5)
    print(f"\n{STORY}, {rounds[0][1][0] / rounds[0][1][1]:.0f} deliveries an execution")
    print(f"  null driver           {null_steps:12,.0f} deliveries/s")
    print(f"  simulated, random     {steps:12,.0f} deliveries/s   {ratio:.2f} of the null driver, {verdict}")
    print(f"  simulated, random     {executions:12,.0f} executions/s")


def memory() -> None:
    """Peak memory of a long search: early in it and at its end."""
    program = find(STORY).bind(lifecycle_name="repaired")
    early = 0
    for result in search(program, runs=100_000):
        if not early and result.executions >= 10_000:
            early = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    late = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"100,000 executions: peak {early / 1024:.1f} MiB after 10,000, {late / 1024:.1f} MiB at the end")


def main() -> None:
    tally = Tally()
    print(f"Python {platform.python_version()} ({platform.python_implementation()}), {os.cpu_count()} CPUs")
    micro_speed.main(tally)
    micro_search.main(tally)
    micro_states.main(tally)
    micro_proof.main(tally)
    simulated(tally)
    workload_speed.main(tally)
    print()
    bench_live.main()
    print()
    memory()
    print(f"\n{tally.met} aims met, {len(tally.missed)} missed{': ' if tally.missed else ''}{'; '.join(tally.missed)}")


if __name__ == "__main__":
    main()
