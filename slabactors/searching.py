"""What a test's search does: searches that go on in turns, schedules that failed before, live runs."""

from __future__ import annotations

import functools
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from slabactors.errors import ForeignAwait, ForeignCall, OutputError, ReplayDiverged, UsageError
from slabactors.explore.campaign import Found, SearchResult, search_until_broken
from slabactors.explore.dpor import Statistics
from slabactors.explore.fewest import Fewest
from slabactors.explore.finding import Finding, file_name, load, save
from slabactors.explore.finding import signature as signature_of
from slabactors.explore.shrink import replayed
from slabactors.explore.verify import Verification
from slabactors.explore.verify import verify as verify_program
from slabactors.kernel.jiffies import HZ
from slabactors.report.finding import Report
from slabactors.report.shrinking import LIVE, SeenLive, make_finding, reports_of, shorten_decisions, shorten_record
from slabactors.runtime.step import Ending
from slabactors.scenario import BoundScenario
from slabactors.testing import Failed, Searched, Session, raised_by, summary_of, text_of
from slabactors.trace.race_table import race_table

LIVE_SECONDS: Final = 5.0
"""Wall time that shrinking the schedule of a live run may take: a test that fails should say so soon."""


@dataclass(frozen=True)
class Search:
    """A search that goes on a little with every turn."""

    program: BoundScenario
    strategy: str = "portfolio"
    runs: int | None = 1000
    seed: int = 0
    exhaustive: bool = False

    def turns(self) -> Iterator[Searched | None]:
        """None for every turn but the last, which is the result."""
        if self.exhaustive:
            yield from self._verify()
        else:
            yield from self._explore()

    def _explore(self) -> Iterator[Searched | None]:
        program, seed = self.program, self.seed
        result = SearchResult()
        for result in search_until_broken(program, strategy=self.strategy, seed=seed, runs=self.runs or 1000):  # noqa: B007
            yield None

        bugs, shorten = list(result.found.values()), functools.partial(shorten_record, program)
        reports = yield from _shrunken(
            reports_of(program, bugs, shorten, Fewest(program), strategy=self.strategy, seed=seed)
        )
        yield Searched(result.verdict, result.executions, result.deliveries, result.seconds, False, seed, reports)

    def _verify(self) -> Iterator[Searched | None]:
        program = self.program
        result = Verification(Statistics())
        for result in verify_program(program, search="auto", runs=self.runs):  # noqa: B007 -- the last one counts
            yield None

        bugs = list(result.found.values())
        shorten = functools.partial(shorten_decisions, program, time=program.scenario.time)
        reports = yield from _shrunken(
            reports_of(program, bugs, shorten, Fewest(program), strategy=result.search, seed=0)
        )
        statistics = result.statistics
        yield Searched(
            result.verdict,
            statistics.executions,
            statistics.deliveries,
            result.seconds,
            result.exhaustive,
            self.seed,
            reports,
        )


def _shrunken(reports: Iterator[Report]) -> Generator[None, None, list[Report]]:
    """A turn for each report; all of them."""
    found = []
    for report in reports:
        found.append(report)
        yield None
    return found


def finish(search: Search) -> Searched:
    """All turns of a search at once."""
    return next(result for result in search.turns() if result is not None)


async def finish_async(search: Search) -> Searched:
    """All turns of a search, between which the event loop gets its turns."""
    from anyio.lowlevel import checkpoint

    for result in search.turns():
        if result is not None:
            return result
        await checkpoint()
    raise AssertionError("a search ends with its result")


# -- of a test that a runner runs --------------------------------------------------------------------------------------


def searched(search: Search, session: Session | None) -> None:
    """Run what is known to have failed, then search; keep what fails.

    Raises:
        Failed: it breaks.
    """
    __tracebackhide__ = True
    if _shown_again(search.program, session):
        return
    result = finish(search)
    if not result.reports:
        result.check()
        return
    first = result.reports[0]
    text = _kept(result.reports, session)
    raise Failed(summary_of(first, result.executions, result.seed), result.reports, text) from raised_by(first)


