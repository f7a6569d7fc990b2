"""``catalogue``: what there is, and whether it is where history says."""

from __future__ import annotations

import signal

import pytest

from slabactors import cli
from slabactors.catalogue import matrix
from slabactors.catalogue.generations import shipped_generations
from slabactors.catalogue.loading import all_entries
from slabactors.lifecycle import LIFECYCLES
from tests.cli.conftest import refused
from tests.docs.pages import ROOT, code_spans

ENTRY = """\
from slabactors.actors import choose
from slabactors.catalogue import KnownBug
from slabactors.scenario import Machine, scenario

BUG = KnownBug(
    id="X1",
    title="a bug of mine",
    fixed="never",
    reported="me",
    where="G2",
    signatures=("property: *", "exception: AssertionError*"),
    preemptions=(0, 0),
    found_in=("v3.8",),
    absent_from=("v5",),
)


@scenario(title="a story of mine")
async def mine(machine: Machine) -> None:
    broken = await choose(2)
    assert not (broken and machine.lifecycle.name == "BROKEN")
"""


@pytest.fixture
def entry(tmp_path):
    """Write an entry in which the bug is in one lifecycle."""

    def go(lifecycle: str):
        path = tmp_path / "mine.py"
        path.write_text(ENTRY.replace("BROKEN", lifecycle))
        return path

    return go


def test_every_entry_is_listed(command):
    said = command("catalogue")
    assert said.code == cli.FINE
    for one in all_entries():
        assert f"{one.bug.id:5} {one.bug.title}\n      {one.scenario.name}; fixed: {one.bug.fixed}" in said.out
    document = command("catalogue", "--json").document
    assert [one["id"] for one in document] == [one.bug.id for one in all_entries()]
    assert set(document[0]) <= code_spans(ROOT / "docs" / "reference" / "commands.md")


def test_an_entry_is_told_with_its_story(command):
    said = command("catalogue", "B10", "b16")
    assert said.code == cli.FINE
    assert said.out.startswith("B10: memcg: fix possible NULL deref")
    assert "  found in:     v6, v3.8, v3.9, v3.10, v3.11\n" in said.out
    assert "1. A task of memcg ``web`` allocated where it may not sleep" in said.out
    assert "\nB16a: " in said.out
    assert "\nB16b: " in said.out


def test_cells_that_are_as_history_says_are_fine_and_told_one_by_one(command):
    said = command("catalogue", "verify", "B05", "--lifecycle", "v3.8", "--lifecycle", "v3.10")
    assert said.code == cli.FINE
    lines = said.out.splitlines()
    assert lines[0].split() == ["v3.8", "v3.10"]
    assert lines[1].split()[:3] == ["B05", "0", "."]
    assert "v3.8: found: uninitialised-work: cancelling" in said.out
    assert "needs 0 preemptions" in said.out
    assert "v3.10: clean: all interleavings in adversarial time, 1 execution\n" in said.out
    assert lines[-1] == "Every bug is where history says, and nowhere else."


def test_the_json_has_every_cell_and_the_keys_that_the_page_names(command):
    said = command("catalogue", "verify", "B05", "--json")
    assert said.code == cli.FINE
    document = said.document
    assert [cell["lifecycle"] for cell in document["cells"]] == document["lifecycles"] == shipped_generations()
    assert document["verdict"] == "as expected"
    assert set(document) | set(document["cells"][0]) <= code_spans(ROOT / "docs" / "reference" / "commands.md")


def test_estimates_of_history_are_told_where_they_differ_and_are_no_difference(command):
    said = command("catalogue", "verify", "B18", "--lifecycle", "v3.14")
    assert said.code == cli.FINE
    assert "needs 0 preemptions (history estimates 1)" in said.out


def test_a_difference_is_told_and_ends_with_1(command, entry):
    said = command("catalogue", "verify", entry("v5"), "--lifecycle", "v5", "--lifecycle", "v3.8")
    assert said.code == cli.BUG
    assert said.out.splitlines()[1].split()[:3] == ["X1", "0!", ".!"]
    assert "v5: found: exception: AssertionError" in said.out
    assert "; history says clean" in said.out
    assert "; history says found" in said.out
    assert said.out.endswith("2 differences from what history says.\n")


