"""``slabactors log``."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Final

import msgspec

from slabactors.cli import BUG, FINE
from slabactors.cli.output import note, say, say_json
from slabactors.errors import LogFileError, UsageError
from slabactors.report.words import counted
from slabactors.trace.query import Filter, Parting, Stats, diff, follow, past, select, stats
from slabactors.trace.reader import EndLine, LogReader, StepLine
from slabactors.trace.telling import changes_of, value_text, what_of

LANES_MAX: Final = 6
"""More columns than that cannot be read."""
TOP: Final = 15
"""Rows of each list of ``log stats``."""


@contextmanager
def opened(*paths: Path) -> Iterator[list[LogReader]]:
    """Logs, with a word about those that were cut off."""
    with ExitStack() as stack:
        logs = [stack.enter_context(LogReader(path)) for path in paths]
        for log in logs:
            if log.ending() is None:
                note(f"slabactors: {log.path} has no end: the run was cut off, or is still going on.")
        yield logs


def checked_limit(limit: int | None) -> int | None:
    """How many lines to show.

    Raises:
        UsageError: fewer than one.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"--limit must be at least 1, not {limit}.\n  Leave it out to see everything.")
    return limit


# -- how steps look ----------------------------------------------------------------------------------------------------


def line_of(step: StepLine, previous: int | None = None) -> str:
    """A step on one line; its own path's step before is not told among its causes."""
    after = [cause for cause in step.causes if cause != previous]
    text = f"#{step.step:<6} {step.seconds:9.3f}  {step.who:<18} {what_of(step)}"
    if step.changed:
        text += f"  {{{changes_of(step)}}}"
    if after:
        text += f"  after {', '.join(f'#{cause}' for cause in after)}"
    return text


def print_steps(steps: Iterable[StepLine]) -> None:
    """Steps, one on a line."""
    last: dict[str, int] = {}
    for step in steps:
        say(line_of(step, last.get(step.path)))
        last[step.path] = step.step


