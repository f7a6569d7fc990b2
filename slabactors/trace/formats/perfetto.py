"""A run as the JSON of Chrome's trace viewer, which Perfetto reads: a thread for each lane, a slice for each step.

Steps of one jiffy follow each other a tenth of a microsecond apart, so that their order shows.  A jiffy with more than
ten thousand steps runs on into the next ones; the slices have the jiffies as the log has them.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from slabactors.trace.query import Filter
from slabactors.trace.reader import LogReader, StepLine
from slabactors.trace.telling import named, told

TICKS_PER_JIFFY: Final = 10_000
"""A tick is a tenth of a microsecond, and what a step takes."""
PROCESS: Final = 1
"""The machine is one process."""

_Event = dict[str, Any]


def trace_events(log: LogReader, which: Filter) -> Iterator[str]:
    """The document, piece by piece.  What is kept of the steps before is 16 bytes of each."""
    head = {"displayTimeUnit": "ns", "otherData": msgspec.to_builtins(log.run)}
    yield msgspec.json.encode(head).decode()[:-1] + ',"traceEvents":[\n'
    yield msgspec.json.encode(_metadata("process_name", 0, name=named(log))).decode()
    timeline = _Timeline()
    for step, broke in told(log, which):
        yield "".join(f",\n{msgspec.json.encode(event).decode()}" for event in timeline.events(step, broke))
    yield "\n]}\n"


def _metadata(what: str, thread: int, **arguments: Any) -> _Event:
    return {"ph": "M", "pid": PROCESS, "tid": thread, "name": what, "args": arguments}


class _Timeline:
    """When and in which thread every step was."""

    def __init__(self) -> None:
        self._threads: dict[str, int] = {}
        self._first: int | None = None
        self._ticks = array("q")
        self._lanes = array("q")
        """By number of the step, from the first on; 0 ticks and lane 0 where there is none."""
        self._now = 0
        self._last: dict[str, int] = {}
        """The last step of each path."""
        self._arrows = 0

    def events(self, step: StepLine, broke: bool) -> Iterator[_Event]:
        """What the document says of a step."""
        lane = step.lane or step.who
        thread = self._threads.get(lane)
        if thread is None:
            thread = self._threads[lane] = len(self._threads) + 1
            yield _metadata("thread_name", thread, name=lane)
            yield _metadata("thread_sort_index", thread, sort_index=_place(lane, thread))
        self._now = max(self._now + 1, step.jiffies * TICKS_PER_JIFFY)
        at = {"pid": PROCESS, "tid": thread, "ts": self._now / 10}
        yield {"ph": "X", **at, "dur": 0.1, "name": step.does, "cat": f"act {step.act}", "args": _arguments(step)}
        if broke:
            yield {"ph": "i", **at, "s": "g", "name": "breaks", "cat": "bug"}
        yield from self._causes(step, at)
        self._remember(step, thread)
        for name, values in _counters(step):
            yield {"ph": "C", **at, "name": name, "args": values}

    def _causes(self, step: StepLine, at: _Event) -> Iterator[_Event]:
        """An arrow from each step of another path that it comes directly after; those that are left out have none."""
        for cause in step.causes:
            place = -1 if self._first is None else cause - self._first
            if not 0 <= place < len(self._lanes) or cause == self._last.get(step.path):
                continue
            self._arrows += 1
            arrow = {"cat": "cause", "name": "comes before", "id": self._arrows}
            yield {"ph": "s", "pid": PROCESS, "tid": self._lanes[place], "ts": self._ticks[place] / 10, **arrow}
            yield {"ph": "f", "bp": "e", **at, **arrow}

    def _remember(self, step: StepLine, thread: int) -> None:
        number = self._last[step.path] = step.step
        if self._first is None:
            self._first = number
        while len(self._lanes) < number - self._first:  # numbers that values of choose() have
            self._lanes.append(0)
            self._ticks.append(0)
        self._lanes.append(thread)
        self._ticks.append(self._now)


def _place(lane: str, thread: int) -> int:
    """CPUs first, then who works on them, then everybody else as they come."""
    for rank, kind in enumerate(("cpu", "kworker/")):
        number = lane.removeprefix(kind).partition(":")[0]
        if lane.startswith(kind) and number.isdecimal():
            return rank * 10_000 + int(number)
    return 20_000 + thread


def _arguments(step: StepLine) -> _Event:
    return {
        "step": step.step,
        "jiffies": step.jiffies,
        "path": step.path,
        "actor": step.actor,
        "operation": step.operation,
        "args": step.args,
        "reply": step.reply,
        "changed": step.changed,
    }


def _counters(step: StepLine) -> Iterator[tuple[str, dict[str, int]]]:
    """The pages of a child cache, and whether a work item is queued or its timer armed."""
    pages, pending = step.changed.get("pages"), step.changed.get("pending")
    if step.actor.endswith(".params") and isinstance(pages, int):
        yield step.actor.removesuffix(".params"), {"pages": pages}
    if isinstance(pending, bool):
        yield step.actor, {"pending": int(pending)}
