"""A comparison of lifecycles as a picture: pages pinned over time, and how long dead caches last.

Drawn with Matplotlib, without a display, and of the same comparison always the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from math import ceil, log10
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any, Final

from slabactors.errors import UsageError
from slabactors.kernel.jiffies import HZ
from slabactors.report.comparing import Compared, Comparison
from slabactors.report.words import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["FORMATS", "check_plot", "drawn_digest", "plot"]

FORMATS: Final = (".svg", ".png")
"""Suffixes of the files that a plot can be written to."""

COLUMNS_MAX: Final = 5
"""Of small pictures side by side."""

DOTS_PER_INCH: Final = 150
LINE: Final = 0.17
"""Height of a line of text, in inches."""
LETTERS_PER_INCH: Final = 14

INK, PALE, GRID = "#222222", "#6b6b6b", "#dcdcdc"
STAYS, GOES, NOTHING = "#d55e00", "#1f4e79", "#8a8a8a"
"""Caches that are never destroyed, caches that are, and no dead cache at all.  They differ in grey, too."""
NEVER = "#f7e3da"

LONG: Final = ((1, "1 s"), (10, "10 s"), (60, "1 min"), (600, "10 min"), (3600, "1 h"), (86400, "1 day"))
"""Marks of the axis of durations."""

QUANTILES: Final = (0.1, 0.25, 0.5, 0.75, 0.9)
"""Of how long dead caches last, that are drawn."""

STYLE: Final[dict[Any, Any]] = {
    "font.family": ["DejaVu Sans"],  # it comes with Matplotlib, so that it is there and the same everywhere
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": PALE,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": PALE,
    "ytick.color": PALE,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.fonttype": "path",
    "svg.hashsalt": "slabactors",
}


def check_plot(file: Path) -> None:
    """See whether a plot can be made for a file, before anything is run.

    Raises:
        UsageError: its suffix is none of `FORMATS`, or Matplotlib is not installed.
    """
    if file.suffix.lower() not in FORMATS:
        raise UsageError(
            f"expected a plot's file to end in {' or '.join(FORMATS)}, found {file.name!r}.\n"
            f"  Type for example: --plot {file.stem or 'compare'}.svg"
        )
    with _quiet():
        try:
            import matplotlib.figure  # noqa: F401
        except ImportError as error:
            raise UsageError(
                f"a plot needs the library Matplotlib, which is not installed ({error}).\n"
                "  Type: pip install 'slabactors[plot]'"
            ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Matplotlib logs what is no business of ours: that it builds its list of fonts, and where."""
    log = logging.getLogger("matplotlib")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


def plot(comparison: Comparison, suffix: str) -> bytes:
    """The picture of a comparison, as what a file with that suffix holds.

    Args:
        comparison: of at least one run.
        suffix: one of `FORMATS`.
    """
    with _quiet():
        import matplotlib
        from matplotlib.figure import Figure

        with matplotlib.rc_context():
            matplotlib.rcdefaults()  # whatever the user's own defaults are
            matplotlib.rcParams.update(STYLE)
            lifecycles = comparison.lifecycles
            columns = _columns(len(lifecycles))
            rows = ceil(len(lifecycles) / columns)
            figure = Figure(
                figsize=(7.6 + 1.15 * max(columns, 2), max(1.9 + 1.2 * rows, 2.3 + 0.26 * len(lifecycles), 4.4))
            )
            _draw(figure, comparison, lifecycles, rows, columns)
            buffer = BytesIO()
            kind = suffix.lower().removeprefix(".")
            metadata = {"Date": None, "Creator": "slabactors"} if kind == "svg" else {"Software": "slabactors"}
            metadata["Description"] = f"what is drawn: {drawn_digest(comparison)}"
            figure.savefig(buffer, format=kind, dpi=DOTS_PER_INCH, metadata=metadata)
            return buffer.getvalue()


