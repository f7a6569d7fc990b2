"""The ways to replay a finding: strictly, leniently, on from a prefix, step by step; and a program that has changed."""

from __future__ import annotations

import io
import json
import re
import shutil
import sys
from pathlib import Path

import pytest

from slabactors import __version__, cli
from tests.cli.conftest import HEAD, listing, refused

STORY = "dead-cache/rmdir-races-last-free"

RACE = """\
class Box(Actor):
    def __init__(self):
        super().__init__("box")
        self.value = 0

    @operation(reads="value")
    def get(self):
        return self.value

    @operation(writes="value")
    def put(self, value):
        self.value = value


async def add(box):
    value = await box.get()
    await box.put(value + 1)


@scenario(title="an update is lost")
async def story(machine: Machine) -> None:
    box = Box()
    await parallel(add(box), add(box))
    assert box.value == 2
"""

CHANGED = RACE.replace("    value = await box.get()\n", "    value = await box.get()\n    await box.look()\n").replace(
    "    @operation(writes", "    @operation(reads=())\n    def look(self):\n        pass\n\n    @operation(writes"
)
MENDED = RACE.replace("    value = await box.get()\n    await box.put(value + 1)\n", "    await box.get()\n")
OTHER = RACE.replace("assert box.value == 2", "raise KeyError(box.value)")


@pytest.fixture(scope="session")
def found(tmp_path_factory):
    """A finding of the founding patch."""
    directory = tmp_path_factory.mktemp("found")
    assert cli.run(["explore", STORY, "--strategy", "random", "--runs", "200", "--save", str(directory)]) == cli.BUG
    return sorted(directory.glob("*.json"))[0]


@pytest.fixture
def file(found, tmp_path):
    return shutil.copy(found, tmp_path / "finding.json")


@pytest.fixture
def race(command, write):
    """The finding of a small race, by the name that replay gets."""
    write(RACE)
    said = command("explore", "story.py", "--runs", 200, "--save", "out", "--json")
    return said.document["findings"][0]["file"]


def edit(file, **changes):
    document = json.loads(file.read_text())
    document.update(changes)
    file.write_text(json.dumps(document))
    return document


def forget_files():
    """A file is imported once a process; this is as if another one ran."""
    for name in [name for name in sys.modules if name.startswith("slabactors_file_")]:
        del sys.modules[name]


# -- versions and digests ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [[], ["--step"], ["--explore", 5]])
def test_a_finding_of_another_version_is_refused_and_lenient_is_offered(command, file, mode):
    """A machine of another version may take other steps: strictly it is not even tried."""
    edit(file, program_version="0.0.9")
    said = command("replay", file, *mode)
    refused(said, "written by slabactors 0.0.9", f"this is slabactors {__version__}", f"replay {file} --lenient")
    lenient = command("replay", file, "--lenient")
    assert lenient.code == cli.BUG
    assert "written by slabactors 0.0.9" in lenient.err
    assert "The same bug came of it" in lenient.out


def test_a_changed_scenario_that_does_not_fit_any_more_offers_lenient(command, write, race):
    """It is warned of, tried, and where it diverges both sides and the way on are named."""
    write(CHANGED.replace("box = Box()", "box = Box()  # what the digest is of has changed as well"))
    forget_files()
    said = command("replay", race)
    assert said.code == cli.MISTAKE
    assert "the scenario story.py has changed since" in said.err
    assert re.search(r"expected main\.2/add\.[01] to put of box, but it is about to look of box\.", said.err)
    assert "Enabled there: " in said.err
    assert f"slabactors replay {race} --lenient" in said.err


# -- lenient -----------------------------------------------------------------------------------------------------------


def test_lenient_replay_of_a_schedule_that_fits_says_so(command, found):
    """All of it is followed, and the same bug comes of it."""
    finding = json.loads(found.read_text())
    total = len(finding["schedule"])
    said = command("replay", found, "--lenient")
    assert (said.code, said.err) == (cli.BUG, "")
    assert f"followed {total} of {total} decisions, skipped 0" in said.out
    assert f"The same bug came of it, in {total} steps:\n  {finding['signature']}" in said.out
    document = command("replay", found, "--lenient", "--json").document
    assert (document["followed"], document["skipped"], document["added"]) == (total, 0, 0)
    assert document["reproduced"] is True
    assert document["finding"]["signature"] == finding["signature"]
    assert document["finding"]["steps"][-1]["broke"]


