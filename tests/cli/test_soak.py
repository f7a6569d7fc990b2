"""``run --duration``: live, again and again; what it says meanwhile, in the end, and when it is interrupted."""

from __future__ import annotations

import gc
import io
import json
import re
import signal
import subprocess
import sys
import time
from functools import partial

import anyio
import msgspec
import pytest

from slabactors import cli
from slabactors.cli.once import LiveOptions
from slabactors.cli.output import Ticker
from slabactors.cli.soak import Soaked, _soak
from slabactors.explore.finding import signature
from slabactors.explore.replay import replay
from slabactors.runtime.step import Decision
from slabactors.scenario import find
from slabactors.trace.log import StepFields
from tests.cli.conftest import PROGRAM, listing, refused

STORY = "dead-cache/rmdir-races-last-free"
HEAD = """\
import anyio
from slabactors.scenario import Machine, scenario
"""
WAITS = """
@scenario(title="waits for the host for ever")
async def story(machine: Machine) -> None:
    open("begun", "w").close()
    await anyio.sleep_forever()
"""
BREAKS = """
@scenario(title="breaks after it has waited for the host")
async def story(machine: Machine) -> None:
    await anyio.sleep(0)
    raise LookupError("gone")
"""


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_each_bug_is_counted_shrunk_and_kept(command, tmp_path, runtime):
    """Two of three live runs of this story break; the file of the finding shows the bug again in the simulator."""
    said = command("run", STORY, "--runtime", runtime, "--duration", 1, "--save", "kept", "--json")
    assert said.code == cli.BUG
    document = said.document
    assert (document["runtime"], document["verdict"], document["interrupted"]) == (runtime, "broken", False)
    assert document["executions"] >= sum(finding["count"] for finding in document["findings"]) > 0
    assert document["deliveries"] > document["executions"]
    assert document["seconds"] >= 1
    [finding] = document["findings"]
    assert finding["kind"] == "freed-active-work"
    assert len(finding["schedule"]) <= 41
    assert listing(tmp_path) == {finding["file"]}
    again = command("replay", finding["file"])
    assert again.code == cli.BUG
    assert finding["signature"] in again.out


def test_the_summary_has_the_table_of_each_bug(command):
    said = command("run", STORY, "--runtime", "asyncio", "--duration", 0.5)
    assert said.code == cli.BUG
    assert said.out.startswith(f"{STORY} under v5 (asyncio, seed 0): ")
    assert "1. freed-active-work: free of an active work item by kworker\n" in said.out
    assert "race: " in said.out
    assert said.out.endswith("1 distinct bug.\n")
    assert said.err == ""


def test_nothing_found_is_fine_and_no_proof(command):
    said = command("run", STORY, "--lifecycle", "repaired", "--runtime", "trio", "--duration", 0.01)
    assert said.code == cli.FINE
    assert re.search(r"No bug in \d+ runs?\.  That is not a proof\.", said.out)


def test_a_run_that_hits_its_bound_is_undetermined(command, write):
    write(
        """
@scenario(title="never ends")
async def story(machine: Machine) -> None:
    while True:
        await machine.slab_mutex.lock()
        await machine.slab_mutex.unlock()
""",
        head=HEAD,
    )
    said = command("run", "story.py", "--runtime", "asyncio", "--duration", 0.01)
    assert said.code == cli.UNDETERMINED
    assert "1 of 1 runs hit the bound on steps" in said.out


