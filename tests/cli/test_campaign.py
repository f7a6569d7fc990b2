"""Campaigns: a search by several processes, on a cluster, in a directory that it goes on in after it was killed."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from slabactors import cli
from slabactors.explore import cluster
from slabactors.explore import shrink as shrink_module
from slabactors.explore.cluster import connected
from slabactors.explore.corpus import NAME
from slabactors.explore.parallel import search_parallel
from slabactors.explore.verify_parallel import verify_parallel
from slabactors.report import shrinking as shrinking_module
from slabactors.scenario import find
from tests.cli.conftest import PROGRAM, listing, refused
from tests.explore.test_parallel import alone, ended

BROKEN = "dead-cache/rmdir-races-last-free"
LINE = ["explore", BROKEN, "--strategy", "random", "--seed", "7", "--json"]


def same(document) -> dict:
    """What two runs of one search must agree in."""
    document = json.loads(document) if isinstance(document, str) else document
    for finding in document["findings"]:
        finding.pop("file")
    return {name: value for name, value in document.items() if name != "seconds"}


def blocks_done(directory: Path) -> int:
    """How many blocks of a campaign are done."""
    if not (directory / NAME).exists():
        return 0
    try:
        with closing(sqlite3.connect(f"file:{directory / NAME}?mode=ro", uri=True, timeout=10)) as database:
            return database.execute("SELECT count(*) FROM block").fetchone()[0]
    except sqlite3.OperationalError:
        return 0  # it is just being made


# -- several processes -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_several_processes_say_what_one_says(command):
    """The same document but for the seconds; the same text but for them."""
    one = command(*LINE, "--runs", 700)
    two = command(*LINE, "--runs", 700, "--jobs", 2)
    assert one.code == two.code == cli.BUG
    assert two.err == ""
    assert same(one.out) == same(two.out)


@pytest.mark.parametrize(
    ("options", "fragments"),
    [
        (["--jobs", 0], ["from 1 to", "not 0", "--jobs 2"]),
        (["--jobs", 100_000], ["from 1 to", "not 100000"]),
        (["--jobs", "many"], ["--jobs", "many"]),
        (["--jobs", 2, "--executor", "dask://127.0.0.1:1"], ["--jobs or --executor"]),
        (["--executor", "ray://127.0.0.1:1"], ["'ray://127.0.0.1:1'", "--executor dask://127.0.0.1:8786"]),
        (["--executor", "dask://somewhere"], ["'dask://somewhere'", "--executor dask://127.0.0.1:8786"]),
    ],
)
def test_what_cannot_run_blocks_is_refused(command, tmp_path, options, fragments):
    """Before anything is run or written."""
    refused(command("explore", BROKEN, *options, "--save", "out"), *fragments)
    assert listing(tmp_path) == set()


@pytest.mark.slow
def test_ctrl_c_in_the_terminal_ends_all_processes(tmp_path):
    """All of them get the signal; one line, no traceback, what was found so far, and nobody is left."""
    with subprocess.Popen(
        [*PROGRAM, *LINE, "--runs", "1000000000", "--jobs", "2", "--save", "out"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as explorer:
        until = time.monotonic() + 60
        while blocks_done(tmp_path / "out") < 3:
            assert time.monotonic() < until
            time.sleep(0.02)
        os.killpg(explorer.pid, signal.SIGINT)
        out, err = explorer.communicate(timeout=60)
    assert explorer.returncode == cli.BUG
    assert err.startswith("slabactors: interrupted after ")
    assert err.count("\n") == 1
    document = json.loads(out)
    assert document["executions"] >= 3 * 256
    assert document["findings"]
    assert gone(explorer.pid)


def gone(group: int) -> bool:
    """Whether all processes of a group end soon."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


