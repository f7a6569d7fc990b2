"""What a page is made of, as one JSON document: the story, the steps, the caches, the curves, the search.

Names and texts that come again and again are in tables, and steps are columns of indices: a run of ten thousand steps
is about a megabyte.  A step is called by its position, from 0; ``number`` is what people see: the one that the log, or
`slabactors why`, calls it by.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from slabactors import __version__
from slabactors.kernel.jiffies import HZ
from slabactors.report.html.caches import COLUMNS, TOTALS, Caches
from slabactors.report.html.recording import Recording
from slabactors.trace.race_table import RaceTable
from slabactors.trace.reader import StepLine, name_of

FORMAT: Final = 1
"""Of the document; the page and this module are of one version and change together."""

OWN, STARTED, JOINED, MET, CLOCK = range(5)
"""Why a step comes after another: the same path, what started the path, a path that was waited for, a cell in which
they meet, the clock."""


_PART = re.compile(r"^(?:cpu|node)\d+/|\.(?:params|destroy)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Telling:
    """What is told of a run beside its steps.

    Attributes:
        title: what was run.
        facts: names and values.
        story: the scenario's own words.
        protocol: the lifecycle's.
        bug: signature and message, when it broke.
        pair: the two steps whose order it was, in sentences; which steps these are.
        loop: what goes on for ever.
        table: the steps that matter.
        search: what is known of the search that found it.
        notes: what the reader has to know.
    """

    title: str
    facts: list[tuple[str, str]]
    story: str | None = None
    protocol: str | None = None
    bug: tuple[str, str] | None = None
    pair: tuple[list[str], list[int]] | None = None
    loop: str | None = None
    table: RaceTable | None = None
    search: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)


class _Table:
    """Texts by number, each once."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._numbers: dict[str, int] = {}

    def number(self, text: str) -> int:
        """The number of a text."""
        if text not in self._numbers:
            self._numbers[text] = len(self.texts)
            self.texts.append(text)
        return self._numbers[text]


def shown(value: Any) -> str:
    """A value as the page has it."""
    match value:
        case None:
            return "none"
        case bool():
            return "true" if value else "false"
        case str():
            return value
        case list():
            return f"[{', '.join(shown(one) for one in value)}]"
        case dict():
            return f"{{{', '.join(f'{name}: {shown(one)}' for name, one in value.items())}}}"
    return msgspec.json.encode(value).decode()


def document_of(recording: Recording, telling: Telling) -> dict[str, Any]:
    """The document of a page.

    Args:
        recording: the run.
        telling: what is told of it.
    """
    texts, actors, cells = _Table(), _Table(), _Table()
    steps = recording.steps
    caches = Caches(recording)
    moving = {cell for step in steps for cell in step.changed}
    settles = next((position for position, step in enumerate(steps) if step.act == 2), None)
    return {
        "format": FORMAT,
        "version": __version__,
        "title": telling.title,
        "facts": telling.facts,
        "story": telling.story,
        "protocol": telling.protocol,
        "bug": telling.bug,
        "pair": None if telling.pair is None else {"sentences": telling.pair[0], "steps": telling.pair[1]},
        "loop": telling.loop,
        "table": None if telling.table is None else _table(telling.table, len(steps)),
        "search": telling.search,
        "notes": telling.notes,
        "hz": HZ,
        "broke": recording.broke,
        "settles": settles,
        "whole": recording.whole,
        "steps": _columns(steps, texts, actors, cells),
        "lanes": _lanes(steps),
        "initial": [
            [actors.number(actor), known]
            for actor, values in recording.initial.items()
            if (known := [[cells.number(cell), texts.number(shown(values[cell]))] for cell in values if cell in moving])
        ],
        "caches": [
            {
                "name": life.name,
                "root": life.root,
                "actors": [actors.number(actor) for actor in life.actors],
                "series": [life.series[column] for column in COLUMNS],
            }
            for life in caches.lives.values()
        ],
        "columns": COLUMNS,
        "totals": [
            {"name": name, "unit": unit, "series": series}
            for (name, unit), series in zip(TOTALS, caches.totals, strict=True)
        ],
        "texts": texts.texts,
        "actors": actors.texts,
        "cells": cells.texts,
    }


def _columns(steps: Sequence[StepLine], texts: _Table, actors: _Table, cells: _Table) -> dict[str, list[Any]]:
    positions = {step.step: position for position, step in enumerate(steps)}
    keys = {key: lane for lane, key in enumerate(dict.fromkeys(step.path for step in steps))}
    begun: set[str] = set()
    causes = []
    for step in steps:
        known = [positions[cause] for cause in step.causes if cause in positions]
        causes.append([[cause, _why(steps[cause], step, begun)] for cause in known])
        begun.add(step.path)
    return {
        "number": [step.step for step in steps],
        "lane": [keys[step.path] for step in steps],
        "actor": [actors.number(step.actor) for step in steps],
        "operation": [texts.number(step.operation) for step in steps],
        "does": [texts.number(step.does) for step in steps],
        "jiffies": [step.jiffies for step in steps],
        "args": [texts.number(shown(step.args)[1:-1]) for step in steps],
        "reply": [-1 if step.reply is None else texts.number(shown(step.reply)) for step in steps],
        "causes": causes,
        "changed": [
            [[cells.number(cell), texts.number(shown(value))] for cell, value in step.changed.items()] for step in steps
        ],
    }


def _why(cause: StepLine, step: StepLine, begun: set[str]) -> int:
    """Why a step comes after an earlier one."""
    if cause.path == step.path:
        return OWN
    first = step.path not in begun
    one, other = _object_of(cause.actor), _object_of(step.actor)
    if first and (step.path.startswith(f"{cause.path}/") or (_is_timer(step.path) and one == other)):
        return STARTED
    if one == other or one.startswith(f"{other}.") or other.startswith(f"{one}."):
        return MET
    return JOINED if cause.path.startswith(f"{step.path}/") or _siblings(cause.path, step.path) else CLOCK


def _object_of(actor: str) -> str:
    """What an actor is a part of: the parameters, the work and the CPU's structures of a cache go with it."""
    return _PART.sub("", actor)


def _is_timer(path: str) -> bool:
    """Whether a path is the expiry of a timer, and not what that has started."""
    return path.startswith("timer ") and path.rpartition(".")[0] == name_of(path)


def _siblings(path: str, other: str) -> bool:
    """Whether one path spawned both, so that one can have joined the other."""
    return "/" in path and path.rpartition("/")[0] == other.rpartition("/")[0]


def _lanes(steps: Iterable[StepLine]) -> list[dict[str, str]]:
    """The paths in the order of their first steps, with the CPU or thread that each runs on."""
    found: dict[str, dict[str, str]] = {}
    for step in steps:
        if step.path not in found:
            who = name_of(step.path) if _is_timer(step.path) else step.who
            found[step.path] = {"path": step.path, "who": who, "runs_on": step.lane}
    return list(found.values())


def _table(table: RaceTable, steps: int) -> dict[str, Any]:
    return {
        "columns": table.columns,
        "rows": [
            {"step": row.step if row.step < steps else None, "column": row.column, "text": row.text, "broke": row.broke}
            for row in table.rows
        ],
        "left_out": table.left_out,
    }