@pytest.mark.parametrize(
    ("text", "code", "said_of_it"),
    [
        (CHANGED, cli.BUG, "The same bug came of it"),
        (OTHER, cli.BUG, "Another bug came of it than"),
        (MENDED.replace("assert box.value == 2", "pass"), cli.FINE, "No bug came of it in"),
    ],
    ids=["the same", "another", "none"],
)
def test_what_comes_of_a_program_that_has_changed_is_told_apart(command, write, race, text, code, said_of_it):
    """The same bug, another one, none: never one for the other."""
    write(text)
    forget_files()
    if text is CHANGED:  # the signature has the line in it, which the change has moved
        line = (HEAD + text).partition("assert")[0].count("\n") + 1
        edit(Path(race), signature=f"exception: AssertionError at story.py:{line} by main")
    said = command("replay", race, "--lenient")
    assert said.code == code, said
    assert said_of_it in said.out
    assert command("replay", race, "--lenient", "--json").document["reproduced"] is said_of_it.startswith("The same")
    if code == cli.FINE:
        assert "not a proof" in said.out
        assert "skipped 2" in said.out


def test_lenient_replay_of_garbage_follows_nothing_and_claims_nothing(command, file):
    """Decisions that name nothing in the program are not followed; what the fair run shows is not taken for them."""
    garbage = [{"path": f"nobody.{n}", "operation": "somersault", "actor": "void"} for n in range(50)]
    edit(file, schedule=garbage)
    said = command("replay", file, "--lenient")
    assert "followed 0 of 50 decisions, skipped 0, did not get to 50; 41 steps in between" in said.out
    assert said.code == cli.BUG
    edit(file, schedule=garbage, lifecycle="repaired")
    said = command("replay", file, "--lenient")
    assert "followed 0 of 50 decisions, skipped 50" in said.out
    assert said.code == cli.FINE
    edit(file, schedule=[])
    assert "followed 0 of 0 decisions" in command("replay", file, "--lenient").out


@pytest.mark.parametrize("strategy", ["fair", "random", "pct", "portfolio"])
def test_lenient_replay_goes_on_with_the_strategy_that_was_asked_for(command, file, strategy):
    """Half a schedule, and then another way on; the seed is said by the options, so it is the same each time."""
    schedule = json.loads(file.read_text())["schedule"]
    edit(file, schedule=schedule[:5])
    options = ["--lenient", "--strategy", strategy, "--seed", 3, "--json"]
    first, second = (command("replay", file, *options).document for _ in range(2))
    assert first == second
    assert (first["followed"], first["strategy"]) == (5, strategy)


def test_a_lenient_replay_is_logged_as_the_run_that_it_is(command, file, tmp_path):
    """The log has the steps of the run, not of the schedule."""
    schedule = json.loads(file.read_text())["schedule"]
    edit(file, schedule=[*schedule[:3], schedule[0], *schedule[3:]])
    said = command("replay", file, "--lenient", "--log", "run.jsonl")
    assert said.code == cli.BUG
    assert "skipped 1" in said.out
    first, *steps, end = map(json.loads, (tmp_path / "run.jsonl").read_text().splitlines())
    assert (first["event"], end["event"]) == ("run", "end")
    assert [one["operation"] for one in steps] == [one["operation"] for one in schedule[:-1]]


# -- on from a prefix --------------------------------------------------------------------------------------------------


def test_exploring_on_lists_what_it_finds_as_explore_does(command, found, tmp_path):
    """The default shares two thirds; every finding that it saves replays."""
    total = len(json.loads(found.read_text())["schedule"])
    said = command("replay", found, "--explore", 100, "--save", "more")
    assert said.code == cli.BUG
    assert f"100 executions that begin with the first {2 * total // 3} of {total} decisions" in said.out
    assert "the finding's own in" in said.out
    files = sorted((tmp_path / "more").glob("*.json"))
    assert files
    for one in files:
        assert command("replay", one).code == cli.BUG


def test_what_exploring_on_cannot_keep_it_still_prints(command, found, tmp_path):
    """A file that cannot be written costs the file, not the answer."""
    names = [Path(one["file"]).name for one in exploring_on(command, found, "first")["findings"]]
    for name in names:
        (tmp_path / "more" / name).mkdir(parents=True)
    said = command("replay", found, "--explore", 100, "--save", "more")
    assert said.code == cli.MISTAKE
    assert "executions that begin with the first" in said.out
    assert "the finding's own in" in said.out
    assert f"cannot write findings to more/{names[0]}" in said.err


def exploring_on(command, found, directory):
    """The document of a hundred executions, with the findings kept."""
    return command("replay", found, "--explore", 100, "--save", directory, "--json").document


def test_exploring_on_from_nothing_is_exploring(command, found):
    """With a prefix of none it finds what explore finds, and says whether the finding's own is among it."""
    document = command("replay", found, "--explore", 300, "--prefix", 0, "--seed", 1, "--json").document
    assert document["executions"] == 300
    assert document["prefix"] == 0
    assert document["verdict"] == "broken"
    signatures = {one["signature"] for one in document["findings"]}
    assert len(signatures) > 1
    assert document["reproduced"] is (json.loads(found.read_text())["signature"] in signatures)