def print_lanes(steps: Iterable[StepLine]) -> None:
    """Steps in a column for each that took part, as reports have them."""
    kept = list(steps)
    titles = {step.path: step.who for step in kept}
    columns = list(titles)
    if len(columns) > LANES_MAX:
        raise UsageError(
            f"{len(columns)} paths took part in these steps, and a page has room for {LANES_MAX}.\n"
            f"  Choose fewer: --path {columns[0]}, --from, --to, --limit"
        )
    width = max(24, (shutil.get_terminal_size((120, 24)).columns - 8) // max(1, len(columns)) - 2)
    say(" " * 8 + "  ".join(titles[path].ljust(width) for path in columns).rstrip())
    say(" " * 8 + "  ".join("-" * width for _ in columns))
    for step in kept:
        indent = " " * (columns.index(step.path) * (width + 2))
        for number, part in enumerate(textwrap.wrap(what_of(step), width, subsequent_indent="    ")):
            say(f"{f'#{step.step}' if not number else '':<8}{indent}{part}")


def print_json_lines(steps: Iterable[StepLine]) -> None:
    """Steps as the file has them."""
    for step in steps:
        say(msgspec.json.encode(step).decode())


# -- the commands ------------------------------------------------------------------------------------------------------


def show(path: Path, which: Filter, *, limit: int | None, lanes: bool, json: bool) -> int:
    """Print the steps that pass a filter."""
    checked_limit(limit)
    with opened(path) as [log]:
        steps = islice(select(log, which), limit)
        if json:
            print_json_lines(steps)
        elif lanes:
            print_lanes(steps)
        else:
            print_steps(steps)
            if log.end is not None:
                say(end_text(log.end))
    return FINE


def end_text(end: EndLine) -> str:
    """How a run ended, on a line."""
    text = f"{end.ending}: {counted(end.deliveries, 'step')}, {end.seconds:.3f} virtual s"
    if end.broke is not None:
        where = end.broke["lane"] or end.broke["path"]
        text += f"\n  broke at {end.broke['does']} [{end.broke['actor']}] on {where}"
    if end.signature is not None:
        text += f"\n  {end.signature}\n  {end.message}"
    return text


def follow_object(path: Path, name: str, *, limit: int | None, json: bool) -> int:
    """Print the life of an object."""
    checked_limit(limit)
    with opened(path) as [log]:
        steps = follow(log, name)
        first = next(steps, None)
        if first is None:
            raise UsageError(
                f"no step of {path} is about {name!r}.\n  See which objects there are: slabactors log stats {path}"
            )
        lines = islice(_with(first, steps), limit)
        if json:
            print_json_lines(lines)
        else:
            print_steps(lines)
    return FINE


def _with(first: StepLine, rest: Iterator[StepLine]) -> Iterator[StepLine]:
    yield first
    yield from rest


def why_step(path: Path, number: int, *, limit: int, json: bool) -> int:
    """Print what led to a step."""
    checked_limit(limit)
    with opened(path) as [log]:
        log.check_alone()
        steps, older = past(log, number, limit)
    if json:
        say_json({"step": number, "older": older, "steps": msgspec.to_builtins(steps)})
        return FINE
    if older:
        say(f"(and what led to {counted(older, 'earlier step')}: --limit {2 * limit})")
    print_steps(steps)
    return FINE


def diff_logs(left: Path, right: Path, *, context: int, json: bool) -> int:
    """Print where two runs part; exit 1 when they do."""
    if context < 1:
        raise UsageError(f"--context must be at least 1, not {context}.\n  Type for example: --context 5")
    with opened(left, right) as [one, other]:
        parting = diff(one, other, context)
        ends = one.ending(), other.ending()
    same_end = ends[0] == ends[1]
    if json:
        say_json(
            {
                "equal": parting.equal and same_end,
                "same_steps": parting.same,
                "run_differs": {name: [first, second] for name, first, second in parting.facts},
                "before": msgspec.to_builtins(parting.before),
                "left": msgspec.to_builtins(parting.left),
                "right": msgspec.to_builtins(parting.right),
                "ends": [None if end is None else msgspec.to_builtins(end) for end in ends],
            }
        )
    else:
        print_parting(left, right, parting)
        if parting.equal and not same_end:
            say("They end differently:")
            for path, end in ((left, ends[0]), (right, ends[1])):
                say(f"  {path}: {'no end' if end is None else end_text(end)}")
    return FINE if parting.equal and same_end else BUG


def print_parting(left: Path, right: Path, parting: Parting) -> None:
    """Where two runs part, for a person."""
    for name, first, second in parting.facts:
        say(f"{name}: {value_text(first)} | {value_text(second)}")
    if parting.equal:
        say(f"The same {counted(parting.same, 'step')}.")
        return
    say(f"The same {counted(parting.same, 'step')}; then they part:")
    for step in parting.before:
        say(f"    {line_of(step)}")
    for sign, path, steps in (("-", left, parting.left), ("+", right, parting.right)):
        if not steps:
            say(f"{sign} {path} has no more steps")
        for step in steps:
            say(f"{sign}   {line_of(step)}")
    if parting.left and parting.right:
        one, other = parting.left[0], parting.right[0]
        fields = [name for name in StepLine.__struct_fields__ if getattr(one, name) != getattr(other, name)]
        say(f"They differ in {', '.join(fields)}.")


def print_stats(path: Path, *, json: bool) -> int:
    """Print what a log holds, counted."""
    with opened(path) as [log]:
        found = stats(log)
        header, end = log.run, log.end
    if json:
        say_json(
            {
                "run": msgspec.to_builtins(header),
                "end": None if end is None else msgspec.to_builtins(end),
                "steps": found.steps,
                "second_act": found.second_act,
                "seconds": found.seconds,
                "switches": found.switches,
                "met": found.met,
            }
            | {name: dict(getattr(found, name).most_common()) for name in ("lanes", "actors", "operations", "changes")}
        )
        return FINE
    what = header.scenario or header.trace or header.replay or "?"
    say(f"{what} under {header.lifecycle}, slabactors {header.version}, seed {header.seed}, {header.runtime or 'sim'}")
    say(
        f"{counted(found.steps, 'step')}, {found.second_act} of them while the machine settled; "
        f"{found.seconds:.3f} virtual s, {found.switches} switches between paths, "
        f"{found.met} steps that met another path's"
    )
    print_counts(found)
    if end is not None:
        say()
        say(end_text(end))
    return FINE


def print_counts(found: Stats) -> None:
    """The most frequent of each kind."""
    for title, counts in (("lane", found.lanes), ("object", found.actors), ("step", found.operations)):
        say()
        say(f"  steps   changes  {title}" if title == "object" else f"  steps   {title}")
        for name, count in counts.most_common(TOP):
            changes = f"{found.changes[name]:>8} " if title == "object" else ""
            say(f"{count:>7}  {changes} {name}")
        if len(counts) > TOP:
            say(f"         and {len(counts) - TOP} more")


def ask_sql(path: Path | None, sql: str | None, *, query: str | None, listed: bool, limit: int, json: bool) -> int:
    """Print what a query answers, or which are shipped."""
    from slabactors.trace.sql import ask, query_named, shipped

    checked_limit(limit)
    if listed:
        for name, text in shipped().items():
            say(f"{name:<16} {text.splitlines()[0].removeprefix('-- ')}")
        return FINE
    if path is None:
        raise UsageError("expected a log.\n  Type: slabactors log sql FILE.jsonl 'SELECT ...', or --list")
    if (sql is None) == (query is None):
        raise UsageError(
            "expected one query, as SQL or by name.\n"
            f"  Type: slabactors log sql {path} 'SELECT actor, count(*) FROM steps GROUP BY actor', or --query NAME"
        )
    with opened(path) as [log]:
        log.check_alone()
        if log.ending() is None:
            # DuckDB can pass over every line that is no event or over none, and only the last one may be.
            check_lines(log)
        try:
            answer = ask(path, sql if sql is not None else query_named(query or ""), limit, cut=log.cut)
        except LogFileError:
            check_lines(log)  # says which line it is, as every command does
            raise
    if json:
        say_json([dict(zip(answer.columns, row, strict=True)) for row in answer.rows])
    else:
        print_table(answer.columns, answer.rows)
    if answer.more:
        note(f"slabactors: there are more than {limit} rows; see them with --limit.")
    return FINE


def check_lines(log: LogReader) -> None:
    """Read every line.

    Raises:
        LogFileError: one is no event.
    """
    for _ in log.steps():
        pass


def print_table(columns: list[str], rows: list[tuple[Any, ...]]) -> None:
    """A table of as wide columns as it needs."""
    texts = [["" if value is None else str(value) for value in row] for row in rows]
    widths = [max([len(name), *(len(row[place]) for row in texts)]) for place, name in enumerate(columns)]
    for row in [columns, ["-" * width for width in widths], *texts]:
        say("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
    say(counted(len(rows), "row"))
    sys.stdout.flush()
