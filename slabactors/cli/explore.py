"""``slabactors explore``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slabactors.cli import BUG, FINE, UNDETERMINED
from slabactors.cli.campaign import Campaign, check_jobs, opened
from slabactors.cli.output import Progress, counted, note, say, say_json
from slabactors.cli.report import Report, interruptible, make_report, print_report, print_unreached
from slabactors.errors import OutputError, UsageError, WorkersLost
from slabactors.explore.campaign import Plan, SearchResult, search
from slabactors.explore.shrink import shrink
from slabactors.scenario import BoundScenario, find

if TYPE_CHECKING:
    from slabactors.explore.crew import Crew


def explore_scenario(
    target: str,
    lifecycle: str | None,
    settings: list[str],
    *,
    seed: int,
    strategy: str,
    runs: int,
    seconds: float | None,
    jobs: int | None,
    executor: str | None,
    save: Path | None,
    json: bool,
) -> int:
    """Search, shrink what was found, print it, and keep it if asked to."""
    if runs < 1:
        raise UsageError(f"--runs must be at least 1, not {runs}.\n  Type for example: --runs 10000")
    if seconds is not None and not 0 < seconds < inf:
        raise UsageError(f"--time is in seconds and must be more than 0, not {seconds}.\n  Type for example: --time 10")
    check_jobs(jobs)
    if jobs is not None and executor is not None:
        raise UsageError("expected --jobs or --executor, found both.\n  A cluster has the workers that it has.")
    program = find(target).bind(lifecycle_name=lifecycle, settings=settings)
    plan = Plan(strategy, seed, runs)
    with ExitStack() as stack:
        crew = stack.enter_context(connected(executor)) if executor is not None else None
        campaign = stack.enter_context(opened(program, save, strategy=strategy, seed=seed))
        result = run_search(campaign, plan, seconds=seconds, jobs=jobs or 1, crew=crew)
        reports = shrink_all(program, result, strategy, seed)
        campaign.save(reports)
        if json:
            say_json(as_json(campaign, result, reports, strategy, seed))
        else:
            print_result(campaign, result, reports)
        campaign.finish()
    return {"broken": BUG, "clean": FINE}.get(campaign.verdict(result.verdict), UNDETERMINED)


def connected(address: str) -> AbstractContextManager[Crew]:
    """The cluster at an address."""
    from slabactors.explore.cluster import connected

    return connected(address)


def run_search(
    campaign: Campaign, plan: Plan, *, seconds: float | None = None, jobs: int = 1, crew: Crew | None = None
) -> SearchResult:
    """Search with a progress bar; Ctrl-C, a full disk and the loss of all workers end it with what was found so far."""
    program = campaign.program
    result = SearchResult()
    with (
        interruptible() as interrupted,
        campaign.blocks(plan) as blocks,
        Progress(f"explore {program.scenario.name}", plan.runs) as progress,
    ):
        searching: Callable[..., Iterator[SearchResult]] = search
        if crew is not None or jobs > 1:
            from slabactors.explore.parallel import search_parallel

            searching = partial(search_parallel, jobs=jobs, executor=crew)
        try:
            for result in searching(
                program,
                strategy=plan.strategy,
                seed=plan.seed,
                runs=plan.runs,
                seconds=seconds,
                stop=interrupted.is_set,
                blocks=blocks,
            ):
                progress.update(result.executions, len(result.found))
        except (OutputError, WorkersLost) as error:
            campaign.unsaved = error  # what was found is printed first
    if not result.finished:
        why = "interrupted" if campaign.unsaved is None else "ended early"
        note(f"slabactors: {why} after {counted(result.executions, 'execution')}; this is what was found so far.")
    return result


def shrink_all(program: BoundScenario, result: SearchResult, strategy: str, seed: int) -> list[Report]:
    """Shrink every bug; Ctrl-C ends it with those that are done."""
    reports: list[Report] = []
    try:
        for found in result.found.values():
            shrunken = shrink(program, found.record, found.signature)
            steps = len(found.record)
            reports.append(make_report(program, shrunken, found, steps=steps, strategy=strategy, seed=seed))
    except KeyboardInterrupt:
        note(f"slabactors: interrupted; {len(reports)} of {counted(len(result.found), 'distinct bug')} are shown.")
    return reports


def as_json(
    campaign: Campaign, result: SearchResult, reports: list[Report], strategy: str, seed: int
) -> dict[str, Any]:
    """The result as ``--json`` prints it."""
    program = campaign.program
    return {
        "scenario": program.scenario.name,
        "lifecycle": program.lifecycle.name,
        "parameters": program.settings,
        "strategy": strategy,
        "seed": seed,
        "executions": result.executions,
        "deliveries": result.deliveries,
        "seconds": round(result.seconds, 3),
        "bounded": result.bounded,
        "exhaustive": False,
        "verdict": campaign.verdict(result.verdict),
        "sometimes": result.sometimes,
        "known": campaign.known_json(),
        "findings": [report.as_json() for report in reports],
    }


def print_result(campaign: Campaign, result: SearchResult, reports: list[Report]) -> None:
    """The result for a person."""
    program = campaign.program
    made = result.executions - campaign.resumed
    rate = f" ({made / result.seconds:,.0f} executions/s)" if made and result.seconds else ""
    campaign.print_known()
    say(
        f"{program.scenario.name} under {program.lifecycle.name}: {counted(result.executions, 'execution')}, "
        f"{counted(result.deliveries, 'step')}, {result.seconds:.1f} s{rate}"
    )
    print_unreached(result.sometimes)
    for number, report in enumerate(reports, 1):
        print_report(number, report)
    match result.verdict:
        case "clean":
            say(f"No bug in {counted(result.executions, 'execution')}.  That is not a proof.")
        case "undetermined" if result.finished:
            say(f"Undetermined: {result.bounded} of {result.executions} executions hit the bound on steps.")
        case "undetermined":
            say("Undetermined: interrupted before a bug was found.")
        case _:
            say()
            say(f"{counted(len(result.found), 'distinct bug')}.")
    campaign.print_still_broken(result.verdict)
