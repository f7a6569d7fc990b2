"""The steps of a run in another order: those that matter for how it broke, with few switches between paths.

A set of steps closed under "happens before" is itself the beginning of a run, in every order that keeps each step after
those that happen before it.  So nothing here runs anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush
from typing import Final

from slabactors.actors import Actor
from slabactors.runtime.history import Event, History
from slabactors.runtime.simulated import SimPath
from slabactors.runtime.step import CHOOSE, WAKE, Decision

State = tuple[tuple[int, ...], int]
"""How far each path has come, and which one is running."""

Cost = tuple[int, int]
"""Preemptions, as far as a history tells them, and switches."""

STATES_MAX: Final = 60_000
"""How many states the search for the best order looks at."""


def slice_of(events: list[Event], culprit: object) -> list[int]:
    """What happens before the last step, and before the last one of the path that broke the run.

    They differ when a path raises as soon as one that it has waited for returns.
    """
    if not events:
        return []
    own = [event.index for event in events if event.path is culprit]
    return _pasts(events, [len(events) - 1, *own[-1:]])


def slice_about(events: list[Event], about: object) -> list[int]:
    """For what was found wrong when nothing moved any more: what happens before the steps at it, in the first act.

    Args:
        events: of the run.
        about: an actor, or the paths of a deadlock.
    """
    if isinstance(about, Actor):
        family = about.family()
        seeds = [event.index for event in events if event.act == 1 and any(event.actor is one for one in family)]
    elif isinstance(about, tuple):
        last = {event.path: event.index for event in events if event.path in about}
        seeds = list(last.values())
    else:
        seeds = []
    return [index for index in _pasts(events, seeds) if events[index].act == 1]


def _pasts(events: list[Event], seeds: list[int]) -> list[int]:
    mask = 0
    for seed in seeds:
        mask |= events[seed].past | (1 << seed)
    return [index for index in range(len(events)) if mask >> index & 1]


def decisions_of(history: History, order: list[int]) -> list[Decision]:
    """The schedule that takes these steps of a run in this order, with what was chosen after each."""
    decisions = [Decision(path.key, CHOOSE, "", value) for path, value in history.initial_choices]
    for index in order:
        event = history.events[index]
        decisions.append(Decision(event.path.key, event.operation.name, event.actor.name))
        for path, value in event.choices:
            decisions.append(Decision(path.key, CHOOSE, "", value))
    return decisions


# -- the order with the fewest preemptions, then switches --------------------------------------------------------------


class _Steps:
    """The kept steps, path by path, and what each of them has to wait for."""

    def __init__(self, events: list[Event], keep: list[int]) -> None:
        kept = set(keep)
        self.events = events
        self.paths: list[SimPath] = []
        for index in reversed(keep):
            if events[index].path not in self.paths:
                self.paths.append(events[index].path)
        self.steps = [[index for index in keep if events[index].path is path] for path in self.paths]
        place = {index: (number, at) for number, own in enumerate(self.steps) for at, index in enumerate(own)}
        self.place = place
        self.needs = {
            index: [place[cause] for cause in events[index].causes if cause in kept and cause in place]
            for index in keep
        }
        self.waits = {index: self._may_wait(events[index]) for index in keep}

    def _may_wait(self, event: Event) -> bool:
        """Whether a path is at rest before this step, as long as what it depends on has not come."""
        return event.operation.guard is not None or any(
            # Led to by another path without meeting it in a cell: one that it has waited for.
            self.events[cause].path is not event.path and cause not in event.conflicts
            for cause in event.causes
        )

    def ready(self, progress: tuple[int, ...], index: int) -> bool:
        """Whether all has come that a step depends on."""
        return all(progress[other] > at for other, at in self.needs[index])

    def cost(self, progress: tuple[int, ...], current: int, number: int) -> Cost:
        """Of going on with path ``number`` after path ``current``."""
        if number == current:
            return 0, 0
        if current < 0 or progress[current] == len(self.steps[current]):
            return 0, 1  # it may run on, for all that this schedule is concerned
        index = self.steps[current][progress[current]]
        asleep = self.events[index].operation is WAKE
        waits = asleep or (self.waits[index] and not self.ready(progress, index))
        return int(not waits), 1


def cost_of(events: list[Event], order: list[int]) -> Cost:
    """What the order of some steps costs, by the same measure as `best_order`."""
    steps = _Steps(events, sorted(order))
    progress = [0] * len(steps.steps)
    current = -1
    preemptions = switches = 0
    for index in order:
        number = steps.place[index][0]
        preempts, switch = steps.cost(tuple(progress), current, number)
        preemptions += preempts
        switches += switch
        progress[number] += 1
        current = number
    return preemptions, switches


def best_order(events: list[Event], keep: list[int]) -> list[int] | None:
    """The kept steps with the fewest preemptions, then switches; None when there are too many orders to look at.

    A shortest path over how far each path has come.
    """
    steps = _Steps(events, keep)
    goal = tuple(len(own) for own in steps.steps)
    begin: State = ((0,) * len(steps.steps), -1)
    came_from: dict[State, State] = {}
    cost: dict[State, Cost] = {begin: (0, 0)}
    serial = 0
    queue: list[tuple[Cost, int, State]] = [((0, 0), serial, begin)]
    settled: set[State] = set()
    while queue:
        spent, _, state = heappop(queue)
        if state in settled:
            continue
        settled.add(state)
        if len(settled) > STATES_MAX:
            return None
        progress, current = state
        if progress == goal:
            return _walked(came_from, state, steps.steps)
        for number, own in enumerate(steps.steps):
            position = progress[number]
            if position == len(own) or not steps.ready(progress, own[position]):
                continue
            following: State = ((*progress[:number], position + 1, *progress[number + 1 :]), number)
            preempts, switch = steps.cost(progress, current, number)
            total = spent[0] + preempts, spent[1] + switch
            if following not in cost or total < cost[following]:
                cost[following] = total
                came_from[following] = state
                serial += 1
                heappush(queue, (total, serial, following))
    return None


def _walked(came_from: dict[State, State], state: State, steps: list[list[int]]) -> list[int]:
    """The steps on the way to a state, in order."""
    order = []
    while state in came_from:
        progress, number = state
        order.append(steps[number][progress[number] - 1])
        state = came_from[state]
    return order[::-1]


def greedy_orders(events: list[Event], keep: list[int]) -> Iterator[list[int]]:
    """Orders that stay with one path while they can, for each path one in which it comes after the others."""
    for favourite in _Steps(events, keep).paths:
        yield _staying(events, keep, favourite)


def _staying(events: list[Event], keep: list[int], favourite: SimPath) -> list[int]:
    kept = set(keep)
    waiting = {index: {cause for cause in events[index].causes if cause in kept} for index in keep}
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


# -- orders in which a path is preempted less often --------------------------------------------------------------------


def merged_orders(events: list[Event]) -> Iterator[list[int]]:
    """Orders in which some path is preempted less often, whatever depends on what: whether they break is to be seen.

    First with all steps of a path together, where the last or the first of them is; then with two blocks of one path
    made one, the earlier moved to the later or the later to the earlier.
    """
    preempted = [events[event.index - 1].path for event in events if event.preempts and goes_on(events, event.index)]
    for path in sorted(set(preempted), key=lambda one: (-preempted.count(one), preempted.index(one))):
        own = [event.index for event in events if event.path is path]
        others = [event.index for event in events if event.path is not path]
        for at in (own[-1], own[0]):
            yield from _allowed(
                events, [*(one for one in others if one < at), *own, *(one for one in others if one > at)]
            )
    for event in events:
        if event.preempts and goes_on(events, event.index):
            yield from _joined(events, event.index)


def goes_on(events: list[Event], index: int) -> bool:
    """Whether the path of the step before this one takes another step later on."""
    return any(later.path is events[index - 1].path for later in events[index:])


def _joined(events: list[Event], index: int) -> Iterator[list[int]]:
    """The block of one path that ends before a step, and the next of the same path, made one."""
    path = events[index - 1].path
    begin = index - 1
    while begin > 0 and events[begin - 1].path is path:
        begin -= 1
    again = next(later.index for later in events[index:] if later.path is path)
    end = again
    while end + 1 < len(events) and events[end + 1].path is path:
        end += 1
    before, between, after = range(begin), range(index, again), range(end + 1, len(events))
    block = [*range(begin, index), *range(again, end + 1)]
    yield from _allowed(events, [*before, *between, *block, *after])
    yield from _allowed(events, [*before, *block, *between, *after])


def _allowed(events: list[Event], order: list[int]) -> Iterator[list[int]]:
    """The order, unless some path would move before it was started, or before what it waits for."""
    place = {index: at for at, index in enumerate(order)}
    for index in order:
        event = events[index]
        if any(place[cause] > place[index] for cause in event.causes if cause not in event.conflicts):
            return
    yield order


# -- orders with less in them ------------------------------------------------------------------------------------------


def without_rounds(events: list[Event]) -> Iterator[list[int]]:
    """Orders in which a daemon does not come round so often, the most rounds left out first.

    With a round goes what somebody did who took part in nothing else, such as a timer that was set in it and went off.
    """
    for path in dict.fromkeys(event.path for event in events):
        rounds = [event for event in events if event.path is path and event.operation.parks]
        for count in range(len(rounds) - 1, 0, -1):
            for first, next_one in zip(rounds, rounds[count:], strict=False):
                yield _without_round(events, first, next_one)


def _without_round(events: list[Event], first: Event, next_one: Event) -> list[int]:
    """All steps but those that a path takes from one step on up to another, and those of who comes in between only."""
    gone = {event.index for event in events[first.index : next_one.index] if event.path is first.path}
    others: dict[SimPath, list[int]] = {}
    for event in events:
        if event.path is not first.path:
            others.setdefault(event.path, []).append(event.index)
    for own in others.values():
        if all(events[index].past >> first.index & 1 and next_one.past >> index & 1 for index in own):
            gone.update(own)
    return [event.index for event in events if event.index not in gone]
