"""``slabactors run --duration``: a scenario live, again and again, until the time is up or Ctrl-C."""

from __future__ import annotations

import signal
import time
from collections.abc import AsyncIterable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Final

import anyio

from slabactors import __version__
from slabactors.cli import BUG, FINE, UNDETERMINED
from slabactors.cli.live import check_backend
from slabactors.cli.once import LiveOptions, logged, run_facts, write_end
from slabactors.cli.output import Ticker, note, say, say_json
from slabactors.cli.report import print_report, save_all
from slabactors.cli.shrinking import shrink_each
from slabactors.explore.fewest import Fewest
from slabactors.explore.finding import check_directory, signature
from slabactors.report.finding import Report
from slabactors.report.shrinking import LIVE, SeenLive, shorten_decisions
from slabactors.report.words import counted
from slabactors.runtime.live import first
from slabactors.runtime.step import Ending
from slabactors.scenario import BoundScenario, LiveExecution

SIGNATURES_SHOWN: Final = 10
"""How many bugs the statistics name while it goes on."""


@dataclass(slots=True)
class Soaked:
    """What some live runs came to.

    Attributes:
        runs: how many.
        steps: in all of them.
        seconds: wall time.
        bounded: runs that hit the bound on steps.
        interrupted: Ctrl-C ended it.
        found: the distinct bugs by signature.
    """

    runs: int = 0
    steps: int = 0
    seconds: float = 0.0
    bounded: int = 0
    interrupted: bool = False
    found: dict[str, SeenLive] = field(default_factory=dict)

    def count(self, execution: LiveExecution) -> None:
        """Another run; of each bug the first one is kept."""
        self.runs += 1
        outcome = execution.outcome
        self.steps += outcome.deliveries
        self.bounded += outcome.ending is Ending.BOUND
        bug = outcome.bug
        if bug is None:
            return
        name = signature(outcome)
        if name in self.found:
            self.found[name].count += 1
        else:
            self.found[name] = SeenLive(name, self.runs - 1, execution.decisions, bug.kind, bug.message)

    @property
    def verdict(self) -> str:
        """As of a search."""
        if self.found:
            return "broken"
        return "undetermined" if self.bounded or self.interrupted else "clean"

    def lines(self) -> list[str]:
        """The statistics while it goes on."""
        rate = self.steps / self.seconds if self.seconds else 0.0
        head = f"{self.seconds:.0f} s: {counted(self.runs, 'run')}, {rate:,.0f} steps/s, "
        often = sorted(self.found.values(), key=lambda one: -one.count)
        rows = [f"  {one.count:>6} {one.signature}" for one in often[:SIGNATURES_SHOWN]]
        if len(often) > SIGNATURES_SHOWN:
            rows.append(f"         and {len(often) - SIGNATURES_SHOWN} more")
        return [head + counted(len(often), "distinct bug"), *rows]


def soak_scenario(program: BoundScenario, options: LiveOptions, *, json: bool) -> int:
    """Run a scenario live as long as asked; then shrink the first of each bug, print it, and keep it if asked to.

    Each run draws a jitter of its own, up to twice of what is asked for.
    """
    check_backend(options.runtime)
    if options.save is not None:
        check_directory(options.save)  # now, and not after an hour
    soaked = Soaked()
    with Ticker() as ticker:
        try:
            anyio.run(_soak, program, options, soaked, ticker, backend=options.runtime)
        except BaseExceptionGroup as several:
            raise first(several) from None  # a run that could not be gone on with
    if soaked.interrupted:
        note(f"slabactors: interrupted after {counted(soaked.runs, 'run')}; this is what was found so far.")
    reports = _reports(program, options, soaked)
    if options.save is not None:
        save_all(reports, options.save)
    if json:
        say_json(_as_json(program, options, soaked, reports))
    else:
        _print(program, options, soaked, reports)
    return {"broken": BUG, "clean": FINE}.get(soaked.verdict, UNDETERMINED)


