"""Where output goes, and what happens when it cannot: files, pipes, full disks, and Ctrl-C."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from slabactors import cli
from slabactors.cli import explore as explore_module
from slabactors.explore import shrink as shrink_module
from slabactors.report import shrinking as shrinking_module
from slabactors.trace.export import FORMATS
from slabactors.trace.reader import LogReader
from tests.cli.conftest import PROGRAM, listing, refused

BROKEN = "dead-cache/rmdir-races-last-free"

FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")


# -- logs --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def logging(command, tmp_path):
    """The commands that write a log."""
    finding = command("explore", BROKEN, "--runs", 20, "--save", "out", "--json").document["findings"][0]["file"]
    recorded = Path(__file__).parent.parent / "data" / "trace" / "trace-cgroup.txt"
    return {
        "run": ["run", "dead-cache/emptied"],
        "replay": ["replay", finding],
        "trace": ["trace", recorded, "--limit", "10"],
    }


verbs = pytest.mark.parametrize("verb", ["run", "replay", "trace"])


@verbs
def test_a_log_in_a_directory_that_is_not_there(command, logging, tmp_path, verb):
    """A log's directory is not made; its path and what is wrong with it are said."""
    before = listing(tmp_path)
    refused(command(*logging[verb], "--log", "no/run.jsonl"), "no/run.jsonl", "No such file", "--log FILE.jsonl")
    assert listing(tmp_path) == before


@verbs
def test_a_directory_cannot_be_a_log(command, logging, tmp_path, verb):
    """A directory given for a log is refused and left alone."""
    before = listing(tmp_path)
    refused(command(*logging[verb], "--log", tmp_path), "Is a directory", "--log FILE.jsonl")
    assert listing(tmp_path) == before


@verbs
def test_a_file_cannot_be_a_logs_directory(command, logging, tmp_path, verb):
    """A path through a file is refused."""
    (tmp_path / "file").write_text("mine")
    refused(command(*logging[verb], "--log", "file/run.jsonl"), "Not a directory", "--log FILE.jsonl")
    assert (tmp_path / "file").read_text() == "mine"


@needs_full
@verbs
def test_a_full_disk_under_a_log(command, logging, verb):
    """A write that fails while it runs is the user's to mend, not a bug of ours."""
    refused(command(*logging[verb], "--log", FULL), "/dev/full", "No space left", "--log FILE.jsonl")


def test_a_log_may_be_a_pipe(process, tmp_path):
    """What is no ordinary file is written to directly, here what stands for stdout."""
    said = process("run", "dead-cache/emptied", "--log", "/dev/stderr")
    assert said.code == cli.FINE
    lines = [json.loads(line) for line in said.err.splitlines()]
    assert [lines[0]["event"], lines[-1]["event"]] == ["run", "end"]
    assert listing(tmp_path) == set()


def test_a_run_that_is_refused_leaves_the_old_log_alone(command, write, tmp_path):
    """A log of before survives a run that could not be made."""
    write("@scenario(title='t')\nasync def story(machine):\n    raise SystemExit(0)\n")
    command("run", "dead-cache/emptied", "--log", "run.jsonl")
    before = (tmp_path / "run.jsonl").read_bytes()
    refused(command("run", "story.py", "--log", "run.jsonl"), "called exit")
    assert (tmp_path / "run.jsonl").read_bytes() == before
    assert listing(tmp_path) == {"run.jsonl", "story.py"}


def test_a_replay_that_does_not_fit_leaves_no_log(command, logging, tmp_path):
    """Half a replay is not logged."""
    file = tmp_path / logging["replay"][1]
    document = json.loads(file.read_text())
    document["schedule"][9]["path"] = "nobody"
    file.write_text(json.dumps(document))
    before = listing(tmp_path)
    refused(command("replay", file, "--log", "run.jsonl"), "step 9 expected nobody")
    assert listing(tmp_path) == before


