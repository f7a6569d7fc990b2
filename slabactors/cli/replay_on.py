"""``slabactors replay --lenient`` and ``--explore``: on from where a finding's schedule ends, or does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from slabactors import __version__
from slabactors.cli import BUG, FINE, UNDETERMINED
from slabactors.cli.once import logged, write_end
from slabactors.cli.output import Progress, note, say, say_json
from slabactors.cli.report import interruptible, print_no_bug, print_report, save_all
from slabactors.cli.shrinking import shrink_each
from slabactors.errors import NondeterminismError, OutputError, UnknownName, UsageError
from slabactors.explore.campaign import Found, SearchResult
from slabactors.explore.fewest import Budget, Fewest
from slabactors.explore.finding import REPEAT_HINT, Finding, check_directory, signature
from slabactors.explore.lenient import LenientStrategy, replay_leniently, schedule_of
from slabactors.explore.prefix import explore_from, whole_schedule
from slabactors.explore.program import Execution
from slabactors.explore.replay import Fair, replay
from slabactors.explore.shrink import Shrunken, replayed, shrink_schedule
from slabactors.explore.strategy import STRATEGIES
from slabactors.report.finding import Report
from slabactors.report.words import counted
from slabactors.runtime.simulated import Strategy
from slabactors.runtime.step import Decision, Ending, Step
from slabactors.scenario import BoundScenario
from slabactors.trace.race_table import race_table

if TYPE_CHECKING:
    from slabactors.cli.replay import ReplayOptions


def follow_leniently(file: Path, finding: Finding, program: BoundScenario, options: ReplayOptions) -> int:
    """Run what fits of the schedule; exit 1 when any bug shows, 0 when none does."""
    if finding.program_version != __version__:
        note(
            f"slabactors: {file} was written by slabactors {finding.program_version}, and this is {__version__}; "
            "it is followed as far as it fits."
        )
    name = options.strategy or Fair.name
    steps: list[Step] = []
    execution, strategy = replay_leniently(
        program,
        [choice.decision() for choice in finding.schedule],
        _continuation(name, options.seed),
        time=program.scenario.time,
        observer=steps.append,
    )
    again = None
    decisions = schedule_of(execution, steps)
    if execution.outcome.bug is not None:
        again = _strictly(program, decisions, signature(execution.outcome))
    if options.log is not None:
        with logged(options.log) as sink:
            sink.run(
                scenario=finding.scenario, lifecycle=finding.lifecycle, parameters=finding.parameters, replay=str(file)
            )
            logged_run = replay(program, decisions, observer=sink)
            write_end(sink, logged_run.outcome, logged_run.world)
    if options.json:
        say_json(_lenient_json(finding, execution, strategy, name, again))
    else:
        _print_lenient(finding, execution, strategy, name, again)
    if again is not None:
        return BUG
    return UNDETERMINED if execution.outcome.ending is Ending.BOUND else FINE


def _continuation(name: str, seed: int) -> Strategy:
    if name == Fair.name:
        return Fair()
    if name not in STRATEGIES:
        raise UnknownName("strategy", name, [Fair.name, *sorted(STRATEGIES)])
    return STRATEGIES[name](f"{seed}/0")


def _strictly(program: BoundScenario, decisions: list[Decision], wanted: str) -> Shrunken:
    """The run again, by its own schedule: what is shown of it was seen twice.

    Raises:
        NondeterminismError: it shows something else.
    """
    again = replayed(program, decisions)
    found = None if again.outcome.bug is None else signature(again.outcome)
    if found != wanted:
        raise NondeterminismError(
            f"the run showed {wanted!r}; run again, step for step, it showed "
            f"{'no bug' if found is None else repr(found)}.\n{REPEAT_HINT}"
        )
    return again


def _lenient_json(
    finding: Finding, execution: Execution, strategy: LenientStrategy, then: str, again: Shrunken | None
) -> dict[str, Any]:
    document: dict[str, Any] = {
        "scenario": finding.scenario,
        "lifecycle": finding.lifecycle,
        "decisions": len(finding.schedule),
        "followed": strategy.followed,
        "skipped": strategy.skipped,
        "added": strategy.added,
        "strategy": then,
        "reproduced": again is not None and signature(execution.outcome) == finding.signature,
        "deliveries": execution.outcome.deliveries,
        "bounded": execution.outcome.ending is Ending.BOUND,
        "finding": None,
    }
    bug = execution.outcome.bug
    if again is not None and bug is not None:
        document["finding"] = {
            "signature": signature(execution.outcome),
            "kind": bug.kind,
            "message": bug.message,
            "preemptions": again.preemptions,
            "steps": race_table(again.history, _about(again)).as_json(),
        }
    return document


def _about(again: Shrunken) -> object:
    return again.outcome.bug.about if again.outcome.bug is not None else None


def _print_lenient(
    finding: Finding, execution: Execution, strategy: LenientStrategy, then: str, again: Shrunken | None
) -> None:
    total = len(finding.schedule)
    unseen = total - strategy.followed - strategy.skipped
    say(
        f"{finding.scenario} under {finding.lifecycle}: followed {strategy.followed} of {counted(total, 'decision')}, "
        f"skipped {strategy.skipped}"
        + (f", did not get to {unseen}" if unseen else "")
        + (f"; {counted(strategy.added, 'step')} in between that it does not have" if strategy.added else "")
        + (f"; then {then}" if execution.outcome.deliveries > strategy.followed + strategy.added else "")
    )
    bug = execution.outcome.bug
    if again is None or bug is None:
        if execution.outcome.ending is Ending.BOUND:
            say(f"Undetermined: no bug in {counted(execution.outcome.deliveries, 'step')}, which is the bound on them.")
        else:
            say(f"No bug came of it in {counted(execution.outcome.deliveries, 'step')}.  One run is not a proof.")
        say(f"  The finding is {finding.signature}")
        return
    found = signature(execution.outcome)
    if found == finding.signature:
        say(f"The same bug came of it, in {counted(execution.outcome.deliveries, 'step')}:")
    else:
        say(f"Another bug came of it than {finding.signature!r}, in {counted(execution.outcome.deliveries, 'step')}:")
    say(f"  {found}")
    say(f"  {bug.message}")
    say()
    say(race_table(again.history, _about(again)).render())


# -- on from a prefix --------------------------------------------------------------------------------------------------


def explore_on(finding: Finding, program: BoundScenario, options: ReplayOptions) -> int:
    """Search from a point of the schedule; print each distinct bug as ``explore`` does."""
    assert options.explore is not None
    strategy = options.strategy or "portfolio"
    if strategy not in STRATEGIES:
        raise UnknownName("strategy", strategy, sorted(STRATEGIES))
    schedule = [choice.decision() for choice in finding.schedule]
    length = 2 * len(schedule) // 3 if options.prefix is None else options.prefix
    if not 0 <= length <= len(schedule):
        raise UsageError(
            f"--prefix must be from 0 to {len(schedule)}, which is all of the schedule, not {length}.\n"
            f"  Leave it out for {2 * len(schedule) // 3}."
        )
    if options.save is not None:
        check_directory(options.save)
    prefix = schedule[:length]
    time = program.scenario.time
    result = SearchResult()
    with interruptible() as interrupted, Progress(f"replay {finding.scenario}", options.explore) as progress:
        for result in explore_from(
            program,
            prefix,
            time=time,
            strategy=strategy,
            seed=options.seed,
            runs=options.explore,
            stop=interrupted.is_set,
        ):
            progress.update(result.executions, len(result.found))
    if not result.finished:
        note(f"slabactors: interrupted after {counted(result.executions, 'execution')}; this is what was found so far.")

    def shorten(found: Found, budget: Budget, fewest: Fewest) -> tuple[Shrunken, int]:
        whole = whole_schedule(program, prefix, found, time=time)
        return shrink_schedule(program, whole, found.signature, budget=budget, fewest=fewest), len(found.record)

    bugs = list(result.found.values())
    reports = shrink_each(program, bugs, shorten, Fewest(program), strategy=strategy, seed=options.seed, reduce=False)
    unsaved: OutputError | None = None
    if options.save is not None:
        try:
            save_all(reports, options.save)
        except OutputError as error:
            unsaved = error  # what was found is printed first
    if options.json:
        say_json(_explored_json(finding, program, result, reports, length, strategy, options.seed))
    else:
        _print_explored(finding, program, result, reports, length)
    if unsaved is not None:
        raise unsaved
    return {"broken": BUG, "clean": FINE}.get(result.verdict, UNDETERMINED)


def _explored_json(
    finding: Finding,
    program: BoundScenario,
    result: SearchResult,
    reports: list[Report],
    prefix: int,
    strategy: str,
    seed: int,
) -> dict[str, Any]:
    return {
        "scenario": finding.scenario,
        "lifecycle": finding.lifecycle,
        "parameters": finding.parameters,
        "decisions": len(finding.schedule),
        "prefix": prefix,
        "strategy": strategy,
        "seed": seed,
        "time": program.scenario.time.value,
        "executions": result.executions,
        "deliveries": result.deliveries,
        "seconds": round(result.seconds, 3),
        "bounded": result.bounded,
        "exhaustive": False,
        "verdict": result.verdict,
        "reproduced": finding.signature in result.found,
        "findings": [report.as_json() for report in reports],
    }


def _print_explored(
    finding: Finding, program: BoundScenario, result: SearchResult, reports: list[Report], prefix: int
) -> None:
    say(
        f"{finding.scenario} under {finding.lifecycle}: {counted(result.executions, 'execution')} that begin with the "
        f"first {prefix} of {counted(len(finding.schedule), 'decision')}, {result.seconds:.1f} s"
    )
    for number, report in enumerate(reports, 1):
        print_report(number, report)
    if result.verdict == "broken":
        own = result.found.get(finding.signature)
        say()
        say(
            f"{counted(len(result.found), 'distinct bug')}; the finding's own "
            + (f"in {counted(own.count, 'execution')}." if own is not None else "is not among them.")
        )
    else:
        print_no_bug(result)