async def _soak(program: BoundScenario, options: LiveOptions, soaked: Soaked, ticker: Ticker) -> None:
    """One run after the other, each with a seed and a jitter of its own; at least one."""
    begun = time.monotonic()
    random = Random(f"soak {options.seed}")
    with anyio.open_signal_receiver(signal.SIGINT) as signals:
        async with anyio.create_task_group() as group:
            group.start_soon(_cancel_at, signals, group.cancel_scope, soaked)
            while soaked.seconds < (options.duration or 0):
                seed, jitter = random.getrandbits(31), min(1.0, random.uniform(0, 2 * options.jitter))
                # The first run that broke is the one to look at; until then there is only the last one.
                log = None if soaked.found else options.log
                soaked.count(await _run(program, options, seed, jitter, log))
                soaked.seconds = time.monotonic() - begun
                ticker.update(soaked.lines)
            group.cancel_scope.cancel()
    soaked.seconds = time.monotonic() - begun


async def _run(
    program: BoundScenario, options: LiveOptions, seed: int, jitter: float, log: Path | None
) -> LiveExecution:
    """One of the runs; its log is there when it is over, and only then."""
    go = partial(program.execute_live, seed=seed, jitter=jitter, time_scale=options.time_scale)
    if log is None:
        execution = await go()
    else:
        with logged(log) as sink:
            sink.run(**run_facts(program, replace(options, seed=seed, jitter=jitter)))
            execution = await go(observer=sink)
            sink.keep(execution.steps)
            write_end(sink, execution.outcome, execution.world)
    execution.world.dispose()
    return execution


async def _cancel_at(signals: AsyncIterable[signal.Signals], scope: anyio.CancelScope, soaked: Soaked) -> None:
    """At the first Ctrl-C end it, the run under way too: that one does not count."""
    async for _ in signals:
        soaked.interrupted = True
        scope.cancel()


def _reports(program: BoundScenario, options: LiveOptions, soaked: Soaked) -> list[Report]:
    """The bugs with their shortest schedules; without those whose schedule the simulator cannot follow."""
    return shrink_each(
        program,
        list(soaked.found.values()),
        partial(shorten_decisions, program),
        Fewest(program),
        strategy=LIVE,
        seed=options.seed,
    )


def _unshown(soaked: Soaked, reports: list[Report]) -> list[SeenLive]:
    shown = {report.finding.signature for report in reports}
    return [one for one in soaked.found.values() if one.signature not in shown]


def _as_json(program: BoundScenario, options: LiveOptions, soaked: Soaked, reports: list[Report]) -> dict[str, Any]:
    return {
        "version": __version__,
        "scenario": program.scenario.name,
        "lifecycle": program.lifecycle.name,
        "parameters": program.settings,
        "runtime": options.runtime,
        "seed": options.seed,
        "executions": soaked.runs,
        "deliveries": soaked.steps,
        "seconds": round(soaked.seconds, 3),
        "bounded": soaked.bounded,
        "interrupted": soaked.interrupted,
        "exhaustive": False,
        "verdict": soaked.verdict,
        "findings": [report.as_json() for report in reports]
        + [
            {
                "signature": one.signature,
                "kind": one.kind,
                "message": one.message,
                "count": one.count,
                "first_execution": one.execution,
                "schedule": None,
                "file": None,
            }
            for one in _unshown(soaked, reports)
        ],
    }


def _print(program: BoundScenario, options: LiveOptions, soaked: Soaked, reports: list[Report]) -> None:
    rate = f" ({soaked.steps / soaked.seconds:,.0f} steps/s)" if soaked.runs else ""
    say(
        f"{program.scenario.name} under {program.lifecycle.name} ({options.runtime}, seed {options.seed}): "
        f"{counted(soaked.runs, 'run')}, {counted(soaked.steps, 'step')}, {soaked.seconds:.1f} s{rate}"
    )
    for number, report in enumerate(reports, 1):
        print_report(number, report)
    for number, one in enumerate(_unshown(soaked, reports), len(reports) + 1):
        say()
        say(f"{number}. {one.signature}")
        say(f"   {one.message}")
        say(f"   in {counted(one.count, 'execution')}, first in number {one.execution}; its schedule cannot be shown")
    if soaked.found:
        say()
        say(f"{counted(len(soaked.found), 'distinct bug')}.")
    elif soaked.interrupted:
        say("Undetermined: interrupted before a bug was found.")
    elif soaked.bounded:
        say(f"Undetermined: {soaked.bounded} of {soaked.runs} runs hit the bound on steps.")
    else:
        say(f"No bug in {counted(soaked.runs, 'run')}.  That is not a proof.")
