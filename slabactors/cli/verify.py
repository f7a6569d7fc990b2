"""``slabactors verify``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from slabactors.cli import BUG, FINE, UNDETERMINED
from slabactors.cli.campaign import Campaign, check_jobs, connected, opened
from slabactors.cli.output import Progress, note, say, say_json
from slabactors.cli.report import interruptible, print_pipelined, print_report, print_unreached
from slabactors.cli.shrinking import shrink_each
from slabactors.errors import UsageError, WorkersLost
from slabactors.explore.bounded import Bounded, BoundedResult, DelayBounded, PreemptionBounded, search_bounded
from slabactors.explore.campaign import SearchResult
from slabactors.explore.dpor import Statistics
from slabactors.explore.fewest import Fewest
from slabactors.explore.verify import Verification, verify
from slabactors.report.finding import Report
from slabactors.report.shrinking import shorten_decisions, shorten_record
from slabactors.report.words import counted
from slabactors.runtime.step import TimePolicy
from slabactors.scenario import BoundScenario, find

if TYPE_CHECKING:
    from slabactors.explore.crew import Crew

Searching: TypeAlias = "Callable[..., Iterator[Verification]]"

PARTS = 1000
"""Steps of the progress bar."""


def verify_scenario(
    target: str,
    lifecycle: str | None,
    settings: list[str],
    *,
    policy: str | None,
    search: str,
    preemptions: int | None,
    delays: int | None,
    jobs: int | None,
    executor: str | None,
    runs: int | None,
    seconds: float | None,
    save: Path | None,
    reduce: bool,
    json: bool,
) -> int:
    """Explore everything; print each distinct bug with the shortest schedule found for it."""
    if runs is not None and runs < 1:
        raise UsageError(f"--runs must be at least 1, not {runs}.\n  Leave it out to explore everything.")
    if seconds is not None and not 0 < seconds < inf:
        raise UsageError(f"--time is in seconds and must be more than 0, not {seconds}.\n  Type for example: --time 60")
    if preemptions is not None and preemptions < 0:
        raise UsageError(f"--preemptions must be at least 0, not {preemptions}.\n  Type for example: --preemptions 2")
    if delays is not None and delays < 0:
        raise UsageError(f"--delays must be at least 0, not {delays}.\n  Type for example: --delays 2")
    if preemptions is not None and delays is not None:
        raise UsageError("--preemptions and --delays are two bounds, and a search has one.\n  Leave one of them out.")
    if search != "auto" and (preemptions is not None or delays is not None):
        raise UsageError("--search is for the search of everything, and a bound is another one.\n  Leave --search out.")
    check_jobs(jobs, executor)
    for name, given in (("--jobs", jobs), ("--executor", executor)):
        if given is not None and (preemptions is not None or delays is not None or search == "states"):
            raise UsageError(f"{name} divides the search by traces, and no other.\n  Leave {name} out.")
    program = find(target).bind(lifecycle_name=lifecycle, settings=settings)
    program = program.under(TimePolicy(policy) if policy is not None else None)
    time = program.scenario.time
    by, bound = (DelayBounded, delays) if delays is not None else (PreemptionBounded, preemptions)
    with ExitStack() as stack:
        searching = searching_with(search, jobs, stack.enter_context(connected(executor)) if executor else None)
        campaign = stack.enter_context(opened(program, save, strategy=search if bound is None else by.name, seed=0))
        if bound is None:
            result = explored(campaign, time, searching, runs, seconds)
            reports = shrunken_reports(program, result, time, reduce=reduce)
            told = partial(as_json, program, result, reports, time)
            show = partial(print_result, program, result, reports, time)
        else:
            bounded = explored_bounded(program, time, by, bound, runs, seconds)
            reports = bounded_reports(program, bounded, time, by, reduce=reduce)
            told = partial(bounded_json, program, bounded, reports, time, by)
            show = partial(print_bounded, program, bounded, reports, time, by)
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


def searching_with(search: str, jobs: int | None, crew: Crew | None) -> Searching:
    """The search of everything: here, or divided among processes or the workers of a cluster."""
    if crew is None and (jobs or 1) == 1:
        return partial(verify, search=search)
    from slabactors.explore.verify_parallel import verify_parallel

    return partial(verify_parallel, jobs=jobs or 1) if crew is None else partial(verify_parallel, executor=crew)


def explored(
    campaign: Campaign, time: TimePolicy, searching: Searching, runs: int | None, seconds: float | None
) -> Verification:
    """Search with a progress bar; Ctrl-C ends it with what was found so far."""
    program = campaign.program
    result = Verification(Statistics())
    with interruptible() as interrupted, Progress(f"verify {program.scenario.name}", PARTS) as progress:
        try:
            for result in searching(program, time=time, runs=runs, seconds=seconds, stop=interrupted.is_set):
                progress.update(int(PARTS * result.progress), len(result.found))
        except WorkersLost as error:
            campaign.unsaved = error  # what was found is printed first
        if interrupted.is_set():
            note(f"slabactors: interrupted after {counted(result.statistics.executions, 'execution')}.")
    return result


def shrunken_reports(program: BoundScenario, result: Verification, time: TimePolicy, *, reduce: bool) -> list[Report]:
    """Shrink every bug; one that no ordinary run can show is told as it was found."""
    bugs = list(result.found.values())
    shorten = partial(shorten_decisions, program, time=time)
    fewest = Fewest(program, time=time)
    return shrink_each(program, bugs, shorten, fewest, strategy=result.search, seed=0, time=time, reduce=reduce)


def as_json(program: BoundScenario, result: Verification, reports: list[Report], time: TimePolicy) -> dict[str, Any]:
    """The result as ``--json`` prints it."""
    statistics = result.statistics
    return {
        "scenario": program.scenario.name,
        "lifecycle": program.lifecycle.name,
        "parameters": program.settings,
        "strategy": result.search,
        "seed": 0,
        "time": time.value,
        "executions": statistics.executions,
        "states": result.states,
        "transitions": result.transitions,
        "tried": result.tried,
        "blocked": statistics.blocked,
        "probes": statistics.probes,
        "deliveries": statistics.deliveries,
        "depth": statistics.depth,
        "seconds": round(result.seconds, 3),
        "bounded": result.bounded,
        "endless": result.endless,
        "pipelined": result.pipelined,
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
    what = "one for every trace"
    if result.search != "dpor":
        what = f"every step from each of {counted(result.states, 'state')} once ({counted(result.transitions, 'step')})"
    say(
        f"{program.scenario.name} under {program.lifecycle.name}, {time.value} time: "
        f"{counted(statistics.executions, 'execution')}, {what}, "
        f"{counted(statistics.deliveries, 'step')} in all, at most {statistics.depth} each, {result.seconds:.1f} s"
    )
    others = [
        f"{name} had come to {counted(how['executions'], 'execution')}"
        for name, how in result.tried.items()
        if name != result.search
    ]
    if others:
        say(f"  by {result.search}; {', '.join(others)}")
    print_unreached(result.sometimes)
    print_pipelined(result.pipelined)
    for number, report in enumerate(reports, 1):
        print_report(number, report)
    if reports:
        say()
    limits = ", a timer firing early only the first time it is set" if result.held_back else ""
    match result.verdict:
        case "verified":
            say(f"Verified: no interleaving of this scenario breaks it{limits}.")
        case "undetermined":
            if result.endless:
                of = f"{counted(result.endless, 'state')} of {result.states}" if result.states else "some states"
                say(f"Undetermined: it goes on for ever; from {of} no order of steps comes to an end.")
                return
            reason = "the bound on steps was hit" if result.bounded else "the search was cut short"
            say(f"Undetermined: {reason}; about {100 * result.progress:.1f} % was explored.")
        case _:
            rest = "all interleavings were explored" if result.exhaustive else "the search was cut short"
            say(f"{counted(len(result.found), 'distinct bug')}; {rest}{limits}.")


def explored_bounded(
    program: BoundScenario,
    time: TimePolicy,
    by: type[Bounded],
    bound: int,
    runs: int | None,
    seconds: float | None,
) -> BoundedResult:
    """Search bound after bound; Ctrl-C ends it with what was found so far."""
    found = BoundedResult(SearchResult())
    with interruptible() as interrupted, Progress(f"verify {program.scenario.name}", bound + 1) as progress:
        for found in search_bounded(
            program, bound=bound, by=by, time=time, runs=runs, seconds=seconds, stop=interrupted.is_set
        ):
            progress.update(found.bound, len(found.result.found))
        if interrupted.is_set():
            note(f"slabactors: interrupted after {counted(found.result.executions, 'execution')}.")
    return found


def bounded_reports(
    program: BoundScenario, searched: BoundedResult, time: TimePolicy, by: type[Bounded], *, reduce: bool
) -> list[Report]:
    """Shrink every bug of a search within bounds; one by preemptions has proved already how few each needs."""
    found = list(searched.result.found.values())
    shorten = partial(shorten_record, program, time=time)
    fewest = Fewest.of(program, searched, time=time) if by is PreemptionBounded else Fewest(program, time=time)
    return shrink_each(program, found, shorten, fewest, strategy=by.name, seed=0, time=time, reduce=reduce)


def bounded_json(
    program: BoundScenario, found: BoundedResult, reports: list[Report], time: TimePolicy, by: type[Bounded]
) -> dict[str, Any]:
    """The result of a search within bounds as ``--json`` prints it."""
    result = found.result
    return {
        "scenario": program.scenario.name,
        "lifecycle": program.lifecycle.name,
        "parameters": program.settings,
        "strategy": by.name,
        "seed": 0,
        "time": time.value,
        "executions": result.executions,
        "deliveries": result.deliveries,
        "seconds": round(result.seconds, 3),
        "bounded": result.bounded,
        "pipelined": result.pipelined,
        f"{by.unit}s_exhausted": found.exhausted,
        "exhaustive": found.complete and not result.bounded,
        "verdict": found.verdict,
        "sometimes": result.sometimes,
        "findings": [
            report.as_json() | {f"{by.unit}s_needed": found.first_bound[report.finding.signature]} for report in reports
        ],
    }


def print_bounded(
    program: BoundScenario, found: BoundedResult, reports: list[Report], time: TimePolicy, by: type[Bounded]
) -> None:
    """The result of a search within bounds for a person."""
    result = found.result
    say(
        f"{program.scenario.name} under {program.lifecycle.name}, {time.value} time: "
        f"{counted(result.executions, 'execution')}, {counted(result.deliveries, 'step')}, {result.seconds:.1f} s"
    )
    print_unreached(result.sometimes)
    print_pipelined(result.pipelined)
    for number, report in enumerate(reports, 1):
        print_report(number, report)
        needed = found.first_bound[report.finding.signature]
        fewer = "" if needed == 0 else f"; all schedules with {needed - 1} were explored, and none shows it"
        say()
        say(f"   needs {counted(needed, by.unit)}{fewer}")
    if reports:
        say()
    explored = "no bound was explored to its end"
    if found.complete:
        explored = "there are no other schedules"
    elif found.exhausted >= 0:
        explored = f"all schedules with at most {counted(found.exhausted, by.unit)} were explored"
    match found.verdict:
        case "verified":
            say(f"Verified: no schedule breaks it; {explored}.")
        case "undetermined":
            say(f"Undetermined: no bug; {explored}.")
        case _:
            say(f"{counted(len(result.found), 'distinct bug')}; {explored}.")
