"""A run in the Informal Trace Format of Apalache: the states that it went through, cell by cell.

A variable is a cell of an actor that some step changes, called ``ACTOR.CELL``.  The first state is the one before the
first step, and each step leads to the next.  A log has only what changes, so that a cell is unknown until it does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from slabactors.errors import UsageError
from slabactors.trace.query import Filter, select
from slabactors.trace.reader import LogReader
from slabactors.trace.telling import named

VALUES_MAX: Final = 5_000_000
"""States times variables; every state has every variable."""
UNKNOWN: Final = {"#unserializable": "unknown"}
"""The value of a cell that the log does not know yet."""
NOTHING: Final = {"tag": "Null", "value": "U_OF_UNIT"}
"""The value of a cell that is null: a variant with Apalache's unit."""
FORMAT: Final = "https://apalache-mc.org/docs/adr/015adr-trace.html"


def informal_trace(log: LogReader, which: Filter) -> Iterator[str]:
    """The document, state by state.

    Reads the log twice, and from its beginning: what the first state is, only the steps before it tell.

    Raises:
        UsageError: there would be more than `VALUES_MAX` values.
    """
    variables = _variables(log, which)
    encode = msgspec.json.encode
    meta = {"format": "ITF", "format-description": FORMAT, "source": str(log.path.name), "description": named(log)}
    head = {"#meta": meta, "params": [], "vars": list(variables)}
    yield encode(head).decode()[:-1] + ',"states":[\n'
    index = 0
    for step in select(log, Filter(last=which.last, until=which.until)):
        shown = which.passes(step)
        if shown and index == 0:
            yield encode({"#meta": {"index": 0}, **variables}).decode()
        changed = {f"{step.actor}.{cell}": value_of(value) for cell, value in step.changed.items()}
        variables.update((name, value) for name, value in changed.items() if name in variables)
        if shown:
            index += 1
            about = {"index": index, "step": step.step, "who": step.who, "does": step.does, "changed": list(changed)}
            yield ",\n" + encode({"#meta": about, **variables}).decode()
    if index == 0:
        yield encode({"#meta": {"index": 0}, **variables}).decode()
    yield "\n]}\n"


def _variables(log: LogReader, which: Filter) -> dict[str, Any]:
    """The cells that the steps change."""
    found: dict[str, Any] = {}
    first = 0
    for count, step in enumerate(select(log, which), 1):
        if count == 1:
            first = step.step
        found.update((f"{step.actor}.{cell}", UNKNOWN) for cell in step.changed)
        if (count + 1) * len(found) > VALUES_MAX:
            raise UsageError(
                f"{count} steps of {log.path} change {len(found)} cells, and every state of an ITF trace has each of "
                f"them: more than {VALUES_MAX} values.\n"
                f"  Choose fewer steps: --from {first} --to {first + count // 2}"
            )
    return found


def value_of(value: Any) -> Any:
    """A value of a log as the format has it: integers as texts, tables as maps, null as a variant."""
    match value:
        case None:
            return NOTHING
        case bool() | str():
            return value
        case int():
            return {"#bigint": str(value)}
        case list():
            return [value_of(one) for one in value]
        case dict():
            return {"#map": [[key, value_of(one)] for key, one in value.items()]}
        case _:
            return {"#unserializable": repr(value)}
