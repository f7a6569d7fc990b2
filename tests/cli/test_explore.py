"""``explore``: many executions, what they found, and how the answer reads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from slabactors import cli
from slabactors.errors import Kind
from slabactors.explore.strategy import STRATEGIES
from tests.cli.conftest import listing, refused

BROKEN = "dead-cache/rmdir-races-last-free"
"""Under v5, 1 in 4 random runs of it shows one bug and 1 in 70 another."""

RANDOM = ["--strategy", "random"]

OF_A_SEARCH = {"scenario", "lifecycle", "strategy", "seed", "executions", "deliveries", "seconds"}
OF_ITS_RESULT = {"exhaustive", "verdict", "findings"}
OF_A_FINDING = {"signature", "kind", "message", "count", "first_execution", "preemptions", "schedule"}


def test_json_is_one_document_of_what_was_found(command):
    """These keys, of these types, whatever else is there; and nothing on stderr."""
    said = command("explore", BROKEN, "--runs", 500, "--seed", 3, "--strategy", "random", "--json")
    document = said.document
    assert said.code == cli.BUG
    assert said.err == ""
    assert set(document) >= OF_A_SEARCH | OF_ITS_RESULT
    assert document["scenario"] == BROKEN
    assert (document["lifecycle"], document["strategy"], document["seed"]) == ("v5", "random", 3)
    assert (document["executions"], document["exhaustive"], document["verdict"]) == (500, False, "broken")
    assert document["deliveries"] > 500
    assert document["seconds"] >= 0
    assert document["findings"]
    for finding in document["findings"]:
        assert set(finding) >= OF_A_FINDING
        assert finding["kind"] in {kind.value for kind in Kind}
        assert finding["signature"].startswith(f"{finding['kind']}: ")
        assert 0 < finding["count"] <= 500
        assert 0 <= finding["first_execution"] < 500
        assert 0 <= finding["preemptions"] < len(finding["schedule"])
        assert all({"path", "operation", "actor"} <= set(step) for step in finding["schedule"])
    assert len({finding["signature"] for finding in document["findings"]}) == len(document["findings"])


def test_the_text_says_what_the_json_says(command):
    """Signature, message, count, table and how to see it again, for each of the same findings."""
    document = command("explore", BROKEN, *RANDOM, "--runs", 500, "--json").document
    said = command("explore", BROKEN, *RANDOM, "--runs", 500, "--save", "out")
    assert said.code == cli.BUG
    assert said.err == ""
    assert "500 executions" in said.out
    assert f"{len(document['findings'])} distinct bugs." in said.out
    for number, finding in enumerate(document["findings"], 1):
        assert f"\n{number}. {finding['signature']}\n   {finding['message']}\n" in said.out
        assert f"first in number {finding['first_execution']};" in said.out
    assert said.out.count("<--") == len(document["findings"])
    assert said.out.count("see it again: slabactors replay out/") == len(document["findings"])


def test_no_bug_is_no_proof(command):
    """A search that found nothing ends with 0, and does not claim more than it did."""
    said = command("explore", "dead-cache/emptied", "--runs", 50)
    assert said.code == cli.FINE
    assert "No bug in 50 executions.  That is not a proof." in said.out
    document = command("explore", "dead-cache/emptied", "--runs", 50, "--json").document
    assert (document["verdict"], document["exhaustive"], document["findings"]) == ("clean", False, [])


def test_a_search_that_saw_nothing_to_check_says_so(command, write):
    """A story in which no cache is ever freed says which checkers had nothing to look at."""
    write("@scenario(title='t')\nasync def story(machine):\n    pass\n")
    said = command("explore", "story.py", "--runs", 5)
    assert said.code == cli.FINE
    assert "in no execution a cache or a page was freed, so kasan had nothing to check" in said.out
    document = command("explore", "story.py", "--runs", 5, "--json").document
    assert set(document["sometimes"].values()) == {False}
    assert set(command("explore", BROKEN, "--runs", 50, "--json").document["sometimes"].values()) == {True}


def test_the_same_seed_finds_the_same(command):
    """Two searches of one seed differ in nothing but how long they took; another seed finds things elsewhere."""
    documents = [
        command("explore", BROKEN, *RANDOM, "--runs", 600, "--seed", seed, "--json").document for seed in (4, 4, 5)
    ]
    for document in documents:
        del document["seconds"]
    assert documents[0] == documents[1]
    assert documents[0]["deliveries"] != documents[2]["deliveries"]
    assert documents[0]["findings"] != documents[2]["findings"]


def test_a_search_is_the_beginning_of_a_longer_one(command):
    """More runs of one seed find what fewer did, first in the same executions."""
    short, long = (
        {one["signature"]: one["first_execution"] for one in document["findings"]}
        for document in (command("explore", BROKEN, *RANDOM, "--runs", runs, "--json").document for runs in (300, 700))
    )
    assert short.items() <= long.items()


@pytest.mark.parametrize("strategy", list(STRATEGIES))
def test_every_strategy_finds_a_bug_and_the_same_one_again(command, strategy):
    """Whichever picks the steps, a bug of 1 in 4 random runs is among 300, and the same seed finds the same."""
    documents = []
    for _ in range(2):
        said = command("explore", BROKEN, "--strategy", strategy, "--runs", 300, "--json")
        assert said.code == cli.BUG
        documents.append(said.document)
        del documents[-1]["seconds"]
    assert documents[0] == documents[1]
    assert (documents[0]["strategy"], documents[0]["executions"]) == (strategy, 300)


def test_a_time_limit_ends_a_search(command):
    """``--time`` ends it long before so many runs could be made, after at least one."""
    document = command("explore", BROKEN, "--runs", 10**9, "--time", 0.05, "--json").document
    assert 1 <= document["executions"] < 10**6
    assert document["verdict"] in ("broken", "clean")


def test_saved_findings_are_what_the_json_holds(command, tmp_path):
    """Each finding is in a file of its own, whole, under the name that the JSON gives."""
    document = command("explore", BROKEN, *RANDOM, "--runs", 500, "--save", "a/b", "--json").document
    files = [Path(finding["file"]) for finding in document["findings"]]
    assert listing(tmp_path) == {str(file) for file in files} | {"a/b/campaign.sqlite"}
    for finding, file in zip(document["findings"], files, strict=True):
        saved = json.loads((tmp_path / file).read_text())
        assert {name: saved[name] for name in ("signature", "kind", "message", "preemptions", "schedule")} == {
            name: finding[name] for name in ("signature", "kind", "message", "preemptions", "schedule")
        }
        assert (saved["scenario"], saved["lifecycle"], saved["seed"]) == (BROKEN, "v5", 0)
        assert saved["execution"] == finding["first_execution"]


def test_findings_of_several_searches_share_a_directory(command, tmp_path):
    """The same signature in another scenario, lifecycle or with other parameters is another file; again, the same."""
    lines = [
        ["dead-cache/emptied", "--lifecycle", "pre-patch"],
        ["dead-cache/emptied", "--lifecycle", "pre-patch", "--set", "objects=2"],
        ["dead-cache/emptied", "--lifecycle", "verify-dead"],
        ["dead-cache/freed-later", "--lifecycle", "pre-patch"],
    ]
    for _ in range(2):
        for line in lines:
            assert command("explore", *line, "--no-reduce", "--runs", 20, "--save", "out").code == cli.BUG
    names = listing(tmp_path) - {"out/campaign.sqlite"}
    assert len(names) == len(lines)
    assert {json.loads((tmp_path / name).read_text())["signature"] for name in names} == {
        "zombie: empty dead cache never destroyed"
    }


def test_a_bug_that_needs_no_more_objects_is_one_file(command, tmp_path):
    """Found with two objects or with three, it is told with the one that it takes."""
    for objects in (2, 3):
        set_to = ["--set", f"objects={objects}"]
        command("explore", "dead-cache/emptied", "--lifecycle", "pre-patch", *set_to, "--runs", 20, "--save", "out")
    (name,) = listing(tmp_path) - {"out/campaign.sqlite"}
    assert json.loads((tmp_path / name).read_text())["parameters"] == {"objects": 1}


def test_a_scenario_file_runs_itself(write, tmp_path):
    """``python story.py`` explores it; ``python story.py run`` runs it once, with the same options."""
    write("""