# -- findings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["file", "file/out", "/proc/no/such"])
def test_a_directory_for_findings_that_cannot_be_written_to(command, tmp_path, place):
    """It is tried before the search, not after it."""
    (tmp_path / "file").write_text("mine")
    said = command("explore", BROKEN, "--runs", 10**9, "--save", place)
    refused(said, place, "--save DIR")
    assert listing(tmp_path) == {"file"}


def test_what_was_found_is_printed_although_it_cannot_be_saved(command, monkeypatch, tmp_path):
    """A disk that fills up while we search costs the files, not the answer."""

    def full(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    said = command("explore", BROKEN, "--runs", 100, "--save", "out", "--json")
    assert said.code == cli.MISTAKE
    assert "No space left on device" in said.err
    (finding, *_) = said.document["findings"]
    assert finding["kind"] == "freed-active-work"
    assert finding["file"] is None
    assert listing(tmp_path) == {"out/campaign.sqlite"}


# -- stdout ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_reader_that_has_read_enough_is_no_mistake(process, tmp_path, options):
    """``| head -1``: nothing on stderr, and the exit code still says that bugs were found."""
    with subprocess.Popen(
        [*PROGRAM, "explore", BROKEN, "--runs", "500", *options],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as explorer:
        assert explorer.stdout is not None
        assert explorer.stderr is not None
        explorer.stdout.close()
        errors = explorer.stderr.read()
        assert (explorer.wait(60), errors) == (cli.BUG, b"")


@pytest.mark.parametrize(
    ("line", "code"), [(["run", "nowhere"], cli.MISTAKE), (["explore", BROKEN, "--runs", "500"], cli.BUG)]
)
def test_nobody_need_listen_to_stderr(tmp_path, line, code):
    """A message that nobody reads does not change the exit code."""
    with subprocess.Popen(
        [*PROGRAM, *line], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as explorer:
        assert explorer.stderr is not None
        explorer.stderr.close()
        assert explorer.wait(60) == code


@needs_full
@pytest.mark.parametrize("line", [["list"], ["list", "--json"], ["explore", BROKEN, "--runs", "500", "--json"]])
def test_a_full_disk_under_stdout(tmp_path, line):
    """A result that cannot be written is said, once, and is not taken for a bug of ours."""
    with FULL.open("wb") as full:
        done = subprocess.run(
            [*PROGRAM, *line], cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60
        )
    assert done.returncode == cli.MISTAKE
    assert done.stderr.splitlines() == [
        "slabactors: cannot write the result to standard output: No space left on device.",
        "  Write it elsewhere: slabactors ... > FILE",
    ]


@pytest.mark.parametrize("closed", [1, 2])
def test_a_closed_stream_is_no_mistake(tmp_path, closed):
    """Who has closed stdout or stderr does not want to read it."""
    script = f'"$0" "$@" {closed}>&-'
    done = subprocess.run(
        ["sh", "-c", script, *PROGRAM, "explore", BROKEN, "--runs", "20"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == cli.BUG
    assert (done.stdout == "") == (closed == 1)
    assert done.stderr == ""


def test_a_terminal_without_unicode_can_show_any_title(write, process):
    """What stdout cannot print is escaped; JSON is plain ASCII."""
    write("@scenario(title='t')\nasync def story(machine):\n    raise RuntimeError('r\\u00e9sum\\u00e9 \\u2192')\n")
    ascii_only = os.environ | {"PYTHONIOENCODING": "ascii"}
    said = process("run", "story.py", env=ascii_only)
    assert said.code == cli.BUG
    assert "r\\xe9sum\\xe9 \\u2192" in said.out
    said = process("run", "story.py", "--json", env=ascii_only)
    assert said.code == cli.BUG
    assert said.document["finding"]["message"].endswith("r\u00e9sum\u00e9 \u2192")


# -- Ctrl-C ------------------------------------------------------------------------------------------------------------

INTERRUPTED = """
import signal
import sys

RUNS = []


class Box(Actor):
    @operation
    def open(self):
        pass


async def opener(box):
    await box.open()


@scenario(title="is interrupted in its run number LAST")
async def story(machine: Machine, *, last: int = 0, bug: bool = False) -> None:
    box = Box("box")
    first = await spawn(opener(box))
    await box.open()
    await join(first)
    RUNS.append(None)
    if len(RUNS) == last:
        signal.raise_signal(signal.SIGINT)
    if not last and len(RUNS) == 100:
        print("begun", file=sys.stderr, flush=True)
    assert not bug
"""


@pytest.mark.parametrize("last", [1, 3, 300, 1000])
@pytest.mark.parametrize("bug", [False, True])
def test_an_interrupted_search_shows_what_it_has(command, write, bug, last):
    """Ctrl-C ends with what was found so far: 1 if that is a bug, else 4, for nothing is known."""
    write(INTERRUPTED)
    line = ["explore", "story.py", "--runs", 10**9, "--set", f"last={last}", "--set", f"bug={bug}"]
    said = command(*line, "--json")
    # The first two runs see to it that the story repeats itself.
    made = max(last - 2, 0)
    assert said.err == (
        f"slabactors: interrupted after {made} execution{'' if made == 1 else 's'}; this is what was found so far.\n"
    )
    assert said.document["executions"] == made
    if bug and made:
        assert said.code == cli.BUG
        assert said.document["verdict"] == "broken"
        assert [finding["count"] for finding in said.document["findings"]] == [made]
    else:
        assert said.code == cli.UNDETERMINED
        assert (said.document["verdict"], said.document["findings"]) == ("undetermined", [])


def test_a_second_interruption_is_obeyed_at_once(command, write):
    """A run that does not end can be interrupted, too, and a search of its own accord leaves Ctrl-C as it was."""
    before = signal.getsignal(signal.SIGINT)
    write("""
import signal


@scenario(title="is interrupted for ever")
async def story(machine: Machine) -> None:
    while True:
        signal.raise_signal(signal.SIGINT)
""")
    said = command("explore", "story.py")
    assert (said.code, said.out, said.err) == (cli.UNDETERMINED, "", "slabactors: interrupted.\n")
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupted_search_says_that_it_was(command, write):
    """The text of an interrupted search does not say that there is no bug."""
    write(INTERRUPTED)
    said = command("explore", "story.py", "--set", "last=300")
    assert said.code == cli.UNDETERMINED
    assert "Undetermined: interrupted before a bug was found." in said.out
    assert "No bug" not in said.out


def test_an_interruption_while_shrinking_gives_the_best_so_far(command, monkeypatch):
    """Every bug is shown; those that were not shrunken yet with the first schedule that was confirmed."""
    real, calls = shrink_module.shrink, []

    def interrupted(*arguments, **options):
        calls.append(arguments)
        if len(calls) == 2:
            signal.raise_signal(signal.SIGINT)
        return real(*arguments, **options)

    monkeypatch.setattr(shrinking_module, "shrink", interrupted)
    said = command("explore", BROKEN, "--runs", 500, "--json")
    assert said.code == cli.BUG
    assert said.err == "slabactors: interrupted; the schedules shown are the best so far.\n"
    findings = said.document["findings"]
    assert len(findings) == len(calls) > 2
    assert findings[0]["preemptions_minimum"] is True
    assert all(one["racing_pair"] is None for one in findings[1:])


def test_a_second_interruption_while_shrinking_keeps_what_is_shrunken(command, monkeypatch):
    """The bugs already shrunken are shown, and how many there are in all."""
    real, calls = shrink_module.shrink, []

    def interrupted(*arguments, **options):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    monkeypatch.setattr(shrinking_module, "shrink", interrupted)
    said = command("explore", BROKEN, "--runs", 500, "--json")
    assert said.code == cli.BUG
    assert re.fullmatch(r"slabactors: interrupted; 1 of \d distinct bugs are shown\.\n", said.err)
    assert len(said.document["findings"]) == 1


@pytest.mark.parametrize(
    ("bug", "code", "text"),
    [(True, cli.BUG, "1 distinct bug."), (False, cli.UNDETERMINED, "Undetermined: interrupted")],
)
def test_ctrl_c_ends_a_search_in_the_terminal(write, tmp_path, bug, code, text):
    """The signal itself, sent to a search that has begun: no traceback, and the answer so far on stdout."""
    write(INTERRUPTED)
    with subprocess.Popen(
        [*PROGRAM, "explore", "story.py", "--runs", "1000000000", "--set", f"bug={bug}"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as explorer:
        assert explorer.stderr is not None
        assert explorer.stderr.readline() == "begun\n"
        explorer.send_signal(signal.SIGINT)
        out, err = explorer.communicate(timeout=60)
    assert explorer.returncode == code
    assert err.startswith("slabactors: interrupted after ")
    assert err.count("\n") == 1
    assert text in out


def test_ctrl_c_ends_any_other_command(command, write):
    """Where there is nothing to show yet, that it was interrupted is all there is to say."""
    write(INTERRUPTED)
    said = command("run", "story.py", "--set", "last=1", "--log", "run.jsonl")
    assert (said.code, said.out, said.err) == (cli.UNDETERMINED, "", "slabactors: interrupted.\n")


@pytest.mark.parametrize("moment", ["cyclopts", "slabactors.cli.app", "slabactors.cli.log", "slabactors.trace.query"])
def test_ctrl_c_before_a_command_has_begun_shows_no_traceback(tmp_path, moment):
    """Imports take a while, too; here the signal comes with one of them."""
    program = f"""
import signal, sys

class Interrupted:
    def find_spec(self, name, *_):
        if name == {moment!r}:
            signal.raise_signal(signal.SIGINT)

from slabactors.cli import main
sys.meta_path.insert(0, Interrupted())
main(["log", "stats", "nowhere.jsonl"])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (cli.UNDETERMINED, "", "slabactors: interrupted.\n")


READING = {
    "stats": ["log", "stats", "run.jsonl"],
    "diff": ["log", "diff", "run.jsonl", "run.jsonl"],
    "follow": ["log", "follow", "run.jsonl", "slab0"],
    "export": ["log", "export", "run.jsonl", "--format", "perfetto", "-o", "out.json"],
    "report": ["report", "run.jsonl", "-o", "out.html"],
}


@pytest.mark.parametrize("name", READING)
def test_ctrl_c_while_a_log_is_read_leaves_nothing(command, monkeypatch, tmp_path, name):
    """It comes at the tenth step: no answer that looks like a whole one, and no half of a file."""
    command("run", BROKEN, "--seed", 3, "--log", "run.jsonl")
    real = LogReader.steps

    def interrupted(self):
        for number, step in enumerate(real(self)):
            if number == 10:
                signal.raise_signal(signal.SIGINT)
            yield step

    monkeypatch.setattr(LogReader, "steps", interrupted)
    said = command(*READING[name])
    assert (said.code, said.err) == (cli.UNDETERMINED, "slabactors: interrupted.\n")
    assert listing(tmp_path) == {"run.jsonl"}


ANSWERS = {
    **READING,
    "show": ["log", "show", "run.jsonl"],
    "lanes": ["log", "show", "run.jsonl", "--lanes", "--to", "9"],
    "lines": ["log", "show", "run.jsonl", "--json"],
    "why": ["log", "why", "run.jsonl", "20"],
    "sql": ["log", "sql", "run.jsonl", "SELECT * FROM steps"],
    "shiviz": ["log", "export", "run.jsonl", "--format", "shiviz"],
    "replay": ["replay", "finding.json"],
    "story": ["why", "finding.json"],
    "new": ["new", "scenario", "my-story", "--force"],
}


@needs_full
@pytest.mark.parametrize("name", ANSWERS)
def test_every_answer_may_be_read_in_part_or_have_no_room(command, tmp_path, name):
    """``| head -1`` leaves the exit code as it is; a full disk is said, with what to type."""
    command("run", BROKEN, "--seed", 3, "--log", "run.jsonl")
    found = command("explore", BROKEN, "--runs", 20, "--save", "out", "--json").document["findings"][0]["file"]
    Path(found).rename("finding.json")
    code = command(*ANSWERS[name]).code
    line = [*PROGRAM, *ANSWERS[name]]
    with subprocess.Popen(line, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as reader:
        assert reader.stdout is not None
        assert reader.stderr is not None
        reader.stdout.close()
        assert (reader.stderr.read(), reader.wait(60)) == (b"", code)
    with FULL.open("wb") as full:
        done = subprocess.run(
            line, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60
        )
    assert done.returncode == cli.MISTAKE
    assert done.stderr.startswith(
        "slabactors: cannot write the result to standard output: No space left on device.\n  "
    )


@needs_full
@pytest.mark.parametrize("place", ["no/out", "folder", "file/out", "/proc/out", "/dev/full"])
@pytest.mark.parametrize(
    "line",
    [
        ["why", "finding.json", "--mermaid"],
        ["report", "finding.json", "-o"],
        ["report", "run.jsonl", "-o"],
        ["run", "dead-cache/emptied", "--slabinfo"],
        ["run", "dead-cache/emptied", "--sysfs"],
        ["run", "dead-cache/emptied", "--runtime", "asyncio", "--log"],
        *(["log", "export", "run.jsonl", "--format", name, "-o"] for name in FORMATS),
    ],
    ids=" ".join,
)
def test_a_file_that_cannot_be_written_is_named_with_its_option(command, tmp_path, line, place):
    """No directory, a directory, a file for a directory, a place where nobody may write, and a full disk."""
    command("run", BROKEN, "--seed", 3, "--log", "run.jsonl")
    found = command("explore", BROKEN, "--runs", 20, "--save", "out", "--json").document["findings"][0]["file"]
    Path(found).rename("finding.json")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine").write_text("mine")
    (tmp_path / "file").write_text("mine")
    before = listing(tmp_path)
    said = command(*line, place)
    assert said.code == cli.MISTAKE
    assert said.err.startswith("slabactors: ")
    assert said.err.count("slabactors: ") == 1
    assert place in said.err
    assert "\n  Give" in said.err
    assert listing(tmp_path) == before
    assert (tmp_path / "file").read_text() == (tmp_path / "folder" / "mine").read_text() == "mine"


# -- our own mistakes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_bug_of_our_own_has_an_exit_code_of_its_own(command, monkeypatch, options):
    """3, what went wrong, and how to see more of it; nobody is told that a kernel is broken."""

    def broken(*_, **__):
        raise KeyError("what")

    monkeypatch.delenv("SLABACTORS_TRACEBACK", raising=False)
    monkeypatch.setattr(explore_module, "search", broken)
    said = command("explore", BROKEN, *options)
    assert (said.code, said.out) == (cli.INTERNAL, "")
    assert said.err.startswith("slabactors: slabactors itself failed: KeyError: 'what'\n")
    assert "SLABACTORS_TRACEBACK=1" in said.err
    assert "Traceback" not in said.err


def test_the_traceback_of_our_own_bug_is_there_for_the_asking(command, monkeypatch):
    """With SLABACTORS_TRACEBACK set the exception comes out as it is."""

    def broken(*_, **__):
        raise KeyError("what")

    monkeypatch.setenv("SLABACTORS_TRACEBACK", "1")
    monkeypatch.setattr(explore_module, "search", broken)
    with pytest.raises(KeyError, match="what"):
        command("explore", BROKEN)


def test_main_exits_with_the_code(monkeypatch, tmp_path, capsys):
    """What a shell sees is what the command gave."""
    monkeypatch.setattr(sys, "argv", ["slabactors", "run", "dead-cache/emptied", "--lifecycle", "pre-patch"])
    with pytest.raises(SystemExit) as leaving:
        cli.main()
    assert leaving.value.code == cli.BUG
    with pytest.raises(SystemExit) as leaving:
        cli.main(["run", "dead-cache/emptied"])
    assert leaving.value.code == cli.FINE
    assert "destroyed" in capsys.readouterr().out
