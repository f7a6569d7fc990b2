"""The whole catalogue: which cells there are, who examines them, and the table of what came of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from slabactors.catalogue.entry import Entry, Expected
from slabactors.catalogue.loading import load_entry
from slabactors.catalogue.verification import Cell, Stop, Verdict, examine
from slabactors.explore.campaign import REPORT_SECONDS
from slabactors.explore.crew import STOP, Flight, Processes
from slabactors.explore.parallel import telling
from slabactors.report.words import counted

__all__ = ["LEGEND", "Matrix", "mark", "markdown", "rows", "verify_catalogue", "words"]

LEGEND: Final = (
    "0 1 2 ..  found, with the fewest preemptions that show it (f: found, the fewest are not known)",
    ".  clean: no interleaving shows it        -  not applicable",
    "~  clean as far as was explored           ?  undetermined",
    "!  history says something else",
)

HEADING_MAX: Final = 72
"""Names of lifecycles that take more characters than this side by side are written upright."""


@dataclass
class Matrix:
    """What came of the cells so far.

    Attributes:
        entries: the rows.
        lifecycles: the columns.
        cells: by number of the bug and name of the lifecycle.
        interrupted: it was told to stop.
    """

    entries: list[Entry]
    lifecycles: list[str]
    cells: dict[tuple[str, str], Cell] = field(default_factory=dict)
    interrupted: bool = False

    @property
    def size(self) -> int:
        """How many cells there are to be."""
        return len(self.entries) * len(self.lifecycles)

    @property
    def differences(self) -> list[Cell]:
        """Those of which history says something else."""
        return [cell for cell in self.ordered() if cell.differs]

    @property
    def found_unasked(self) -> list[Cell]:
        """Those with a finding of which history says nothing: of lifecycles that it does not know."""
        return [cell for cell in self.ordered() if cell.expected is None and cell.verdict is Verdict.FOUND]

    @property
    def verdict(self) -> str:
        """``differs`` from history, ``broken`` where that says nothing, ``undetermined``, or ``as expected``."""
        if self.differences:
            return "differs"
        if self.found_unasked:
            return "broken"
        undetermined = any(cell.verdict is Verdict.UNDETERMINED for cell in self.cells.values())
        return "undetermined" if undetermined or len(self.cells) < self.size else "as expected"

    def ordered(self) -> list[Cell]:
        """The cells row by row, whatever the order in which they came."""
        places = [(entry.bug.id, name) for entry in self.entries for name in self.lifecycles]
        return [self.cells[place] for place in places if place in self.cells]


def verify_catalogue(
    entries: list[Entry], lifecycles: list[str], *, jobs: int = 1, stop: Stop = lambda: False
) -> Iterator[Matrix]:
    """Examine every entry under every lifecycle, what is likely to be cheap first; yields the growing matrix.

    Args:
        entries: which.
        lifecycles: names, or files' classes.
        jobs: how many processes; what comes out does not depend on it.
        stop: asked now and then; true ends it with what there is.

    Raises:
        UsageError: a story or a lifecycle is broken.
        NondeterminismError: a story does not repeat itself.
        WorkersLost: processes died again and again.
    """
    matrix = Matrix(entries, lifecycles)
    todo = sorted(((entry, name) for entry in entries for name in lifecycles), key=_cost)
    for cell in _examined(todo, stop) if jobs == 1 else _shared(todo, jobs, stop):
        if cell is not None:
            matrix.cells[cell.bug, cell.lifecycle] = cell
        yield matrix
    matrix.interrupted = stop()
    yield matrix


def _cost(place: tuple[Entry, str]) -> tuple[int, bool]:
    """Nothing is run for what is not applicable; what is there is soon found; a proof takes as long as it takes."""
    entry, lifecycle = place
    order = (Expected.NOT_APPLICABLE, Expected.FOUND, None, Expected.CLEAN)
    return order.index(entry.bug.expected(lifecycle)), not entry.bug.fast


def _examined(todo: Sequence[tuple[Entry, str]], stop: Stop) -> Iterator[Cell | None]:
    for entry, lifecycle in todo:
        if stop():
            return
        yield examine(entry, lifecycle, stop=stop)


def _shared(todo: Sequence[tuple[Entry, str]], jobs: int, stop: Stop) -> Iterator[Cell | None]:
    """As `_examined`, by several processes; None when nothing new has come for a while."""

    def describe(place: tuple[str, str]) -> tuple[str, str]:
        return f"{place[0]} under {place[1]}", f"slabactors catalogue verify {place[0]} --lifecycle {place[1]}"

    waiting = list(todo)
    with Processes(jobs) as crew:
        flight: Flight[tuple[str, str], Cell] = Flight(crew, describe)
        while (waiting or flight.busy) and not stop():
            while waiting and flight.has_room:
                entry, lifecycle = waiting.pop(0)
                flight.start((entry.bug.id, lifecycle), _examine_here, entry.file, entry.scenario.name, lifecycle)
            for _, cell in flight.landed(REPORT_SECONDS):
                yield cell
            yield None
        for _, left in flight.land():
            yield left


def _examine_here(file: Path, name: str, lifecycle: str) -> Cell:
    """In a process of its own."""
    with telling():
        return examine(load_entry(file, name=name), lifecycle, stop=STOP.is_set)


# -- telling it --------------------------------------------------------------------------------------------------------


def mark(cell: Cell | None) -> str:
    """A cell in as few letters as can be; see `LEGEND`."""
    if cell is None:
        return "?"
    match cell.verdict:
        case Verdict.FOUND:
            text = str(cell.preemptions) if cell.fewest else "f"
        case Verdict.CLEAN:
            text = "." if cell.bound is None else "~"
        case Verdict.NOT_APPLICABLE:
            text = "-"
        case _:
            text = "?"
    return text + "!" * cell.differs


def rows(matrix: Matrix) -> Iterator[str]:
    """The matrix as lines: a row for each entry, a column for each lifecycle.

    The names of many lifecycles stand upright, read from the top down.
    """
    width = max(len(entry.bug.id) for entry in matrix.entries)
    beside = "  ".join(matrix.lifecycles)
    upright = len(beside) > HEADING_MAX
    if upright:
        height = max(len(name) for name in matrix.lifecycles)
        for line in zip(*[name.rjust(height) for name in matrix.lifecycles], strict=True):
            yield (" " * width + "  " + "  ".join(line)).rstrip()
    else:
        yield " " * width + "  " + beside
    for entry in matrix.entries:
        marks = [
            mark(matrix.cells.get((entry.bug.id, name))).ljust(1 if upright else len(name))
            for name in matrix.lifecycles
        ]
        columns = "".join(one.ljust(3) for one in marks) if upright else "  ".join(marks) + "  "
        yield f"{entry.bug.id:{width}}  {columns}{entry.bug.title}".rstrip()


def markdown(matrix: Matrix) -> Iterator[str]:
    """The matrix as a table of Markdown: a row for each entry, a column for each lifecycle."""
    yield "| bug | " + " | ".join(f"`{name}`" for name in matrix.lifecycles) + " |"
    yield "| --- |" + " --- |" * len(matrix.lifecycles)
    for entry in matrix.entries:
        cells = [matrix.cells.get((entry.bug.id, name)) for name in matrix.lifecycles]
        yield f"| {entry.bug.id} | " + " | ".join(_in_brief(cell) for cell in cells) + " |"


def _in_brief(cell: Cell | None) -> str:
    if cell is None:
        return "?"
    match cell.verdict:
        case Verdict.FOUND:
            few = f"{cell.preemptions}" if cell.fewest else "?" if cell.preemptions is None else f"<={cell.preemptions}"
            text = f"{cell.kind} ({few})"
        case Verdict.CLEAN:
            text = "clean" if cell.bound is None else f"clean to {cell.bound}"
        case Verdict.NOT_APPLICABLE:
            text = "-"
        case _:
            text = "?"
    return text + ", differs" * cell.differs


def words(cell: Cell) -> str:
    """A cell in a sentence."""
    match cell.verdict:
        case Verdict.FOUND:
            text = f"found: {cell.signature}"
            if cell.executions is not None:
                text += f"; in execution {cell.executions} at random"
            if cell.preemptions is not None:
                text += f"; {'needs' if cell.fewest else 'at most'} {counted(cell.preemptions, 'preemption')}"
        case Verdict.CLEAN if cell.bound is None:
            text = f"clean: all interleavings in {cell.how} time, {counted(cell.explored, 'execution')}"
        case Verdict.CLEAN:
            text = f"clean: all schedules with at most {counted(cell.bound or 0, 'preemption')}, "
            text += counted(cell.explored, "execution")
        case Verdict.NOT_APPLICABLE:
            text = f"not applicable: {cell.reason}"
        case _:
            text = "interrupted" if cell.interrupted else "undetermined: too much to explore"
    return text
