"""``slabactors compare``."""

from __future__ import annotations

import shlex
import tempfile
from functools import partial
from pathlib import Path

from slabactors.cli import BUG, FINE, UNDETERMINED
from slabactors.cli.campaign import check_jobs
from slabactors.cli.output import Progress, note, say, say_json, write_whole
from slabactors.cli.report import interruptible, save_all
from slabactors.errors import OutputError, UsageError, WorkersLost
from slabactors.explore.fewest import Fewest
from slabactors.explore.finding import check_directory
from slabactors.kernel.jiffies import HZ
from slabactors.lifecycle import SHIPPED_GENERATIONS
from slabactors.report.comparing import HIGH, MEDIAN, Compared, Comparison, compare
from slabactors.report.plotting import check_plot, plot
from slabactors.report.shrinking import reports_of, shorten_record
from slabactors.report.words import counted
from slabactors.runtime.step import TimePolicy
from slabactors.scenario import find

COLUMNS = (
    "lifecycle", "broken", "dead", "never", "median", "p90", "longest", "peak", "end", "page-seconds", "works",
    "messages",
)  # fmt: skip


def compare_lifecycles(
    target: str,
    lifecycles: list[str],
    settings: list[str],
    *,
    seed: int,
    runs: int,
    jobs: int | None,
    file: Path | None,
    save: Path | None,
    json: bool,
) -> int:
    """Play one scenario under several lifecycles, and print what becomes of its dead caches under each."""
    if runs < 1:
        raise UsageError(f"--runs must be at least 1, not {runs}.\n  Type for example: --runs 20")
    check_jobs(jobs, None)
    if file is not None:
        check_plot(file)
        check_writable(file)
    if save is not None:
        check_directory(save)
    story = find(target)
    names = dict.fromkeys(lifecycles or SHIPPED_GENERATIONS)
    programs = [story.bind(lifecycle_name=name, settings=settings).under(TimePolicy.QUIESCENT) for name in names]
    comparison = Comparison(programs, seed, runs)
    lost: WorkersLost | None = None
    with interruptible() as interrupted, Progress(f"compare {target}", runs * len(programs)) as progress:
        try:
            for comparison in compare(programs, seed=seed, runs=runs, jobs=jobs or 1, stop=interrupted.is_set):
                progress.update(len(comparison.played), comparison.signatures)
        except WorkersLost as error:
            lost = error  # what there is is printed first
    if not comparison.finished:
        why = "interrupted" if lost is None else "ended early"
        note(f"slabactors: {why} after {counted(len(comparison.played), 'run')}; this is what there is so far.")
    files = save_findings(comparison, save) if save is not None else {}
    if file is not None and comparison.played:
        write_whole(file, plot(comparison, file.suffix), "--plot")
    if json:
        say_json(comparison.as_json())
    else:
        print_comparison(comparison, files)
        if file is not None and comparison.played:
            say(f"The plot is in {file}.")
    if lost is not None:
        raise lost
    return {"broken": BUG, "clean": FINE}.get(comparison.verdict, UNDETERMINED)


def check_writable(file: Path) -> None:
    """See whether a file can be written, before anything is run.

    Raises:
        OutputError: it cannot.
    """
    try:
        if file.is_dir():
            raise IsADirectoryError(None, "Is a directory")
        with tempfile.TemporaryFile(dir=file.parent):
            pass
    except OSError as error:
        raise OutputError(
            f"cannot write {file}: {error.strerror}.\n  Give a file that can be written to: --plot FILE.svg"
        ) from error


def save_findings(comparison: Comparison, directory: Path) -> dict[tuple[str, str], Path]:
    """Shrink each bug of each lifecycle, and keep it as a file; gives the files by lifecycle and signature.

    The first Ctrl-C ends it with the best schedules so far, another one with the bugs that are done.
    """
    files: dict[tuple[str, str], Path] = {}
    bugs = [(one, bug) for one in comparison.lifecycles for bug in one.bugs]
    try:
        with interruptible() as interrupted, Progress("shrink", len(bugs)) as progress:
            for one, bug in bugs:
                progress.update(len(files), len(bugs))
                reports = reports_of(
                    one.program,
                    [bug.found],
                    partial(shorten_record, one.program),
                    Fewest(one.program),
                    strategy="random",
                    seed=bug.seed,
                    stop=interrupted.is_set,
                )
                for report in reports:
                    save_all([report], directory)
                    assert report.file is not None
                    files[one.name, bug.signature] = report.file
    except KeyboardInterrupt:
        note(f"slabactors: interrupted; {len(files)} of {counted(len(bugs), 'distinct bug')} were saved.")
    return files


def print_comparison(comparison: Comparison, files: dict[tuple[str, str], Path]) -> None:
    """The comparison for a person: a table, and the bugs below it."""
    program = comparison.programs[0]
    lifecycles = comparison.lifecycles
    say(
        f"{program.scenario.name} under {counted(len(lifecycles), 'lifecycle')}, "
        f"{counted(comparison.runs, 'run')} each from seed {comparison.seed} on, {program.scenario.time} time"
    )
    say()
    rows = [row_of(one) for one in lifecycles]
    widths = [max(map(len, column)) for column in zip(COLUMNS, *rows, strict=True)]
    for row in [COLUMNS, ["-" * width for width in widths], *rows]:
        first, *rest = (
            text.rjust(width) if place else text.ljust(width)
            for place, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        say("  ".join([first, *rest]).rstrip())
    say()
    say("median, p90, longest: virtual seconds from the death of a cache to its destruction.  peak, end: pages that")
    say("dead caches pin.  Those, works and messages are of the runs that came to rest, and of them the median.")
    settings = "".join(f" --set {shlex.quote(f'{name}={value}')}" for name, value in program.settings.items())
    for one in lifecycles:
        if one.cut:
            left = f"the figures are of the {len(one.whole)} that came to rest" if one.whole else "no run came to rest"
            say()
            say(f"{one.name}: {one.cut} of {counted(len(one.runs), 'run')} cut short by a bug; {left}.")
    for one in lifecycles:
        for bug in one.bugs:
            say()
            say(f"{one.name}: {bug.signature}")
            say(f"   in {counted(bug.count, 'run')}, first with seed {bug.seed}: {bug.message}")
            file = files.get((one.name, bug.signature))
            again = (
                f"replay {file}"
                if file is not None
                else (f"run {program.scenario.name} --lifecycle {one.name} --seed {bug.seed}{settings}")
            )
            say(f"   see it again: slabactors {again}")
    bounded = sum(one.bounded for one in lifecycles)
    if bounded:
        say()
        say(f"{counted(bounded, 'run')} hit the bound on steps.")


def row_of(one: Compared) -> list[str]:
    """What one lifecycle comes to, as texts."""

    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:,.0f}"

    def lasted(quantile: float) -> str:
        if not one.dead:
            return "-"
        jiffies = one.within(quantile)
        return "never" if jiffies is None else f"{jiffies / HZ:,.2f}"

    return [
        one.name,
        f"{one.broken}/{len(one.runs)}",
        number(one.dead),
        number(one.never),
        lasted(MEDIAN),
        lasted(HIGH),
        f"{one.lasted[-1] / HZ:,.2f}" if one.lasted else "-",
        number(one.pages_most),
        number(one.pages_left),
        number(one.page_seconds),
        number(one.works),
        number(one.messages),
    ]