def drawn_digest(comparison: Comparison) -> str:
    """A digest of all that a picture shows: the same for the same figures, whatever release of Matplotlib drew them."""
    shown = [
        [one.name, one.dead, one.never, one.pages_left, one.pages_most, len(one.whole), one.cut, one.curve()]
        + [one.within(quantile) for quantile in QUANTILES if one.dead]
        for one in comparison.lifecycles
    ]
    program = comparison.programs[0]
    whose = [program.scenario.name, program.settings, comparison.seed, comparison.runs]
    return hashlib.sha256(json.dumps([whose, shown]).encode()).hexdigest()[:16]


def _columns(count: int) -> int:
    """Of small pictures: about as many as rows, up to a number that a page has room for."""
    return next(columns for columns in range(1, COLUMNS_MAX + 1) if columns**2 >= count or columns == COLUMNS_MAX)


def _draw(figure: Figure, comparison: Comparison, lifecycles: list[Compared], rows: int, columns: int) -> None:
    wide, high = figure.get_size_inches()
    about = _about(comparison, wide)
    head = 0.62 + LINE * len(about)  # inches above the headings
    left, right, top, bottom = 0.62 / wide, 1 - 0.15 / wide, 1 - (head + 0.38) / high, 0.68 / high
    middle = left + (right - left) * (0.30 + 0.06 * max(columns, 2))
    figure.text(left, 1 - 0.3 / high, comparison.programs[0].scenario.name, weight="bold", size=14, va="center")
    for number, line in enumerate(about):
        figure.text(left, 1 - (0.6 + LINE * number) / high, line, size=9, va="center", color=PALE)
    small = figure.add_gridspec(
        rows, columns, left=left, right=middle, top=top, bottom=bottom, hspace=0.42, wspace=0.12
    )
    end = max(HZ, *(one.ended for one in lifecycles))
    unit, name = (60 * HZ, "minutes") if end >= 300 * HZ else (HZ, "seconds")
    most = max((high for one in lifecycles for *_, high in one.curve()), default=0) or 1
    for place, one in enumerate(lifecycles):
        axes = figure.add_subplot(small[place // columns, place % columns])
        _pages(axes, one, end / unit, unit, most)
        axes.tick_params(labelleft=place % columns == 0, labelbottom=place + columns >= len(lifecycles))
    figure.text(left, 1 - (head + 0.1) / high, "Pages pinned by dead caches", weight="bold", size=10)
    figure.text((left + middle) / 2, 0.24 / high, f"virtual {name}", ha="center")
    figure.text(0.14 / wide, (top + bottom) / 2, "pages", rotation=90, va="center")
    names = max(len(one.name) for one in lifecycles)
    begin = middle + (0.35 + 0.072 * names) / wide
    heading = "Time from death to destruction"
    figure.text(middle + 0.3 / wide, 1 - (head + 0.1) / high, heading, weight="bold", size=10)
    axes = figure.add_axes((begin, bottom, right - begin, top - bottom))
    _durations(axes, lifecycles)


def _about(comparison: Comparison, wide: float) -> list[str]:
    """What one has to know to read the picture, in lines."""
    program = comparison.programs[0]
    settings = "".join(f", {name}={value}" for name, value in program.settings.items())
    last = comparison.seed + comparison.runs - 1
    seeds = f"seed {last}" if comparison.runs == 1 else f"seeds {comparison.seed} to {last}"
    band = "" if comparison.runs == 1 else " (line: their median; band: eight of ten)"
    unfinished = "" if comparison.finished else ", interrupted"
    cut = any(len(one.whole) < len(one.runs) for one in comparison.lifecycles)
    left_out = " Runs that were cut short are counted and left out." if cut else ""
    return wrap(
        "A slab cache of a memory cgroup dies when the cgroup's directory is removed. One that is never destroyed "
        "after that is a zombie: its pages stay. "
        f"{counted(comparison.runs, 'run')} of each lifecycle{band}, {seeds}{settings}{unfinished}.{left_out}",
        int(LETTERS_PER_INCH * (wide - 0.8)),
    )


def _colour(one: Compared) -> str:
    return NOTHING if not one.dead else STAYS if one.never else GOES


def _pages(axes: Axes, one: Compared, end: float, unit: int, most: int) -> None:
    """The pages over time: the median of the runs as a line, and where eight of ten of them are as a band."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xlim(0, end * 1.02)
    axes.set_ylim(0, most * 1.22)
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    # A mark at the very end would run into the next picture's 0.
    axes.set_xticks([mark for mark in MaxNLocator(4).tick_values(0, end) if 0 <= mark <= 0.9 * end])
    axes.grid(visible=True, color=GRID, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8, length=2, width=0.6)
    axes.set_title(one.name, loc="left", size=8.5, weight="bold", pad=3)
    colour = _colour(one)
    said = f"{one.pages_left} pages stay" if one.never else f"peak {one.pages_most}"
    if not one.whole:
        said = "no run came to rest"
    elif not one.dead:
        said = "no cache dies"
    axes.text(0.03, 0.98, said, transform=axes.transAxes, va="top", size=8, color=colour)
    lines = [f"{counted(one.cut, 'run')} cut short by a bug"] if one.cut else []
    lines += [f"{counted(one.bounded, 'run')} hit the bound"] if one.bounded else []
    for number, line in enumerate(lines):
        axes.text(0.03, 0.82 - 0.15 * number, line, transform=axes.transAxes, va="top", size=7, color=INK)
    curve = one.curve()
    if not curve:
        return
    curve.append((round(end * 1.02 * unit), *curve[-1][1:]))
    times = [begin / unit for begin, *_ in curve]
    low, middle, high = ([point[which] for point in curve] for which in (1, 2, 3))
    axes.fill_between(times, middle, step="post", color=colour, alpha=0.16, linewidth=0)
    axes.fill_between(times, low, high, step="post", color=colour, alpha=0.35, linewidth=0)
    axes.step(times, middle, where="post", color=colour, linewidth=1.3)


def _place(seconds: float) -> float:
    """Where a duration is on the axis: far apart below a minute, and 0 is there as well."""
    return log10(1 + seconds)


def _durations(axes: Axes, lifecycles: list[Compared]) -> None:
    """A row for each lifecycle: what half of the caches take, half of them around that, and eight of ten."""
    longest = max((one.lasted[-1] for one in lifecycles if one.lasted), default=0) / HZ
    end = _place(max(longest, 10.0)) * 1.03
    never, edge = end * 1.07, end * 1.30
    axes.set_xlim(-0.03 * end, edge)
    axes.set_ylim(len(lifecycles) - 0.4, -0.6)
    axes.axvspan(end, edge, color=NEVER, linewidth=0)
    marks = [(0, "0"), *(mark for mark in LONG if _place(mark[0]) <= end)]
    axes.set_xticks(
        [*(_place(seconds) for seconds, _ in marks), (end + edge) / 2], [*(text for _, text in marks), "never"]
    )
    axes.set_yticks(range(len(lifecycles)), [one.name for one in lifecycles])
    axes.tick_params(labelsize=8, length=2, width=0.6)
    axes.tick_params(axis="y", length=0, labelsize=8.5)
    axes.grid(visible=True, axis="x", color=GRID, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.spines["left"].set_visible(False)

    def at(one: Compared, quantile: float) -> float:
        jiffies = one.within(quantile)
        return never if jiffies is None else _place(jiffies / HZ)

    for row, one in enumerate(lifecycles):
        if not one.dead:
            said = "no cache dies" if one.whole else "no run came to rest"
            axes.text(0, row, said, va="center", size=8, color=NOTHING)
            continue
        colour = _colour(one)
        least, low, half, high, most = (at(one, quantile) for quantile in QUANTILES)
        axes.plot([least, most], [row, row], color=colour, linewidth=1.2, solid_capstyle="butt")
        axes.plot([low, high], [row, row], color=colour, linewidth=6, solid_capstyle="butt")
        axes.plot([half], [row], "o", color="white", markeredgecolor=colour, markersize=5.5, markeredgewidth=1.4)
        if one.never:
            share = f"{100 * one.never / one.dead:.0f}%"
            axes.text(edge * 0.99, row, share, ha="right", va="center", size=8, color=STAYS, weight="bold")
    axes.set_xlabel(
        "dot: half of the dead caches are gone by then;\nthick: the middle half of them; thin: eight of ten", size=8
    )
