"""What entries say: of every generation one thing, and nothing that is not there."""

from __future__ import annotations

import inspect
import runpy
import sys

import pytest

from slabactors.catalogue.entry import Expected, KnownBug
from slabactors.catalogue.generations import GENERATIONS, generations, shipped_generations
from slabactors.catalogue.loading import all_entries, chosen_entries, load_entry
from slabactors.errors import Kind, ScenarioError, UnknownName
from slabactors.lifecycle import LIFECYCLES
from slabactors.scenario import catalogued, find, shipped

ENTRIES = all_entries()
IDS = [entry.bug.id for entry in ENTRIES]


def test_every_shipped_generation_belongs_to_one_of_the_history():
    """A lifecycle that is added has to be put among the generations, and is then held against every entry."""
    named = [name for lifecycles in GENERATIONS.values() for name in lifecycles]
    assert sorted(named) == sorted(shipped_generations())
    assert set(named) < set(LIFECYCLES)


@pytest.mark.parametrize("entry", ENTRIES, ids=IDS)
def test_an_entry_says_one_thing_of_every_generation(entry):
    for lifecycle in shipped_generations():
        said = [lifecycle in entry.bug.found_in, lifecycle in entry.bug.absent_from]
        said.append(lifecycle in entry.bug.not_applicable)
        assert sum(said) == 1, lifecycle
    assert any(entry.bug.expected(name) is Expected.FOUND for name in shipped_generations())


@pytest.mark.parametrize("entry", ENTRIES, ids=IDS)
def test_an_entry_tells_its_story_and_names_kinds_that_there_are(entry):
    assert "1." in entry.story
    assert entry.story == inspect.cleandoc(entry.story)
    kinds = {kind.value for kind in Kind}
    assert {pattern.partition(":")[0] for pattern in entry.bug.signatures} <= kinds
    assert all(text for text in (entry.bug.title, entry.bug.fixed, entry.bug.reported, entry.bug.where))
    assert 0 <= entry.bug.preemptions[0] <= entry.bug.preemptions[1]
    assert all(entry.bug.not_applicable.values())


@pytest.mark.parametrize("name", catalogued())
def test_an_entry_runs_by_itself(name, monkeypatch, capsys):
    path = catalogued()[name]
    monkeypatch.setattr(sys, "argv", [str(path), "--runs", "5", "--json"])
    with pytest.raises(SystemExit) as leaving:
        runpy.run_path(str(path), run_name="__main__")
    assert leaving.value.code in (0, 1)
    assert '"executions": 5' in capsys.readouterr().out


@pytest.mark.parametrize("name", catalogued())
def test_an_entry_is_a_scenario_by_its_name_and_no_story_of_the_list(name):
    assert find(name).name == name
    assert name not in shipped()
    assert catalogued()[name].stem == name.removeprefix("catalogue/").replace("-", "_")


def test_a_span_of_generations_has_both_its_ends():
    assert generations("G4") == ("v3.8",)
    assert generations("G2", "G5") == ("v5", "v6", "v3.8", "v3.9", "v3.10", "v3.11")
    with pytest.raises(UnknownName, match="unknown generation 'G99'"):
        generations("G99")


def test_a_finding_is_a_bug_when_a_pattern_fits_the_whole_signature():
    bug = KnownBug(
        id="B00",
        title="t",
        fixed="f",
        reported="r",
        where="w",
        signatures=("use-after-free: work.* after free by free", "zombie: *"),
        preemptions=(0, 1),
        found_in=("v5",),
        absent_from=("v3.8",),
        not_applicable={"repaired": "why"},
    )
    assert bug.is_this("use-after-free: work.is_pending after free by free")
    assert bug.is_this("zombie: empty dead cache never destroyed")
    assert not bug.is_this("use-after-free: work.is_pending after free by kworker")
    assert not bug.is_this("a zombie: empty dead cache never destroyed")
    assert [bug.expected(name) for name in ("v5", "v3.8", "repaired", "v5-no-retry")] == [
        Expected.FOUND,
        Expected.CLEAN,
        Expected.NOT_APPLICABLE,
        None,
    ]
    assert bug.estimate == "0-1"


def test_a_number_means_all_forms_of_a_bug_and_may_be_small():
    assert [entry.bug.id for entry in chosen_entries(["B16"])] == ["B16a", "B16b"]
    assert [entry.bug.id for entry in chosen_entries(["b16b", "B01"])] == ["B16b", "B01"]
    assert [entry.bug.id for entry in chosen_entries([])] == IDS == sorted(IDS)


ENTRY = """\
from slabactors.catalogue import KnownBug, generations
from slabactors.scenario import Machine, scenario

BUG = KnownBug(
    id="X1", title="t", fixed="f", reported="r", where="w", signatures=("zombie: *",), preemptions=(0, 0), {}
)

@scenario(title="a story")
async def story(machine: Machine) -> None:
    pass
"""


def test_a_file_may_be_an_entry(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text('"""How it goes."""\n' + ENTRY.replace("{}", 'found_in=generations("G2")'))
    [entry] = chosen_entries([str(path)])
    assert (entry.bug.id, entry.story, entry.scenario.title) == ("X1", "How it goes.", "a story")
    assert entry.scenario.name == str(path)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ('found_in=("v5",), absent_from=("v5", "v3.8")', "says two things of v5"),
        ('found_in=("v55",)', "unknown lifecycle 'v55'; did you mean 'v5.5'"),
        ('found_in=generations("G2", "G55")', "does not import.*unknown generation 'G55'"),
    ],
)
def test_an_entry_that_contradicts_itself_or_names_what_is_not_there_is_refused(tmp_path, said, message):
    path = tmp_path / "mine.py"
    path.write_text(ENTRY.replace("{}", said))
    with pytest.raises((ScenarioError, UnknownName), match=message):
        load_entry(path)


def test_a_scenario_without_a_bug_is_no_entry(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(ENTRY.replace("{}", 'found_in=("v5",)').replace("BUG = ", "OTHER = "))
    with pytest.raises(ScenarioError, match="it has no BUG"):
        load_entry(path)
