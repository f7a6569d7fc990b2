"""Shrinks the bugs of a search at a terminal, where it can be interrupted."""

from __future__ import annotations

from collections.abc import Callable

from slabactors.cli.output import note
from slabactors.cli.report import interruptible
from slabactors.explore.fewest import Budget, Fewest
from slabactors.explore.shrink import Shrunken
from slabactors.report.finding import Report
from slabactors.report.shrinking import S, reports_of
from slabactors.report.words import counted
from slabactors.runtime.step import TimePolicy
from slabactors.scenario import BoundScenario


def shrink_each(
    program: BoundScenario,
    found: list[S],
    shorten: Callable[[S, Budget, Fewest], tuple[Shrunken, int]],
    fewest: Fewest,
    *,
    strategy: str,
    seed: int,
    time: TimePolicy | None = None,
    reduce: bool = True,
) -> list[Report]:
    """As `slabactors.report.shrinking.reports_of`.

    The first Ctrl-C ends it with the best schedule so far of each bug, another one with the bugs that are done.
    """
    reports: list[Report] = []
    try:
        with interruptible() as interrupted:
            for report in reports_of(
                program,
                found,
                shorten,
                fewest,
                strategy=strategy,
                seed=seed,
                time=time,
                reduce=reduce,
                stop=interrupted.is_set,
                note=lambda text: note(f"slabactors: {text}"),
            ):
                reports.append(report)  # noqa: PERF402 -- those that are done stay when it is interrupted
            if interrupted.is_set():
                note("slabactors: interrupted; the schedules shown are the best so far.")
    except KeyboardInterrupt:
        note(f"slabactors: interrupted; {len(reports)} of {counted(len(found), 'distinct bug')} are shown.")
    return reports
