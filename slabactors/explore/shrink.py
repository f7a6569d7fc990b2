"""Shrinking: from the run in which a bug was found to the shortest schedule of it that reads well.

Rounds of two stages, each candidate confirmed by a strict replay that must show the same signature:

1. Causal slice: only the steps that happen before the one that broke.  A set of steps closed under "happens before" is
   itself the beginning of a run, so this needs no search.  (A bug found when the run was over keeps all its steps.)
2. Re-linearise: the same steps in the order that changes from path to path least often (found exactly where there are
   few enough of them, else greedily from each path in turn); the fewest preemptions, then switches, are kept.

The second stage is greedy and starts from the order that it is given, so the rounds go on until one of them changes
nothing: nothing here makes a schedule larger, and shrinking what was shrunken changes nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from slabactors.errors import NondeterminismError, ReplayDiverged
from slabactors.explore.finding import REPEAT_HINT, signature
from slabactors.explore.program import Execution, Program
from slabactors.explore.replay import replay
from slabactors.explore.strategy import FollowRecord
from slabactors.runtime.history import Event, History, past_of
from slabactors.runtime.simulated import SimPath
from slabactors.runtime.step import Decision, Outcome
from slabactors.runtime.tripwires import guarded

State = tuple[tuple[int, ...], int]
"""How far each path has come, and which one is running."""

STATES_MAX = 60_000
"""How many states the search for the order with the fewest switches looks at."""

ROUNDS_MAX = 16
"""Each round but the last makes the schedule smaller; two or three are usual."""


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


@guarded
def shrink(program: Program, record: list[int], wanted: str) -> Shrunken:
    """The best schedule found for the bug that a record shows.

    Args:
        program: what was run.
        record: of the execution that showed the bug, made in this process.
        wanted: signature of the bug.

    Raises:
        NondeterminismError: not even the record itself shows the bug again.
    """
    history = History()
    execution = program.execute(FollowRecord(record), observer=history)
    _expect(execution.outcome, wanted)
    _close(history, execution)
    return _shrunken(program, history, execution.outcome, None)


@guarded
def shrink_schedule(program: Program, decisions: list[Decision], wanted: str) -> Shrunken:
    """As `shrink`, from a schedule: of a finding, or of a live run.

    Raises:
        ReplayDiverged: the schedule does not fit.
        NondeterminismError: it does not show the bug.
    """
    start = replayed(program, decisions)
    _expect(start.outcome, wanted)
    return _shrunken(program, start.history, start.outcome, start)


def _expect(outcome: Outcome, wanted: str) -> None:
    found = None if outcome.bug is None else signature(outcome)
    if found != wanted:
        raise NondeterminismError(
            f"the run that showed {wanted!r} was run again, step for step, and showed "
            f"{'no bug' if found is None else repr(found)}.\n{REPEAT_HINT}"
        )


def _shrunken(program: Program, history: History, outcome: Outcome, start: Shrunken | None) -> Shrunken:
    """The best of what `start` is and what its history, or that of a run without a schedule, can be made into."""
    wanted = signature(outcome)
    best = start
    replays = 1
    tried = set()
    for _ in range(ROUNDS_MAX):
        better: Shrunken | None = None
        for order in _orders(history.events, outcome.culprit):
            decisions = _decisions(history, order)
            key = tuple((one.path, one.value) for one in decisions)
            if key in tried:
                continue
            tried.add(key)
            replays += 1
            candidate = _confirm(program, decisions, wanted)
            if candidate is not None and (best is None or candidate.size < best.size):
                best = better = candidate
        if better is None:
            break
        history, outcome = better.history, better.outcome
    if best is None:
        raise NondeterminismError(f"no schedule of the run that showed {wanted!r} shows it again.\n{REPEAT_HINT}")
    best.replays = replays
    return best


def _orders(events: list[Event], culprit: object) -> Iterator[list[int]]:
    """The steps of a broken run in orders worth trying: as they were, those that matter, those rearranged."""
    whole = [event.index for event in events if culprit is not None or event.act == 1]
    yield whole
    keep = _slice(events, culprit) if culprit is not None else whole
    yield keep
    fewest = _fewest_switches(events, keep)
    if fewest is not None:
        yield fewest
    for path in _paths(events, keep):
        yield _linearise(events, keep, path)


def _slice(events: list[Event], culprit: object) -> list[int]:
    """What happens before the last step, and before the last one of the path that broke the run.

    They differ when a path raises as soon as one that it has waited for returns.
    """
    if not events:
        return []
    own = [event.index for event in events if event.path is culprit]
    return sorted({index for last in (len(events) - 1, *own[-1:]) for index in past_of(events, last)})


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
            history.learn()  # the path's own code raised after a step that was delivered, or after a choice
            return
        history.broke(outcome.culprit, 1 if execution.simulation.first_act is None else 2)


def _confirm(program: Program, decisions: list[Decision], wanted: str) -> Shrunken | None:
    try:
        candidate = replayed(program, decisions)
    except ReplayDiverged:
        return None
    if candidate.outcome.bug is None or signature(candidate.outcome) != wanted:
        return None
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


def _fewest_switches(events: list[Event], keep: list[int]) -> list[int] | None:
    """The order of the kept steps that changes from path to path least often; None when there are too many to look at.

    A shortest path over how far each path has come, by 0-1 breadth-first search.
    """
    kept = set(keep)
    paths = _paths(events, keep)
    steps = [[index for index in keep if events[index].path is path] for path in paths]
    place = {index: (number, position) for number, own in enumerate(steps) for position, index in enumerate(own)}
    needs = {index: [place[cause] for cause in _kept_causes(events, index, kept)] for index in keep}
    goal = tuple(len(own) for own in steps)
    begin: State = ((0,) * len(paths), -1)
    came_from: dict[State, State] = {}
    cost: dict[State, int] = {begin: 0}
    queue: deque[State] = deque([begin])
    settled: set[State] = set()
    while queue:
        state = queue.popleft()
        if state in settled:
            continue
        settled.add(state)
        if len(settled) > STATES_MAX:
            return None
        progress, current = state
        if progress == goal:
            return _walked(came_from, state, steps)
        for number, own in enumerate(steps):
            position = progress[number]
            if position == len(own) or any(progress[other] <= at for other, at in needs[own[position]]):
                continue
            following: State = ((*progress[:number], position + 1, *progress[number + 1 :]), number)
            switched = number != current
            if cost[state] + switched < cost.get(following, 1 << 30):
                cost[following] = cost[state] + switched
                came_from[following] = state
                if switched:
                    queue.append(following)
                else:
                    queue.appendleft(following)
    return None


def _walked(came_from: dict[State, State], state: State, steps: list[list[int]]) -> list[int]:
    """The steps on the way to a state, in order."""
    order = []
    while state in came_from:
        progress, number = state
        order.append(steps[number][progress[number] - 1])
        state = came_from[state]
    return order[::-1]


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
    played = [event for event in events if event.act == 1]
    switches = sum(after.path is not before.path for before, after in pairwise(played))
    return sum(event.preempts for event in played), switches
