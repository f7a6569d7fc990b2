"""``slabactors run``, and what other commands share with it: a log, and what became of the machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import Any

from slabactors import __version__
from slabactors.cli import BUG, FINE, UNDETERMINED
from slabactors.cli.output import say, say_json
from slabactors.cli.surfaces import SurfaceOptions, surfaces
from slabactors.errors import UsageError
from slabactors.explore.finding import signature
from slabactors.explore.program import Execution
from slabactors.explore.strategy import RandomWalk
from slabactors.kernel.jiffies import HZ
from slabactors.machine import Machine
from slabactors.report.dead_caches import DeadCaches, DeadCachesWatch, facts_of, summary
from slabactors.report.words import counted
from slabactors.runtime.step import Ending, Observer, Outcome, Step, TimePolicy
from slabactors.runtime.tripwires import tripwires
from slabactors.scenario import BoundScenario, LiveExecution, find
from slabactors.trace.log import RunLog, broke_at


@contextmanager
def logged(path: Path) -> Iterator[RunLog]:
    """A log file for one run."""
    with RunLog(path) as log:
        yield log


def write_end(log: RunLog, outcome: Outcome, machine: Machine) -> None:
    """The log's last line."""
    bug = outcome.bug
    log.end(
        ending=outcome.ending,
        deliveries=outcome.deliveries,
        jiffies=outcome.now,
        seconds=outcome.now / HZ,
        kind=bug.kind if bug is not None else None,
        message=bug.message if bug is not None else None,
        signature=signature(outcome) if bug is not None else None,
        broke=broke_at(outcome),
        caches=caches_of(machine),
    )


def caches_of(machine: Machine) -> list[dict[str, Any]]:
    """What became of each cache that was ever made."""
    gone = dict(machine.destroyed)
    rows = []
    for cache in machine.caches:
        params = cache.params
        dead = params is not None and params.orphaned
        rows.append(
            {
                "cache": cache.name,
                "object_size": cache.spec.object_size,
                "size": cache.geometry.size,
                "state": "destroyed" if cache.name in gone else "dead" if dead else "alive",
                "pages": params.pages if params is not None and cache.name not in gone else 0,
                "work_pending": params is not None and cache.name not in gone and params.destroy.pending,
                "seconds_to_destruction": gone[cache.name] / HZ if cache.name in gone and params is not None else None,
            }
        )
    return rows


@dataclass(frozen=True, kw_only=True)
class LiveOptions:
    """Where ``slabactors run`` runs a scenario, and how.

    Attributes:
        runtime: ``sim``, ``asyncio`` or ``trio``.
        seed: of everything that is random.
        time_scale: how many times faster than real time timers go.
        jitter: how often a mailbox hesitates.
        duration: for how many seconds, again and again; None for one run.
        save: a directory for what is found.
        log: a file for the JSON lines of one of the runs that go on for so long.
    """

    runtime: str
    seed: int
    time_scale: float
    jitter: float
    duration: float | None = None
    save: Path | None = None
    log: Path | None = None

    def check(self) -> None:
        """See whether they make sense.

        Raises:
            UsageError: they do not.
        """
        if not 0 < self.time_scale < inf:
            raise UsageError(
                f"--time-scale must be more than 0, not {self.time_scale}.\n  Type for example: --time-scale 10000"
            )
        if not 0 <= self.jitter <= 1:
            raise UsageError(f"--jitter must be from 0 to 1, not {self.jitter}.\n  Type for example: --jitter 0.3")
        if self.duration is None:
            if self.save is not None:
                raise UsageError(
                    "--save goes with --duration only; one run is not kept.\n"
                    "  Log it instead: --log FILE, or search: slabactors explore ... --save DIR"
                )
            return
        if not 0 < self.duration < inf:
            raise UsageError(
                f"--duration is in seconds and must be more than 0, not {self.duration}.\n"
                "  Type for example: --duration 60"
            )
        if self.runtime == "sim":
            raise UsageError(
                "--duration is for live runs; for simulated ones there is a search.\n"
                "  Add --runtime asyncio or trio, or type: slabactors explore ... --time SECONDS"
            )


def run_facts(program: BoundScenario, live: LiveOptions) -> dict[str, Any]:
    """What is run: the first line of a log."""
    return {
        "version": __version__,
        "scenario": program.scenario.name,
        "lifecycle": program.lifecycle.name,
        "parameters": program.settings,
        "seed": live.seed,
        "runtime": live.runtime,
    }


