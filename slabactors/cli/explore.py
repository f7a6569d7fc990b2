"""``slabactors explore``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slabactors.cli import BUG, FINE, UNDETERMINED
from slabactors.cli.campaign import Campaign, check_jobs, connected, opened
from slabactors.cli.output import Progress, note, say, say_json
from slabactors.cli.report import interruptible, print_no_bug, print_pipelined, print_report, print_unreached
from slabactors.cli.shrinking import shrink_each
from slabactors.errors import OutputError, UsageError, WorkersLost
from slabactors.explore.campaign import Plan, SearchResult, search
from slabactors.explore.fewest import Fewest
from slabactors.kernel.jiffies import HZ
from slabactors.report.finding import Report
from slabactors.report.shrinking import shorten_record
from slabactors.report.words import counted
from slabactors.runtime.step import TimePolicy
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
    policy: str | None,
    starvation: float | None,
    jobs: int | None,
    executor: str | None,
    save: Path | None,
    reduce: bool,
    json: bool,
) -> int:
    """Search, shrink what was found, print it, and keep it if asked to."""
    if runs < 1:
        raise UsageError(f"--runs must be at least 1, not {runs}.\n  Type for example: --runs 10000")
    if seconds is not None and not 0 < seconds < inf:
        raise UsageError(f"--time is in seconds and must be more than 0, not {seconds}.\n  Type for example: --time 10")
    check_jobs(jobs, executor)
    program = find(target).bind(lifecycle_name=lifecycle, settings=settings)
    program = program.under(TimePolicy(policy) if policy else None, starvation_bound(starvation))
    plan = Plan(strategy, seed, runs)
    with ExitStack() as stack:
        crew = stack.enter_context(connected(executor)) if executor is not None else None
        campaign = stack.enter_context(opened(program, save, strategy=strategy, seed=seed))
        result = run_search(campaign, plan, seconds=seconds, jobs=jobs or 1, crew=crew)
        reports = shrink_all(program, result, strategy, seed, reduce=reduce)
        campaign.save(reports)
        if json:
            say_json(as_json(campaign, result, reports, strategy, seed))
        else:
            print_result(campaign, result, reports)
        campaign.finish()
    return {"broken": BUG, "clean": FINE}.get(campaign.verdict(result.verdict), UNDETERMINED)


def starvation_bound(seconds: float | None) -> int | None:
    """The jiffies of ``--starvation``.

    Raises:
        UsageError: they are negative, or not a number.
    """
    if seconds is None or seconds == inf:
        return None
    if not seconds >= 0:
        raise UsageError(
            f"--starvation is in virtual seconds and must be at least 0, not {seconds}.\n"
            "  Type for example: --starvation 2, or leave it out for any time."
        )
    return round(seconds * HZ)


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


def shrink_all(program: BoundScenario, result: SearchResult, strategy: str, seed: int, *, reduce: bool) -> list[Report]:
    """Shrink every bug; Ctrl-C ends it with the best so far of each, another one with those that are done."""
    bugs = list(result.found.values())
    shorten = partial(shorten_record, program)
    return shrink_each(program, bugs, shorten, Fewest(program), strategy=strategy, seed=seed, reduce=reduce)


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
        "time": program.scenario.time.value,
        "starvation": None if program.starvation_jiffies is None else program.starvation_jiffies / HZ,
        "executions": result.executions,
        "deliveries": result.deliveries,
        "seconds": round(result.seconds, 3),
        "bounded": result.bounded,
        "pipelined": result.pipelined,
        "exhaustive": False,
        "verdict": campaign.verdict(result.verdict),
        "sometimes": result.sometimes,
        "strategies": {
            name: {"executions": share.executions, "found": share.found, "first_found": result.first_found(name)}
            for name, share in result.shares.items()
        },
        "known": campaign.known_json(),
        "findings": [report.as_json() for report in reports],
    }


def print_shares(result: SearchResult) -> None:
    """Which member of a portfolio has found what; nothing when there is only one."""
    if len(result.shares) < 2:
        return
    rows = [
        (name, f"{share.found} of {share.executions}", result.first_found(name))
        for name, share in result.shares.items()
    ]
    name_width = max(len(name) for name, _, _ in rows)
    share_width = max(len(share) for _, share, _ in rows)
    for name, share, first in rows:
        say(f"{name:{name_width}}  {share:>{share_width}} executions broke, {first} found first")
    say()


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
    print_pipelined(result.pipelined)
    for number, report in enumerate(reports, 1):
        print_report(number, report)
    if result.verdict == "broken":
        say()
        print_shares(result)
        say(f"{counted(len(result.found), 'distinct bug')}.")
    else:
        print_no_bug(result)
    campaign.print_still_broken(result.verdict)
