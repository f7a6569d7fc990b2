"""``slabactors trace``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slabactors import __version__
from slabactors.cli import BUG, FINE, UNDETERMINED
from slabactors.cli.once import caches_of, logged, write_end
from slabactors.cli.output import say, say_json
from slabactors.cli.surfaces import SurfaceOptions, surfaces
from slabactors.errors import TraceFileError, UsageError
from slabactors.explore.finding import signature
from slabactors.explore.program import Execution
from slabactors.explore.strategy import RandomWalk
from slabactors.kernel.jiffies import HZ
from slabactors.recorded import Played, recorded_scenario, sample
from slabactors.report.words import counted
from slabactors.runtime.step import Ending
from slabactors.runtime.tripwires import tripwires
from slabactors.trace.formats.ftrace import read_trace
from slabactors.trace.rebuild import rebuild
from slabactors.trace.workload import RebuildSummary


def trace_file(
    file: Path,
    lifecycle: str,
    *,
    seed: int,
    limit: int | None,
    log: Path | None,
    show: SurfaceOptions,
    json: bool,
) -> int:
    """Read a trace, play it, and say what was read and what became of the caches."""
    if limit is not None and limit < 1:
        raise UsageError(f"--limit must be at least 1, not {limit}.\n  Type for example: --limit 1000")
    trace = read_trace(file)
    workload = rebuild(trace)
    if not workload.actions:
        raise TraceFileError(
            f"{file} has {trace.lines} lines, but no allocation, free or cgroup event that could be played.\n"
            "  Record some: trace-cmd record -e kmem -e cgroup, or echo 1 > events/kmem/enable"
        )
    played = Played()
    program = recorded_scenario(workload, played, name=file.name, limit=limit).bind(lifecycle_name=lifecycle)
    facts = {"version": __version__, "trace": file.name, "lifecycle": program.lifecycle.name, "seed": seed}
    strategy = RandomWalk(f"{seed}/0")
    with surfaces(show, program.config.allocator) as write_surfaces:
        if log is None:
            with tripwires():
                execution = program.execute(strategy)
        else:
            with logged(log) as sink, tripwires():
                sink.run(**facts)
                execution = program.execute(strategy, observer=sink)
                write_end(sink, execution.outcome, execution.world)
        played.samples.append(sample(execution.world, played))  # and what the second act left
        if not json:
            print_read(workload.summary, file, trace.lines)
        read = summary_json(workload.summary, trace.lines)
        code = _report(execution, workload.cpus, played, facts, read, json=json)
        write_surfaces(execution.world)
    return code


def _report(
    execution: Execution, cpus: int, played: Played, facts: dict[str, Any], read: dict[str, Any], *, json: bool
) -> int:
    """Print what became of a played trace, and give the exit code that says so."""
    outcome, machine = execution.outcome, execution.world
    bug = outcome.bug
    rows = caches_of(machine)
    children = [row for row in rows if "(" in row["cache"]]
    machine_facts: dict[str, Any] = {
        "cpus": cpus,
        "roots": len(rows) - len(children),
        "children_created": len(children),
        "children_dead": sum(1 for row in children if row["state"] != "alive"),
        "children_destroyed": sum(1 for row in children if row["state"] == "destroyed"),
        "children_pending": sum(1 for row in children if row["work_pending"]),
        "allocated": played.allocated,
        "allocations_failed": played.failed,
        "freed": played.freed,
        "deliveries": outcome.deliveries,
        "seconds": outcome.now / HZ,
        "work_runs": machine.system_wq.executed,
        "over_time": [
            {"seconds": jiffies / HZ, "objects": objects, "pages": pages, "dead_pages": dead}
            for jiffies, objects, pages, dead in played.samples
        ],
        "children": children,
    }
    if json:
        finding = (
            None if bug is None else {"signature": signature(outcome), "kind": bug.kind.value, "message": bug.message}
        )
        say_json(facts | {"read": read} | machine_facts | {"finding": finding})
    else:
        print_machine(facts["lifecycle"], machine_facts)
        if bug is not None:
            say(f"  {signature(outcome)}")
            say(f"  {bug.message}")
    if bug is not None:
        return BUG
    return FINE if outcome.ending is Ending.DONE else UNDETERMINED


def summary_json(summary: RebuildSummary, lines: int) -> dict[str, Any]:
    """What was read, for ``--json``."""
    return {
        "lines": lines,
        "events": dict(summary.events),
        "skipped": {
            str(reason): {"count": tally.count, "first_lines": list(tally.first_lines)}
            for reason, tally in summary.skipped.items()
        },
        "unknown_events": dict(summary.unknown_events),
        "allocations": summary.allocations,
        "frees": summary.frees,
        "matched": summary.matched,
        "frees_before_trace": summary.frees_before_trace,
        "frees_unseen": summary.frees_unseen,
        "live_at_end": summary.live_at_end,
        "live_peak": summary.live_peak,
        "cgroups_created": summary.cgroups_created,
        "cgroups_removed": summary.cgroups_removed,
    }


def print_read(summary: RebuildSummary, file: Path, lines: int) -> None:
    """What was read, for a person."""
    events = ", ".join(f"{count} {name}" for name, count in summary.events.items())
    say(f"{file.name}: {lines} lines, {sum(summary.events.values())} events: {events}")
    for reason, tally in summary.skipped.items():
        where = ", ".join(str(line) for line in tally.first_lines)
        say(
            f"  skipped {tally.count}: {reason} (lines {where}{' ...' if tally.count > len(tally.first_lines) else ''})"
        )
    say(
        f"  {summary.allocations} objects allocated, {summary.matched} of them freed, {summary.live_at_end} still held "
        f"at the end; {summary.frees_before_trace} frees of objects born before the trace"
    )
    say(f"  {counted(summary.cgroups_created, 'cgroup')} made, {summary.cgroups_removed} removed")


def print_machine(lifecycle: str, facts: dict[str, Any]) -> None:
    """What became of it, for a person."""
    say(
        f"played under {lifecycle} on {facts['cpus']} CPUs: {facts['deliveries']} steps, "
        f"{facts['seconds']:.1f} virtual seconds, {facts['work_runs']} work runs"
    )
    say(
        f"  {facts['roots']} root caches; {facts['children_created']} children created, {facts['children_dead']} dead, "
        f"{facts['children_destroyed']} destroyed, {facts['children_pending']} with work pending"
    )
    samples = facts["over_time"]
    step = max(1, len(samples) // 8)
    say("  seconds   objects     pages  of dead caches")
    for one in [*samples[:-1:step], samples[-1]] if samples else []:
        say(f"  {one['seconds']:7.2f} {one['objects']:9d} {one['pages']:9d} {one['dead_pages']:15d}")
    for row in facts["children"]:
        if row["state"] != "destroyed":
            say(f"  {row['cache']}: {row['state']}, {row['pages']} pages")
