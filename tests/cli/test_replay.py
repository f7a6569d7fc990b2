"""``replay`` and ``why``: a finding's file shows its bug again, and nothing else passes for one."""

from __future__ import annotations

import json
import shutil

import pytest

from slabactors import cli
from slabactors.errors import Kind
from slabactors.scenario import shipped
from tests.cli.conftest import refused

STORY = "dead-cache/rmdir-races-last-free"


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """The files of what 500 random runs of the founding patch find.

    Two bugs at least: 1 in 4 random runs shows one, 1 in 70 another, which 500 miss with p < 1e-3.
    """
    directory = tmp_path_factory.mktemp("saved")
    assert cli.run(["explore", STORY, "--strategy", "random", "--runs", "500", "--save", str(directory)]) == cli.BUG
    return sorted(directory.glob("*.json"))


@pytest.fixture
def file(saved, tmp_path):
    """A copy of the first of them, to be damaged."""
    return shutil.copy(saved[0], tmp_path / "finding.json")


def edit(file, **changes):
    """Change top-level fields of a finding's file."""
    document = json.loads(file.read_text())
    document.update(changes)
    file.write_text(json.dumps(document))
    return document


@pytest.mark.parametrize("number", [0, 1])
def test_every_saved_finding_shows_its_bug_again(command, saved, number):
    """Exit code 1, and the same signature, kind and message as in the file."""
    finding = json.loads(saved[number].read_text())
    said = command("replay", saved[number])
    assert said.code == cli.BUG
    assert said.err == ""
    assert finding["signature"] in said.out
    assert finding["message"] in said.out
    document = command("replay", saved[number], "--json").document
    assert document["reproduced"] is True
    assert document["deliveries"] == len(finding["schedule"])
    assert {
        name: document[name] for name in ("scenario", "lifecycle", "signature", "kind", "message", "preemptions")
    } == {name: finding[name] for name in ("scenario", "lifecycle", "signature", "kind", "message", "preemptions")}


@pytest.mark.parametrize("number", [0, 1])
def test_why_tells_a_chain_that_ends_where_it_broke(command, saved, number):
    """Each link follows from earlier ones only, and the last is the step that broke it."""
    said = command("why", saved[number])
    assert said.code == cli.BUG
    assert said.err == ""
    document = command("why", saved[number], "--json").document
    chain = document["chain"]
    steps = [link["step"] for link in chain]
    assert steps == sorted(steps)
    assert all(set(link["because"]) <= set(steps[:position]) for position, link in enumerate(chain))
    assert [row["step"] for row in document["steps"] if row["broke"]] == steps[-1:]
    assert steps[-1] == len(json.loads(saved[number].read_text())["schedule"]) - 1
    for link in chain:
        assert f"#{link['step']} {link['who']}: {link['what']}" in said.out


def test_a_replay_is_logged_up_to_the_step_before_it_broke(command, saved, tmp_path):
    """The log has a line for each step that was made, and the end says which bug it was."""
    finding = json.loads(saved[0].read_text())
    assert command("replay", saved[0], "--log", "run.jsonl").code == cli.BUG
    first, *steps, end = map(json.loads, (tmp_path / "run.jsonl").read_text().splitlines())
    assert (first["event"], first["scenario"], first["replay"]) == ("run", STORY, str(saved[0]))
    assert [(one["path"], one["operation"], one["actor"]) for one in steps] == [
        (one["path"], one["operation"], one["actor"]) for one in finding["schedule"][:-1]
    ]
    assert (end["event"], end["kind"], end["signature"]) == ("end", finding["kind"], finding["signature"])


# -- files that are no findings ----------------------------------------------------------------------------------------

both = pytest.mark.parametrize("verb", ["replay", "why"])


