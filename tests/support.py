"""What several tests need: a machine to play with, and small ways to run paths on it."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any, Final

from slabactors.errors import Kind
from slabactors.explore.footprints import FootprintCheck, FootprintError
from slabactors.explore.strategy import RandomWalk
from slabactors.explore.verify import verify
from slabactors.lifecycle import lifecycle
from slabactors.machine import SETTLE_JIFFIES, Machine, MachineConfig
from slabactors.runtime.simulated import SimPath, Simulation, Strategy
from slabactors.runtime.step import Outcome, Step, TimePolicy
from slabactors.testing import program_of

SMALLER: Final[dict[str, dict[str, Any]]] = {
    "containers/come-and-go": {"containers": 2, "minutes": 2, "objects": 4, "roots": 2},
}
"""Settings of shipped scenarios that are too long for hundreds of runs as they are shipped, or to be shrunk."""


def smaller(scenario: str) -> list[str]:
    """The same as words of a command line."""
    return [word for name, value in SMALLER.get(scenario, {}).items() for word in ("--set", f"{name}={value}")]


class Oldest:
    """Always the oldest path that can move, kernel threads last: no interleaving at all."""

    def pick(self, enabled: Sequence[SimPath]) -> SimPath:
        return min(enabled, key=lambda path: (path.daemon, path.id))

    def choose(self, count: int) -> int:
        return 0


class KernelThreadsFirst(Oldest):
    """Kworkers and kswapd run as soon as they can, and everybody else is starved meanwhile."""

    def pick(self, enabled: Sequence[SimPath]) -> SimPath:
        return min(enabled, key=lambda path: (not path.daemon, path.id))


class StarveBefore(Oldest):
    """The youngest first; whoever is about to deliver the named operation waits until nobody else can move."""

    def __init__(self, operation: str) -> None:
        self.operation = operation

    def pick(self, enabled: Sequence[SimPath]) -> SimPath:
        return min(enabled, key=lambda path: (path.request[0].name == self.operation, path.daemon, -path.id))


class Played:
    """A run that is over, with everything it did."""

    def __init__(self, outcome: Outcome, machine: Machine, steps: list[Step], simulation: Simulation) -> None:
        self.outcome = outcome
        self.machine = machine
        self.steps = steps
        self.simulation = simulation

    def names(self) -> list[str]:
        """Class and operation of every step."""
        return [f"{step.operation.owner}.{step.operation.name}" for step in self.steps]


def play(
    story,
    *,
    lifecycle_name: str = "v5",
    seed: int | None = None,
    strategy: Strategy | None = None,
    time: TimePolicy = TimePolicy.QUIESCENT,
    settle: int = SETTLE_JIFFIES,
    **config: Any,
) -> Played:
    """Run ``story(machine)`` once: in order of age without a seed, by a random walk with one."""
    steps: list[Step] = []
    simulation = Simulation(
        strategy or (Oldest() if seed is None else RandomWalk(seed)),
        time=time,
        settle_jiffies=settle,
        observer=steps.append,
    )
    follow = getattr(strategy, "follow", None)
    if follow is not None:
        follow(simulation)
    machine = Machine(simulation.clock, lifecycle(lifecycle_name), MachineConfig(**config))
    outcome = simulation.run(story(machine), daemons=machine.daemons(), at_rest=machine.at_rest)
    if outcome.error is not None and isinstance(outcome.error, AssertionError):
        raise outcome.error
    return Played(outcome, machine, steps, simulation)


def run_paths(*paths: Coroutine[Any, Any, Any], seed: int | None = None, **options: Any) -> tuple[Outcome, list[Step]]:
    """Run paths side by side without any machine."""
    from slabactors.actors import parallel

    async def main() -> None:
        await parallel(*paths)

    steps: list[Step] = []
    simulation = Simulation(Oldest() if seed is None else RandomWalk(seed), observer=steps.append, **options)
    return simulation.run(main()), steps


def verified(
    story: Any, *, lifecycle_name: str = "v3.8", searches: Sequence[str] = ("dpor", "states"), **settings: Any
) -> dict[str, Any]:
    """Take every interleaving of a story, by traces and by states; the bugs, which both have to agree on.

    Footprints are checked on the way, in the states that 20 random runs come to.
    """
    program = program_of(story, lifecycle=lifecycle_name, **settings)
    found = []
    for search in searches:
        *_, result = verify(program, time=TimePolicy.QUIESCENT, search=search)
        assert result.exhaustive, f"{search} came to no end"
        found.append(result.found)
    assert set(found[0]) == set(found[-1])
    for seed in range(20):
        check = FootprintCheck(RandomWalk(seed))
        execution = program.execute(check)
        error = execution.outcome.error
        program.dispose(execution)
        if isinstance(error, FootprintError):
            raise error
    return found[0]


def executions(story: Any, *, lifecycle_name: str = "v3.8", **settings: Any) -> int:
    """How many executions a search by traces needs for a story: one for each trace."""
    *_, result = verify(
        program_of(story, lifecycle=lifecycle_name, **settings), time=TimePolicy.QUIESCENT, search="dpor"
    )
    assert result.exhaustive
    return result.statistics.executions


def kinds(found: dict[str, Any]) -> set[Kind]:
    """What kinds of bugs were found."""
    return {bug.kind for bug in found.values()}
