"""Racing pairs in words: which order of which two steps broke a run, and what the other order does."""

from __future__ import annotations

from typing import Any

from slabactors.explore.racing import RacingPair
from slabactors.runtime.history import MISSING, Event
from slabactors.trace.race_table import column_of, describe, describe_reply


def step_json(event: Event, step: int | None) -> dict[str, Any]:
    """A step for ``--json``."""
    return {"step": step, "who": column_of(event.path), "what": what(event)}


def pair_json(pair: RacingPair) -> dict[str, Any]:
    """A pair for ``--json``."""
    difference = None
    if pair.difference is not None:
        was = pair.difference.was
        difference = {**step_json(was, was.index), "instead": what(pair.difference.instead)}
    return {
        "first": step_json(pair.first, pair.first.index),
        "second": step_json(pair.second, None if pair.to_come else pair.second.index),
        "reversed": pair.reversed or "clean",
        "first_difference": difference,
    }


def what(event: Event) -> str:
    """What a step did; the one that broke gave nothing back."""
    return describe(event.operation, event.actor, None if event.reply is MISSING else event.reply)


def sentences(pair: RacingPair, wanted: str) -> list[str]:
    """A pair for a person.

    Args:
        pair: the two steps.
        wanted: signature of the bug that their order led to.
    """
    number = "still to come" if pair.to_come else f"#{pair.second.index}"
    return [
        f"#{pair.first.index} {column_of(pair.first.path)}: {what(pair.first)}",
        f"came before {column_of(pair.second.path)}: {what(pair.second)} ({number}).",
        f"The other way round {_outcome(pair, wanted)}.",
    ]


def _outcome(pair: RacingPair, wanted: str) -> str:
    if pair.reversed == wanted:
        return "it breaks as well"
    changed = _changed(pair)
    if pair.reversed is None:
        return f"{changed}, and nothing breaks" if changed else "nothing breaks"
    return f"{changed}, and then: {pair.reversed}" if changed else f"it is another bug: {pair.reversed}"


def one_line(pair: RacingPair) -> str:
    """A pair in the report of a search."""
    other = "nothing breaks" if pair.reversed is None else f"it is {pair.reversed}"
    return (
        f"race: {column_of(pair.first.path)}: {_called(pair.first)} came before "
        f"{column_of(pair.second.path)}: {_called(pair.second)}; the other way round {other}"
    )


def _called(event: Event) -> str:
    return f"{event.operation.expression} [{event.actor.name}]"


def _changed(pair: RacingPair) -> str:
    """What changes first."""
    if pair.difference is None:
        return ""
    was, instead = pair.difference.was, pair.difference.instead
    who = column_of(was.path)
    if (was.operation, was.actor.name) != (instead.operation, instead.actor.name):
        return f"{who} goes on to {_called(instead)} instead of {_called(was)}"
    if was.reply is MISSING:
        return f"{who} gets through {_called(was)}"
    if instead.reply is MISSING:
        return f"{who} does not get through {_called(instead)}"
    given = describe_reply(instead.reply).removeprefix(" = ") or "something else"
    before = describe_reply(was.reply).removeprefix(" = ") or "nothing"
    return f"{who} gets {given} from {_called(was)}, not {before}"