@both
def test_a_finding_that_was_cut_short_is_refused(command, file, verb):
    """A file that ends early anywhere is no finding; only the newline at its end may be missing."""
    whole = file.read_bytes()
    for length in [*range(40), *range(40, len(whole) - 1, 97), len(whole) - 2]:
        file.write_bytes(whole[:length])
        refused(command(verb, file), "finding.json is not a finding", f"found {length} bytes", "slabactors explore")
    file.write_bytes(whole[:-1])
    assert command(verb, file).code == cli.BUG


@both
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"\x00" * 64,
        b"\x7fELF\x02\x01\x01",
        b"PK\x03\x04",
        b'{"format": "\xff\xfe"}',
        b"hello\n",
        b"[" * 100_000,
    ],
    ids=["empty", "newline", "zeros", "elf", "zip", "no UTF-8", "text", "deep"],
)
def test_what_is_no_json_is_refused(command, file, verb, data):
    """Other files are not mistaken for findings, whatever is in them."""
    file.write_bytes(data)
    refused(command(verb, file), "finding.json is not a finding", f"found {len(data)} bytes", "slabactors explore")


@both
@pytest.mark.parametrize("text", ["{}", "[]", "null", "7", '"finding"', '{"format": "sarif"}', '{"format": ["x"]}'])
def test_foreign_json_is_refused(command, file, verb, text):
    """JSON of another program says what a finding begins with."""
    file.write_text(text)
    refused(command(verb, file), "is JSON but not a finding", '"format": "slabactors-finding"', "slabactors explore")


@both
@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_format_version_is_refused(command, file, verb, version):
    """A finding that another version of slabactors wrote says which, and what this one reads."""
    edit(file, format_version=version, program_version="9.9.9")
    refused(command(verb, file), f"format version {version}", "9.9.9", "reads version 1", "slabactors explore")


@both
@pytest.mark.parametrize(
    ("changes", "fragment"),
    [
        ({"schedule": None}, "$.schedule"),
        ({"schedule": "none"}, "$.schedule"),
        ({"schedule": [1, 2]}, "$.schedule"),
        ({"schedule": [{"path": "main.0"}]}, "operation"),
        ({"schedule": [{"path": 1, "operation": "lock", "actor": "m"}]}, "$.schedule[0].path"),
        ({"schedule": [{"path": "main.0", "operation": "choose", "actor": "", "value": -1}]}, "$.schedule[0].value"),
        ({"schedule": [{"path": "main.0", "operation": "choose", "actor": "", "value": "1"}]}, "$.schedule[0].value"),
        ({"lifecycle": 5}, "$.lifecycle"),
        ({"parameters": []}, "$.parameters"),
        ({"kind": "typo"}, "$.kind"),
        ({"seed": "zero"}, "$.seed"),
        ({"preemptions": 1.5}, "$.preemptions"),
        ({"scenario": None}, "$.scenario"),
    ],
)
def test_a_damaged_field_is_refused(command, file, verb, changes, fragment):
    """A field of another type is named by its place in the file."""
    edit(file, **changes)
    refused(command(verb, file), "finding.json is a damaged finding", fragment, "slabactors explore")


@both
def test_a_missing_field_is_refused(command, file, verb):
    """A field that is not there is named."""
    document = json.loads(file.read_text())
    del document["signature"]
    file.write_text(json.dumps(document))
    refused(command(verb, file), "finding.json is a damaged finding", "signature")


@both
def test_a_directory_is_no_finding(command, tmp_path, verb):
    """A directory is refused as such."""
    refused(command(verb, tmp_path), "Is a directory", "slabactors explore")


# -- findings that do not fit ------------------------------------------------------------------------------------------


@both
def test_a_step_that_does_not_fit_is_named(command, file, verb):
    """Whichever step of the schedule is made another path's, replay stops there and says what was possible."""
    schedule = json.loads(file.read_text())["schedule"]
    for index in range(0, len(schedule), 5):
        changed = [dict(step) for step in schedule]
        changed[index]["path"] = "main.9/nobody.7"
        edit(file, schedule=changed)
        said = command(verb, file)
        refused(
            said, f"step {index} expected main.9/nobody.7 to {schedule[index]['operation']}", "enabled", "Find it again"
        )
        assert f"slabactors explore {STORY} --lifecycle v5" in said.err


