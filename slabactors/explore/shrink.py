"""Shrinking: from the run in which a bug was found to the shortest schedule of it that reads well.

Rounds of two stages, each candidate confirmed by a strict replay that must show the same signature:

1. Causal slice: only the steps that happen before the one that broke.  A set of steps closed under "happens before" is
   itself the beginning of a run, so this needs no search.  (A bug found when the run was over keeps all its steps.)
2. Re-linearise: the same steps in an order that stays with one path as long as possible, tried from each path in turn;
   the order with the fewest preemptions, then the fewest switches, is kept.

The second stage is greedy and starts from the order that it is given, so the rounds go on until one of them changes
nothing: nothing here makes a schedule larger, and shrinking what was shrunken changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from slabactors.errors import NondeterminismError, ReplayDiverged
from slabactors.explore.finding import signature
from slabactors.explore.program import Execution, Program
from slabactors.explore.replay import replay
from slabactors.explore.strategy import FollowRecord
from slabactors.runtime.history import Event, History, past_of
from slabactors.runtime.simulated import SimPath
from slabactors.runtime.step import Decision, Outcome

ROUNDS_MAX = 16
"""Each round but the last makes the schedule smaller, and few are needed."""


@dataclass(slots=True)
class Shrunken:
    """A schedule that shows a bug.

    Attributes:
        decisions: the schedule.
        history: of its run, for tables and stories; the last event is the step that broke it, if one did.
        outcome: of its run.
        preemptions: switches away from a path that could have gone on.
        switches: changes of path, forced ones included.
        replays: how many runs it took to get here.
    """

    decisions: list[Decision]
    history: History
    outcome: Outcome
    preemptions: int
    switches: int
    replays: int

    @property
    def size(self) -> tuple[int, int, int]:
        """What is made small, in this order: steps, preemptions, switches."""
        return len(self.decisions), self.preemptions, self.switches


def shrink(program: Program, record: list[int]) -> Shrunken:
    """The best schedule found for the bug that a record shows.

    Args:
        program: what was run.
        record: of the execution that showed the bug, made in this process.

    Raises:
        ReplayDiverged: not even the record itself repeats the bug.
    """
    history = History()
    execution = program.execute(FollowRecord(record), observer=history)
    if execution.outcome.bug is None:
        raise ReplayDiverged(len(record), "the bug that the record shows", "the run ended without it")
    wanted = signature(execution.outcome)
    _close(history, execution)
    events = history.events
    at_step = execution.outcome.culprit is not None
    first_act = [event.index for event in events if event.act == 1]
    keep = past_of(events, len(events) - 1) if at_step else first_act
    best: Shrunken | None = None
    replays = 1
    tried = set()
    for order in [keep, *(_linearise(events, keep, first) for first in _paths(events, keep))]:
        decisions = _decisions(history, order)
        key = tuple((one.path, one.value) for one in decisions)
        if key in tried:
            continue
        tried.add(key)
        replays += 1
        candidate = _confirm(program, decisions, wanted, replays)
        if candidate is not None and (best is None or candidate.size < best.size):
            best = candidate
    if best is None:
        # The slice did not hold, which means that a footprint is wrong somewhere; keep every step rather than lose it.
        decisions = _decisions(history, [event.index for event in events if at_step or event.act == 1])
        best = _confirm(program, decisions, wanted, replays)
        if best is None:
            raise ReplayDiverged(len(decisions), f"{wanted!r} once more", "the run ended without it")
    best.replays = replays
    return best


def replayed(program: Program, decisions: list[Decision]) -> Shrunken:
    """Run a schedule strictly, and look at it as `shrink` does.

    Raises:
        ReplayDiverged: it does not fit.
    """
    history = History()
    execution = replay(program, decisions, observer=history)
    if execution.outcome.bug is not None:
        _close(history, execution)
    preemptions, switches = _count(history.events)
    return Shrunken(decisions, history, execution.outcome, preemptions, switches, 1)


def _close(history: History, execution: Execution) -> None:
    """Add the step that broke the run, which no observer saw."""
    outcome = execution.outcome
    if isinstance(outcome.culprit, SimPath):
        delivered = sum(1 for number in execution.simulation.record if number >= 0)
        if len(history.events) == delivered:
            return  # the path's own code raised after a step that was delivered
        history.broke(outcome.culprit, 1 if execution.simulation.first_act is None else 2)


def _confirm(program: Program, decisions: list[Decision], wanted: str, replays: int) -> Shrunken | None:
    try:
        candidate = replayed(program, decisions)
    except ReplayDiverged:
        return None
    if candidate.outcome.bug is None or signature(candidate.outcome) != wanted:
        return None
    candidate.replays = replays
    return candidate


def _paths(events: list[Event], keep: list[int]) -> list[SimPath]:
    """The paths of the kept steps, those that broke it or ran last first."""
    found: list[SimPath] = []
    for index in reversed(keep):
        if events[index].path not in found:
            found.append(events[index].path)
    return found


def _linearise(events: list[Event], keep: list[int], favourite: SimPath) -> list[int]:
    """The kept steps in an order that stays with one path while it can, and with ``favourite`` after others.

    Greedy; the order with the fewest jumps at all is an NP-hard problem.
    """
    kept = set(keep)
    waiting = {index: set(_kept_causes(events, index, kept)) for index in keep}
    followers: dict[int, list[int]] = {}
    for index, causes in waiting.items():
        for cause in causes:
            followers.setdefault(cause, []).append(index)
    ready = {index for index, causes in waiting.items() if not causes}
    order: list[int] = []
    current: SimPath | None = None
    last = keep[-1]
    while ready:
        same = [index for index in ready if events[index].path is current]
        # The step that broke comes when nothing else is left; others by age, the favourite path's last.
        index = same[0] if same else min(ready, key=lambda one: (one == last, events[one].path is favourite, one))
        ready.discard(index)
        order.append(index)
        current = events[index].path
        for follower in followers.get(index, ()):
            waiting[follower].discard(index)
            if not waiting[follower]:
                ready.add(follower)
    return order


def _kept_causes(events: list[Event], index: int, kept: set[int]) -> list[int]:
    return [cause for cause in events[index].causes if cause in kept]


def _decisions(history: History, order: list[int]) -> list[Decision]:
    decisions = [Decision(path.key, "choose", "", value) for path, value in history.initial_choices]
    for index in order:
        event = history.events[index]
        decisions.append(Decision(event.path.key, event.operation.name, event.actor.name))
        for path, value in event.choices:
            decisions.append(Decision(path.key, "choose", "", value))
    return decisions


def _count(events: list[Event]) -> tuple[int, int]:
    """Preemptions and switches of a run: a preemption leaves a path that has a later step it could have taken."""
    switches = preemptions = 0
    for before, after in pairwise(events):
        if before.act == 2 or after.path is before.path:
            continue
        switches += 1
        if after.path.timer is None and before.could_go_on:
            preemptions += 1
    return preemptions, switches
