"""``why``: the pairs of steps whose order broke a finding, and its diagram."""

from __future__ import annotations

import json

import pytest

from slabactors import cli
from tests.cli.conftest import listing, refused

STORY = "dead-cache/rmdir-races-last-free"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The founding patch's simplest bug, in a file; 1 in 70 random runs shows it, which 1200 miss with p < 1e-7."""
    directory = tmp_path_factory.mktemp("saved")
    assert cli.run(["explore", STORY, "--strategy", "random", "--runs", "1200", "--save", str(directory)]) == cli.BUG
    (file,) = directory.glob("v5-uninitialised-work-*.json")
    return file


def test_why_names_the_two_steps_whose_order_it_was(command, saved):
    """Which came before which, that the other way round nothing breaks, and what changes first."""
    said = command("why", saved)
    assert (said.code, said.err) == (cli.BUG, "")
    text = " ".join(said.out.split())
    assert (
        "#12 cpu1 free: test_and_set_bit(WORK_STRUCT_PENDING) [dentry(1:web).destroy] "
        "came before cpu0 rmdir: INIT_DELAYED_WORK() [dentry(1:web).destroy] (still to come). "
        "The other way round cpu1 free gets through test_and_set_bit(WORK_STRUCT_PENDING) [dentry(1:web).destroy], "
        "and nothing breaks."
    ) in text
    assert (
        "#2 cpu0 rmdir: params->dead = true [dentry(1:web).params] "
        "came before cpu1 free: if (params->dead) = true [dentry(1:web).params] (#10). "
        "The other way round cpu1 free gets false from if (params->dead) [dentry(1:web).params], not true, "
        "and nothing breaks."
    ) in text
    assert all(len(line) <= 120 for line in said.out.splitlines())


def test_the_document_has_the_pairs(command, saved):
    """Both steps with their numbers, what the other order shows, and the first difference."""
    pairs = command("why", saved, "--json").document["racing_pairs"]
    assert pairs[1] == {
        "first": {"step": 2, "who": "cpu0 rmdir", "what": "params->dead = true [dentry(1:web).params]"},
        "second": {"step": 10, "who": "cpu1 free", "what": "if (params->dead) = true [dentry(1:web).params]"},
        "reversed": "clean",
        "first_difference": {
            "step": 10,
            "who": "cpu1 free",
            "what": "if (params->dead) = true [dentry(1:web).params]",
            "instead": "if (params->dead) = false [dentry(1:web).params]",
        },
    }
    assert [pair["second"]["step"] for pair in pairs] == [None, 10]


def test_the_report_of_a_search_names_the_first_of_them(command, saved):
    """One line with the finding, and the same in the document."""
    said = command("explore", STORY, "--strategy", "random", "--runs", 1200)
    line = (
        "race: cpu1 free: test_and_set_bit(WORK_STRUCT_PENDING) [dentry(1:web).destroy] came before "
        "cpu0 rmdir: INIT_DELAYED_WORK() [dentry(1:web).destroy]; the other way round nothing breaks"
    )
    assert line in " ".join(said.out.split())
    document = command("explore", STORY, "--strategy", "random", "--runs", 1200, "--json").document
    pair = next(one["racing_pair"] for one in document["findings"] if one["kind"] == "uninitialised-work")
    assert pair == command("why", saved, "--json").document["racing_pairs"][0]