@scenario(title="runs itself")
async def story(machine: Machine) -> None:
    pass


if __name__ == "__main__":
    story.main()
""")
    outputs = [
        subprocess.run(
            [sys.executable, "story.py", *line], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
        )
        for line in (["--runs", "3", "--json"], ["run", "--json"])
    ]
    assert [one.returncode for one in outputs] == [cli.FINE, cli.FINE]
    explored, ran = (json.loads(one.stdout) for one in outputs)
    assert explored["executions"] == 3
    assert ran["ending"] == "done"


@pytest.mark.parametrize("verb", ["run", "explore", "list"])
def test_help_is_no_mistake(command, verb):
    """``--help`` prints what there is on stdout and ends with 0, as does no command at all."""
    said = command(verb, "--help")
    assert said.code == cli.FINE
    assert "--json" in said.out
    assert "explore" in command().out


# -- clock policies ----------------------------------------------------------------------------------------------------

SLEEPER = "dead-cache/unloaded-after-a-while"


@pytest.mark.parametrize(
    ("options", "code", "time", "starvation"),
    [
        ([], cli.BUG, "adversarial", None),
        (["--policy", "untimed"], cli.BUG, "untimed", None),
        (["--policy", "quiescent"], cli.FINE, "quiescent", None),
        (["--starvation", "0"], cli.FINE, "adversarial", 0.0),
        (["--starvation", "1.5"], cli.FINE, "adversarial", 1.5),
        (["--starvation", "2"], cli.BUG, "adversarial", 2.0),
        (["--starvation", "inf"], cli.BUG, "adversarial", None),
    ],
)
def test_when_timers_may_fire_can_be_said_and_is_kept(command, tmp_path, options, code, time, starvation):
    """In the document, and in the files of what was found, which replay whatever the policy was."""
    said = command("explore", SLEEPER, "--runs", 200, "--save", "out", "--json", *options)
    assert said.code == code
    assert (said.document["time"], said.document["starvation"]) == (time, starvation)
    for file in (tmp_path / "out").glob("*.json"):
        finding = json.loads(file.read_text())
        assert (finding["time"], finding["starvation"]) == (time, starvation)
        assert command("replay", file).code == cli.BUG


def test_a_finding_is_explored_on_under_its_own_bound(command, tmp_path):
    """From the beginning of a finding that needs two seconds, under its own bound of two, it is found again."""
    command("explore", SLEEPER, "--runs", 100, "--save", "out", "--starvation", 2)
    file = sorted((tmp_path / "out").glob("*freed-active*"))[0]
    document = json.loads(file.read_text())
    assert command("replay", file, "--explore", 100, "--prefix", 0).code == cli.BUG
    document["starvation"] = 1.0
    file.write_text(json.dumps(document))
    assert command("replay", file, "--explore", 100, "--prefix", 0).code == cli.FINE


@pytest.mark.parametrize("value", ["-1", "nan", "soon"])
def test_a_bound_that_is_none_is_refused(command, value):
    """It is a number of virtual seconds."""
    said = command("explore", SLEEPER, f"--starvation={value}")
    assert said.code == cli.MISTAKE
    assert "starvation" in said.err


@pytest.mark.parametrize("verb", ["explore", "verify"])
def test_messages_that_may_overtake_each_other_are_announced(command, write, verb):
    """A line of text, and a number in the document; no word where nobody pipelines."""
    text = """
