"""Exhaustive search by traces: one execution for all orders that differ in independent steps only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from slabactors.explore.dpor import Dpor, Statistics
from slabactors.explore.finding import signature
from slabactors.explore.program import Execution, Program
from slabactors.explore.proved import Proved
from slabactors.runtime.guided import ARM, Broken, GuidedSimulation
from slabactors.runtime.step import CHOOSE, Decision, Ending, TimePolicy

REPORT_EVERY: Final = 64
"""Executions between two looks at the clock."""


class ByTraces:
    """A way of searching everything: see `slabactors.explore.verify.Way`.

    Args:
        program: what to run.
        time: overrides the program's own policy.
        guide: what explores; every trace unless another one is given.
        late: whether to give up, asked also within a long run.
    """

    name = "dpor"
    endless = 0
    states = 0
    transitions = 0
    calls_between_looks = REPORT_EVERY

    def __init__(
        self,
        program: Program,
        time: TimePolicy | None,
        guide: Dpor | None = None,
        *,
        late: Callable[[], bool] = lambda: False,
    ) -> None:
        self._program = program
        self._time = time
        self._guide = guide or Dpor()
        self._guide.late = late
        self.statistics: Statistics = self._guide.statistics
        self.found: dict[str, Proved] = {}
        self.sometimes = dict.fromkeys(program.sometimes, False)
        self._missing = set(self.sometimes)
        self.bounded = 0
        self.pipelined = 0
        self.held_back = False

    @property
    def effort(self) -> float:
        """How much work it has done: steps."""
        return self.statistics.deliveries

    @property
    def cut(self) -> bool:
        """It was late, and gave up within a run: there is no going on."""
        return self._guide.cut

    def progress(self) -> float:
        """An estimate of the explored share, from 0 to 1."""
        return self._guide.progress()

    def go_on(self) -> bool:
        """One execution more; false when nothing is left."""
        program, guide = self._program, self._guide
        execution = program.execute(guide, time=self._time, driver=GuidedSimulation)
        simulation = execution.simulation
        assert isinstance(simulation, GuidedSimulation)
        self.held_back = self.held_back or simulation.held_back
        if guide.complete:
            self.bounded += cut_at_rest(simulation, execution)
            self.pipelined += simulation.pipelined > 0
            _collect(self.found, guide, simulation, execution)
            if self._missing:
                for text, reached in zip(program.sometimes, program.reached(execution), strict=True):
                    if reached and text in self._missing:
                        self._missing.discard(text)
                        self.sometimes[text] = True
        elif not simulation.given_up:
            self.bounded += 1
        program.dispose(execution)
        return guide.cut or guide.advance()


def cut_at_rest(simulation: GuidedSimulation, execution: Execution) -> bool:
    """Whether the bound on steps was hit while the machine settled, so that nobody has looked at it at rest."""
    outcome = execution.outcome
    return outcome.ending is Ending.BOUND and outcome.bug is None and not simulation.broken


def _collect(found: dict[str, Proved], guide: Dpor, simulation: GuidedSimulation, execution: Execution) -> None:
    """Take the bugs of one execution: those that no other bug of it led to."""
    broken = simulation.broken
    if not broken and execution.outcome.bug is not None:
        broken = [Broken(len(guide.events), execution.outcome)]
    first_of_all = [one for one in broken if not _led_to(guide, broken, one)]
    for one in first_of_all:
        name = signature(one.outcome)
        known = found.get(name)
        if known is None:
            found[name] = Proved(name, schedule_of(guide, one), guide.statistics.executions - 1)
        else:
            known.count += 1


def _led_to(guide: Dpor, broken: list[Broken], one: Broken) -> bool:
    """Whether another bug of the run happened before this one."""
    position = guide.position_of(one.step)
    if position is None:
        return len(broken) > 1 and one.outcome.culprit is None
    past = guide.events[position].past
    return any(
        other is not one and (index := guide.position_of(other.step)) is not None and past >> index & 1
        for other in broken
    )


def schedule_of(guide: Dpor, one: Broken) -> list[Decision]:
    """The schedule of a guided run up to a bug, as an ordinary simulation can follow it.

    Only steps that happened before the bug are kept: others may have broken, too, and would end an ordinary run.
    """
    position = guide.position_of(one.step) if one.outcome.culprit is not None else None
    decisions = []
    culprit = one.outcome.culprit.key if one.outcome.culprit is not None else ""
    for index, event in enumerate(guide.events):
        key, value = event.dep.elem
        if position is not None and index != position and not guide.events[position].past >> index & 1:
            chosen_since = value is not None and key == culprit and index > position
            if not chosen_since:  # what the culprit chose after its last step may be why it broke
                continue
        if value is not None:
            decisions.append(Decision(key, CHOOSE, "", value))
        elif event.name != ARM.name:
            decisions.append(Decision(key, event.name, event.dep.actor))
    return decisions
