"""``workload``: a script, a random one, or a recording."""

from __future__ import annotations

import gzip
import json
import signal
import subprocess
from pathlib import Path

import pytest

from slabactors import cli
from tests.cli.conftest import PROGRAM, refused

DATA = Path(__file__).parents[1] / "data"
SCRIPT = "# a story\ncreate c 256\n\nalloc 0 c 40 t\nfree 1 c t 0-31\nshrink c\n"


@pytest.fixture
def script(tmp_path):
    def go(text: str | bytes = SCRIPT) -> Path:
        path = tmp_path / "story.txt"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return go


@pytest.fixture
def recording(tmp_path):
    def go(name: str = "slub61/trace-private.jsonl", lines: int | None = None) -> Path:
        path = tmp_path / "recording.jsonl"
        with gzip.open(DATA / f"{name}.gz") as file:
            path.write_bytes(b"".join(file.readlines()[:lines]))
        return path

    return go


def test_json_is_one_line_for_each_operation(command, script):
    said = command("workload", script(), "--model", "slub-6.1", "--json")
    assert said.code == cli.FINE
    documents = [json.loads(line) for line in said.out.splitlines()]
    assert [(one["w"], one["i"], one["op"]) for one in documents] == [
        ("story", 0, "create c 256"),
        ("story", 1, "alloc 0 c 40 t"),
        ("story", 2, "free 1 c t 0-31"),
        ("story", 3, "shrink c"),
    ]
    assert documents[3]["d"]["gone"] == [0, 1]


def test_a_person_sees_a_table_with_what_went(command, script):
    said = command("workload", script(), "--model", "slub-6.1")
    assert said.code == cli.FINE
    assert "story.txt under slub-6.1: 4 CPUs, 1 node" in said.out
    assert "2 slabs went: 0, 1" in said.out
    assert said.out.endswith("played 4 operations: no finding\n")


def test_a_script_may_come_from_standard_input(process):
    said = process("workload", "-", "--json", input=SCRIPT)
    assert said.code == cli.FINE
    assert len(said.out.splitlines()) == 4
    assert json.loads(said.out.splitlines()[0])["w"] == "stdin"


@pytest.mark.parametrize(
    ("text", "fragments"),
    [
        ("", ["story.txt: the script is empty"]),
        ("create c 256\nalloc 9 c 1 t\n", ["story.txt: line 2: CPU 9", "--cpus 10"]),
        ("create c 256\nshrink d\n", ["line 2: there is no cache 'd'", "create d SIZE"]),
        ("create c 256\ndestroy c\ndestroy c\n", ["line 3: cache 'c' was destroyed in line 2"]),
        ("create c 256\nalloc 0 c 4 t\nfree 0 c t 4\n", ["line 3: object 4 of 't' was never allocated"]),
        ("create c 256\nallok 0 c 4 t\n", ["line 2: expected an operation", "alloc"]),
        (b"create c 256\n\x7fELF\xff\n", ["line 2: expected text"]),
    ],
)
def test_a_mistake_is_told_by_its_line_and_nothing_is_played(command, script, text, fragments):
    for more in ([], ["--json"]):
        refused(command("workload", script(text), *more), *fragments)


def test_a_double_free_is_a_finding(command, script):
    path = script(SCRIPT + "free 0 c t 3\n")
    said = command("workload", path, "--json")
    assert said.code == cli.BUG
    last = json.loads(said.out.splitlines()[-1])
    assert last["finding"]["kind"] == "double-free"
    assert last["finding"]["line"] == 7
    said = command("workload", path)
    assert said.code == cli.BUG
    assert "double-free: line 7: object 3 of 't'" in said.out
    assert "stopped after 5 operations: 1 finding" in said.out


def test_destroying_a_cache_with_objects_is_a_finding(command, script):
    said = command("workload", script(SCRIPT + "destroy c\n"), "--json")
    assert said.code == cli.BUG
    assert json.loads(said.out.splitlines()[-1])["finding"]["kind"] == "objects-remaining"


