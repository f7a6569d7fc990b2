"""A run with every step, whichever way it came here: read from a log, or replayed from a finding."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any, Final

from slabactors.actors import Actor, Clock
from slabactors.errors import LogFileError
from slabactors.explore.replay import replay
from slabactors.explore.shrink import Shrunken
from slabactors.machine import Machine
from slabactors.report.html.before import first_values
from slabactors.runtime.step import Step
from slabactors.scenario import BoundScenario, find, shipped
from slabactors.trace.log import StepFields, broke_at, cells_of
from slabactors.trace.race_table import immediate
from slabactors.trace.reader import EndLine, LogReader, RunLine, StepLine

STEPS_MAX: Final = 100_000
"""A page with more steps takes a browser too long to open."""

Cells = dict[str, dict[str, Any]]
"""Values of attributes, by actor and attribute."""


@dataclass(frozen=True, slots=True)
class Recording:
    """One run.

    Attributes:
        steps: all of them; the one at which it broke is the last, if one did.
        initial: what is known of how things were before the first step.
        whole: that is everything there was.
        owners: the cache of each slab that was there before the first step.
        caches: names of caches in the order in which they were made, as far as that is known.
        broke: position of the step at which it broke, if one did.
        end: how it ended; None when that is not known.
        cut: the log ends in the middle of a line.
    """

    steps: list[StepLine]
    initial: Cells
    whole: bool = False
    owners: dict[str, str] = field(default_factory=dict)
    caches: list[str] = field(default_factory=list)
    broke: int | None = None
    end: EndLine | None = None
    cut: bool = False


def of_log(log: LogReader) -> Recording:
    """The run that a log tells of; of how it was before, only what its steps let one conclude.

    Raises:
        LogFileError: a line is no event, or there are too many.
    """
    steps: list[StepLine] = []
    for step in log.steps():
        if len(steps) == STEPS_MAX:
            raise LogFileError(
                f"{log.path} has more than {STEPS_MAX:,} steps, more than a page can show.\n"
                f"  Look into it with: slabactors log show {log.path} --from N --to M"
            )
        steps.append(step)
    broke = None
    if log.end is not None and log.end.broke is not None:
        broke = len(steps)
        steps.append(_broken(steps, **log.end.broke))
    caches = [str(row["cache"]) for row in log.end.caches if "cache" in row] if log.end is not None else []
    return Recording(steps, first_values(steps), caches=caches, broke=broke, end=log.end, cut=log.cut)


def of_finding(program: BoundScenario, again: Shrunken) -> Recording:
    """The run of a finding, played once more with somebody who looks at the whole machine before the first step.

    Args:
        program: what it was found in.
        again: its run, as a strict replay has shown it.
    """
    watched = _Watched(**{one.name: getattr(program, one.name) for one in fields(program)})
    watch = _Watch(watched)
    execution = replay(watched, again.whole_schedule, observer=watch)
    steps, broke = watch.steps, None
    outcome = execution.outcome
    if outcome.culprit is not None:
        if len(steps) < len(again.history.events):
            place = broke_at(outcome)
            assert place is not None
            steps.append(_broken(steps, **place))
            met = [steps[index].step for index in immediate(again.history.events, again.history.events[-1])]
            steps[-1].causes.extend(met)
            steps[-1].causes.sort()
        broke = len(steps) - 1
    return Recording(steps, watch.initial, True, watch.owners, watch.caches, broke)


def _broken(steps: list[StepLine], *, path: str, lane: str, actor: str, operation: str, does: str) -> StepLine:
    """The step at which a run broke, which no observer has seen: it comes after the last one of its path."""
    last = steps[-1] if steps else None
    own = next((step.step for step in reversed(steps) if step.path == path), None)
    return StepLine(
        step=last.step + 1 if last is not None else 0,
        act=last.act if last is not None else 1,
        jiffies=last.jiffies if last is not None else 0,
        seconds=last.seconds if last is not None else 0.0,
        path=path,
        lane=lane,
        actor=actor,
        operation=operation,
        does=does,
        args=[],
        reply=None,
        causes=[] if own is None else [own],
        changed={},
    )


@dataclass(frozen=True)
class _Watched(BoundScenario):
    """A program that gives away the machine of its run."""

    machines: list[Machine] = field(default_factory=list)

    def machine(self, clock: Clock) -> Machine:
        """A new machine for one run."""
        machine = super().machine(clock)
        self.machines.append(machine)
        return machine


class _Watch:
    """An observer that keeps every step, and what the machine was like before the first one."""

    def __init__(self, watched: _Watched) -> None:
        self.steps: list[StepLine] = []
        self.initial: Cells = {}
        self.owners: dict[str, str] = {}
        self.caches: list[str] = []
        self._watched = watched
        self._fields = StepFields()
        self._started = False

    def about_to_change(self, actor: Actor) -> None:
        """The next step is this actor's."""
        if not self._started:
            self._started = True
            self._look_around(self._watched.machines[-1])
        self._fields.about_to_change(actor)

    def _look_around(self, machine: Machine) -> None:
        for actor in _actors_of(machine):
            self.initial[actor.name] = cells_of(actor)
        self.owners = {slab.name: slab.cache.name for slab in machine.slabs}
        self.caches = [cache.name for cache in machine.caches]

    def __call__(self, step: Step) -> None:
        """A step."""
        self.steps.append(StepLine(**self._fields.of(step)))


def _actors_of(machine: Machine) -> Iterator[Actor]:
    """Everything in a machine that has state."""
    yield from (value for value in vars(machine).values() if isinstance(value, Actor))
    for memcg in machine.memcgs:
        yield from memcg.family()
    for cache in machine.caches:
        yield from cache.family()
        if cache.params is not None:
            yield from cache.params.family()
    yield from machine.slabs


# -- what was run ------------------------------------------------------------------------------------------------------


def story_of(run: RunLine) -> str | None:
    """The story of the shipped scenario that a log is of; nothing is imported from elsewhere for it."""
    return find(run.scenario).story if run.scenario is not None and run.scenario in shipped() else None


def protocol_of(lifecycle: object) -> str | None:
    """What a lifecycle says of itself: in its module's docstring, and in its own."""
    kind = type(lifecycle)
    module = inspect.getmodule(kind)
    told = [inspect.getdoc(module) if module is not None else None, inspect.cleandoc(kind.__doc__ or "")]
    return "\n\n".join(text for text in told if text) or None