def test_a_bug_that_no_simulated_run_can_repeat_is_told_all_the_same(command, write):
    write(BREAKS, head=HEAD)
    said = command("run", "story.py", "--runtime", "asyncio", "--duration", 0.01)
    assert said.code == cli.BUG
    assert "1. exception: LookupError at story.py:" in said.out
    assert "; its schedule cannot be shown" in said.out
    assert "its schedule cannot be shown: " in said.err
    [finding] = command("run", "story.py", "--runtime", "trio", "--duration", 0.01, "--json").document["findings"]
    assert finding["message"].endswith("gone")
    assert finding["schedule"] is finding["file"] is None


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_ctrl_c_ends_it_with_what_there_is(tmp_path, write, runtime):
    """Also in the middle of a run that would not end by itself."""
    write(WAITS, head=HEAD)
    arguments = ["run", "story.py", "--runtime", runtime, "--duration", "1000", "--json"]
    with subprocess.Popen(
        [*PROGRAM, *arguments], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as soaking:
        while not (tmp_path / "begun").exists():
            assert soaking.poll() is None
            time.sleep(0.01)
        soaking.send_signal(signal.SIGINT)
        out, err = soaking.communicate(timeout=60)
    assert soaking.returncode == cli.UNDETERMINED
    assert err == "slabactors: interrupted after 0 runs; this is what was found so far.\n"
    assert '"interrupted": true' in out
    assert '"verdict": "undetermined"' in out


def test_ctrl_c_after_a_bug_is_an_end_with_a_bug(tmp_path):
    """The summary, its table and the exit code are those of the time being up; piped, all of it is plain text."""
    arguments = ["run", STORY, "--runtime", "asyncio", "--duration", "1000", "--log", "run.jsonl"]
    log = tmp_path / "run.jsonl"
    with subprocess.Popen(
        [*PROGRAM, *arguments], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as soaking:
        while not (log.exists() and '"ending":"bug"' in log.read_text()):
            assert soaking.poll() is None
            time.sleep(0.01)
        soaking.send_signal(signal.SIGINT)
        out, err = soaking.communicate(timeout=60)
    assert soaking.returncode == cli.BUG
    assert re.fullmatch(r"slabactors: interrupted after \d+ runs?; this is what was found so far\.\n", err)
    assert "1. freed-active-work: free of an active work item by kworker\n" in out
    assert out.endswith("1 distinct bug.\n")
    assert not re.search(r"[^\n -~]", out)
    assert listing(tmp_path) == {"run.jsonl"}


# -- its log -----------------------------------------------------------------------------------------------------------


def as_logged(lines):
    """What a replay has in common with what it repeats: a value that was chosen may count elsewhere."""
    steps = [line for line in lines if line["event"] == "step"]
    return [(step["path"], step["operation"], step["actor"], step["jiffies"], step["changed"]) for step in steps]


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_the_log_is_of_the_first_run_that_broke_and_replays(command, tmp_path, runtime):
    """Every step up to the one that broke it and none after; the simulator takes the same ones."""
    said = command(
        "run", STORY, "--runtime", runtime, "--duration", 1, "--jitter", 0.5, "--log", "soak.jsonl", "--json"
    )
    assert said.code == cli.BUG
    assert listing(tmp_path) == {"soak.jsonl"}
    lines = [json.loads(row) for row in (tmp_path / "soak.jsonl").read_text().splitlines()]
    head, end = lines[0], lines[-1]
    assert (head["event"], head["runtime"], end["event"], end["ending"]) == ("run", runtime, "end", "bug")
    assert end["signature"] in [finding["signature"] for finding in said.document["findings"]]
    logged = as_logged(lines)
    decisions = [Decision(*one[:3]) for one in logged]
    if end["broke"] is not None:
        decisions.append(Decision(end["broke"]["path"], end["broke"]["operation"], end["broke"]["actor"]))
    again = Observed()
    execution = replay(find(STORY).bind(), decisions, observer=again)
    assert signature(execution.outcome) == end["signature"]
    assert as_logged(again.lines) == logged


class Observed:
    def __init__(self):
        self.fields, self.lines = StepFields(), []
        self.about_to_change = self.fields.about_to_change

    def __call__(self, step):
        self.lines.append({"event": "step", **msgspec.to_builtins(self.fields.of(step))})


def test_while_nothing_breaks_the_log_is_of_the_last_run(command, tmp_path):
    """Whole, with its end; and one that is interrupted leaves that of the run before."""
    said = command(
        "run", STORY, "--lifecycle", "repaired", "--runtime", "asyncio", "--duration", 0.3, "--log", "run.jsonl"
    )
    assert said.code == cli.FINE
    head, *steps, end = [json.loads(row) for row in (tmp_path / "run.jsonl").read_text().splitlines()]
    assert (head["event"], end["event"], end["ending"]) == ("run", "end", "done")
    assert [step["step"] for step in steps] == list(range(end["deliveries"]))
    assert listing(tmp_path) == {"run.jsonl"}


def test_steps_that_turn_out_not_to_count_are_not_in_the_log(command, write, tmp_path):
    """A path raises as of its last step; what others did before its task got to run is no part of the run."""
    write(
        """
@scenario(title="whoever is first gives up, the others go on")
async def story(machine: Machine) -> None:
    async def one():
        await machine.slab_mutex.lock()
        await machine.slab_mutex.unlock()
        raise LookupError("gone")

    await parallel(*(one() for _ in range(8)))
""",
        head="from slabactors.actors import parallel\n" + HEAD,
    )
    command("run", "story.py", "--runtime", "trio", "--jitter", 0, "--log", "run.jsonl")
    *lines, end = [json.loads(row) for row in (tmp_path / "run.jsonl").read_text().splitlines()]
    assert end["signature"].startswith("exception: LookupError")
    steps = [line for line in lines if line["event"] == "step"]
    assert [step["operation"] for step in steps] == ["lock", "unlock"]
    assert end["deliveries"] == 2
    observed = []
    live = anyio.run(
        partial(find(str(tmp_path / "story.py")).bind().execute_live, observer=observed.append), backend="trio"
    )
    assert len(observed) > live.steps, "this run had no step to take back; the test has tested nothing"


# -- meanwhile ---------------------------------------------------------------------------------------------------------


class Counter(Ticker):
    """Counts the objects that are alive after some runs, and ends it after so many."""

    def __init__(self, soaked, every, most):
        super().__init__()
        self.soaked, self.every, self.most = soaked, every, most
        self.alive = []

    def update(self, lines):
        if self.soaked.runs % self.every == 0:
            gc.collect()
            self.alive.append(len(gc.get_objects()))
        if self.soaked.runs == self.most:
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_memory_stays_flat(runtime):
    """After three hundred runs, two hundred of them broken, there are no more objects than after a hundred."""
    options = LiveOptions(runtime=runtime, seed=0, time_scale=1e6, jitter=0.3, duration=1000.0)
    soaked = Soaked()
    counter = Counter(soaked, 50, 300)
    anyio.run(_soak, find(STORY).bind(), options, soaked, counter, backend=runtime)
    assert soaked.interrupted
    assert soaked.runs >= 300
    assert sum(one.count for one in soaked.found.values()) > 100
    early, late = counter.alive[1], counter.alive[-1]
    # Of one run there are thousands; a new signature may come late, and keeps its schedule.
    assert late - early < 500, counter.alive


def test_every_run_has_a_seed_and_a_jitter_of_its_own(monkeypatch):
    """Another seed draws others; the same one the same."""
    drawn = []
    program = find(STORY).bind()
    execute = type(program).execute_live

    async def spy(self, **options):
        drawn.append((options["seed"], options["jitter"]))
        return await execute(self, **options)

    monkeypatch.setattr(type(program), "execute_live", spy)

    def runs_of(seed):
        drawn.clear()
        options = LiveOptions(runtime="asyncio", seed=seed, time_scale=1e6, jitter=0.3, duration=1000.0)
        soaked = Soaked()
        anyio.run(_soak, program, options, soaked, Counter(soaked, 100, 20))
        return drawn[:20]

    first = runs_of(0)
    assert len(set(first)) == 20
    assert all(0 <= jitter <= 0.6 for _, jitter in first)
    assert runs_of(0) == first
    assert runs_of(1) != first


def test_the_statistics_name_the_bugs_by_how_often_they_were_seen(capsys):
    """On a terminal they change in place; elsewhere they are a line now and then."""
    soaked = Soaked(runs=30, steps=4200, seconds=2.0)
    for number in range(12):
        soaked.found[f"bug {number}"] = type("Seen", (), {"signature": f"bug {number}", "count": number + 1})()
    head, *rows = soaked.lines()
    assert head == "2 s: 30 runs, 2,100 steps/s, 12 distinct bugs"
    assert rows[0].split() == ["12", "bug", "11"]
    assert rows[-1].strip() == "and 2 more"
    with Ticker(seconds=0) as ticker:
        ticker.update(lambda: ["1 s: 5 runs", "  3 bug a", "  2 bug b"])
    assert capsys.readouterr().err == "slabactors: 1 s: 5 runs: 3 bug a; 2 bug b\n"
    with Ticker() as ticker:
        ticker.update(lambda: pytest.fail("it is not time yet"))


def test_on_a_terminal_the_statistics_go_away_in_the_end(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    with Ticker() as ticker:
        ticker.update(lambda: ["1 s: 5 runs", "  3 bug a"])
        assert "5 runs" in screen.getvalue()
    assert screen.getvalue().endswith("\x1b[2K")


# -- mistakes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "fragments"),
    [
        (["--duration", 1], ["--duration is for live runs", "--runtime asyncio"]),
        (["--runtime", "asyncio", "--duration", 0], ["--duration is in seconds and must be more than 0"]),
        (["--runtime", "asyncio", "--duration", "inf"], ["--duration is in seconds"]),
        (["--runtime", "asyncio", "--duration", 1, "--slabinfo", "slabinfo"], ["are of one run"]),
        (["--save", "kept"], ["--save goes with --duration only", "slabactors explore"]),
        (["--runtime", "asyncio", "--duration", 1, "--save", "/dev/null/kept"], ["cannot write findings"]),
    ],
)
def test_what_does_not_go_together_is_refused(command, tmp_path, options, fragments):
    refused(command("run", STORY, *options), *fragments)
    assert not listing(tmp_path)
