"""The table that kernel changelogs use: who did what, in time order, one column for each that took part."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Any

from slabactors.actors import Actor, Operation
from slabactors.runtime.history import MISSING, Event, History
from slabactors.runtime.simulated import SimPath

ROWS_MAX = 12
"""A report that is longer is not read."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        step: index of the event in its run.
        column: who, as in `RaceTable.columns`.
        text: the C expression with what came of it.
        broke: it is the step at which the rule was broken.
    """

    step: int
    column: int
    text: str
    broke: bool


@dataclass(frozen=True, slots=True)
class RaceTable:
    """The steps that matter of one run.

    Attributes:
        columns: who took part, in the order of the first step of each.
        rows: at most `ROWS_MAX` steps, in time order.
        left_out: how many steps of the run are not shown.
    """

    columns: list[str]
    rows: list[Row]
    left_out: int

    def as_json(self) -> list[dict[str, Any]]:
        """The rows for ``--json``."""
        return [
            {"step": row.step, "who": self.columns[row.column], "what": row.text, "broke": row.broke}
            for row in self.rows
        ]

    def render(self, width: int = 110) -> str:
        """The table as text of at most about ``width`` columns."""
        if not self.rows:
            return "(nobody had taken a step)"
        column_width = max(20, (width - 2 * (len(self.columns) - 1)) // max(1, len(self.columns)))
        lines = ["  ".join(name.ljust(column_width) for name in self.columns).rstrip()]
        lines.append("  ".join("-" * column_width for _ in self.columns))
        for row in self.rows:
            text = f"{row.text}  <-- breaks" if row.broke else row.text
            indent = " " * (row.column * (column_width + 2))
            wrapped = textwrap.wrap(text, column_width, subsequent_indent="    ", break_long_words=True)
            lines.extend(f"{indent}{part}" for part in wrapped)
        return "\n".join(lines)


def describe_reply(reply: Any) -> str:
    """What came back, if it is short enough to say."""
    match reply:
        case bool():
            return " = true" if reply else " = false"
        case int() | str():
            return f" = {reply}"
        case Actor():
            return f" = {reply.name}"
    return ""


def describe(operation: Operation, actor: Actor, reply: Any) -> str:
    """A step in words: the C expression, what came back, and whose it is."""
    return f"{operation.expression}{describe_reply(reply)} [{actor.name}]"


def column_of(path: SimPath) -> str:
    """The column that a path's steps are in: where it runs and what it does."""
    says_where = path.lane in ("", path.name) or path.name.startswith(f"{path.lane} ")
    return path.name if says_where else f"{path.lane} {path.name}"


def race_table(history: History, about: object = None) -> RaceTable:
    """The steps of a broken run that matter for how it broke.

    Args:
        history: of the run; its last event is the step that broke it, unless ``about`` is given.
        about: the actor that was found wrong when the run was over, or the paths of a deadlock.
    """
    events = history.events
    seeds = _seeds(events, about)
    prelude = _prelude(events)
    chosen = _nearest(events, seeds, prelude)
    waiting = _waiting(about)
    broke = len(events) - 1 if about is None else -1
    columns: list[str] = []
    rows = []
    for index in sorted(chosen):
        event = events[index]
        column = column_of(event.path)
        if column not in columns:
            columns.append(column)
        reply = None if event.reply is MISSING else event.reply
        rows.append(
            Row(index, columns.index(column), describe(event.operation, event.actor, reply), broke=index == broke)
        )
    for path in waiting:
        operation, actor, _ = path.request
        if column_of(path) not in columns:
            columns.append(column_of(path))
        text = f"waits for {operation.expression} [{actor.name}]"
        rows.append(Row(len(events), columns.index(column_of(path)), text, broke=True))
    rows = rows[-ROWS_MAX:]
    return RaceTable(columns, rows, len(events) + len(waiting) - len(rows))


def _waiting(about: object) -> list[SimPath]:
    """The paths of a deadlock."""
    return [path for path in about if isinstance(path, SimPath)] if isinstance(about, tuple) else []


def _seeds(events: list[Event], about: object) -> list[int]:
    """Where the explanation starts: the broken step, or the last steps on the actor that was found wrong."""
    if not events:
        return []
    if about is None:
        return [len(events) - 1]
    waiting = _waiting(about)
    found: list[object] = [path.request[1] for path in waiting] or [about]
    family = [member for actor in found if isinstance(actor, Actor) for member in actor.family()]
    seeds = [event.index for path in waiting for event in events if event.path is path][-4:]
    touching = [event.index for event in events if any(event.actor is member for member in family)]
    return seeds + touching[-4:] or [len(events) - 1]


def _prelude(events: list[Event]) -> int:
    """How many events the main path took before anybody else moved: set-up, not part of the race."""
    if not events or events[0].path.parent is not None or events[0].path.daemon:
        return 0
    for event in events:
        if event.path is not events[0].path:
            return event.index
    return 0


def _nearest(events: list[Event], seeds: list[int], prelude: int) -> set[int]:
    """The events nearest to the seeds by going back through what other paths did, up to `ROWS_MAX`."""
    chosen: list[int] = []
    seen = set()
    queue = list(seeds)
    for seed in seeds:
        # Also what the same path did to the same object before: a mistake may need one path only.
        queue.extend([event.index for event in events[:seed] if event.actor is events[seed].actor][-2:])
    while queue and len(chosen) < ROWS_MAX:
        index = max(queue)
        queue.remove(index)
        if index in seen or index < prelude:
            continue
        seen.add(index)
        chosen.append(index)
        # Within its own path, the nearest earlier step that met somebody else; and whom this step met.
        event = events[index]
        met = immediate(events, event)
        queue.extend(met)
        own = index
        while own is not None:
            own = _before(events, own)
            if own is None or own < prelude:
                break
            if immediate(events, events[own]) or _is_met(events, own):
                queue.append(own)
                break
    return set(chosen)


def _before(events: list[Event], index: int) -> Any:
    path = events[index].path
    for earlier in reversed(events[:index]):
        if earlier.path is path:
            return earlier.index
    return None


def immediate(events: list[Event], event: Event) -> list[int]:
    """The conflicts of an event that no other of its causes already explains."""
    return [
        conflict
        for conflict in event.conflicts
        if not any(other != conflict and events[other].past >> conflict & 1 for other in event.causes)
    ]


def _is_met(events: list[Event], index: int) -> bool:
    return any(index in immediate(events, later) for later in events[index + 1 :])