def run_once(
    target: str,
    lifecycle: str | None,
    settings: list[str],
    live: LiveOptions,
    *,
    log: Path | None,
    show: SurfaceOptions,
    json: bool,
) -> int:
    """Run a scenario once with either driver, or again and again live."""
    live.check()
    if live.duration is not None:
        if replace(show, log=None) != SurfaceOptions():
            raise UsageError(
                "--slabinfo and --sysfs are of one run, and --duration makes many.\n"
                "  Leave out --duration, or keep what is found instead: --save DIR"
            )
        from slabactors.cli.soak import soak_scenario

        return soak_scenario(
            find(target).bind(lifecycle_name=lifecycle, settings=settings), replace(live, log=log), json=json
        )
    program = find(target).bind(lifecycle_name=lifecycle, settings=settings)
    facts = run_facts(program, live)
    with surfaces(show, program.config.allocator) as write_surfaces:
        watch = DeadCachesWatch()
        if log is None:
            execution = _execute(program, live, watch)
        else:
            with logged(log) as sink:
                sink.run(**facts)
                execution = _execute(program, live, _Both(sink, watch))
                if isinstance(execution, LiveExecution):
                    sink.keep(execution.steps)
                write_end(sink, execution.outcome, execution.world)
        # What was found is said even when the rest cannot be kept: a live run cannot be had again.
        code = report(execution.outcome, execution.world, facts, json=json, dead=watch.seen(execution.outcome))
        write_surfaces(execution.world)
    return code


class _Both:
    """Observes a run for its log and for its summary."""

    def __init__(self, log: RunLog, watch: DeadCachesWatch) -> None:
        self.about_to_change = log.about_to_change
        self._log = log
        self._watch = watch

    def __call__(self, step: Step) -> None:
        """A step."""
        self._log(step)
        self._watch(step)


def _execute(program: BoundScenario, live: LiveOptions, observer: Observer) -> Execution | LiveExecution:
    if live.runtime == "sim":
        # One run is for seeing what happens and how long it takes: timers keep to their times, as they do live.
        with tripwires():
            return program.execute(RandomWalk(f"{live.seed}/0"), observer=observer, time=TimePolicy.QUIESCENT)
    from slabactors.cli.live import run_live

    return run_live(
        program,
        seed=live.seed,
        backend=live.runtime,
        time_scale=live.time_scale,
        jitter=live.jitter,
        observer=observer,
    )


def report(outcome: Outcome, machine: Machine, facts: dict[str, Any], *, json: bool, dead: DeadCaches) -> int:
    """Print what became of a run, and give the exit code that says so.

    Args:
        outcome: how it ended.
        machine: as it is at the end.
        facts: what was run.
        json: print one JSON document.
        dead: its dead caches; several of them are added up for a person, too.
    """
    bug = outcome.bug
    caches = caches_of(machine)
    if json:
        say_json(
            facts
            | {
                "ending": outcome.ending.value,
                "deliveries": outcome.deliveries,
                "seconds": outcome.now / HZ,
                "work_runs": machine.system_wq.executed,
                "pages": machine.page_alloc.pages - machine.page_alloc.free,
                "caches": caches,
                "dead_caches": facts_of(dead),
                "finding": None
                if bug is None
                else {"signature": signature(outcome), "kind": bug.kind.value, "message": bug.message},
            }
        )
    else:
        say(
            f"{facts['scenario']} under {facts['lifecycle']} ({facts['runtime']}, seed {facts['seed']}): "
            f"{counted(outcome.deliveries, 'step')}, {outcome.now / HZ:.2f} virtual s, "
            f"work ran {counted(machine.system_wq.executed, 'time')}"
        )
        for row in caches:
            say(f"  {row['cache']:<24} {_fate(row)}")
        if len(dead.dead) > 1:
            for line in summary(dead).splitlines():
                say(f"  {line}")
        if bug is not None:
            say(f"  {signature(outcome)}")
            say(f"  {bug.message}")
            say("  Shrink and explain it with: slabactors explore, then slabactors why")
        elif outcome.ending is Ending.BOUND:
            last = f"; {outcome.going} was going on" if outcome.going else ""
            say(f"Undetermined: the run hit the bound on steps{last}.")
    if bug is not None:
        return BUG
    return FINE if outcome.ending is Ending.DONE else UNDETERMINED


def _fate(row: dict[str, Any]) -> str:
    match row["state"]:
        case "destroyed" if row["seconds_to_destruction"] is not None:
            return f"destroyed {row['seconds_to_destruction']:.2f} virtual seconds after its memcg was removed"
        case "dead":
            pending = "pending" if row["work_pending"] else "not pending"
            return f"dead, {row['pages']} pages, work {pending}"
        case state:
            return str(state)
