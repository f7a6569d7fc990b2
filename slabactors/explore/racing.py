"""Racing pairs: two steps whose order broke a run, found by really running the other order.

A pair races when its steps are by different paths, meet in a cell of one actor, and nothing else keeps them in order.
The other order is run as an exhaustive search would: all that does not depend on the first step
comes before the second, then the first, then what is left of the schedule as far as it fits, then everybody until he
waits.  What is said of a pair is what came of that one run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from slabactors.actors import Actor
from slabactors.explore.finding import signature
from slabactors.explore.linearise import decisions_of, slice_about
from slabactors.explore.program import Program
from slabactors.explore.runs import Shrunken, observed
from slabactors.explore.scripts import SkippingStrategy, Staying
from slabactors.runtime.history import MISSING, Event, History
from slabactors.runtime.simulated import SimPath
from slabactors.runtime.step import Decision

RUNS_MAX: Final = 12
"""Reversals that are tried for one finding; the nearest to the step that broke come first."""

COMING_MAX: Final = 40
"""Steps that a path may take on the way to one that meets the step that broke."""


@dataclass(frozen=True, slots=True)
class Difference:
    """The first step of the other order that is not as it was.

    Attributes:
        was: the step in the run that broke.
        instead: the same path's step at the same place of its program, in the other order.
    """

    was: Event
    instead: Event


@dataclass(frozen=True, slots=True)
class RacingPair:
    """Two steps and what their order means.

    Attributes:
        first: the one that came first.
        second: the one that came after it, or was still to come when the run broke.
        to_come: it was still to come.
        reversed: signature of the bug that the other order shows; None when it shows none.
        difference: what changes first in the other order.
    """

    first: Event
    second: Event
    to_come: bool
    reversed: str | None
    difference: Difference | None


def racing_pairs(
    program: Program, shrunken: Shrunken, *, runs: int = RUNS_MAX, until_decisive: bool = False
) -> list[RacingPair]:
    """The pairs of a finding's run that race, nearest to the step that broke first.

    Args:
        program: what was run.
        shrunken: the finding's schedule.
        runs: how many orders are tried at most.
        until_decisive: stop at the first pair whose other order shows no bug at all.
    """
    bug = shrunken.outcome.bug
    if bug is None:
        return []
    pairs: list[RacingPair] = []
    for number, (first, second, strategy) in enumerate(_reversals(shrunken)):
        if number == runs:
            break
        history, execution = observed(program, strategy)
        outcome = execution.outcome
        pair = _pair(shrunken, first, second, history, None if outcome.bug is None else signature(outcome))
        if pair is not None:
            pairs.append(pair)
            if until_decisive and pair.reversed is None:
                break
    return pairs


def decisive(pairs: Sequence[RacingPair], wanted: str) -> RacingPair | None:
    """The pair that says most: whose other order shows no bug, or else not this one.

    Args:
        pairs: of a finding.
        wanted: its signature.
    """
    return next((pair for pair in pairs if pair.reversed is None), None) or next(
        (pair for pair in pairs if pair.reversed != wanted), None
    )


# -- which orders to try -----------------------------------------------------------------------------------------------


def _reversals(shrunken: Shrunken) -> Iterator[tuple[Event, Event | None, SkippingStrategy]]:
    """Pairs with what runs them in the other order; the second step is None when it was still to come."""
    events = [event for event in shrunken.history.events if event.act == 1]
    if not events:
        return
    broke = events[-1]
    if broke.reply is MISSING:
        for path in _left(events):
            yield broke, None, _Coming(decisions_of(shrunken.history, [e.index for e in events[:-1]]), path, broke)
    about = None if shrunken.outcome.bug is None else shrunken.outcome.bug.about
    matters = set(slice_about(events, about)) if about is not None else None
    for second in reversed(events):
        if matters and second.index not in matters:
            continue
        for index in reversed(second.conflicts):
            first = events[index]
            if not any(other != index and events[other].past >> index & 1 for other in second.causes):
                order = _other_order(events, first, second)
                yield first, second, SkippingStrategy(decisions_of(shrunken.history, order), Staying())


def _left(events: list[Event]) -> list[str]:
    """Keys of the paths that are in the middle of something when the run breaks, the last one to move first."""
    broke = events[-1].path
    paths = dict.fromkeys(event.path for event in reversed(events) if event.path is not broke)
    return [path.key for path in paths if not path.done and path.timer is None]


def _other_order(events: list[Event], first: Event, second: Event) -> list[int]:
    """All steps, with the second of a pair before the first, and what depends on neither before both."""
    before = [event.index for event in events[: first.index]]
    between = [event.index for event in events[first.index + 1 : second.index] if not event.past >> first.index & 1]
    taken = {*before, *between, first.index, second.index}
    rest = [event.index for event in events if event.index not in taken]
    return [*before, *between, second.index, first.index, *rest]


class _Coming(SkippingStrategy):
    """Follows a schedule, lets one path go on until it has met the step that broke, and then takes that step.

    Args:
        decisions: the schedule, without the step that broke.
        path: key of the path.
        broke: that step.
    """

    def __init__(self, decisions: list[Decision], path: str, broke: Event) -> None:
        super().__init__(decisions, Staying())
        self._path = path
        self._broke = broke
        self._left = COMING_MAX
        self.met = False

    @property
    def exhausted(self) -> bool:
        """Nothing of the schedule is left, and the step that broke has been taken, or cannot be."""
        return not self._deliveries and not self._left

    def pick(self, enabled: Sequence[SimPath]) -> SimPath:
        """As in the schedule; then the path; then the step."""
        if not enabled:
            self._left = 0  # the path waits for good
        if self._deliveries or not self._left:
            return super().pick(enabled)
        by_key = {path.key: path for path in enabled}
        path = by_key.get(self._path)
        if self.met or path is None:
            self._left = 0
            return by_key.get(self._broke.path.key) or self._after.pick(enabled)
        self._left -= 1
        operation, actor, _ = path.request
        self.met = actor.name == self._broke.actor.name and operation.footprint.conflicts(
            self._broke.operation.footprint
        )
        return path


# -- what came of them -------------------------------------------------------------------------------------------------


def _pair(
    shrunken: Shrunken, first: Event, second: Event | None, history: History, found: str | None
) -> RacingPair | None:
    """What the other order means; None when the run did not take it."""
    was = _by_place(shrunken.history.events)
    now = _by_place(history.events)
    place = _place(was, first)
    moved = now.get(place)
    to_come = second is None
    if moved is None:
        return None
    if second is None:
        earlier = history.events[moved.index - 1] if moved.index else None
        if earlier is None or _place(now, earlier) in was or not _meet(earlier, moved):
            return None
        second = earlier
    else:
        after = now.get(_place(was, second))
        if after is None or after.index > moved.index:
            return None
    return RacingPair(first, second, to_come, found, _difference(was, history.events, now))


def _meet(one: Event, other: Event) -> bool:
    return one.actor.name == other.actor.name and one.operation.footprint.conflicts(other.operation.footprint)


Place = tuple[str, int]
"""A step in terms that hold from run to run: the key of its path, and how many that has taken before."""


def _by_place(events: list[Event]) -> dict[Place, Event]:
    found: dict[Place, Event] = {}
    taken: dict[str, int] = {}
    for event in events:
        key = event.path.key
        found[key, taken.get(key, 0)] = event
        taken[key] = taken.get(key, 0) + 1
    return found


def _place(places: dict[Place, Event], event: Event) -> Place:
    return next(place for place, one in places.items() if one is event)


def _difference(was: dict[Place, Event], events: list[Event], now: dict[Place, Event]) -> Difference | None:
    """The first step of the other order that did something else, or got something else back."""
    places = {id(event): place for place, event in now.items()}
    for event in events:
        before = was.get(places[id(event)])
        if before is not None and _effect(before) != _effect(event):
            return Difference(before, event)
    return None


def _effect(event: Event) -> tuple[Any, ...]:
    """What a step does and gives back, in terms that hold from run to run."""
    reply = event.reply
    if isinstance(reply, Actor):
        reply = reply.name
    elif reply is not MISSING and not isinstance(reply, bool | int | str | None):
        reply = type(reply).__name__
    return event.operation.name, event.actor.name, reply is MISSING, None if reply is MISSING else reply
