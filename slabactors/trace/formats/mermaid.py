"""A run as a Mermaid sequence diagram: a lifeline for each path and each actor, an arrow for each step.

Code hosts draw it from a fenced block of the language ``mermaid``.  It is a pure function of the history, or of the
log.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Final

from slabactors.errors import UsageError
from slabactors.runtime.history import MISSING, Event, History
from slabactors.trace.query import Filter
from slabactors.trace.race_table import column_of, describe_reply
from slabactors.trace.reader import LogReader, StepLine
from slabactors.trace.telling import named, told, value_text

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


def log_diagram(log: LogReader, which: Filter) -> Iterator[str]:
    """The diagram of some steps of a log: all of them, in their order.

    Raises:
        UsageError: there are more than `MESSAGES_MAX`.
    """
    steps: list[tuple[StepLine, bool]] = []
    for step, broke in told(log, which):
        steps.append((step, broke))
        if len(steps) > MESSAGES_MAX:
            first = steps[0][0].step
            raise UsageError(
                f"{log.path} has more than {MESSAGES_MAX} such steps, and a diagram has room for {MESSAGES_MAX}.\n"
                f"  Choose fewer: --from {first} --to {first + MESSAGES_MAX - 1}, or see them all: --format perfetto"
            )
    paths: dict[str, str] = {}
    actors: dict[str, str] = {}
    for step, _ in steps:
        paths.setdefault(step.path, f"p{len(paths)}")
        actors.setdefault(step.actor, f"a{len(actors)}")
    yield f"sequenceDiagram\n    title {escaped(named(log))}\n"
    titles = {step.path: step.who for step, _ in steps}
    for names, shown in ((paths, titles), (actors, {name: name for name in actors})):
        for key, name in names.items():
            yield f"    participant {name} as {escaped(shown[key])}\n"
    for step, broke in steps:
        path, actor = paths[step.path], actors[step.actor]
        reply = f" = {value_text(step.reply)}" if isinstance(step.reply, bool | int | float | str) else ""
        yield f"    {path}{'-x' if broke else '->>'}{actor}: {escaped(f'#{step.step} {step.does}{reply}')}\n"
        if broke:
            yield f"    Note over {path},{actor}: breaks\n"