# -- going on ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_campaign_that_is_killed_goes_on_where_it_was(command, process, tmp_path):
    """Ten kills at random moments, with one process and with two; the answer in the end is that of an unbroken run."""
    line = [*LINE, "--runs", "5632"]
    started = time.monotonic()
    wanted = same(command(*line).out)
    pace = max(1.0, time.monotonic() - started)  # on a machine with other work everything takes longer
    source = random.Random("kills")
    done = []
    kills = 0
    while kills < 10:
        jobs = ["--jobs", "2"] if kills % 3 == 2 else []
        with subprocess.Popen(
            [*PROGRAM, *line, "--save", "out", *jobs],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as explorer:
            # At any moment of its life, but not so late that nothing would be left for the kills to come.
            until = time.monotonic() + pace * source.uniform(0.1, 0.7)
            while time.monotonic() < until and blocks_done(tmp_path / "out") <= sum(done[-1:]):
                time.sleep(0.005)
            time.sleep(source.uniform(0, 0.03))
            assert explorer.poll() is None, "it was not killed: let it run for longer"
            explorer.kill()
        kills += 1
        done.append(blocks_done(tmp_path / "out"))
    assert done == sorted(done)
    assert 0 < done[-1] < 22
    last = process(*line, "--save", "out")
    assert same(last.out) == wanted
    assert last.err == f"slabactors: {256 * done[-1]} executions had been made before; going on from there.\n"
    assert not [name for name in listing(tmp_path) if name.endswith((".part", "-wal", "-shm"))]
    assert blocks_done(tmp_path / "out") == 22


@pytest.mark.slow
def test_two_processes_share_a_directory(command, tmp_path):
    """At once, on the same campaign: both say what one alone says, and no block is done twice."""
    line = [*LINE, "--runs", "3000"]
    wanted = same(command(*line).out)
    with ExitStack() as stack:
        both = [
            stack.enter_context(
                subprocess.Popen([*PROGRAM, *line, "--save", "out"], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
            )
            for _ in range(2)
        ]
        documents = [same(one.communicate(timeout=60)[0]) for one in both]
    assert [document | {"known": []} for document in documents] == [wanted, wanted]
    assert blocks_done(tmp_path / "out") == 12


def test_what_is_known_is_run_again_first(command, write):
    """Schedules that still fail, that do not any more, and that do not fit any more, each by name."""
    story = write(
        """
from slabactors.actors import Actor, join, operation, spawn


class Counter(Actor):
    value = 0

    @operation(reads="value")
    def get(self) -> int:
        return self.value

    @operation(writes="value")
    def put(self, value: int) -> None:
        self.value = value


async def add(counter, extra):
    value = await counter.get()
    await counter.put(value + 1)
    if extra:
        await counter.get()


@scenario(title="t")
async def story(machine):
    counter = Counter("counter")
    tasks = [await spawn(add(counter, EXTRA)) for _ in range(2)]
    for task in tasks:
        await join(task)
    assert await counter.get() == 2 or FIXED
""".replace("EXTRA", "False").replace("FIXED", "False")
    )
    text = story.read_text()
    line = ["explore", "story.py", "--runs", 60, "--save", "out"]
    first = command(*line, "--json").document
    assert (first["known"], first["verdict"]) == ([], "broken")
    [bug] = first["findings"]

    again = command(*line, "--json", "--seed", 1).document
    [known] = again["known"]
    assert (known["signature"], known["state"]) == (bug["signature"], "fails")
    said = command("verify", "story.py", "--save", "out")
    assert said.code == cli.BUG
    assert f"1 known schedule of out run again: 1 still broken\n  fails: {bug['signature']}\n" in said.out

    for change, state, told in (
        (text.replace("or False", "or True"), "passes", "1 not broken any more"),
        (text.replace("add(counter, False)", "add(counter, True)").replace("or False", "or True"), "diverges", "not"),
    ):
        story.write_text(change)
        said = process_of(story, *line)
        assert said.returncode == cli.FINE, said.stderr
        assert told in said.stdout
        assert f"  {state}: {bug['signature']}\n    " in said.stdout
        document = json.loads(process_of(story, *line, "--json").stdout)
        assert [one["state"] for one in document["known"]] == [state]
        assert document["verdict"] == "clean"


def process_of(story: Path, *line: object) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own, which imports the story anew."""
    return subprocess.run(
        [*PROGRAM, *map(str, line)], cwd=story.parent, capture_output=True, text=True, timeout=60, check=False
    )


def test_a_known_bug_that_is_still_there_is_a_bug(command):
    """A search that is too short to find it again does not say that there is none."""
    assert command("explore", BROKEN, "--runs", 500, "--save", "out").code == cli.BUG
    short = ["explore", BROKEN, "--runs", 1, "--seed", 4, "--save", "out"]
    said = command(*short)
    assert said.code == cli.BUG
    assert "No bug in 1 execution.  That is not a proof.\nA bug that was known is still there.\n" in said.out
    document = command(*short, "--json").document
    assert (document["verdict"], document["findings"]) == ("broken", [])
    assert {one["state"] for one in document["known"]} == {"fails"}


def test_a_changed_source_is_searched_anew(command, write, tmp_path):
    """What was done with other sources says nothing, also when it is a file beside it that has changed."""
    (tmp_path / "beside.py").write_text("VALUE = 1\n")
    write("import beside\n\n@scenario(title='t')\nasync def story(machine):\n    assert beside.VALUE\n")
    line = ["explore", "story.py", "--runs", 300, "--save", "out"]
    assert command(*line).code == cli.FINE
    assert "300 executions had been made before" in command(*line).err
    (tmp_path / "beside.py").write_text("VALUE = 0\n")
    said = process_of(tmp_path / "story.py", *line)
    assert (said.returncode, said.stderr) == (cli.BUG, "")


# -- what goes wrong ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["explore", "verify"])
@pytest.mark.parametrize("content", [b"\0" * 5000, b"SQLite format 3\0" + b"\1" * 5000, b"mine"])
def test_a_corpus_that_is_none_is_refused(command, tmp_path, verb, content):
    """Before the search, in one message, and it is left as it is."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / NAME).write_bytes(content)
    refused(command(verb, BROKEN, "--save", "out"), f"out/{NAME} is damaged", "Move it away", "--save DIR")
    assert (tmp_path / "out" / NAME).read_bytes() == content
    assert listing(tmp_path) == {f"out/{NAME}"}


def test_a_corpus_that_is_a_directory_is_refused(command, tmp_path):
    """As any place that cannot be written to."""
    (tmp_path / "out" / NAME).mkdir(parents=True)
    refused(command("explore", BROKEN, "--save", "out"), f"out/{NAME}", "unable to open", "--save DIR")


@pytest.mark.slow
def test_a_disk_that_fills_up_costs_neither_the_answer_nor_what_was_kept(command, process, tmp_path):
    """What was found is printed, then why it ended; with room again the same command goes on."""
    line = [*LINE, "--runs", "3000", "--save", "out"]

    def little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (120_000, 120_000))

    full = process(*line, preexec_fn=little_room)
    assert full.code == cli.MISTAKE
    assert f"cannot write the campaign to out/{NAME}: " in full.err
    assert "the same command goes on from there" in full.err
    assert "Traceback" not in full.err
    document = full.document
    assert document["findings"]
    assert 0 < document["executions"] < 3000
    assert not [name for name in listing(tmp_path) if name.endswith(".part")]
    assert 0 < blocks_done(tmp_path / "out") < 12
    assert same(command(*line).out)["findings"] == same(command(*LINE, "--runs", "3000").out)["findings"]


def test_an_interruption_while_shrinking_keeps_what_is_shrunken(command, monkeypatch, tmp_path):
    """The file of the bug that is done is there; the next command shrinks the others, and runs nothing again."""
    real, calls = shrink_module.shrink, []

    def interrupted(*arguments, **options):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(shrinking_module, "shrink", interrupted)
        said = command(*LINE, "--runs", 500, "--save", "out")
    assert said.code == cli.BUG
    [finding] = said.document["findings"]
    assert listing(tmp_path) == {f"out/{NAME}", finding["file"]}
    again = command(*LINE, "--runs", 500, "--save", "out")
    assert "500 executions had been made before" in again.err
    wanted = same(command(*LINE, "--runs", 500).out)
    assert same(again.out)["findings"] == wanted["findings"]


@pytest.mark.slow
def test_a_worker_that_dies_each_time_costs_nothing_that_was_found(process, write):
    """Exit 2 and which executions; the findings of the others come first."""
    write("""
import multiprocessing
import os
import signal
from slabactors.actors import choose


@scenario(title="kills")
async def story(machine):
    first = await choose(2)
    values = [await choose(2) for _ in range(9)]
    if multiprocessing.parent_process() is not None and all(values):
        os.kill(os.getpid(), signal.SIGKILL)
    assert first or any(values)
""")
    said = process("explore", "story.py", "--runs", 4000, "--strategy", "random", "--jobs", 2, "--json")
    assert said.code == cli.MISTAKE
    assert "4 processes died that ran executions " in said.err
    assert "--jobs 1 --runs" in said.err
    assert "Traceback" not in said.err
    assert not said.document["findings"] or said.document["verdict"] == "broken"


OF_A_WORKER = ["--host", "127.0.0.1", "--no-dashboard", "--nthreads", "1", "--no-nanny"]


# -- a cluster ---------------------------------------------------------------------------------------------------------


def test_nobody_listens(command, monkeypatch, tmp_path):
    """One message, soon, and nothing was run or written."""
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 0.5)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        started = time.monotonic()
        said = command("explore", BROKEN, "--executor", f"dask://{address}", "--save", "out")
    refused(said, f"no Dask scheduler answers at {address}", "dask scheduler --port")
    assert time.monotonic() - started < 20
    assert listing(tmp_path) == set()


