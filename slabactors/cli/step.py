"""``slabactors replay --step``: one delivery at a time, by the schedule or by whoever types."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from slabactors.cli import BUG, FINE, UNDETERMINED
from slabactors.cli.once import logged, write_end
from slabactors.cli.output import say
from slabactors.explore.finding import Finding, signature
from slabactors.explore.program import Execution
from slabactors.explore.replay import Fair, ReplayStrategy, Tail
from slabactors.kernel.jiffies import HZ
from slabactors.report.words import counted
from slabactors.runtime.simulated import SimPath, Simulation
from slabactors.runtime.step import Decision, Ending, Observer, Outcome, Step, TimePolicy
from slabactors.runtime.tripwires import tripwires
from slabactors.scenario import BoundScenario
from slabactors.trace.race_table import column_of, describe

HELP = """\
  Enter   the step marked *, which the schedule takes next
  NUMBER  another step; from there on there is no schedule, and * is the fair choice
  c       go on to the end without asking
  q       stop here
  ?       this text"""


class Quit(BaseException):
    """Whoever types wants to stop; not an `Exception`, so that it passes for no bug of the program."""


class Stepper:
    """A strategy that shows what could come next and asks.

    Args:
        decisions: the schedule.
        time: the clock policy where there is no schedule any more.
    """

    forced = True
    name = "step"

    def __init__(self, decisions: Sequence[Decision], time: TimePolicy) -> None:
        self._schedule = ReplayStrategy(decisions, Fair(), time)
        self._free = Tail(Fair(), time)
        self._length = len(decisions)
        self._simulation: Simulation | None = None
        self.asks = True
        self.left_at: int | None = None
        """The step at which somebody left the schedule."""

    def follow(self, simulation: Simulation) -> None:
        """The run that is about to start."""
        self._simulation = simulation
        self._schedule.follow(simulation)
        self._free.follow(simulation)

    @property
    def exhausted(self) -> bool:
        """The schedule is over, or has been left."""
        return self.left_at is not None or self._schedule.exhausted

    def pick(self, enabled: Sequence[SimPath]) -> SimPath:
        """The schedule's next, or what is asked for instead of it."""
        follows = self.left_at is None and not self._schedule.exhausted
        usual = self._schedule.pick(enabled) if self.left_at is None else self._free.pick(enabled)
        if not self.asks or not enabled:
            return usual
        simulation = self._simulation
        assert simulation is not None
        options = _options(simulation.enabled, usual)
        for number, path in enumerate(options, 1):
            say(f"  {'*' if path is usual else ' '} {number}  {_pending(path, simulation)}")
        if not follows:
            say("  (no schedule here: * is the fair choice)")
        index = self._ask(len(options))
        chosen = usual if index is None else options[index]
        if follows and chosen is not usual:
            self.left_at = len(simulation.record)
        return chosen

    def choose_for(self, path: SimPath, count: int) -> int:
        """The schedule's value; where it has none, one that is asked for."""
        if self.left_at is None and not self._schedule.exhausted:
            value = self._schedule.choose_for(path, count)
            if self.asks:
                say(f"  {column_of(path)} chose {value} of 0 to {count - 1}, as in the schedule")
            return value
        if not self.asks or count == 1:
            return 0
        say(f"  {column_of(path)} chooses a number: 1 for 0, and so on up to {count}; Enter for 0")
        return self._ask(count) or 0

    def choose(self, count: int) -> int:
        """A value for nobody in particular; a simulation asks `choose_for` instead."""
        return 0

    def _ask(self, count: int) -> int | None:
        """An index that somebody typed; None for the usual choice.

        Raises:
            Quit: enough.
        """
        while self.asks:
            line = _read_line()
            if line is None or line in ("c", "continue"):
                self.asks = False
            elif line == "":
                return None
            elif line in ("q", "quit"):
                raise Quit
            elif line.isdecimal() and 1 <= int(line) <= count:
                return int(line) - 1
            elif line == "?":
                say(HELP)
            else:
                say(f"  expected Enter, a number from 1 to {count}, c, q or ?, found {line!r}")
        return None


def _read_line() -> str | None:
    """What was typed; None at the end of the input."""
    if sys.stdin is None:
        return None
    if sys.stdin.isatty():
        sys.stdout.write("> ")
        sys.stdout.flush()
    line = sys.stdin.readline()
    return line.strip() if line else None


def _options(enabled: Sequence[SimPath], usual: SimPath) -> list[SimPath]:
    """What to choose from: whoever is awake, the timers that are due first, and what the schedule takes; by age."""
    deadlines = [path.deadline for path in enabled if path.deadline is not None]
    first = min(deadlines, default=None)
    found = [path for path in enabled if path.deadline is None or path.deadline == first or path is usual]
    return sorted(found, key=lambda path: path.id)


def _pending(path: SimPath, simulation: Simulation) -> str:
    operation, actor, _ = path.request
    text = f"{column_of(path)}: {describe(operation, actor, None)}"
    if path.deadline is not None:
        text += f", due in {max(0, path.deadline - simulation.clock.now) / HZ:.2f} virtual s"
    return text


def _show(step: Step, *, asks: bool) -> None:
    path = step.path
    assert isinstance(path, SimPath)
    act = "" if step.act == 1 else ", settling"
    text = f"{column_of(path)}: {describe(step.operation, step.actor, step.reply)}"
    if asks:
        say()
    say(f"step {step.index}, {step.now / HZ:.2f} virtual s{act}: {text}")


def step_through(finding: Finding, program: BoundScenario, *, log: Path | None) -> int:
    """Play a finding step by step; exit 1 when a bug shows, 0 when none does, 4 when it was stopped before the end."""
    say(f"{finding.scenario} under {finding.lifecycle}: {counted(len(finding.schedule), 'decision')}; ? for help")
    stepper = Stepper([choice.decision() for choice in finding.schedule], program.scenario.time)
    try:
        if log is None:
            execution = _play(program, stepper, None)
        else:
            with logged(log) as sink:
                sink.run(
                    scenario=finding.scenario,
                    lifecycle=finding.lifecycle,
                    parameters=finding.parameters,
                    replay=finding.signature,
                )
                execution = _play(program, stepper, sink)
                write_end(sink, execution.outcome, execution.world)
    except Quit:
        say("Stopped before the end.")
        return UNDETERMINED
    return _end(finding, stepper, execution.outcome)


def _play(program: BoundScenario, stepper: Stepper, sink: Observer | None) -> Execution:
    def observe(step: Step) -> None:
        _show(step, asks=stepper.asks)
        if sink is not None:
            sink(step)

    with tripwires():
        return program.execute(stepper, observer=observe, time=TimePolicy.RECORDED)


def _end(finding: Finding, stepper: Stepper, outcome: Outcome) -> int:
    say()
    off = f", off the schedule from step {stepper.left_at} on" if stepper.left_at is not None else ""
    if outcome.bug is None:
        bound = outcome.ending is Ending.BOUND
        ended = "stopped at the bound on steps" if bound else "ended"
        say(f"The run {ended} after {counted(outcome.deliveries, 'step')} without a bug{off}.")
        return UNDETERMINED if bound else FINE
    found = signature(outcome)
    which = "the finding's bug" if found == finding.signature else "another bug than the finding's"
    say(f"Step {outcome.deliveries - 1} broke it: {which}{off}.")
    if outcome.operation is not None and outcome.actor is not None and isinstance(outcome.culprit, SimPath):
        say(f"  {column_of(outcome.culprit)}: {describe(outcome.operation, outcome.actor, None)}")
    say(f"  {found}")
    say(f"  {outcome.bug.message}")
    return BUG