def test_a_random_script_is_printed_without_a_model_and_played_with_one(command, tmp_path):
    printed = command("workload", "--random", 7, "--operations", 40, "--cpus", 2)
    assert printed.code == cli.FINE
    assert printed.out == command("workload", "--random", 7, "--operations", 40, "--cpus", 2).out
    path = tmp_path / "random.txt"
    path.write_text(printed.out)
    by_file = command("workload", path, "--model", "slab-3.8", "--cpus", 2, "--json")
    by_seed = command("workload", "--random", 7, "--operations", 40, "--cpus", 2, "--model", "slab-3.8", "--json")
    assert by_file.code == by_seed.code == cli.FINE
    assert by_file.out.replace('"w":"random"', "") == by_seed.out.replace('"w":"random-7"', "")


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        ([], ["expected a FILE"]),
        (["a", "--random", "1"], ["more than one"]),
        (["a", "--model", "slub-6.2"], ["did you mean 'slub-6.1'"]),
        (["a", "--cpus", "0"], ["--cpus must be from 1"]),
        (["a", "--nodes", "65"], ["--nodes must be from 1 to 64"]),
        (["a", "--nodes", "2", "--model", "slab-3.8"], ["--nodes must be 1 for slab-3.8, not 2", "--nodes 1"]),
        (["--random", "1", "--operations", "0"], ["--operations must be"]),
        (["--random", "1", "--json"], ["no model is given"]),
        (["missing.txt"], ["cannot read missing.txt"]),
        (["."], ["cannot read ."]),
        (["--bogus"], ["--bogus"]),
        (["--check", "missing.jsonl"], ["--check needs a model"]),
        (["--check", "missing.jsonl", "--model", "slub-6.1"], ["cannot read missing.jsonl"]),
    ],
)
def test_options_that_do_not_fit_are_refused(command, arguments, fragments):
    refused(command("workload", *arguments), *fragments)


# -- recordings --------------------------------------------------------------------------------------------------------


def test_a_recording_that_agrees_is_fine(command, recording):
    said = command("workload", "--check", recording(), "--model", "slub-6.1", "--json")
    assert said.code == cli.FINE
    assert said.document == {
        "sequences": 1,
        "operations": 19,
        "equal": 19,
        "different": 0,
        "undetermined": 0,
        "first_difference": None,
    }


def test_a_recording_that_differs_says_where(command, recording):
    path = recording("kernel38/slub-3.10.108-4cpu.jsonl", 39)
    path.write_bytes(path.read_bytes().replace(b"nr_slabs=1 objs=16", b"nr_slabs=2 objs=16", 1))
    said = command("workload", "--check", path, "--model", "slub-3.10", "--json")
    assert said.code == cli.BUG
    document = said.document
    assert (document["equal"], document["different"], document["undetermined"]) == (4, 1, 34)
    first = document["first_difference"]
    assert (first["position"], first["field"]) == (4, "state.N0.nr_slabs")
    assert (first["recorded"], first["ours"]) == ("2", "1")
    said = command("workload", "--check", path, "--model", "slub-3.10")
    assert "state.N0.nr_slabs was 2, here 1" in said.out


@pytest.mark.parametrize(
    ("spoil", "fragment"),
    [
        (lambda text: b"", "the recording is empty"),
        (lambda text: text[:-40], "line 3: expected JSON"),
        (lambda text: text.split(b"\n", 1)[1], "line 1: expected position 0"),
        (lambda text: b"\n".join(text.splitlines()[::2]) + b"\n", "line 2: expected position 0"),
        (lambda text: text.replace(b"alloc 0", b"alloc x"), "line 3: CPU must be a number"),
        (lambda text: text.replace(b"alloc 0 pa", b"alloc 0 pc"), "line 3: there is no cache 'pc'"),
        (lambda text: text.replace(b'"op":', b'"what":'), "line 1: expected op"),
        (lambda text: text.replace(b'"i":1,', b'"i":"1",'), "line 2: expected a number 'i'"),
        (lambda text: b"\x1f\x8b" + text, "line 1: expected JSON, found the byte 0x8b"),
        (lambda text: b"[1]\n" + text, "line 1: expected a JSON object"),
    ],
)
def test_a_damaged_recording_is_refused_with_its_line(command, recording, spoil, fragment):
    path = recording(lines=3)
    path.write_bytes(spoil(path.read_bytes()))
    refused(command("workload", "--check", path, "--model", "slub-6.1", "--json"), f"recording.jsonl: {fragment}")


def test_a_closed_pipe_is_no_mistake(tmp_path):
    head = subprocess.Popen(
        [*PROGRAM, "workload", "--random", "1", "--operations", "3000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert head.stdout is not None
    assert head.stderr is not None
    head.stdout.readline()
    head.stdout.close()
    assert head.stderr.read() == b""
    head.stderr.close()
    assert head.wait(60) == cli.FINE


def test_a_full_disk_is_told():
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*PROGRAM, "workload", "--random", "1", "--model", "slub-6.1"],
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    assert done.returncode == cli.MISTAKE
    assert b"No space left" in done.stderr


def test_an_interrupt_leaves_it_undetermined():
    busy = subprocess.Popen(
        [*PROGRAM, "workload", "--random", "1", "--operations", "1000000", "--model", "slub-6.1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert busy.stdout is not None
    busy.stdout.readline()
    busy.send_signal(signal.SIGINT)
    _, err = busy.communicate(timeout=60)
    assert busy.returncode == cli.UNDETERMINED
    assert err == b"slabactors: interrupted.\n"