def test_a_cluster_needs_its_extra(command, monkeypatch):
    """Without the library it says what to install."""
    monkeypatch.setitem(sys.modules, "distributed", None)
    refused(command("explore", BROKEN, "--executor", "dask://127.0.0.1:1"), "pip install 'slabactors[cluster]'")


@pytest.mark.slow
def test_a_cluster_finds_what_one_process_finds_though_a_worker_dies(monkeypatch, tmp_path):
    """A scheduler and two workers of this machine; one worker is killed in the middle."""
    program = find(BROKEN).bind()
    options = {"runs": 4000, "seed": 3}
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = str(unused.getsockname()[1])
    with ExitStack() as stack:

        def start(*line: str) -> subprocess.Popen[bytes]:
            process = stack.enter_context(
                subprocess.Popen([sys.executable, "-m", *line], cwd=tmp_path, stderr=subprocess.DEVNULL)
            )
            stack.callback(process.kill)
            return process

        here = ["--host", "127.0.0.1", "--no-dashboard"]
        start("distributed.cli.dask_scheduler", *here, "--port", port, "--no-show")
        workers = [start("distributed.cli.dask_worker", f"tcp://127.0.0.1:{port}", *OF_A_WORKER) for _ in range(2)]
        monkeypatch.setattr(cluster, "CONNECT_SECONDS", 60)
        crew = stack.enter_context(connected(f"dask://127.0.0.1:{port}"))
        crew.client.wait_for_workers(2, timeout=60)
        result = None
        for result in search_parallel(program, executor=crew, **options):
            if result.executions and workers[0].poll() is None:
                workers[0].kill()
                workers[0].wait()
        # What is left of the cluster divides an exhaustive search as well.
        *_, proved = verify_parallel(find(BROKEN).bind(lifecycle_name="repaired"), executor=crew)
    assert (proved.verdict, proved.exhaustive, proved.statistics.executions) == ("verified", True, 85)
    assert result is not None
    assert workers[0].returncode == -signal.SIGKILL
    assert ended([result]) == alone(program, **options)