def test_exploring_on_where_nothing_breaks_is_no_proof(command, write, race):
    """Exit 0, and the words of explore."""
    write(RACE.replace("assert box.value == 2", "pass"))
    forget_files()
    said = command("replay", race, "--explore", 20)
    assert said.code == cli.FINE
    assert "No bug in 20 executions.  That is not a proof." in said.out


def test_exploring_on_from_a_prefix_that_does_not_fit_is_refused(command, file):
    """The step is named, and lenient replay offered; nothing is printed as found."""
    schedule = json.loads(file.read_text())["schedule"]
    schedule[2]["path"] = "nobody.0"
    edit(file, schedule=schedule)
    refused(command("replay", file, "--explore", 10), "step 2 expected nobody.0", "--lenient")
    assert command("replay", file, "--explore", 10, "--prefix", 2).code == cli.BUG


INTERRUPTED = RACE.replace("class Box", "import signal\n\nRUNS = []\n\n\nclass Box", 1).replace(
    "    assert box",
    "    RUNS.append(None)\n    if len(RUNS) == STOP:\n        signal.raise_signal(signal.SIGINT)\n    assert box",
)


@pytest.mark.parametrize(("prefix", "code"), [(4, cli.BUG), (1, cli.BUG)])
def test_ctrl_c_ends_exploring_on_with_what_was_found(command, write, race, prefix, code):
    """Exit 1 when something was found, and the words say that it was cut short."""
    write(INTERRUPTED.replace("STOP", "300"))
    forget_files()
    said = command("replay", race, "--explore", 10**9, "--prefix", prefix)
    assert said.code == code
    assert "slabactors: interrupted after 300 executions; this is what was found so far.\n" in said.err
    assert "300 executions that begin with the first" in said.out
    assert "distinct bug" in said.out


def test_ctrl_c_before_anything_was_found_leaves_it_open(command, write, race):
    """Exit 4, and no word of a proof."""
    write(INTERRUPTED.replace("STOP", "3").replace("assert box.value == 2", "pass"))
    forget_files()
    said = command("replay", race, "--explore", 10**9, "--json")
    assert said.code == cli.UNDETERMINED
    assert (said.document["executions"], said.document["verdict"]) == (3, "undetermined")


# -- step by step ------------------------------------------------------------------------------------------------------


def typed(command, monkeypatch, text, *arguments):
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    return command("replay", *arguments, "--step")


def test_enter_follows_the_schedule_to_its_bug(command, monkeypatch, found):
    """A line for each step, the schedule's own marked, and at the end what broke."""
    finding = json.loads(found.read_text())
    total = len(finding["schedule"])
    said = typed(command, monkeypatch, "\n" * (total + 5), found)
    assert (said.code, said.err) == (cli.BUG, "")
    assert said.out.count("\n  * ") == total
    assert f"Step {total - 1} broke it: the finding's bug." in said.out
    assert finding["message"] in said.out
    for number in range(total - 1):
        assert f"step {number}, " in said.out


@pytest.mark.parametrize("text", ["", "c\n", "\n\nc\n", "\n\n"])
def test_the_end_of_the_input_goes_on_to_the_end(command, monkeypatch, found, text):
    """As c does: the steps are shown, and nothing is asked any more."""
    said = typed(command, monkeypatch, text, found)
    assert said.code == cli.BUG
    assert said.out.count("\n  * ") == text.count("\n") + (0 if "c" in text else 1)
    assert "the finding's bug." in said.out


def test_no_standard_input_at_all_is_the_end_of_it(command, monkeypatch, found):
    """As in a job without a terminal."""
    monkeypatch.setattr("sys.stdin", None)
    assert command("replay", found, "--step").code == cli.BUG


def test_q_stops_and_claims_nothing(command, monkeypatch, found):
    """Exit 4: neither was the bug shown, nor that there is none."""
    said = typed(command, monkeypatch, "\nq\n", found)
    assert said.code == cli.UNDETERMINED
    assert said.out.endswith("Stopped before the end.\n")
    assert "broke it" not in said.out


def test_help_and_what_is_neither_a_number_nor_a_command_are_answered(command, monkeypatch, found):
    """And the same step is asked for again."""
    said = typed(command, monkeypatch, "?\nfoo\n0\n99\n-1\nq\n", found)
    assert "NUMBER  another step" in said.out
    assert "expected Enter, a number from 1 to 2, c, q or ?, found 'foo'" in said.out
    assert said.out.count("expected Enter") == 4
    assert said.out.count("\n  * ") == 1


def test_a_number_leaves_the_schedule(command, monkeypatch, race):
    """The two updates one after the other: what the schedule breaks does not break this way."""
    strict = typed(command, monkeypatch, "c\n", race)
    assert strict.code == cli.BUG
    other = 1 if "  * 2  add: get() [box]" in strict.out.splitlines() else 2
    said = typed(command, monkeypatch, f"{other}\n{other}\n1\n1\n", race)
    assert said.code == cli.FINE
    assert "(no schedule here: * is the fair choice)" in said.out
    assert "ended after 4 steps without a bug, off the schedule from step 0 on." in said.out