class Box(Actor):
    @operation
    def put(self):
        pass


@scenario(title="t")
async def story(machine: Machine) -> None:
    await tell(Box("a").put())
    await tell(Box("b").put())
"""
    write(text)
    line = [verb, "story.py", "--runs", 64]
    document = command(*line, "--json").document
    assert document["pipelined"] == document["executions"]
    assert "such messages could overtake each other, which no queue allows" in command(*line).out
    write(text.replace('await tell(Box("b").put())', 'await Box("b").put()'), name="other.py")
    line[1] = "other.py"
    assert command(*line, "--json").document["pipelined"] == 0
    assert "overtake" not in command(*line).out


# -- what no schedule can repeat ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", [["explore"], ["verify"], ["verify", "--preemptions", 1], ["run"]])
@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("import time\n    time.monotonic()", "time.monotonic()"),
        ("from random import random\n    random()", "random.random()"),
        ("import threading\n    threading.Thread(target=print).start()", "threading.Thread().start()"),
        ("import subprocess\n    subprocess.run(['true'])", "subprocess.Popen()"),
    ],
)
def test_a_scenario_that_calls_what_no_schedule_can_repeat_is_refused(command, write, verb, text, what):
    """With its line and what to use instead; nothing is printed as a result."""
    write(f"@scenario(title='t')\nasync def story(machine):\n    {text}\n")
    refused(command(verb[0], "story.py", *verb[1:]), f"story.py:7 in story() called {what}")


LATE = """
async def nap(machine, jiffies):
    await sleep(jiffies)
    assert jiffies > 10 or machine.clock.now == 10


