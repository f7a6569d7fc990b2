"""``slabactors catalogue``: the real bugs, and whether they are where history says."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from slabactors.catalogue.entry import Entry
from slabactors.catalogue.generations import shipped_generations
from slabactors.catalogue.loading import chosen_entries
from slabactors.catalogue.matrix import LEGEND, Matrix, markdown, rows, verify_catalogue, words
from slabactors.catalogue.verification import Cell, Verdict
from slabactors.cli import BUG, FINE, UNDETERMINED
from slabactors.cli.campaign import check_jobs
from slabactors.cli.output import Ticker, note, say, say_json
from slabactors.cli.report import interruptible
from slabactors.errors import UsageError
from slabactors.report.words import counted
from slabactors.scenario import find_lifecycle


def list_catalogue(wanted: list[str], *, json: bool) -> int:
    """Print what there is; of those that are asked for, the whole story."""
    entries = chosen_entries(wanted)
    if json:
        say_json([_about(entry) for entry in entries])
        return FINE
    for number, entry in enumerate(entries):
        if wanted:
            if number:
                say()
            _tell(entry)
        else:
            bug = entry.bug
            say(f"{bug.id:5} {bug.title}")
            say(f"      {entry.scenario.name}; fixed: {bug.fixed}; {bug.where}{'; one of the twelve' * bug.twelve}")
    return FINE


def _tell(entry: Entry) -> None:
    bug = entry.bug
    say(f"{bug.id}: {bug.title}")
    say(f"  scenario:     {entry.scenario.name}")
    say(f"  fixed:        {bug.fixed}")
    say(f"  reported:     {bug.reported}")
    say(f"  generations:  {bug.where}")
    say(f"  found in:     {', '.join(bug.found_in) or 'none that is shipped'}")
    say(f"  absent from:  {', '.join(bug.absent_from) or 'none that is shipped'}")
    for lifecycle, reason in bug.not_applicable.items():
        say(f"  not applicable to {lifecycle}: {reason}")
    say(f"  preemptions:  {bug.estimate}, as history estimates")
    for pattern in bug.signatures:
        say(f"  it is this when a finding is {pattern}")
    say()
    for line in entry.story.splitlines():
        say(f"  {line}".rstrip())


def _about(entry: Entry) -> dict[str, Any]:
    bug = entry.bug
    return {
        "id": bug.id,
        "title": bug.title,
        "fixed": bug.fixed,
        "reported": bug.reported,
        "generations": bug.where,
        "scenario": entry.scenario.name,
        "story": entry.story,
        "signatures": bug.signatures,
        "preemptions": bug.estimate,
        "found_in": bug.found_in,
        "absent_from": bug.absent_from,
        "not_applicable": dict(bug.not_applicable),
        "twelve": bug.twelve,
        "fast": bug.fast,
    }


def catalogue_verify(
    wanted: list[str],
    lifecycles: list[str],
    *,
    fast: bool,
    jobs: int | None,
    as_markdown: bool,
    json: bool,
) -> int:
    """Examine the cells that are asked for; print the matrix, and of a few entries every cell."""
    check_jobs(jobs, None)
    if as_markdown and json:
        raise UsageError("expected --markdown or --json, found both.\n  Leave one of them out.")
    entries = [entry for entry in chosen_entries(wanted) if entry.bug.fast or not fast]
    if not entries:
        raise UsageError(f"none of {', '.join(wanted)} is fast.\n  Leave --fast out.")
    for name in lifecycles:
        find_lifecycle(name)  # now, and not after minutes
    started = time.monotonic()
    matrix = _examined(entries, list(dict.fromkeys(lifecycles)) or shipped_generations(), jobs or 1)
    seconds = time.monotonic() - started
    if json:
        say_json(_as_json(matrix, seconds))
    elif as_markdown:
        for line in markdown(matrix):
            say(line)
    else:
        _print(matrix, seconds, details=bool(wanted))
    return {"differs": BUG, "broken": BUG, "as expected": FINE}.get(matrix.verdict, UNDETERMINED)


def _examined(entries: list[Entry], lifecycles: list[str], jobs: int) -> Matrix:
    """With progress on stderr; Ctrl-C ends it with what there is."""
    matrix = Matrix(entries, lifecycles)
    with interruptible() as interrupted, Ticker() as ticker:
        for matrix in verify_catalogue(entries, lifecycles, jobs=jobs, stop=interrupted.is_set):
            ticker.update(partial(_progress, matrix))
    if matrix.interrupted:
        note(f"slabactors: interrupted; {_progress(matrix)[0]}.")
    return matrix


def _progress(matrix: Matrix) -> list[str]:
    return [f"{len(matrix.cells)} of {counted(matrix.size, 'cell')}, {counted(len(matrix.differences), 'difference')}"]


def _estimate(entry: Entry, cell: Cell) -> str:
    """What to add where the preemptions are not those that history estimates."""
    least, most = entry.bug.preemptions
    if cell.expected is None or cell.preemptions is None or least <= cell.preemptions <= most:
        return ""
    return f" (history estimates {entry.bug.estimate})"


def _print(matrix: Matrix, seconds: float, *, details: bool) -> None:
    for line in rows(matrix):
        say(line)
    say()
    for line in LEGEND:
        say(f"  {line}")
    told = matrix.ordered() if details else matrix.differences + matrix.found_unasked
    last = ""
    for cell in told:
        entry = next(one for one in matrix.entries if one.bug.id == cell.bug)
        if cell.bug != last:
            say()
            say(f"{cell.bug}: {entry.bug.title}, {entry.scenario.name}")
            last = cell.bug
        said = f"; history says {cell.expected}" if cell.differs else ""
        say(f"  {cell.lifecycle}: {words(cell)}{_estimate(entry, cell)}{said}")
        for other in cell.others if details else []:
            say(f"      met as well: {other}")
    say()
    counts = [f"{sum(cell.verdict is verdict for cell in matrix.cells.values())} {verdict}" for verdict in Verdict]
    say(f"{counted(len(matrix.cells), 'cell')} in {seconds:.1f} s: {', '.join(counts)}.")
    match matrix.verdict:
        case "differs":
            say(f"{counted(len(matrix.differences), 'difference')} from what history says.")
        case "broken":
            say(f"{counted(len(matrix.found_unasked), 'bug')} of the catalogue where history says nothing.")
        case "undetermined":
            say("Undetermined: not every cell came to an end.")
        case _:
            say("Every bug is where history says, and nowhere else.")


def _as_json(matrix: Matrix, seconds: float) -> dict[str, Any]:
    return {
        "lifecycles": matrix.lifecycles,
        "verdict": matrix.verdict,
        "differences": len(matrix.differences),
        "interrupted": matrix.interrupted,
        "seconds": round(seconds, 3),
        "entries": [_about(entry) for entry in matrix.entries],
        "cells": [_cell_json(cell) for cell in matrix.ordered()],
    }


def _cell_json(cell: Cell) -> dict[str, Any]:
    return {
        "bug": cell.bug,
        "lifecycle": cell.lifecycle,
        "expected": cell.expected,
        "verdict": cell.verdict,
        "differs": cell.differs,
        "reason": cell.reason,
        "kind": cell.kind,
        "signature": cell.signature,
        "executions": cell.executions,
        "preemptions": cell.preemptions,
        "preemptions_minimum": cell.fewest,
        "how": cell.how,
        "bound": cell.bound,
        "explored": cell.explored,
        "others": cell.others,
        "seconds": round(cell.seconds, 3),
    }
