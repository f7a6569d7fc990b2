"""Cells: what is found, what is clean, and what it takes; against what history says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from slabactors.catalogue import verification
from slabactors.catalogue.entry import Expected
from slabactors.catalogue.generations import shipped_generations
from slabactors.catalogue.loading import all_entries, chosen_entries
from slabactors.catalogue.matrix import Matrix, mark, markdown, rows, verify_catalogue, words
from slabactors.catalogue.metered import Metered
from slabactors.catalogue.verification import Cell, Verdict, examine
from slabactors.errors import Kind
from slabactors.explore.strategy import RandomWalk
from tests.docs.pages import ROOT, bare, tables

FAST = [entry for entry in all_entries() if entry.bug.fast]


def examined(number: str, lifecycle: str, *, stop=lambda: False, **changes) -> Cell:
    """A cell of the shipped catalogue, or of an entry that says something else."""
    [entry] = chosen_entries([number])
    cell = examine(replace(entry, bug=replace(entry.bug, **changes)), lifecycle, stop=stop)
    assert cell.seconds > 0
    return replace(cell, seconds=0.0)


# -- the catalogue as it is shipped ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def matrix() -> Matrix:
    """Every fast entry under every generation."""
    *_, last = verify_catalogue(FAST, shipped_generations())
    return last


def test_every_bug_is_where_history_says_and_nowhere_else(matrix):
    assert [f"{cell.bug} {cell.lifecycle}: {words(cell)}" for cell in matrix.differences] == []
    assert matrix.verdict == "as expected"
    assert len(matrix.cells) == matrix.size == len(FAST) * len(shipped_generations())
    assert not any(cell.verdict is Verdict.UNDETERMINED for cell in matrix.cells.values())


def test_the_matrix_of_the_page_is_what_comes_out(matrix):
    """All entries are there, those that are not fast with whatever a longer run has printed."""
    [table] = [one for one in tables(ROOT / "docs" / "reference" / "catalogue.md") if one.heading == "Matrix"]
    assert [bare(cell) for cell in table.header] == ["bug", *shipped_generations()]
    listed = {row[0]: row for row in table.rows}
    assert list(listed) == [entry.bug.id for entry in all_entries()]
    printed = [line.strip("| ").split(" | ") for line in list(markdown(matrix))[2:]]
    assert [listed[row[0]] for row in printed] == printed


def test_the_fewest_preemptions_are_proved_wherever_a_bug_is_found(matrix):
    found = [cell for cell in matrix.cells.values() if cell.verdict is Verdict.FOUND]
    assert len(found) > 40
    assert all(cell.fewest and cell.executions for cell in found)


def test_whatever_is_clean_was_explored_to_the_end(matrix):
    clean = [cell for cell in matrix.cells.values() if cell.verdict is Verdict.CLEAN]
    assert len(clean) > 20
    assert {(cell.how, cell.bound) for cell in clean} <= {("adversarial", None), ("quiescent", None)}


def test_a_fix_takes_its_bug_away_and_leaves_another(matrix):
    """3.10 puts the memcg last, and still releases the last page as 3.8 did."""
    assert matrix.cells["B07", "v3.8"].verdict is Verdict.FOUND
    assert matrix.cells["B07", "v3.10"].verdict is Verdict.CLEAN
    assert matrix.cells["B01", "v3.10"].verdict is Verdict.FOUND


# -- one cell ----------------------------------------------------------------------------------------------------------


def test_a_cell_with_the_bug_has_its_kind_its_execution_and_its_preemptions():
    cell = examined("B10", "v3.8")
    assert (cell.verdict, cell.kind, cell.preemptions, cell.fewest) == (Verdict.FOUND, Kind.BUG_ON, 1, True)
    assert cell.signature == "bug-on: NULL dereference through memcg_caches[] by main"
    assert cell.executions is not None
    assert not cell.differs
    assert cell == examined("B10", "v3.8")


def test_a_bug_that_is_found_where_it_should_not_be_is_a_difference():
    cell = examined("B10", "v3.8", found_in=(), absent_from=("v3.8",))
    assert (cell.expected, cell.verdict, cell.differs) == (Expected.CLEAN, Verdict.FOUND, True)
    assert mark(cell) == "1!"


def test_a_bug_that_is_not_found_where_it_should_be_is_a_difference():
    cell = examined("B10", "v3.14", found_in=("v3.14",), absent_from=())
    assert (cell.expected, cell.verdict, cell.differs) == (Expected.FOUND, Verdict.CLEAN, True)
    assert mark(cell) == ".!"
    assert "all interleavings in adversarial time" in words(cell)


def test_another_bug_of_the_story_is_told_and_is_no_difference():
    """What 3.14 has mended in this story leaves a child that nobody marks dead."""
    cell = examined("B10", "v3.14")
    assert (cell.verdict, cell.differs) == (Verdict.CLEAN, False)
    assert cell.others == ["zombie: empty dead cache never destroyed"]


def test_what_is_not_applicable_is_not_run():
    [entry] = chosen_entries(["B08"])
    cell = examine(entry, "repaired")
    assert (cell.verdict, cell.seconds) == (Verdict.NOT_APPLICABLE, 0.0)
    assert words(cell) == f"not applicable: {entry.bug.not_applicable['repaired']}"
    assert mark(cell) == "-"


def test_a_lifecycle_that_history_does_not_know_is_searched_and_cannot_differ():
    for lifecycle, verdict in (("v5-no-retry", Verdict.FOUND), ("v5-no-pending-check", Verdict.CLEAN)):
        cell = examined("B21", lifecycle)
        assert (cell.expected, cell.verdict, cell.differs) == (None, verdict, False)


def test_with_too_small_a_budget_for_everything_a_bound_is_what_is_known(monkeypatch):
    """All 19 executions of this story take more than 500 steps, and those without a preemption fewer."""
    monkeypatch.setattr(verification, "STEPS", 500)
    cell = examined("B16b", "repaired")
    assert (cell.verdict, cell.how, cell.bound, mark(cell)) == (Verdict.CLEAN, "preemptions", 0, "~")
    assert "at most 0 preemptions" in words(cell)
    monkeypatch.setattr(verification, "STEPS", 1)
    cell = examined("B16b", "repaired")
    assert (cell.verdict, cell.differs, mark(cell)) == (Verdict.UNDETERMINED, False, "?")


@pytest.mark.parametrize(("bound", "text"), [(0, "needs 1 preemption"), (-1, "at most 1 preemption")])
def test_where_no_bound_shows_the_bug_a_shrunken_schedule_says_how_many_are_enough(monkeypatch, bound, text):
    """It is known that none fewer do when all schedules with one fewer were explored, and not when none was."""
    monkeypatch.setattr(verification, "BOUND", bound)
    cell = examined("B07", "v3.8")
    assert (cell.verdict, cell.preemptions, cell.fewest) == (Verdict.FOUND, 1, bound == 0)
    assert mark(cell) == ("1" if bound == 0 else "f")
    assert text in words(cell)


def test_a_budget_is_of_steps_however_many_executions_they_make():
    """So that a worker that comes again at once, with executions as long as may be, ends as others do."""
    [entry] = chosen_entries(["B21"])
    program = entry.scenario.bind(lifecycle_name="v5-retry-at-once")
    metered = Metered(program, 30_000, lambda: False)
    picker = RandomWalk(0)
    steps = 0
    while not metered.spent():
        assert steps < 30_000
        steps += metered.execute(picker).outcome.deliveries
    assert steps >= 30_000
    assert Metered(program, 30_000, lambda: True).spent()


def test_a_bug_that_no_sample_shows_is_found_by_exploring_everything(monkeypatch):
    monkeypatch.setattr(verification, "SAMPLES", 1)
    cell = examined("B01", "v3.10")
    assert (cell.verdict, cell.executions, cell.preemptions, cell.fewest) == (Verdict.FOUND, None, 1, True)
    assert not cell.differs


def test_what_is_interrupted_is_no_difference():
    cell = examined("B01", "v5", stop=lambda: True)
    assert (cell.verdict, cell.interrupted, cell.differs) == (Verdict.UNDETERMINED, True, False)


# -- many --------------------------------------------------------------------------------------------------------------


def test_what_comes_out_does_not_depend_on_how_many_processes_examine():
    entries, lifecycles = chosen_entries(["B05", "B10"]), ["v3.8", "v3.14"]
    alone, shared = [
        [replace(cell, seconds=0.0) for cell in list(verify_catalogue(entries, lifecycles, jobs=jobs))[-1].ordered()]
        for jobs in (1, 2)
    ]
    assert len(alone) == 4
    assert alone == shared


def test_what_is_stopped_gives_what_there_is():
    entries = chosen_entries(["B05"])
    answers = iter([False, True])
    *_, last = verify_catalogue(entries, ["v3.8", "v3.10"], stop=lambda: next(answers, True))
    assert last.interrupted
    assert len(last.cells) < last.size
    assert last.verdict == "undetermined"
    assert list(rows(last))[1].startswith("B05  ?     ?")


@pytest.mark.parametrize(
    ("cells", "verdict"),
    [
        ([("v5", Expected.FOUND, Verdict.FOUND), ("v3.8", Expected.CLEAN, Verdict.CLEAN)], "as expected"),
        ([("v5", Expected.FOUND, Verdict.CLEAN), ("v3.8", None, Verdict.UNDETERMINED)], "differs"),
        ([("v5", Expected.FOUND, Verdict.FOUND), ("v3.8", None, Verdict.FOUND)], "broken"),
        ([("v5", Expected.FOUND, Verdict.FOUND), ("v3.8", Expected.CLEAN, Verdict.UNDETERMINED)], "undetermined"),
        ([("v5", Expected.FOUND, Verdict.FOUND)], "undetermined"),
    ],
)
def test_a_difference_outweighs_a_bug_and_that_what_is_undetermined(cells, verdict):
    [entry] = chosen_entries(["B05"])
    matrix = Matrix([entry], ["v5", "v3.8"])
    for lifecycle, expected, came in cells:
        matrix.cells["B05", lifecycle] = Cell("B05", lifecycle, expected, came)
    assert matrix.verdict == verdict


def test_the_names_of_many_lifecycles_stand_upright():
    """A row is then as wide as its marks, whatever the lifecycles are called."""
    entry = all_entries()[0]
    few, many = (list(rows(Matrix([entry], names))) for names in (["v3.8", "v5"], shipped_generations()))
    assert few[0].split() == ["v3.8", "v5"]
    *heading, row = many
    columns = [len(entry.bug.id) + 2 + 3 * number for number in range(len(shipped_generations()))]
    read = ["".join(line[column : column + 1] for line in heading).strip() for column in columns]
    assert read == shipped_generations()
    assert row.split()[0] == entry.bug.id
    assert [row[column] for column in columns] == ["?"] * len(columns)
