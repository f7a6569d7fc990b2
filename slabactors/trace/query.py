"""Questions to the log of a run: which steps, an object's life, what led to a step, where two runs part."""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import islice, zip_longest
from typing import Any, Final

from slabactors.trace.reader import LogReader, StepLine, name_of

__all__ = ["Filter", "Parting", "Stats", "diff", "follow", "past", "select", "stats"]

CONTEXT: Final = 3
"""Steps shown before two runs part."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which steps; None for any.  Texts are patterns as in a shell, and hold for the whole name.

    Attributes:
        actor: who handled it.
        path: who asked: name of the path, or its whole key.
        lane: where that runs.
        operation: its name.
        cache: name of a cache: it, and what belongs to it.
        act: 1 or 2.
        first: the lowest number.
        last: the highest number.
        since: virtual seconds.
        until: virtual seconds.
    """

    actor: str | None = None
    path: str | None = None
    lane: str | None = None
    operation: str | None = None
    cache: str | None = None
    act: int | None = None
    first: int | None = None
    last: int | None = None
    since: float | None = None
    until: float | None = None

    def passes(self, step: StepLine) -> bool:
        """Whether a step is one of them."""
        return (
            (self.first is None or step.step >= self.first)
            and (self.last is None or step.step <= self.last)
            and (self.since is None or step.seconds >= self.since)
            and (self.until is None or step.seconds <= self.until)
            and (self.act is None or step.act == self.act)
            and (self.lane is None or fnmatchcase(step.lane, self.lane))
            and (self.operation is None or fnmatchcase(step.operation, self.operation))
            and (self.actor is None or fnmatchcase(step.actor, self.actor))
            and (self.path is None or fnmatchcase(step.path, self.path) or fnmatchcase(name_of(step.path), self.path))
            and (self.cache is None or belongs(step.actor, self.cache))
        )

    def is_over(self, step: StepLine) -> bool:
        """Whether neither this step nor any later one is among them."""
        return (self.last is not None and step.step > self.last) or (
            self.until is not None and step.seconds > self.until
        )


def belongs(actor: str, owner: str) -> bool:
    """Whether an actor is some object, or a part of it: its parameters, its work, its CPUs' and nodes' structures."""
    return actor == owner or actor.startswith(f"{owner}.") or actor.endswith(f"/{owner}")


def select(log: LogReader, which: Filter) -> Iterator[StepLine]:
    """The steps that pass a filter."""
    for step in log.steps():
        if which.is_over(step):
            return
        if which.passes(step):
            yield step


def mentions(value: Any, name: str) -> bool:
    """Whether a value of a log has an object in it."""
    if isinstance(value, str):
        return value == name or (value.startswith(f"{name}[") and value.endswith("]"))
    if isinstance(value, list):
        return any(mentions(one, name) for one in value)
    return isinstance(value, dict) and any(mentions(one, name) for one in value.values())


def follow(log: LogReader, name: str) -> Iterator[StepLine]:
    """The life of an object: the steps that it, or a part of it, has handled, and those that handed it on."""
    for step in log.steps():
        if belongs(step.actor, name) or mentions(step.args, name) or mentions(step.reply, name):
            yield step


def past(log: LogReader, number: int, limit: int) -> tuple[list[StepLine], int]:
    """The causal past of a step: the steps that it comes after, directly or not, nearest first.

    Reads the log backwards from that step, and no further than the oldest that is asked for.

    Args:
        log: the log.
        number: of the step.
        limit: how many steps at most, the step itself among them.

    Returns:
        The steps in the order of the run, and how many older ones the last of them directly come after.

    Raises:
        LogFileError: there is no such step.
    """
    wanted = [-number]
    known = {number}
    found: list[StepLine] = []
    log.step(number)
    for step in log.before(number + 1):
        if not wanted or len(found) == limit:
            break
        if step.step != -wanted[0]:
            continue
        heapq.heappop(wanted)
        found.append(step)
        for cause in step.causes:
            if cause not in known:
                known.add(cause)
                heapq.heappush(wanted, -cause)
    return found[::-1], len(wanted)


@dataclass(frozen=True, slots=True)
class Parting:
    """Where two runs part.

    Attributes:
        before: the last steps that both have.
        left: the next steps of the first run.
        right: the next steps of the second one.
        facts: what differs in what was run: name, first, second.
        same: how many steps both have before they part.
    """

    before: list[StepLine]
    left: list[StepLine]
    right: list[StepLine]
    facts: list[tuple[str, Any, Any]]
    same: int

    @property
    def equal(self) -> bool:
        """They do not part."""
        return not self.left and not self.right


def diff(left: LogReader, right: LogReader, context: int = CONTEXT) -> Parting:
    """Where two runs part: the first step that differs in who, what, to whom, with what, or in what came of it."""
    facts = [
        (name, getattr(left.run, name), getattr(right.run, name))
        for name in left.run.__struct_fields__
        if getattr(left.run, name) != getattr(right.run, name)
    ]
    before: deque[StepLine] = deque(maxlen=context)
    same = 0
    ours, theirs = left.steps(), right.steps()
    for one, other in zip_longest(ours, theirs):
        if one != other:
            return Parting(list(before), _next(one, ours, context), _next(other, theirs, context), facts, same)
        before.append(one)
        same += 1
    return Parting(list(before), [], [], facts, same)


def _next(first: StepLine | None, rest: Iterator[StepLine], count: int) -> list[StepLine]:
    return [] if first is None else [first, *islice(rest, count - 1)]


@dataclass(slots=True)
class Stats:
    """What a log holds, counted.

    Attributes:
        steps: how many.
        second_act: those while the machine settled.
        seconds: virtual time of the last one.
        switches: steps by another path than the one before.
        met: steps that come directly after a step of another path.
        lanes: steps by lane.
        actors: steps by actor.
        operations: steps by what they stand for.
        changes: steps that changed their actor, by actor.
    """

    steps: int = 0
    second_act: int = 0
    seconds: float = 0.0
    switches: int = 0
    met: int = 0
    lanes: Counter[str] = field(default_factory=Counter)
    actors: Counter[str] = field(default_factory=Counter)
    operations: Counter[str] = field(default_factory=Counter)
    changes: Counter[str] = field(default_factory=Counter)


def stats(log: LogReader) -> Stats:
    """Count what a log holds."""
    found = Stats()
    path = ""
    for step in log.steps():
        found.steps += 1
        found.second_act += step.act == 2
        found.seconds = step.seconds
        found.switches += path not in ("", step.path)
        path = step.path
        found.met += len(step.causes) > 1
        found.lanes[step.lane or name_of(step.path)] += 1
        found.actors[step.actor] += 1
        found.operations[step.does] += 1
        if step.changed:
            found.changes[step.actor] += 1
    return found
