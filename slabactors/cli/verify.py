"""``slabactors verify``."""

from __future__ import annotations

from math import inf
from pathlib import Path
from typing import Any

from slabactors.cli import BUG, FINE, UNDETERMINED
from slabactors.cli.output import Progress, counted, note, say, say_json
from slabactors.cli.report import Report, interruptible, make_report, print_report, print_unreached, save_all
from slabactors.errors import NondeterminismError, OutputError, ReplayDiverged, UsageError
from slabactors.explore.dpor import Statistics
from slabactors.explore.finding import check_directory
from slabactors.explore.shrink import shrink_schedule
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
    program = find(target).bind(lifecycle_name=lifecycle, settings=settings)
    if save is not None:
        check_directory(save)
    time = TimePolicy(policy) if policy is not None else program.scenario.time
    result = explored(program, time, runs, seconds)
    reports = shrunken_reports(program, result)
    unsaved: OutputError | None = None
    if save is not None:
        try:
            save_all(reports, save)
        except OutputError as error:
            unsaved = error  # what was found is printed first
    if json:
        say_json(as_json(program, result, reports, time))
    else:
        print_result(program, result, reports, time)
    if unsaved is not None:
        raise unsaved
    return {"broken": BUG, "verified": FINE}.get(result.verdict, UNDETERMINED)


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
    limits = ", each timer firing early at most once" if result.held_back else ""
    match result.verdict:
        case "verified":
            say(f"Verified: no interleaving of this scenario breaks it{limits}.")
        case "undetermined":
            reason = "the bound on steps was hit" if result.bounded else "the search was cut short"
            say(f"Undetermined: {reason}; about {100 * result.progress:.1f} % was explored.")
        case _:
            rest = "all interleavings were explored" if result.exhaustive else "the search was cut short"
            say(f"{counted(len(result.found), 'distinct bug')}; {rest}{limits}.")
