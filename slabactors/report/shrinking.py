"""From the bugs of a search to their reports: the shortest schedule, the simplest settings, the two steps that race."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from slabactors.errors import EndlessLoop, ForeignAwait, ForeignCall, Kind, NondeterminismError, ReplayDiverged
from slabactors.explore.campaign import Found
from slabactors.explore.fewest import Budget, Fewest
from slabactors.explore.finding import Choice, Finding
from slabactors.explore.lasso import lasso
from slabactors.explore.racing import RacingPair, decisive, racing_pairs
from slabactors.explore.shrink import Shrunken, shrink, shrink_schedule
from slabactors.explore.simplify import Simplifier
from slabactors.kernel.jiffies import HZ
from slabactors.report.finding import Report
from slabactors.runtime.step import Decision, TimePolicy
from slabactors.scenario import BoundScenario
from slabactors.trace.race_table import race_table

LIVE: Final = "live"
"""What a finding of live runs has for a strategy."""


class Seen(Protocol):
    """A distinct bug, as a search saw it."""

    @property
    def signature(self) -> str:
        """What it is called."""
        ...

    @property
    def execution(self) -> int:
        """The first execution that showed it."""
        ...

    @property
    def count(self) -> int:
        """How many executions did."""
        ...


S = TypeVar("S", bound=Seen)


def reports_of(
    program: BoundScenario,
    found: list[S],
    shorten: Callable[[S, Budget, Fewest], tuple[Shrunken, int]],
    fewest: Fewest,
    *,
    strategy: str,
    seed: int,
    time: TimePolicy | None = None,
    reduce: bool = True,
    seconds: float = 20.0,
    stop: Callable[[], bool] = lambda: False,
    note: Callable[[str], None] = lambda text: None,
) -> Iterator[Report]:
    """Shrink every bug of a search, and report it, one after the other.

    Args:
        program: what was searched.
        found: its bugs.
        shorten: gives the best schedule of a bug that a budget allows, and how many steps it had when it was found.
        fewest: what schedules of the program with few preemptions show.
        strategy: what found them.
        seed: of the search.
        time: the policy under which they were found, if not the program's own.
        reduce: also make the scenario's own numbers smaller.
        seconds: wall time that shrinking a bug may take.
        stop: asked now and then; once it says so, schedules are the best so far.
        note: told of a bug that cannot be shown.
    """
    knobs = program.knobs if reduce else []
    simplifier = Simplifier(program.variant, knobs, fewest, time=time)
    first = Fewest(program, executions=0) if knobs else fewest  # what is proved is proved of the simplest settings
    for one in found:
        budget = Budget(seconds=seconds, stop=stop)
        try:
            shrunken, steps = shorten(one, budget, first)
        except (ReplayDiverged, NondeterminismError, EndlessLoop, ForeignAwait, ForeignCall) as error:
            if strategy not in ("dpor", "states", LIVE):
                raise
            # An exhaustive search goes on after a bug, and may meet one that no ordinary run shows; in a live run a
            # path may do what no simulated one can repeat.
            note(f"{one.signature} was found, but its schedule cannot be shown: {error}")
            continue
        simple = simplifier.simplified(program, shrunken, one.signature, budget)
        variant = program.variant(simple.settings) if simple.settings else program
        simple.shrunken.replays = budget.spent
        pair = None if stop() else _pair(variant, simple.shrunken, one.signature)
        finding = make_finding(variant, simple.shrunken, one, strategy=strategy, seed=seed)
        bug = simple.shrunken.outcome.bug
        assert bug is not None
        table = race_table(simple.shrunken.history, bug.about)
        loop = lasso(variant, simple.shrunken.decisions) if simple.shrunken.outcome.culprit is None else None
        yield Report(finding, one.count, steps, simple.shrunken, table, simple.settings, pair, loop)


@dataclass(slots=True)
class SeenLive:
    """A distinct bug of live runs.

    Attributes:
        signature: what it is called.
        execution: the first run that showed it, from 0.
        decisions: the schedule of that run.
        kind: the class of bug.
        message: one sentence.
        count: how many runs did.
    """

    signature: str
    execution: int
    decisions: list[Decision]
    kind: Kind
    message: str
    count: int = 1


class Decided(Seen, Protocol):
    """A distinct bug that was seen with its schedule."""

    @property
    def decisions(self) -> list[Decision]:
        """The schedule of the run that showed it."""
        ...


def shorten_record(
    program: BoundScenario, found: Found, budget: Budget, fewest: Fewest, *, time: TimePolicy | None = None
) -> tuple[Shrunken, int]:
    """The best schedule of a bug that a search has kept the choices of; for `reports_of`.

    Args:
        program: what was run.
        found: the bug.
        budget: what it may cost.
        fewest: what schedules of the program with few preemptions show.
        time: the policy under which it was found, if not the program's own.
    """
    shrunken = shrink(program, found.record, found.signature, budget=budget, fewest=fewest, time=time)
    return shrunken, len(found.record)


def shorten_decisions(
    program: BoundScenario, found: Decided, budget: Budget, fewest: Fewest, *, time: TimePolicy | None = None
) -> tuple[Shrunken, int]:
    """As `shorten_record`, of a bug that was seen with its schedule, by a proof or live."""
    shrunken = shrink_schedule(program, found.decisions, found.signature, budget=budget, fewest=fewest, time=time)
    return shrunken, len(found.decisions)


def _pair(program: BoundScenario, shrunken: Shrunken, wanted: str) -> RacingPair | None:
    return decisive(racing_pairs(program, shrunken, until_decisive=True), wanted)


def make_finding(program: BoundScenario, shrunken: Shrunken, found: Seen, *, strategy: str, seed: int) -> Finding:
    """What is kept of a bug.

    Args:
        program: what shows it.
        shrunken: the shortest schedule of the bug.
        found: the bug as the search saw it.
        strategy: what found it.
        seed: of the search.
    """
    bug = shrunken.outcome.bug
    assert bug is not None
    return Finding(
        scenario=program.scenario.name,
        scenario_digest=program.scenario.digest,
        lifecycle=program.lifecycle.name,
        parameters=program.settings,
        time=program.scenario.time,
        starvation=None if program.starvation_jiffies is None else program.starvation_jiffies / HZ,
        strategy=strategy,
        seed=seed,
        execution=found.execution,
        signature=found.signature,
        kind=bug.kind,
        message=bug.message,
        preemptions=shrunken.preemptions,
        preemptions_minimum=shrunken.minimum,
        schedule=[Choice(one.path, one.operation, one.actor, one.value) for one in shrunken.decisions],
    )
