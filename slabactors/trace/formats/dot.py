"""A run as a graph of Graphviz: which step had to come before which."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from slabactors.errors import UsageError
from slabactors.trace.query import Filter
from slabactors.trace.reader import LogReader, StepLine
from slabactors.trace.telling import named, told, what_of

STEPS_MAX: Final = 500
"""A graph with more steps is neither laid out in reasonable time nor read."""


def happens_before(log: LogReader, which: Filter) -> Iterator[str]:
    """The graph: a box for each path, an arrow for each order that no other arrows imply.

    Raises:
        UsageError: there are more than `STEPS_MAX` steps.
    """
    steps: list[tuple[StepLine, bool]] = []
    for step, broke in told(log, which):
        steps.append((step, broke))
        if len(steps) > STEPS_MAX:
            first = steps[0][0].step
            raise UsageError(
                f"{log.path} has more than {STEPS_MAX} such steps, and a graph has room for {STEPS_MAX}.\n"
                f"  Choose fewer: --from {first} --to {first + STEPS_MAX - 1}, or see them all: --format perfetto"
            )
    yield f"digraph {quoted(named(log))} {{\n"
    yield '  node [shape=box, fontname="monospace", fontsize=10];\n'
    yield from _boxes(steps)
    paths = {step.step: step.path for step, _ in steps}
    for number, causes in reduced([step for step, _ in steps]):
        for cause in causes:
            own = paths[cause] == paths[number]
            yield f"  s{cause} -> s{number} [{'weight=10' if own else 'color=firebrick'}];\n"
    yield "}\n"


def _boxes(steps: list[tuple[StepLine, bool]]) -> Iterator[str]:
    members: dict[str, list[tuple[StepLine, bool]]] = {}
    for step, broke in steps:
        members.setdefault(step.path, []).append((step, broke))
    for number, of in enumerate(members.values()):
        yield f"  subgraph cluster_{number} {{\n    label={quoted(of[0][0].who)};\n"
        for step, broke in of:
            mark = ", color=red, penwidth=3" if broke else ""
            label = f"#{step.step} {what_of(step)}{' breaks' if broke else ''}"
            yield f"    s{step.step} [label={quoted(label)}{mark}];\n"
        yield "  }\n"


def reduced(steps: list[StepLine]) -> Iterator[tuple[int, list[int]]]:
    """Each step with those of the others that it comes directly after: none that stands behind another of them.

    Args:
        steps: in the order of the run, with none left out in between.
    """
    places = {step.step: place for place, step in enumerate(steps)}
    pasts: list[int] = []
    for step in steps:
        causes = [places[cause] for cause in step.causes if cause in places]
        behind = 0
        for cause in causes:
            behind |= pasts[cause]
        pasts.append(behind | sum(1 << cause for cause in causes if not behind >> cause & 1))
        yield step.step, [steps[cause].step for cause in causes if not behind >> cause & 1]


def quoted(text: str) -> str:
    """Text as a quoted string of the language, on one line."""
    escaped = " ".join(text.split()).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