def test_another_bug_than_the_findings_is_called_so(command, monkeypatch, file):
    """Whoever leaves the schedule may find something else."""
    edit(file, signature="zombie: something else")
    said = typed(command, monkeypatch, "c\n", file)
    assert said.code == cli.BUG
    assert "another bug than the finding's" in said.out


def test_steps_of_a_schedule_that_does_not_fit_stop_where_it_does_not(command, monkeypatch, file):
    """What was shown so far stays; the message is that of strict replay."""
    schedule = json.loads(file.read_text())["schedule"]
    schedule[1]["operation"] = "somersault"
    edit(file, schedule=schedule)
    said = typed(command, monkeypatch, "\n\n", file)
    assert said.code == cli.MISTAKE
    assert "step 1 expected" in said.err
    assert "--lenient" in said.err
    assert "step 0, " in said.out


def test_choices_are_shown_on_the_schedule_and_asked_for_off_it(command, monkeypatch, write):
    """A number for a value counts from 1, as those of steps do."""
    write(
        "@scenario(title='t')\n"
        "async def story(machine):\n"
        "    from slabactors.kernel.locking import Mutex\n"
        "    a, b = Mutex('a'), Mutex('b')\n"
        "    await parallel(a.lock(), b.lock())\n"
        "    value = await choose(3)\n"
        "    await a.unlock()\n"
        "    assert value != 2\n"
    )
    said = command("explore", "story.py", "--runs", 200, "--save", "out", "--json")
    file = said.document["findings"][0]["file"]
    on = typed(command, monkeypatch, "\n" * 9, file)
    assert on.code == cli.BUG
    assert "main chose 2 of 0 to 2, as in the schedule" in on.out
    other = "1" if "* 2" in on.out.split("step 0")[0] else "2"
    off = typed(command, monkeypatch, f"{other}\n\n2\n\n", file)
    assert off.code == cli.FINE
    assert "main chooses a number: 1 for 0, and so on up to 3" in off.out
    assert typed(command, monkeypatch, f"{other}\n\n3\n\n", file).code == cli.BUG


def test_stepping_writes_a_log_when_it_is_not_stopped(command, monkeypatch, found, tmp_path):
    """All or nothing, as everywhere."""
    monkeypatch.setattr("sys.stdin", io.StringIO("\nq\n"))
    assert command("replay", found, "--step", "--log", "run.jsonl").code == cli.UNDETERMINED
    assert listing(tmp_path) == set()
    monkeypatch.setattr("sys.stdin", io.StringIO("c\n"))
    assert command("replay", found, "--step", "--log", "run.jsonl").code == cli.BUG
    lines = (tmp_path / "run.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["event"] == "end"


# -- options that do not go together -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        (["--lenient", "--step"], "--lenient and --step are different ways to replay"),
        (["--lenient", "--explore", 5], "--lenient and --explore are different"),
        (["--explore", 0], "--explore must be at least 1, not 0"),
        (["--prefix", 3], "--prefix goes with --explore only"),
        (["--save", "out"], "--save goes with --explore only"),
        (["--strategy", "random"], "--strategy goes with --lenient or --explore only"),
        (["--explore", 5, "--log", "run.jsonl"], "--log is for one run"),
        (["--step", "--json"], "--step talks to a person"),
        (["--explore", 5, "--prefix", 1000], "--prefix must be from 0 to"),
        (["--explore", 5, "--prefix", -1], "--prefix must be from 0 to"),
        (["--explore", 5, "--strategy", "fair"], "unknown strategy 'fair'"),
        (["--lenient", "--strategy", "guess"], "unknown strategy 'guess'"),
    ],
)
def test_options_that_do_not_go_together_are_refused(command, found, options, fragment):
    """Before anything runs, with what to type instead."""
    said = command("replay", found, *options)
    assert said.code == cli.MISTAKE
    assert said.out == ""
    assert fragment in said.err


@pytest.mark.parametrize("mode", [["--lenient"], ["--explore", 5], ["--step"]])
def test_every_mode_refuses_what_is_no_finding(command, file, mode):
    """Cut short, foreign, of another format: the same words as strictly."""
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    refused(command("replay", file, *mode), "is not a finding")
    file.write_text('{"format": "sarif"}')
    refused(command("replay", file, *mode), "is JSON but not a finding")
    file.write_bytes(whole)
    edit(file, format_version=2, program_version="9.9.9")
    refused(command("replay", file, *mode), "format version 2", "9.9.9")
    refused(command("replay", "gone.json", *mode), "cannot read the finding")