@scenario(title="a minute and ten jiffies")
async def story(machine: Machine) -> None:
    await parallel(nap(machine, 10), nap(machine, 60_000))
"""


@pytest.mark.parametrize("search", [["explore", "--runs", 100], ["verify", "--preemptions", 1]])
def test_what_only_untimed_shows_is_found_shrunken_saved_and_replayed(command, write, tmp_path, search):
    """The timer of a minute goes off first: adversarial time does not have that, whatever searches."""
    write(LATE)
    verb, *options = search
    assert command(verb, "story.py", *options, "--policy", "adversarial").code in (cli.FINE, cli.UNDETERMINED)
    said = command(verb, "story.py", *options, "--policy", "untimed", "--save", "out", "--json")
    assert said.code == cli.BUG
    assert said.document["time"] == "untimed"
    [file] = (tmp_path / "out").glob("*.json")
    assert json.loads(file.read_text())["time"] == "untimed"
    assert command("replay", file).code == cli.BUG
    assert command("replay", file, "--explore", 20, "--prefix", 0).code == cli.BUG
    assert command("replay", file, "--lenient").code == cli.BUG


def test_it_says_which_member_of_a_portfolio_found_what(command):
    """In the document for every member; as text when something was found, and never for one strategy alone."""
    document = command("explore", BROKEN, "--runs", 60, "--json").document
    strategies = document["strategies"]
    assert {name: of["executions"] for name, of in strategies.items()} == {
        "random": 10,
        "pct": 30,
        "pos": 10,
        "urw": 10,
    }
    assert sum(of["found"] for of in strategies.values()) == sum(found["count"] for found in document["findings"])
    assert sum(of["first_found"] for of in strategies.values()) == len(document["findings"])
    said = command("explore", BROKEN, "--runs", 60).out
    for name, of in strategies.items():
        line = f"{of['found']} of {of['executions']} executions broke, {of['first_found']} found first"
        assert any(shown.startswith(name) and shown.endswith(line) for shown in said.splitlines())
    assert "executions broke" not in command("explore", BROKEN, "--runs", 60, *RANDOM).out
    assert list(command("explore", BROKEN, "--runs", 60, *RANDOM, "--json").document["strategies"]) == ["random"]
