"""Runs of schedules that show a bug, and what such a schedule costs: steps, preemptions, switches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from typing import Final

from slabactors.errors import NondeterminismError, ReplayDiverged
from slabactors.explore.fewest import Budget
from slabactors.explore.finding import REPEAT_HINT, signature
from slabactors.explore.linearise import best_order, cost_of, decisions_of, goes_on, greedy_orders, slice_of
from slabactors.explore.program import Execution, Program
from slabactors.explore.replay import ReplayStrategy
from slabactors.explore.scripts import RunOnStrategy, SkippingStrategy
from slabactors.explore.strategy import FollowRecord
from slabactors.runtime.history import Event, History
from slabactors.runtime.simulated import SimPath, Strategy
from slabactors.runtime.step import Decision, Outcome, TimePolicy

LEFT_MAX: Final = 3
"""Of how many paths it is tried, one by one, whether they can run on; with more of them only all together."""


@dataclass(slots=True)
class Shrunken:
    """A schedule that shows a bug.

    Attributes:
        decisions: the schedule.
        history: of its run, for tables and stories; the last event is the step that broke it, if one did.
        outcome: of its run.
        preemptions: of the whole run that the schedule stands for: see the module.
        switches: changes of path, forced ones included.
        resumed: those of them after which the schedule goes on with the path that was preempted.
        minimum: all schedules with fewer preemptions were explored, and none shows the bug.
        replays: how many runs it took to get here.
        proof: how many more it took to find that there is none with fewer preemptions; shared among the bugs of a
            search.
        whole: for a bug that no step has, the run that the preemptions are of; others play the end of a schedule one
            step each in turn, which is harder to read.
    """

    decisions: list[Decision]
    history: History
    outcome: Outcome
    preemptions: int
    switches: int
    resumed: int = 0
    minimum: bool = False
    replays: int = 1
    proof: int = 0
    whole: tuple[History, Outcome] | None = None

    @property
    def size(self) -> tuple[int, int, int, int]:
        """What is made small, in this order: preemptions, steps, switches, values chosen."""
        return self.preemptions, len(self.decisions), self.switches, self._values

    @property
    def rough_size(self) -> tuple[int, int, int, int]:
        """The same, as far as one run tells it."""
        return self.resumed, len(self.decisions), self.switches, self._values

    @property
    def _values(self) -> int:
        return sum(decision.value or 0 for decision in self.decisions)

    def told(self) -> Shrunken:
        """With the history that reads best; the schedule stays what it is."""
        if self.whole is None:
            return self
        return replace(self, history=self.whole[0], outcome=self.whole[1], whole=None)

    @property
    def whole_schedule(self) -> list[Decision]:
        """The schedule of all that the history has; what was played fairly at the end is in it as well."""
        if self.outcome.culprit is not None:
            return self.decisions
        return decisions_of(self.history, [event.index for event in self.history.events if event.act == 1])

    @property
    def scheduled(self) -> list[Event]:
        """The steps that the schedule is of; what follows was played fairly."""
        deliveries = sum(decision.value is None for decision in self.decisions)
        return self.history.events[:deliveries]


def replayed(program: Program, decisions: list[Decision]) -> Shrunken:
    """Run a schedule strictly, and look at it as `shrink` does.

    Raises:
        ReplayDiverged: it does not fit.
    """
    runs = Runs(program, "", Budget(), None)
    found = runs.strictly(decisions)
    if found.outcome.bug is None:
        return found
    runs.wanted = signature(found.outcome)
    return runs.counted(found).told()


def expect(outcome: Outcome, wanted: str) -> None:
    """Assert that a run shows a bug.

    Raises:
        NondeterminismError: it shows another one, or none.
    """
    found = None if outcome.bug is None else signature(outcome)
    if found != wanted:
        raise NondeterminismError(
            f"the run that showed {wanted!r} was run again, step for step, and showed "
            f"{'no bug' if found is None else repr(found)}.\n{REPEAT_HINT}"
        )


def observed(
    program: Program, strategy: Strategy, time: TimePolicy | None = TimePolicy.RECORDED
) -> tuple[History, Execution]:
    """Run once, with the history of the run; its last event is the step that broke it, if one did.

    Raises:
        ReplayDiverged: the strategy follows a schedule that does not fit.
    """
    history = History()
    execution = program.execute(strategy, observer=history, time=time)
    if execution.outcome.bug is not None:
        _close(history, execution)
    return history, execution


def _close(history: History, execution: Execution) -> None:
    """Add the step that broke the run, which no observer saw."""
    outcome = execution.outcome
    if isinstance(outcome.culprit, SimPath):
        delivered = sum(1 for number in execution.simulation.record if number >= 0)
        if len(history.events) == delivered:
            history.learn()  # the path's own code raised after a step that was delivered, or after a choice
            return
        history.broke(outcome.culprit, 1 if execution.simulation.first_act is None else 2)


def _played(events: list[Event]) -> list[Event]:
    """The steps of the first act."""
    return [event for event in events if event.act == 1]


class Runs:
    """Runs that have to show one bug of one program, none of them made twice.

    Args:
        program: what is run.
        wanted: signature of the bug.
        budget: what the runs may cost.
        time: the policy under which the bug was found, if not the program's own.
    """

    def __init__(self, program: Program, wanted: str, budget: Budget, time: TimePolicy | None) -> None:
        self.program = program
        self.wanted = wanted
        self.budget = budget
        self.time = time
        self._tried: dict[tuple[Decision, ...], Shrunken | None] = {}
        """What came of schedules that were run strictly."""
        self._fitting: dict[tuple[Decision, ...], list[Decision] | None] = {}
        """What could be followed of others, where that shows the bug."""

    # -- runs ------------------------------------------------------------------------------------------------------

    def recorded(self, record: list[int]) -> Shrunken:
        """The best schedule of the steps of a record, and the record's own run if no schedule was confirmed.

        Raises:
            NondeterminismError: neither the record nor its schedule shows the bug again.
        """
        self.budget.spent += 1
        history, execution = observed(self.program, FollowRecord(record), self.time)
        expect(execution.outcome, self.wanted)
        events, culprit = history.events, execution.outcome.culprit
        whole = [event.index for event in events if culprit is not None or event.act == 1]
        for order in (*orders(events, culprit), whole):
            found = self.confirmed(decisions_of(history, order), anyway=True)
            if found is not None:
                return found
        raise NondeterminismError(f"no schedule of the run that showed {self.wanted!r} shows it again.\n{REPEAT_HINT}")

    def strictly(self, decisions: list[Decision]) -> Shrunken:
        """The run of a schedule.

        Raises:
            ReplayDiverged: it does not fit.
        """
        self.budget.spent += 1
        history, execution = observed(self.program, ReplayStrategy(decisions))
        found = Shrunken(decisions, history, execution.outcome, 0, 0)
        played = _played(found.scheduled)
        found.resumed = sum(event.preempts and goes_on(played, event.index) for event in played)
        found.switches = sum(after.path is not before.path for before, after in pairwise(played))
        found.preemptions = sum(event.preempts for event in _played(history.events))
        return found

    def confirmed(self, decisions: list[Decision], *, anyway: bool = False) -> Shrunken | None:
        """The run of a schedule, if it shows the bug.

        Args:
            decisions: the schedule.
            anyway: also when the budget is spent.
        """
        key = tuple(decisions)
        if key not in self._tried:
            if not (self.budget.left or anyway):
                return None
            self._tried[key] = None
            with suppress(ReplayDiverged):
                found = self.strictly(decisions)
                if self.shows(found.outcome):
                    self._tried[key] = found
        return self._tried[key]

    def followed(self, decisions: list[Decision]) -> Shrunken | None:
        """The run of what can be followed of a schedule, if it shows the bug, and strictly again."""
        key = tuple(decisions)
        if key not in self._fitting:
            if not self.budget.left:
                return None
            self.budget.spent += 1
            strategy = SkippingStrategy(decisions)
            history, execution = observed(self.program, strategy)
            made = len(history.events) if execution.outcome.culprit is not None else strategy.made
            shows = self.shows(execution.outcome)
            self._fitting[key] = decisions_of(history, list(range(made))) if shows else None
        fitting = self._fitting[key]
        return None if fitting is None else self.confirmed(fitting)

    def shows(self, outcome: Outcome) -> bool:
        """Whether a run shows the bug."""
        return outcome.bug is not None and signature(outcome) == self.wanted

    def counted(self, found: Shrunken) -> Shrunken:
        """With the number of preemptions of a whole run: whoever is not needed any more runs on where he may."""
        events = _played(found.scheduled)
        over = len(found.scheduled) == len(found.history.events)
        followed = events if over else _played(found.history.events)[: len(events) + 1]
        forced = [event for event in followed if event.preempts]
        left = [followed[event.index - 1].path.key for event in forced if not goes_on(events, event.index)]
        best = found
        for count in range(len(left) + 1):
            if 0 < count < len(left) > LEFT_MAX:
                continue  # too many combinations
            for stopped in combinations(left, count):
                if best.preemptions > found.resumed + count and self.budget.left:
                    self.budget.spent += 1
                    whole = self._whole(found, stopped)
                    best = min(best, whole or best, key=lambda one: one.preemptions)
        return best

    def _whole(self, found: Shrunken, stopped: tuple[str, ...]) -> Shrunken | None:
        """With the preemptions of the whole run of a schedule, if that shows the bug as well."""
        try:
            history, execution = observed(self.program, RunOnStrategy(found.decisions, stopped))
        except ReplayDiverged:
            return None
        if not self.shows(execution.outcome):
            return None
        number = sum(event.preempts for event in _played(history.events))
        at_rest = found.outcome.culprit is None
        return replace(found, preemptions=number, whole=(history, execution.outcome) if at_rest else None)


def orders(events: list[Event], culprit: object) -> Iterator[list[int]]:
    """Orders of the steps of a broken run that are worth trying, the most promising first."""
    whole = list(range(len(events)))
    if culprit is None:
        return
    keep = slice_of(events, culprit)
    best = best_order(events, keep)
    if best is None:
        yield from greedy_orders(events, keep)
    elif keep != whole or cost_of(events, best) < cost_of(events, keep):
        yield best
    if keep != whole or best is None:
        yield keep