def test_a_user_s_entry_that_is_right_is_fine(command, entry):
    said = command("catalogue", "verify", entry("v3.8"), "--lifecycle", "v5", "--lifecycle", "v3.8", "--markdown")
    assert said.code == cli.FINE
    assert said.out.splitlines()[-1] == "| X1 | clean | exception (0) |"


def test_a_bug_in_a_lifecycle_that_history_does_not_know_ends_with_1(command, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from slabactors.lifecycle.v5 import V5\n\nclass Mine(V5):\n    name = 'mine'\n    release = 'none'\n"
    )
    said = command("catalogue", "verify", "B02", "B03", "--lifecycle", "mine.py:Mine", "--jobs", 2)
    assert said.code == cli.BUG
    assert said.out.splitlines()[1].split()[:2] == ["B02", "0"]
    assert said.out.splitlines()[2].split()[:2] == ["B03", "."]
    assert said.out.endswith("1 bug of the catalogue where history says nothing.\n")
    assert command("catalogue", "verify", "B03", "--lifecycle", "mine.py:Mine").code == cli.FINE


@pytest.mark.parametrize(
    ("line", "fragments"),
    [
        ("catalogue B99", ["'B99'", "B01", "slabactors catalogue"]),
        ("catalogue verify B99", ["'B99'", "B01", "slabactors catalogue"]),
        ("catalogue verify B1", ["'B1'", "B01"]),
        ("catalogue verify B05 --lifecycle v55", ["'v55'", "did you mean 'v5.5'", *LIFECYCLES]),
        ("catalogue verify B05 --lifecycle mine.py", ["no lifecycle file mine.py", "slabactors list"]),
        ("catalogue verify nowhere.py", ["no scenario file nowhere.py", "slabactors list"]),
        ("catalogue verify B05 --jobs 0", ["from 1 to 256", "not 0", "--jobs 2"]),
        ("catalogue verify B05 --markdown --json", ["--markdown", "--json", "Leave one"]),
        ("catalogue verify --slow", ["--slow", "--help"]),
    ],
)
def test_mistakes_are_told(command, line, fragments):
    refused(command(*line.split()), *fragments)


@pytest.mark.parametrize(
    ("text", "fragments"),
    [
        ("raise ValueError('no')", ["mine.py does not import", "ValueError", "line 1", "no"]),
        (ENTRY.replace("BUG =", "OTHER ="), ["mine.py", "it has no BUG", "KnownBug("]),
        (ENTRY.replace('"v3.8"', '"v5"'), ["mine.py", "two things of v5", "found_in"]),
        (ENTRY.replace('"v3.8"', '"v3.88"'), ["'v3.88'", "did you mean 'v3.8'", "mine.py"]),
        (ENTRY.replace("signatures=(", "signatures=() and ("), ["mine.py", "no signatures", "KnownBug("]),
        (ENTRY + ENTRY[ENTRY.index("@scenario") :].replace("def mine", "def other"), ["mine, other", "several"]),
    ],
)
def test_an_entry_that_is_broken_is_refused(command, tmp_path, text, fragments):
    (tmp_path / "mine.py").write_text(text)
    refused(command("catalogue", "verify", "mine.py"), *fragments)


def test_an_entry_that_is_not_fast_is_left_out(command, entry):
    refused(command("catalogue", "verify", entry("v5"), "--fast"), "fast", "Leave --fast out")
    said = command("catalogue", "verify", entry("v5"), "B05", "--fast", "--lifecycle", "v3.8", "--json")
    assert [cell["bug"] for cell in said.document["cells"]] == ["B05"]


def test_ctrl_c_prints_what_there_is(command, monkeypatch):
    examine = matrix.examine

    def interrupted(*args, **options):
        cell = examine(*args, **options)
        signal.raise_signal(signal.SIGINT)
        return cell

    monkeypatch.setattr(matrix, "examine", interrupted)
    said = command("catalogue", "verify", "B05", "--lifecycle", "v3.8", "--lifecycle", "v3.10")
    assert said.code == cli.UNDETERMINED
    assert said.err == "slabactors: interrupted; 1 of 2 cells, 0 differences.\n"
    assert said.out.splitlines()[1].split()[:3] == ["B05", "0", "?"]
    assert said.out.endswith("Undetermined: not every cell came to an end.\n")
