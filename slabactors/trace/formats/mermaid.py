"""A run as a Mermaid sequence diagram: a lifeline for each path and each actor, an arrow for each step.

Code hosts draw it from a fenced block of the language ``mermaid``.  It is a pure function of the history.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from slabactors.runtime.history import MISSING, Event, History
from slabactors.trace.race_table import column_of, describe_reply

MESSAGES_MAX: Final = 60
"""A diagram with more arrows is not read."""


def sequence_diagram(
    history: History, *, title: str = "", notes: Mapping[int, str] | None = None, matter: Collection[int] = ()
) -> str:
    """The diagram of a run: the steps at actors that several paths use, and those that matter.

    Args:
        history: of the run; a last step without a reply is the one that broke it.
        title: one line above it.
        notes: what to write beside some steps, by their index.
        matter: indices of steps that are shown in any case, as long as there are not too many.
    """
    events = history.events
    notes = notes or {}
    shown = _shown(events, {*notes, *matter})
    paths: dict[str, str] = {}
    actors: dict[str, str] = {}
    for event in shown:
        paths.setdefault(column_of(event.path), f"p{len(paths)}")
        actors.setdefault(event.actor.name, f"a{len(actors)}")
    lines = ["sequenceDiagram"]
    if title:
        lines.append(f"    title {escaped(title)}")
    lines.extend(f"    participant {name} as {escaped(text)}" for text, name in (*paths.items(), *actors.items()))
    expected = 0
    for event in shown:
        path, actor = paths[column_of(event.path)], actors[event.actor.name]
        if event.index > expected:
            lines.append(f"    Note over {path}: {_left_out(event.index - expected)}")
        expected = event.index + 1
        broke = event.reply is MISSING
        reply = "" if broke else describe_reply(event.reply)
        lines.append(f"    {path}{'-x' if broke else '->>'}{actor}: {escaped(event.operation.expression + reply)}")
        note = notes.get(event.index, "")
        if broke:
            note = f"{note}, breaks" if note else "breaks"
        if note:
            lines.append(f"    Note over {path},{actor}: {escaped(note)}")
    if shown and len(events) > expected:
        lines.append(f"    Note over {paths[column_of(shown[-1].path)]}: {_left_out(len(events) - expected)}")
    return "\n".join(lines) + "\n"


def _shown(events: list[Event], wanted: set[int]) -> list[Event]:
    """The steps at contested actors, and those wanted; the latter alone, or the last of them, if there are too many."""
    visitors: dict[str, set[str]] = {}
    for event in events:
        visitors.setdefault(event.actor.name, set()).add(event.path.key)
    contested = {event.index for event in events if len(visitors[event.actor.name]) > 1}
    chosen = contested | wanted
    if events and events[-1].reply is MISSING:
        chosen.add(len(events) - 1)
    if len(chosen) > MESSAGES_MAX:
        others = sorted(chosen - wanted)
        room = max(0, MESSAGES_MAX - len(wanted))
        chosen = {*wanted, *others[len(others) - room :]}
    return [events[index] for index in sorted(chosen)[-MESSAGES_MAX:]]


def _left_out(count: int) -> str:
    return f"{count} step{'' if count == 1 else 's'} not shown"


def escaped(text: str) -> str:
    """Text without what Mermaid takes for its own: comments, ends of statements, markup, ends of lines."""
    result = text.replace("#", "\0").replace(";", "#59;").replace("\0", "#35;").replace("<", "#lt;")
    return " ".join(result.split())
