"""How a step of a log is told in words, and the step that a log has no line for: the one that broke the run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from slabactors.trace.query import Filter, select
from slabactors.trace.reader import LogReader, StepLine


def value_text(value: Any) -> str:
    """A value of a log on a line."""
    return value if isinstance(value, str) else json.dumps(value)


def what_of(step: StepLine) -> str:
    """What a step did: the C expression, what came back if that is short, whose it is."""
    short = isinstance(step.reply, bool | int | float | str)
    return f"{step.does}{f' = {value_text(step.reply)}' if short else ''} [{step.actor}]"


def changes_of(step: StepLine) -> str:
    """What a step changed."""
    return ", ".join(f"{name}: {value_text(value)}" for name, value in step.changed.items())


def named(log: LogReader) -> str:
    """What the run of a log is called."""
    run = log.run
    what = run.scenario or run.trace or run.replay or "a run"
    return f"{what} under {run.lifecycle}" if run.lifecycle else what


def told(log: LogReader, which: Filter) -> Iterator[tuple[StepLine, bool]]:
    """The steps that pass a filter, each with whether the run broke at it.

    The step at which a run broke changed nothing and has no line of its own: it is told from the log's last line, after
    its path's last step, if the filter lets the log be read to its end.
    """
    end = log.ending()
    broke = None if end is None else end.broke
    own: list[int] = []
    latest: StepLine | None = None
    for step in select(log, which):
        if broke is not None and step.path == broke["path"]:
            own = [step.step]
        latest = step
        yield step, False
    if log.end is None or end is None or broke is None or latest is None:
        return
    yield (
        StepLine(
            step=latest.step + 1,
            act=latest.act,
            jiffies=end.jiffies,
            seconds=end.seconds,
            path=broke["path"],
            lane=broke["lane"],
            actor=broke["actor"],
            operation=broke["operation"],
            does=broke["does"],
            args=[],
            reply=None,
            causes=own,
            changed={},
        ),
        True,
    )
