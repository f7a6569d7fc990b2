"""Replay: following a schedule step for step, and writing down the schedule of a run.

A schedule is a list of `Decision`, whoever made it: a simulated run (`record`), a live run (``LiveRuntime.decisions``),
a finding file, shrinking.  Replay is strict: where the schedule does not fit it stops and says what it expected there
and what was possible; it never guesses.  When the schedule ends without a bug, the run is carried on fairly.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final, NoReturn

from slabactors.errors import ReplayDiverged
from slabactors.explore.program import Execution, Program
from slabactors.runtime.simulated import SimPath, Simulation, Strategy
from slabactors.runtime.step import CHOOSE, Decision, Observer, Step, TimePolicy
from slabactors.runtime.tripwires import guarded

__all__ = ["Fair", "ReplayStrategy", "Tail", "record", "replay"]

NAMED_MAX: Final = 6
"""How many of the enabled paths a refusal names."""


@guarded
def replay(
    program: Program,
    decisions: Sequence[Decision],
    *,
    observer: Observer | None = None,
    time: TimePolicy = TimePolicy.RECORDED,
) -> Execution:
    """Run a program by a schedule.

    Args:
        program: what to run.
        decisions: the schedule.
        observer: called after each step.
        time: recorded, unless the schedule is the whole of a simulated run: then that run's own policy ends the first
            act where it ended there.

    Raises:
        ReplayDiverged: the schedule does not fit.
        ForeignCall: a path or an operation calls what no schedule can repeat.
    """
    return program.execute(ReplayStrategy(decisions), observer=observer, time=time)


def record(simulation: Simulation, steps: Sequence[Step]) -> list[Decision]:
    """The schedule of a simulated run that is over.

    Args:
        simulation: the run.
        steps: all that its observer was given (``observer=steps.append``).
    """
    decisions = []
    observed = iter(steps)
    choosers = iter(simulation.choosers)
    for number in simulation.record:
        if number < 0:
            decisions.append(Decision(next(choosers).key, CHOOSE, "", -1 - number))
            continue
        step = next(observed, None)
        if step is not None:
            path, operation, actor = step.path.key, step.operation, step.actor
        else:
            # The step that broke the run: no observer was shown it, and its path has asked for nothing since.
            culprit = simulation.paths[number]
            path, (operation, actor, _) = culprit.key, culprit.request
        decisions.append(Decision(path, operation.name, actor.name))
    return decisions


class Fair:
    """Everybody in turn by age, and the earliest timer when there is nobody."""

    name = "fair"

    def __init__(self) -> None:
        self._turn = -1

    def follow(self, simulation: Simulation) -> None:
        """A new run: the oldest is first again."""
        self._turn = -1

    def pick(self, enabled: Sequence[SimPath]) -> SimPath:
        """The next one that is awake, else the timer that is due first."""
        awake = [path for path in enabled if path.deadline is None]
        if not awake:
            return min(enabled, key=lambda path: (path.deadline, path.id))
        later = [path for path in awake if path.id > self._turn]
        chosen = min(later or awake, key=lambda path: path.id)
        self._turn = chosen.id
        return chosen

    def choose(self, count: int) -> int:
        """The first value."""
        return 0


class Tail:
    """What goes on where a schedule ends, in the first act.

    Args:
        then: picks the steps.
        time: the clock policy from there on; None to leave it as it is.
    """

    def __init__(self, then: Strategy | None, time: TimePolicy | None) -> None:
        self._then = then or Fair()
        self._time = time
        self._turned = False
        self._simulation: Simulation | None = None

    def follow(self, simulation: Simulation) -> None:
        """A new run."""
        self._simulation = simulation
        self._turned = False
        follow = getattr(self._then, "follow", None)
        if follow is not None:
            follow(simulation)

    def pick(self, enabled: Sequence[SimPath]) -> SimPath:
        """As the strategy says, under the policy that holds from here on."""
        simulation = self._simulation
        if simulation is None:
            return self._then.pick(enabled)
        if self._time is not None and not self._turned:
            self._turned = True
            simulation.turn_to(self._time)
            enabled = simulation.enabled
        return simulation.pick_unstarved(self._then.pick, enabled)

    def choose(self, count: int) -> int:
        """As the strategy says."""
        return self._then.choose(count) if count > 1 else 0


class ReplayStrategy:
    """Follows a schedule strictly, in both acts.

    Deliveries are taken in the order of the schedule.  Values of ``choose()`` are matched path by path, each at its
    place between the deliveries of its own path: where they stand among the steps of others says nothing, for a path
    in a live run comes to its ``choose()`` whenever its task is resumed.

    When the last delivery is made the strategy is `exhausted`; if the run is not over then, it goes on fairly, timers
    only when nothing else can move, or as it is told to.

    Args:
        decisions: the schedule.
        then: picks the steps after its end, in the first act.
        time: the clock policy after its end.
    """

    forced = True
    name = "replay"

    def __init__(
        self, decisions: Sequence[Decision], then: Strategy | None = None, time: TimePolicy | None = None
    ) -> None:
        self._tail = Tail(then, time)
        self._decisions = decisions
        self._deliveries = [index for index, decision in enumerate(decisions) if decision.value is None]
        self._made = 0
        self._programs: dict[str, deque[int]] = {}
        """For each path, the indices of its own decisions still to come: its order is that of its program."""
        for index, decision in enumerate(decisions):
            self._programs.setdefault(decision.path, deque()).append(index)

    def follow(self, simulation: Simulation) -> None:
        """The run that is about to start; a strategy is for one run only."""
        self._tail.follow(simulation)

    @property
    def exhausted(self) -> bool:
        """Every delivery of the schedule has been made."""
        return self._made == len(self._deliveries)

    def pick(self, enabled: Sequence[SimPath]) -> SimPath:
        """The path whose turn it is.

        Raises:
            ReplayDiverged: it is not enabled, or its message is another one, or ``choose()`` was to come first.
        """
        if self.exhausted:
            return self._tail.pick(enabled)
        index = self._deliveries[self._made]
        decision = self._decisions[index]
        for path in enabled:
            if path.key == decision.path:
                break
        else:
            self._refuse(index, _possible(enabled))
        operation, actor, _ = path.request
        if operation.name != decision.operation or actor.name != decision.actor:
            self._refuse(index, f"it is about to {_message(path)}", _listed(enabled))
        program = self._programs[decision.path]
        if program[0] != index:
            self._refuse(program[0], f"{decision.path} is about to {_message(path)}", _listed(enabled))
        program.popleft()
        self._made += 1
        return path

    def choose_for(self, path: SimPath, count: int) -> int:
        """What this path chose at this point.

        Raises:
            ReplayDiverged: it chose nothing here, or something that it cannot choose now.
        """
        program = self._programs.get(path.key)
        if not program:
            if self.exhausted:
                return self._tail.choose(count)
            self._refuse(self._deliveries[self._made], f"{path.key} calls choose({count}), which it did not do then")
        index = program[0]
        value = self._decisions[index].value
        if value is None:
            self._refuse(index, f"it calls choose({count}) first, which it did not do then")
        if value >= count:
            self._refuse(index, f"it has {count} alternatives now")
        program.popleft()
        return value

    def choose(self, count: int) -> int:
        """A value for nobody in particular; a simulation asks `choose_for` instead."""
        return 0

    def _refuse(self, index: int, found: str, enabled: str = "") -> NoReturn:
        decision = self._decisions[index]
        if decision.value is not None:
            expected = f"{decision.path} to choose {decision.value}"
        else:
            expected = f"{decision.path} to {decision.operation} of {decision.actor}"
        raise ReplayDiverged(index, expected, found, enabled)


def _message(path: SimPath) -> str:
    operation, actor, _ = path.request
    return f"{operation.name} of {actor.name}"


def _possible(enabled: Sequence[SimPath]) -> str:
    if not enabled:
        return "nothing is enabled any more"
    return f"only {_listed(enabled)} {'is' if len(enabled) == 1 else 'are'} enabled"


def _listed(enabled: Sequence[SimPath]) -> str:
    named = [f"{path.key} ({_message(path)})" for path in enabled[:NAMED_MAX]]
    if len(enabled) == 1:
        return named[0]
    last = named.pop() if len(enabled) <= NAMED_MAX else f"{len(enabled) - NAMED_MAX} more"
    return f"{', '.join(named)} and {last}"