def test_a_deadlock_is_explained(command, write):
    """A finding without a step that broke it: what waits is in the table, and which order of the locks it was."""
    write(
        "class Lock(Actor):\n"
        "    held = False\n"
        "    @operation(guard=lambda lock: not lock.held, writes='held', acquires=True)\n"
        "    def lock(self):\n"
        "        self.held = True\n"
        "    @operation(writes='held', releases=True)\n"
        "    def unlock(self):\n"
        "        self.held = False\n"
        "async def both(first, second):\n"
        "    await first.lock()\n"
        "    await second.lock()\n"
        "    await second.unlock()\n"
        "    await first.unlock()\n"
        "@scenario(title='two locks')\n"
        "async def story(machine):\n"
        "    a, b = Lock('a'), Lock('b')\n"
        "    await parallel(both(a, b), both(b, a))\n"
    )
    findings = command("explore", "story.py", "--runs", 50, "--save", "out", "--json").document["findings"]
    assert {one["kind"] for one in findings} == {"deadlock", "lock-order"}
    finding = next(one for one in findings if one["kind"] == "deadlock")
    assert (finding["kind"], finding["preemptions"], finding["preemptions_minimum"]) == ("deadlock", 1, True)
    said = command("why", finding["file"], "--mermaid", "run.mmd")
    assert (said.code, said.err) == (cli.BUG, "")
    assert "waits for lock() [b]" in said.out


def test_a_diagram_is_written(command, saved, tmp_path):
    """A Mermaid sequence diagram with the race and the step that breaks marked; nothing else is written."""
    said = command("why", saved, "--mermaid", "run.mmd", "--json")
    assert (said.code, said.err) == (cli.BUG, "")
    lines = (tmp_path / "run.mmd").read_text().splitlines()
    assert lines[:2] == ["sequenceDiagram", f"    title {said.document['signature']}"]
    assert lines[-1].endswith("race: this came first, breaks")
    assert listing(tmp_path) == {"run.mmd"}


def test_a_diagram_that_cannot_be_written_is_refused(command, saved, tmp_path):
    """One message that says what to type next; what was asked for is not half done."""
    refused(command("why", saved, "--mermaid", "nowhere/run.mmd"), "cannot write nowhere/run.mmd", "--mermaid FILE")
    assert listing(tmp_path) == set()


def test_a_bug_that_no_step_has_is_logged_as_it_is_told(command, tmp_path):
    """Its schedule is short; the table, the log and the diagram are of one and the same run."""
    story = ("explore", "dead-cache/emptied", "--lifecycle", "v5-dead-after-queueing", "--runs", 400)
    (finding,) = command(*story, "--save", "out", "--json").document["findings"]
    document = command("replay", finding["file"], "--log", "run.jsonl", "--json").document
    _, *steps, end = map(json.loads, (tmp_path / "run.jsonl").read_text().splitlines())
    assert len(finding["schedule"]) < document["deliveries"] == len(steps) == end["deliveries"]
    assert document["steps"] == finding["steps"] == command("why", finding["file"], "--json").document["steps"]
    assert all(row["what"].endswith(f"[{steps[row['step']]['actor']}]") for row in document["steps"])
    pair = finding["racing_pair"]
    assert (pair["reversed"], pair["first_difference"]["step"]) == ("clean", pair["first"]["step"])


def test_numbers_of_the_scenario_are_made_smaller_unless_one_says_so(command, tmp_path):
    """More dentries than the bug needs are not shown; the file has what is needed to see it again."""
    # The only run of this seed shows a bug.
    common = (
        "explore",
        "dead-cache/memory-pressure",
        "--strategy",
        "random",
        "--runs",
        1,
        "--seed",
        3,
        "--set",
        "dentries=3",
    )
    document = command(*common, "--save", "out", "--json").document
    assert document["parameters"] == {"dentries": 3}
    finding = document["findings"][0]
    assert finding["parameters"] == {"dentries": 1}
    assert json.loads((tmp_path / finding["file"]).read_text())["parameters"] == {"dentries": 1}
    assert command("replay", finding["file"]).code == cli.BUG
    assert "reduced to dentries=1, as shown here" in command(*common).out
    kept = command(*common, "--no-reduce", "--json").document["findings"][0]
    assert kept["parameters"] == {"dentries": 3}
    assert kept["signature"] == finding["signature"]
    assert len(kept["schedule"]) > len(finding["schedule"])
