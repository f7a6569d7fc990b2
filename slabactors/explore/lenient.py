"""Lenient replay: as much of a schedule as still fits a program that has changed.

Where `slabactors.explore.replay` stops at the first step that does not fit, this one goes on: decisions are matched by
what they say (path, operation, actor), those that never fit are skipped, and steps that the schedule does not know are
taken where they are in its way.  What comes of it is a run of the program as it is now, and nothing is claimed about
the run that the schedule was recorded from.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from typing import Final, cast

from slabactors.explore.program import Execution, Program
from slabactors.explore.replay import Fair, Tail, record
from slabactors.runtime.simulated import SimPath, Simulation, Strategy
from slabactors.runtime.step import Decision, Observer, Step, TimePolicy
from slabactors.runtime.tripwires import guarded

STRAY_MAX: Final = 100
"""After so many steps in a row that are none of the schedule's, the rest of it is given up."""


class LenientStrategy:
    """Follows a schedule as far as it fits, in both acts.

    At each step the earliest decision that fits is followed.  A decision fits when its path is about to do just that;
    what the path was to do before, and does not any more, is skipped.  A path that is about to do something else than
    all it was to do does that when its turn comes.  A path whose key the schedule does not know takes the place of one
    that this run does not have, when both have the same role and are about to do the same to the same actor.  Where
    nothing fits, a fair step is taken; at the end of the schedule ``then`` goes on.

    Args:
        decisions: the schedule.
        then: picks the steps after the end of the schedule; fair by default.
        time: the clock policy after the end of the schedule; None to leave it as it is.

    Attributes:
        followed: decisions that were followed.
        added: steps taken before the end of the schedule that it does not have.
    """

    forced = True
    name = "lenient"

    def __init__(
        self, decisions: Sequence[Decision], then: Strategy | None = None, time: TimePolicy | None = None
    ) -> None:
        self._decisions = decisions
        self._tail = Tail(then, time)
        self._begin(None)

    def _begin(self, simulation: Simulation | None) -> None:
        self._simulation = simulation
        self._between = Fair()
        self.followed = 0
        self.added = 0
        self._given_up = False
        self._stray = 0
        self._done = [False] * len(self._decisions)
        self._reached = 0
        self._programs: dict[str, deque[int]] = {}
        """For each path of the schedule, the indices of its own decisions still to come."""
        for index, decision in enumerate(self._decisions):
            self._programs.setdefault(decision.path, deque()).append(index)
        self._place_of: dict[str, str] = {}
        """The paths of this run that take the place of others, by their keys."""

    def follow(self, simulation: Simulation) -> None:
        """A new run: the schedule from its beginning."""
        self._begin(simulation)
        self._tail.follow(simulation)

    @property
    def exhausted(self) -> bool:
        """Nothing of the schedule is left, or the rest of it has been given up."""
        return self._given_up or not any(self._programs.values())

    @property
    def skipped(self) -> int:
        """Decisions that were passed over; those that the run did not live to see are not among them."""
        considered = self._done if self.exhausted else self._done[: self._reached]
        return len(considered) - sum(considered)

    def pick(self, enabled: Sequence[SimPath]) -> SimPath:
        """The path of the earliest decision that fits."""
        if not enabled:
            self._given_up = True
            return cast("SimPath", None)  # asked only to be told that the schedule is not through
        if self.exhausted:
            return self._tail.pick(enabled)
        chosen, due, fits = None, len(self._decisions), False
        for path in enabled:
            program = self._program(path)
            if not program:
                continue
            found = next((index for index in program if self._fits(index, path)), None)
            turn = program[0] if found is None else found
            if turn < due:
                chosen, due, fits = path, turn, found is not None
        if chosen is not None and fits:
            self._follow_until(chosen, due)
            return chosen
        self.added += 1
        self._stray += 1
        if self._stray > STRAY_MAX:
            self._given_up = True
        # Where the schedule has nothing for anybody that can move, somebody else's step may change that.
        return chosen or self._between.pick(enabled)

    def choose_for(self, path: SimPath, count: int) -> int:
        """What this path chose at this point, if it can choose that."""
        program = self._program(path)
        value = self._decisions[program[0]].value if program else None
        if program and value is not None and value < count:
            self._follow_until(path, program[0])
            return value
        return self._tail.choose(count)

    def choose(self, count: int) -> int:
        """A value for nobody in particular; a simulation asks `choose_for` instead."""
        return self._tail.choose(count)

    def _fits(self, index: int, path: SimPath) -> bool:
        operation, actor, _ = path.request
        decision = self._decisions[index]
        return decision.value is None and decision.operation == operation.name and decision.actor == actor.name

    def _follow_until(self, path: SimPath, index: int) -> None:
        """A decision is followed; what its path was to do before that is skipped."""
        program = self._program(path)
        while program.popleft() != index:
            pass
        self._done[index] = True
        self._reached = max(self._reached, index + 1)
        self.followed += 1
        self._stray = 0

    def _program(self, path: SimPath) -> deque[int]:
        """What the schedule still has for a path, or for the one whose place it takes."""
        key = path.key
        if key not in self._programs:
            if key not in self._place_of:
                self._take_place(path)
            key = self._place_of.get(key, key)
        return self._programs.get(key, _NOTHING)

    def _take_place(self, path: SimPath) -> None:
        """Look for a path of the schedule that this run does not have and that this one could be."""
        if self._simulation is None:
            return
        here = {other.key for other in self._simulation.paths}
        taken = set(self._place_of.values())
        role = _role(f"{path.name}.")
        for key, program in self._programs.items():
            if program and key not in here and key not in taken and _role(key).endswith(role):
                first = next((index for index in program if self._decisions[index].value is None), None)
                if first is not None and self._fits(first, path):
                    self._place_of[path.key] = key
                    return


_NOTHING: deque[int] = deque()


def _role(key: str) -> str:
    return re.sub(r"\d+", "", key)


@guarded
def replay_leniently(
    program: Program,
    decisions: Sequence[Decision],
    then: Strategy | None = None,
    *,
    time: TimePolicy | None = None,
    observer: Observer | None = None,
) -> tuple[Execution, LenientStrategy]:
    """Run a program by as much of a schedule as fits.

    Args:
        program: what to run.
        decisions: the schedule.
        then: picks the steps after the end of the schedule; fair by default.
        time: the clock policy after the end of the schedule.
        observer: called after each step.

    Returns:
        The run, and the strategy, which knows how much was followed.
    """
    strategy = LenientStrategy(decisions, then, time)
    return program.execute(strategy, observer=observer, time=TimePolicy.RECORDED), strategy


def schedule_of(execution: Execution, steps: Sequence[Step]) -> list[Decision]:
    """The schedule of a run that is over, for a strict replay.

    Args:
        execution: the run.
        steps: all that its observer was given.
    """
    decisions = record(execution.simulation, steps)
    if execution.outcome.culprit is None and execution.simulation.first_act is not None:
        return decisions[: execution.simulation.first_act]  # the second act is fair, and plays itself
    return decisions