@both
@pytest.mark.parametrize(("field", "value"), [("operation", "somersault"), ("actor", "nothing")])
def test_a_step_of_another_kind_is_named(command, file, verb, field, value):
    """A path that is about to do something else, or to do it to somebody else, does not fit either."""
    schedule = json.loads(file.read_text())["schedule"]
    schedule[10][field] = value
    edit(file, schedule=schedule)
    refused(command(verb, file), "step 10 expected", value, "it is about to", "Find it again")


@both
def test_a_choice_that_was_not_made_is_refused(command, file, verb):
    """A step that is made into a choice is missed, at the latest, at the next step of the same path."""
    schedule = json.loads(file.read_text())["schedule"]
    assert schedule[10]["path"] == schedule[11]["path"]
    schedule[10] |= {"operation": "choose", "actor": "", "value": 1}
    edit(file, schedule=schedule)
    said = command(verb, file)
    refused(said, "Find it again")
    assert "step 10 expected" in said.err or "step 11 expected" in said.err


@both
def test_a_schedule_that_ends_too_soon_shows_no_bug(command, file, verb):
    """Half a schedule fits, but what follows it is played fairly and does not break: that is said."""
    schedule = json.loads(file.read_text())["schedule"]
    edit(file, schedule=schedule[:3])
    refused(command(verb, file), "step 3 expected 'freed-active-work", "ended without a bug", "Find it again")


@both
def test_another_bug_than_the_findings_own_is_refused(command, saved, file, verb):
    """A schedule that shows another bug is not taken for the finding's."""
    edit(file, signature="zombie: something else")
    refused(command(verb, file), "expected 'zombie: something else'", "it showed 'freed-active-work")


@both
def test_a_finding_of_a_scenario_that_is_gone(command, file, verb):
    """The scenario's name is in the message, with where it was looked for."""
    edit(file, scenario="dead-cache/forgotten")
    refused(command(verb, file), "finding.json", "'dead-cache/forgotten'", "current directory", *shipped())
    edit(file, scenario="gone.py")
    refused(command(verb, file), "finding.json", "gone.py", "current directory")


@both
def test_a_finding_of_a_lifecycle_that_is_gone(command, file, verb):
    """The lifecycle's name is in the message, with those that there are."""
    edit(file, lifecycle="v5-experiment")
    refused(command(verb, file), "finding.json", "'v5-experiment'", "v5", "repaired")


@both
@pytest.mark.parametrize(
    "parameters", [{"rows": 1}, {"min_partial": "0"}, {"min_partial": [0]}, {"cpus": 0}, {"cpus": None}]
)
def test_a_finding_whose_parameters_do_not_fit(command, file, verb, parameters):
    """A parameter that the scenario does not take, or not with that value, is named."""
    edit(file, parameters=parameters)
    refused(command(verb, file), "finding.json", next(iter(parameters)))


def test_a_scenario_that_has_changed_is_said(command, write, tmp_path):
    """A finding of an earlier version of its scenario is tried, with a word of warning."""
    text = "@scenario(title='t')\nasync def story(machine):\n    assert machine is None\n"
    path = write(text)
    file = command("explore", "story.py", "--runs", 1, "--save", "out", "--json").document["findings"][0]["file"]
    assert command("replay", file).err == ""
    changed = write(text.replace("title='t'", "title='another'"), name="changed.py")
    assert path != changed
    edit(tmp_path / file, scenario="changed.py", signature="exception: AssertionError at changed.py:6 by main")
    said = command("replay", file)
    assert said.code == cli.BUG
    assert "the scenario changed.py has changed since" in said.err


def test_every_kind_of_a_finding_is_one_of_the_closed_set(saved):
    """What is in the files is what the reports say they may hold."""
    assert {json.loads(one.read_text())["kind"] for one in saved} <= {kind.value for kind in Kind}
    assert len(saved) >= 2