def live(program: BoundScenario, backend: str, seed: int, session: Session | None) -> None:
    """Run what is known to have failed in the simulator, then once on an event loop; keep what fails.

    Raises:
        Failed: it broke; its schedule was replayed in the simulator, and made short.
    """
    __tracebackhide__ = True
    import anyio

    if _shown_again(program, session):
        return
    go = functools.partial(program.execute_live, seed=seed, jitter=0.3, time_scale=10_000.0)
    execution = anyio.run(go, backend=backend)
    outcome = execution.outcome
    bug = outcome.bug
    if bug is None:
        if outcome.ending is Ending.BOUND:
            raise Failed(f"undetermined: the run on {backend} hit the bound on steps", [], "")
        return
    name = signature_of(outcome)
    found = [SeenLive(name, 0, execution.decisions, bug.kind, bug.message)]
    shorten, reasons = functools.partial(shorten_decisions, program), list[str]()
    reports = list(
        reports_of(
            program,
            found,
            shorten,
            Fewest(program),
            strategy=LIVE,
            seed=seed,
            seconds=LIVE_SECONDS,
            note=reasons.append,
        )
    )
    text = _kept(reports, session) if reports else "\n".join(reasons)
    raise Failed(f"{name}, live on {backend} (seed {seed})\n{bug.message}", reports, text) from outcome.error


def _shown_again(program: BoundScenario, session: Session | None) -> bool:
    """A finding was asked for, and does not break any more; or else none that is known still does.

    Raises:
        Failed: it does.
    """
    __tracebackhide__ = True
    if session is None:
        return False
    if session.replay is not None:
        _replay(program, session, session.replay)
        return True
    _known(program, session)
    return False


def _kept(reports: list[Report], session: Session | None) -> str:
    """Keep the schedules for the next time; the reports for a person, with what to type to see them again."""
    if session is None:
        return text_of(reports)
    try:
        directory = session.directory
        if directory is not None:
            for report in reports:
                file = directory / file_name(report.finding)
                save(report.finding, file)
                report.file = file
    except (OSError, OutputError) as error:
        reason = error.__cause__ or error
        return (
            f"{text_of(reports, session.command)}\n\n"
            f"   It will not be tried first the next time, for it cannot be kept: {reason}\n"
            "   Keep it elsewhere: pytest -o cache_dir=DIR"
        )
    return text_of(reports, session.command)


def _known(program: BoundScenario, session: Session) -> None:
    """The schedules that made this test fail before are tried first; those that pass now are forgotten.

    Raises:
        Failed: one of them still does.
    """
    __tracebackhide__ = True
    try:
        directory = session.directory
    except OSError:  # what cannot be kept is told when something is to be
        return
    if directory is None:
        return
    for file in sorted(directory.glob("*.json")):
        try:
            finding = load(file)
        except UsageError:
            _forget(file)
            continue
        if (finding.scenario, finding.lifecycle) != (program.scenario.name, program.lifecycle.name):
            continue
        report = _again(program, finding, file)
        if report is None:
            _forget(file)
            continue
        _fail_again(report, session)


def _forget(file: Path) -> None:
    with suppress(OSError):  # it is tried again, in vain, until somebody can
        file.unlink()


def _replay(program: BoundScenario, session: Session, file: Path) -> None:
    """Run a finding again.

    Raises:
        Failed: it breaks as it did.
        UsageError: it is of another test.
    """
    __tracebackhide__ = True
    finding = load(file)
    if finding.scenario != program.scenario.name:
        raise UsageError(f"{file} is of {finding.scenario}, not of {program.scenario.name}.\n  Run that test.")
    report = _again(program, finding, file)
    if report is not None:
        _fail_again(report, session)


def _fail_again(report: Report, session: Session) -> None:
    __tracebackhide__ = True
    text = text_of([report], session.command)
    summary = f"{report.finding.signature}, by a schedule that is known\n{report.finding.message}"
    raise Failed(summary, [report], text) from raised_by(report)


def _again(program: BoundScenario, finding: Finding, file: Path) -> Report | None:
    """The report of a finding's run; None when it does not break, or does not fit any more."""
    starvation = None if finding.starvation is None else round(finding.starvation * HZ)
    program = program.under(finding.time, starvation)
    try:
        again = replayed(program, [choice.decision() for choice in finding.schedule])
    except (ReplayDiverged, ForeignAwait, ForeignCall):
        return None
    bug = again.outcome.bug
    if bug is None:
        return None
    again.minimum = finding.preemptions_minimum
    seen = Found(signature_of(again.outcome), [], finding.execution)
    fresh = make_finding(program, again, seen, strategy=finding.strategy, seed=finding.seed)
    return Report(fresh, 1, len(finding.schedule), again, race_table(again.history, bug.about), {}, None, None, file)
