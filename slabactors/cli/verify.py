"""``slabactors verify``."""

from __future__ import annotations

from functools import partial
from math import inf
from pathlib import Path
from typing import Any

from slabactors.cli import BUG, FINE, UNDETERMINED
from slabactors.cli.campaign import opened
from slabactors.cli.output import Progress, counted, note, say, say_json
from slabactors.cli.report import Report, interruptible, make_report, print_report, print_unreached
from slabactors.errors import NondeterminismError, ReplayDiverged, UsageError
from slabactors.explore.bounded import BoundedResult, search_bounded
from slabactors.explore.campaign import SearchResult
from slabactors.explore.dpor import Statistics
from slabactors.explore.shrink import shrink, shrink_schedule
from slabactors.explore.verify import Verification, verify
from slabactors.runtime.step import TimePolicy
from slabactors.scenario import BoundScenario, find

PARTS = 1000
"""Steps of the progress bar."""


def verify_scenario(
    target: str,
    lifecycle: str | None,
    settings: list[str],
    *,
    policy: str | None,
    preemptions: int | None,
    runs: int | None,
    seconds: float | None,
    save: Path | None,
    json: bool,
) -> int:
    """Explore every trace; print each distinct bug with the shortest schedule found for it."""
    if runs is not None and runs < 1:
        raise UsageError(f"--runs must be at least 1, not {runs}.\n  Leave it out to explore everything.")
    if seconds is not None and not 0 < seconds < inf:
        raise UsageError(f"--time is in seconds and must be more than 0, not {seconds}.\n  Type for example: --time 60")
    if preemptions is not None and preemptions < 0:
        raise UsageError(f"--preemptions must be at least 0, not {preemptions}.\n  Type for example: --preemptions 2")
    program = find(target).bind(lifecycle_name=lifecycle, settings=settings)
    time = TimePolicy(policy) if policy is not None else program.scenario.time
    strategy = "dpor" if preemptions is None else "preemption-bounded"
    with opened(program, save, strategy=strategy, seed=0) as campaign:
        if preemptions is None:
            result = explored(program, time, runs, seconds)
            reports = shrunken_reports(program, result)
            told = partial(as_json, program, result, reports, time)
            show = partial(print_result, program, result, reports, time)
        else:
            bounded = explored_bounded(program, time, preemptions, runs, seconds)
            reports = bounded_reports(program, bounded)
            told = partial(bounded_json, program, bounded, reports, time)
            show = partial(print_bounded, program, bounded, reports, time)
        campaign.save(reports)
        document = told()
        verdict = campaign.verdict(document["verdict"])
        if json:
            say_json(document | {"verdict": verdict, "known": campaign.known_json()})
        else:
            campaign.print_known()
            show()
            campaign.print_still_broken(document["verdict"])
        campaign.finish()
    return {"broken": BUG, "verified": FINE}.get(verdict, UNDETERMINED)


def explored(program: BoundScenario, time: TimePolicy, runs: int | None, seconds: float | None) -> Verification:
    """Search with a progress bar; Ctrl-C ends it with what was found so far."""
    result = Verification(Statistics())
    with interruptible() as interrupted, Progress(f"verify {program.scenario.name}", PARTS) as progress:
        for result in verify(program, time=time, runs=runs, seconds=seconds, stop=interrupted.is_set):
            progress.update(int(PARTS * result.progress), len(result.found))
        if interrupted.is_set():
            note(f"slabactors: interrupted after {counted(result.statistics.executions, 'execution')}.")
    return result


def shrunken_reports(program: BoundScenario, result: Verification) -> list[Report]:
    """Shrink every bug; one that no ordinary run can show is told as it was found."""
    reports = []
    for found in result.found.values():
        try:
            shrunken = shrink_schedule(program, found.decisions, found.signature)
        except (ReplayDiverged, NondeterminismError) as error:
            note(f"slabactors: {found.signature} was found, but its schedule cannot be shown: {error}")
            continue
        steps = len(found.decisions)
        reports.append(make_report(program, shrunken, found, steps=steps, strategy="dpor", seed=0))
    return reports


def as_json(program: BoundScenario, result: Verification, reports: list[Report], time: TimePolicy) -> dict[str, Any]:
    """The result as ``--json`` prints it."""
    statistics = result.statistics
    return {
        "scenario": program.scenario.name,
        "lifecycle": program.lifecycle.name,
        "parameters": program.settings,
        "strategy": "dpor",
        "seed": 0,
        "time": time.value,
        "executions": statistics.executions,
        "blocked": statistics.blocked,
        "probes": statistics.probes,
        "deliveries": statistics.deliveries,
        "depth": statistics.depth,
        "seconds": round(result.seconds, 3),
        "bounded": result.bounded,
        "early_firings_used_up": result.held_back,
        "explored": round(result.progress, 4),
        "exhaustive": result.exhaustive,
        "verdict": result.verdict,
        "sometimes": result.sometimes,
        "findings": [report.as_json() for report in reports],
    }


