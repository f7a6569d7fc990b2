"""How few preemptions a bug needs: every schedule with none, then with one ..., looked through once for all bugs.

What a search by preemptions (`slabactors.explore.bounded`) has explored to its end without a bug is a proof that the
bug needs more.  Where all paths are too many, those of a schedule that shows it may be few enough to find a better one;
that proves nothing.
"""

from __future__ import annotations

import time as wall
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

from slabactors.explore.bounded import BoundedResult, PreemptionBounded
from slabactors.explore.finding import signature
from slabactors.explore.program import Program
from slabactors.runtime.simulated import SimPath, Strategy
from slabactors.runtime.step import Ending, TimePolicy

EXECUTIONS_MAX: Final = 1500
"""How many executions the proofs for the bugs of one search may take."""


def _never() -> bool:
    return False


NEAR_MAX: Final = 150
"""How many executions are tried near a schedule where all of them are too many."""

ALL: Final = 1 << 30
"""No schedule has more preemptions than were allowed: those were all there are."""


@dataclass(slots=True)
class Budget:
    """What shrinking may cost; it gives the best that it has when that is spent.

    Attributes:
        replays: executions.
        seconds: wall time, from now on.
        stop: asked before each execution; true ends it.
        spent: executions so far.
    """

    replays: int = 500
    seconds: float = 20.0
    stop: Callable[[], bool] = _never
    spent: int = 0
    _started: float = field(default_factory=wall.monotonic)

    @property
    def left(self) -> bool:
        """Another execution may be made."""
        return self.spent < self.replays and self.in_time

    @property
    def in_time(self) -> bool:
        """Neither time is up, nor was it asked to stop."""
        return wall.monotonic() - self._started < self.seconds and not self.stop()

    def part(self, replays: int) -> Budget:
        """A budget of its own for a part of the work; what that spends has to be added here."""
        seconds = self.seconds - (wall.monotonic() - self._started)
        return Budget(min(replays, self.replays - self.spent), seconds, self.stop)


class Fewest:
    """What the schedules of a program with few preemptions show; explored as far as somebody has asked for it.

    Args:
        program: what to run.
        time: overrides the program's own policy.
        executions: how many it may take in all.

    Attributes:
        exhausted: every schedule with so many preemptions was explored; -1 for none.
        found: the first record that shows a bug, with its number of preemptions, by signature.
        executions: how many it has taken.
    """

    def __init__(self, program: Program, *, time: TimePolicy | None = None, executions: int = EXECUTIONS_MAX) -> None:
        self._program = program
        self._time = time
        self._executions_max = executions
        self._strategy = PreemptionBounded(0)
        self._cut_short = False
        self.exhausted = -1
        self.found: dict[str, tuple[int, list[int]]] = {}
        self.executions = 0

    @classmethod
    def of(cls, program: Program, searched: BoundedResult, *, time: TimePolicy | None = None) -> Fewest:
        """What a search by preemptions knows already; it is not carried on."""
        known = cls(program, time=time, executions=0)
        known.exhausted = -1 if searched.result.bounded else searched.exhausted
        for name, found in searched.result.found.items():
            known.found[name] = searched.first_bound[name], found.record
        return known

    def look(self, wanted: str, preemptions: int, budget: Budget) -> list[int] | None:
        """A record that shows a bug with fewer preemptions than so many, if one is found.

        Args:
            wanted: signature of the bug.
            preemptions: with how many it is known to show.
            budget: of time; executions are counted here.
        """
        while (
            wanted not in self.found
            and self.exhausted < preemptions - 1
            and not self._cut_short
            and self.executions < self._executions_max
            and budget.in_time
        ):
            self._run()
        bound, record = self.found.get(wanted, (preemptions, None))
        return record if bound < preemptions else None

    def proves(self, wanted: str, preemptions: int) -> bool:
        """Whether it is known that no schedule with fewer preemptions shows a bug."""
        bound, _ = self.found.get(wanted, (preemptions, None))
        return bound >= preemptions and self.exhausted >= preemptions - 1

    def _run(self) -> None:
        strategy = self._strategy
        self.executions += 1
        name, record, bounded = run_for_signature(self._program, strategy, self._time)
        if name is not None:
            self.found.setdefault(name, (strategy.bound, record))
        if bounded:
            self._cut_short = True  # of a run that was not played to its end nothing is known
        elif not strategy.advance():
            self.exhausted = strategy.bound if strategy.cut else ALL
            self._strategy = PreemptionBounded(strategy.bound + 1)


class NearBounded(PreemptionBounded):
    """As `PreemptionBounded`, of some paths only; others move when none of these can.

    Args:
        bound: how many preemptions.
        paths: keys of the paths.
    """

    name = "preemption-bounded, near"

    def __init__(self, bound: int, paths: Collection[str]) -> None:
        super().__init__(bound)
        self._paths = paths

    def pick(self, enabled: Sequence[SimPath]) -> SimPath:
        """The path of this schedule."""
        near = [path for path in enabled if path.key in self._paths]
        return super().pick(near or enabled)


def look_near(
    program: Program, wanted: str, paths: Collection[str], preemptions: int, budget: Budget, time: TimePolicy | None
) -> list[int] | None:
    """A record that shows a bug with fewer preemptions than so many, by some paths only, if one is found.

    Args:
        program: what to run.
        wanted: signature of the bug.
        paths: keys of the paths that may move while they can.
        preemptions: with how many it is known to show.
        budget: of executions and time; a part of it is used.
        time: overrides the program's own policy.
    """
    part = budget.part(NEAR_MAX)
    for bound in range(preemptions):
        strategy = NearBounded(bound, paths)
        more = True
        while more:
            if not part.left:
                return None
            part.spent += 1
            budget.spent += 1
            name, record, _ = run_for_signature(program, strategy, time)
            if name == wanted:
                return record
            more = strategy.advance()
    return None


def run_for_signature(
    program: Program, strategy: Strategy, time: TimePolicy | None = None
) -> tuple[str | None, list[int], bool]:
    """Run once: the signature of the bug that it shows, its record, and whether it hit the bound on steps."""
    execution = program.execute(strategy, time=time)
    outcome = execution.outcome
    name = None if outcome.bug is None else signature(outcome)
    program.dispose(execution)
    return name, list(execution.simulation.record), outcome.ending is Ending.BOUND
