"""``run``: one execution, what became of its caches, and its log."""

from __future__ import annotations

import json

import pytest

from slabactors import __version__, cli
from slabactors.errors import Kind
from slabactors.scenario import find, shipped
from tests.cli.conftest import listing


@pytest.mark.parametrize(
    ("target", "lifecycle", "code"),
    [
        ("dead-cache/emptied", "v5", cli.FINE),
        ("dead-cache/emptied", "repaired", cli.FINE),
        ("dead-cache/emptied", "pre-patch", cli.BUG),
        ("dead-cache/freed-later", "v5", cli.FINE),
        ("dead-cache/freed-later", "pre-patch", cli.BUG),
    ],
)
def test_the_exit_code_says_whether_it_broke(command, target, lifecycle, code):
    """0 when the run ended well, 1 when it showed a bug; the text and the JSON agree."""
    text = command("run", target, "--lifecycle", lifecycle)
    assert text.code == code
    assert text.err == ""
    said = command("run", target, "--lifecycle", lifecycle, "--json")
    assert said.code == code
    assert said.err == ""
    finding = said.document["finding"]
    assert (finding is not None) == (code == cli.BUG)
    if finding is not None:
        assert finding["signature"] in text.out
        assert finding["message"] in text.out


@pytest.mark.parametrize("target", list(shipped()))
@pytest.mark.parametrize("seed", [0, 7])
def test_json_is_one_document_of_what_became_of_the_caches(command, target, seed):
    """Whatever the scenario does, stdout holds one JSON document with these facts, and stderr nothing."""
    said = command("run", target, "--seed", seed, "--json")
    document = said.document
    assert said.code in (cli.FINE, cli.BUG)
    assert said.err == ""
    assert {name: document[name] for name in ("version", "scenario", "lifecycle", "parameters", "seed", "runtime")} == {
        "version": __version__,
        "scenario": target,
        "lifecycle": find(target).lifecycle,
        "parameters": {},
        "seed": seed,
        "runtime": "sim",
    }
    assert {"ending", "deliveries", "seconds", "work_runs", "pages", "caches", "finding"} <= set(document)
    assert document["ending"] == ("bug" if said.code == cli.BUG else "done")
    if document["finding"] is not None:
        assert document["finding"]["kind"] in {kind.value for kind in Kind}
    assert {cache["state"] for cache in document["caches"]} <= {"alive", "dead", "destroyed"}


def test_settings_reach_the_story_and_the_machine(command):
    """Parameters of either are set by name, with a dash or an underscore, and repeated in the JSON."""
    document = command(
        "run", "dead-cache/emptied", "--set", "objects=5", "--set", "object-size=500", "--set", "cpus=1", "--json"
    ).document
    assert document["parameters"] == {"cpus": 1, "object_size": 500, "objects": 5}


def test_a_run_that_hits_its_bound_is_undetermined(command, write):
    """A story without an end is stopped, and says neither fine nor broken: exit code 4."""
    write("""
class Box(Actor):
    @operation
    def open(self):
        pass


@scenario(title="never ends")
async def story(machine: Machine) -> None:
    box = Box("box")
    while True:
        await box.open()
""")
    said = command("run", "story.py", "--json")
    assert said.code == cli.UNDETERMINED
    assert said.document["ending"] == "bound"
    assert said.document["deliveries"] == 20_000
    said = command("explore", "story.py", "--runs", 2, "--json")
    assert said.code == cli.UNDETERMINED
    assert (said.document["verdict"], said.document["bounded"]) == ("undetermined", 2)
    assert "2 of 2 executions hit the bound" in command("explore", "story.py", "--runs", 2).out


# -- the log -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", list(shipped()))
def test_a_log_is_one_run_line_a_line_for_each_step_and_one_end_line(command, tmp_path, target):
    """Every line is JSON; steps are numbered from 0, and the end says how it ended and what became of the caches."""
    said = command("run", target, "--log", "run.jsonl", "--json")
    first, *steps, end = map(json.loads, (tmp_path / "run.jsonl").read_text().splitlines())
    assert first["event"] == "run"
    assert first["schema"] == 2
    assert {one["event"] for one in steps} == {"step"}
    assert [one["step"] for one in steps] == list(range(len(steps)))
    assert set(steps[0]) == {
        "event", "step", "act", "jiffies", "seconds", "path", "lane", "actor", "operation", "does", "args", "reply",
        "causes", "changed", "level",
    }  # fmt: skip
    assert end["event"] == "end"
    # A step that broke the run had no reply, and no line.
    broke = said.code == cli.BUG and end["kind"] not in ("zombie", "lost-wakeup", "accounting")
    assert end["deliveries"] == len(steps) + broke == said.document["deliveries"]
    assert end["caches"] == said.document["caches"]
    assert end["seconds"] == said.document["seconds"]
    assert listing(tmp_path) == {"run.jsonl"}


@pytest.mark.parametrize(
    ("target", "seconds"),
    [("dead-cache/emptied", 0.0), ("dead-cache/freed-later", 60.0)],
    ids=["emptied", "freed-later"],
)
@pytest.mark.parametrize("lifecycle", ["v5", "repaired"])
def test_the_log_ends_with_how_long_a_dead_cache_took_to_go(command, tmp_path, target, seconds, lifecycle):
    """What is empty when its memcg dies goes at once; what is freed later goes with the minute's retry."""
    for seed in range(5):
        said = command("run", target, "--lifecycle", lifecycle, "--seed", seed, "--log", "run.jsonl")
        assert said.code == cli.FINE
        end = json.loads((tmp_path / "run.jsonl").read_text().splitlines()[-1])
        (child,) = [cache for cache in end["caches"] if "(" in cache["cache"]]
        assert child["state"] == "destroyed"
        assert child["seconds_to_destruction"] == pytest.approx(seconds, abs=0.5)
        assert f"destroyed {child['seconds_to_destruction']:.2f} virtual seconds after" in said.out


def test_a_log_replaces_the_one_before(command, tmp_path):
    """A second run leaves a log of itself alone, also through a link to it."""
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "run.jsonl")
    command("run", "dead-cache/emptied", "--seed", 1, "--log", "run.jsonl")
    before = (tmp_path / "run.jsonl").read_bytes()
    command("run", "dead-cache/emptied", "--seed", 2, "--log", "link.jsonl")
    after = (tmp_path / "run.jsonl").read_bytes()
    assert b'"seed":1' in before.splitlines()[0]
    assert b'"seed":2' in after.splitlines()[0]
    assert after.count(b'"event":"end"') == 1
    assert (tmp_path / "link.jsonl").is_symlink()


# -- live --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_a_live_run_says_the_same_as_a_simulated_one(command, tmp_path, runtime):
    """The same command on an event loop prints the same facts and writes the same kind of log."""
    said = command("run", "dead-cache/emptied", "--runtime", runtime, "--log", "run.jsonl", "--json")
    simulated = command("run", "dead-cache/emptied", "--json").document
    assert said.code == cli.FINE
    assert said.err == ""
    assert said.document["runtime"] == runtime
    assert said.document["caches"] == simulated["caches"]
    first, *steps, end = map(json.loads, (tmp_path / "run.jsonl").read_text().splitlines())
    assert (first["event"], end["event"]) == ("run", "end")
    assert end["deliveries"] == len(steps)