def print_result(program: BoundScenario, result: Verification, reports: list[Report], time: TimePolicy) -> None:
    """The result for a person."""
    statistics = result.statistics
    say(
        f"{program.scenario.name} under {program.lifecycle.name}, {time.value} time: "
        f"{counted(statistics.executions, 'execution')}, one for every trace, "
        f"{counted(statistics.deliveries, 'step')}, at most {statistics.depth} each, {result.seconds:.1f} s"
    )
    print_unreached(result.sometimes)
    for number, report in enumerate(reports, 1):
        print_report(number, report)
    if reports:
        say()
    limits = ", a timer firing early only the first time it is set" if result.held_back else ""
    match result.verdict:
        case "verified":
            say(f"Verified: no interleaving of this scenario breaks it{limits}.")
        case "undetermined":
            reason = "the bound on steps was hit" if result.bounded else "the search was cut short"
            say(f"Undetermined: {reason}; about {100 * result.progress:.1f} % was explored.")
        case _:
            rest = "all interleavings were explored" if result.exhaustive else "the search was cut short"
            say(f"{counted(len(result.found), 'distinct bug')}; {rest}{limits}.")


def explored_bounded(
    program: BoundScenario, time: TimePolicy, preemptions: int, runs: int | None, seconds: float | None
) -> BoundedResult:
    """Search by preemptions; Ctrl-C ends it with what was found so far."""
    found = BoundedResult(SearchResult())
    with interruptible() as interrupted, Progress(f"verify {program.scenario.name}", preemptions + 1) as progress:
        for found in search_bounded(
            program, preemptions=preemptions, time=time, runs=runs, seconds=seconds, stop=interrupted.is_set
        ):
            progress.update(found.bound, len(found.result.found))
        if interrupted.is_set():
            note(f"slabactors: interrupted after {counted(found.result.executions, 'execution')}.")
    return found


def bounded_reports(program: BoundScenario, found: BoundedResult) -> list[Report]:
    """Shrink every bug of a search by preemptions."""
    return [
        make_report(
            program,
            shrink(program, one.record, one.signature),
            one,
            steps=len(one.record),
            strategy="preemption-bounded",
            seed=0,
        )
        for one in found.result.found.values()
    ]


def bounded_json(
    program: BoundScenario, found: BoundedResult, reports: list[Report], time: TimePolicy
) -> dict[str, Any]:
    """The result of a search by preemptions as ``--json`` prints it."""
    result = found.result
    return {
        "scenario": program.scenario.name,
        "lifecycle": program.lifecycle.name,
        "parameters": program.settings,
        "strategy": "preemption-bounded",
        "seed": 0,
        "time": time.value,
        "executions": result.executions,
        "deliveries": result.deliveries,
        "seconds": round(result.seconds, 3),
        "bounded": result.bounded,
        "preemptions_exhausted": found.exhausted,
        "exhaustive": found.complete and not result.bounded,
        "verdict": found.verdict,
        "sometimes": result.sometimes,
        "findings": [
            report.as_json() | {"preemptions_needed": found.first_bound[report.finding.signature]} for report in reports
        ],
    }


def print_bounded(program: BoundScenario, found: BoundedResult, reports: list[Report], time: TimePolicy) -> None:
    """The result of a search by preemptions for a person."""
    result = found.result
    say(
        f"{program.scenario.name} under {program.lifecycle.name}, {time.value} time: "
        f"{counted(result.executions, 'execution')}, {counted(result.deliveries, 'step')}, {result.seconds:.1f} s"
    )
    print_unreached(result.sometimes)
    for number, report in enumerate(reports, 1):
        print_report(number, report)
        needed = found.first_bound[report.finding.signature]
        fewer = "" if needed == 0 else f"; all schedules with {needed - 1} were explored, and none shows it"
        say()
        say(f"   needs {counted(needed, 'preemption')}{fewer}")
    if reports:
        say()
    explored = "no bound was explored to its end"
    if found.complete:
        explored = "there are no other schedules"
    elif found.exhausted >= 0:
        explored = f"all schedules with at most {counted(found.exhausted, 'preemption')} were explored"
    match found.verdict:
        case "verified":
            say(f"Verified: no schedule breaks it; {explored}.")
        case "undetermined":
            say(f"Undetermined: no bug; {explored}.")
        case _:
            say(f"{counted(len(result.found), 'distinct bug')}; {explored}.")
