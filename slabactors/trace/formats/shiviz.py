"""A run as a log with vector clocks, as ShiViz reads it: a host for each path."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Final

import msgspec

from slabactors.trace.query import Filter
from slabactors.trace.reader import LogReader, StepLine
from slabactors.trace.telling import told, what_of

PARSER: Final = r"(?<event>.*)\n(?<host>\S*) (?<clock>{.*})"
"""The expression by which ShiViz reads such a log; it is the first line of the file, and the tool's own default."""

_Clock = dict[str, int]


def vector_clocks(log: LogReader, which: Filter) -> Iterator[str]:
    """The file, step by step: two lines each, what was done, and by whom with which clock.

    Reads the log twice: clocks of steps are kept until the last of those that come directly after them.
    """
    until, last = _first_pass(log, which)
    hosts = _Hosts()
    now: dict[str, _Clock] = {}
    kept: dict[int, _Clock] = {}
    leaving: dict[int, list[int]] = {}
    yield f"{PARSER}\n\n"
    for step, broke in told(log, which):
        number, host = step.step, hosts.of(step)
        clock = now.setdefault(step.path, {})
        for cause in step.causes:
            for other, count in kept.get(cause, {}).items():
                clock[other] = max(count, clock.get(other, 0))
        clock[host] = clock.get(host, 0) + 1
        if until[number]:
            kept[number] = clock.copy()
            leaving.setdefault(until[number], []).append(number)
        for cause in leaving.pop(number, ()):
            del kept[cause]
        if last[step.path] == number:
            del now[step.path]
        event = " ".join(f"#{number} {what_of(step)}{' BREAKS' if broke else ''}".split())
        yield f"{event}\n{host} {msgspec.json.encode(clock).decode()}\n"


def _first_pass(log: LogReader, which: Filter) -> tuple[array[int], dict[str, int]]:
    """By number, the last step of another path that comes directly after each, or 0; and the last step of each path."""
    until = array("q")
    last: dict[str, int] = {}
    for step, _ in told(log, which):
        until.extend([0] * (step.step + 1 - len(until)))
        for cause in step.causes:
            if cause != last.get(step.path):
                until[cause] = step.step
        last[step.path] = step.step
    return until, last


class _Hosts:
    """Names without blanks, one for each path: where it runs and what it does, and a number where that is taken."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._taken: dict[str, int] = {}

    def of(self, step: StepLine) -> str:
        name = self._names.get(step.path)
        if name is None:
            name = ":".join(step.who.split()) or "?"
            count = self._taken[name] = self._taken.get(name, 0) + 1
            if count > 1:
                name = f"{name}#{count}"
            self._names[step.path] = name
        return name
