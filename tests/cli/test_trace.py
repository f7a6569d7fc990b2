"""``trace``: a recording as the workload, and what is no recording."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slabactors import cli
from tests.cli.conftest import listing, refused

RECORDED = Path(__file__).parent.parent / "data" / "trace" / "trace-cgroup.txt"


def test_a_recording_is_played(command, tmp_path):
    """The JSON says what was read and what became of it; the text says the same."""
    said = command("trace", RECORDED, "--limit", 200, "--log", "run.jsonl", "--json")
    assert said.code == cli.FINE
    assert said.err == ""
    document = said.document
    assert document["trace"] == RECORDED.name
    assert document["read"]["lines"] == RECORDED.read_text().count("\n")
    assert sum(document["read"]["events"].values()) > 1000
    assert document["allocated"] + document["freed"] <= 200
    assert document["finding"] is None
    first, *steps, end = map(json.loads, (tmp_path / "run.jsonl").read_text().splitlines())
    assert (first["event"], first["trace"], end["event"]) == ("run", RECORDED.name, "end")
    assert len(steps) == end["deliveries"] == document["deliveries"]
    text = command("trace", RECORDED, "--limit", 200)
    assert text.code == cli.FINE
    assert f"{document['read']['lines']} lines" in text.out
    assert f"{document['deliveries']} steps" in text.out


def test_an_unknown_lifecycle_is_refused(command):
    """The recording is fine; the generation is not."""
    refused(command("trace", RECORDED, "--lifecycle", "v55"), "'v55'", "did you mean 'v5.5'")


@pytest.mark.parametrize(
    ("data", "fragments"),
    [
        (b"", ["0 lines", "trace-cmd record"]),
        (b"\n\n", ["2 lines", "trace-cmd record"]),
        (b"one\ntwo\n", ["2 lines", "no allocation", "trace-cmd record"]),
        (bytes(range(256)) * 20, ["binary data", "cat /sys/kernel/tracing/trace"]),
        (b"\x17\x08\x44tracing" + b"\x00" * 64, ["trace.dat", "trace-cmd report"]),
        (b"PERFILE2" + b"\x00" * 64, ["perf.data", "perf script"]),
        (b"\x1f\x8b\x08\x00", ["gzip", "gunzip"]),
    ],
)
def test_what_is_no_trace_is_refused(command, tmp_path, data, fragments):
    """A file that holds nothing to play is named, with how to get one that does; no log is written."""
    (tmp_path / "trace.txt").write_bytes(data)
    refused(command("trace", "trace.txt", "--log", "run.jsonl"), "trace.txt", *fragments)
    assert listing(tmp_path) == {"trace.txt"}


def test_a_trace_that_cannot_be_opened_is_refused(command, tmp_path):
    """A missing file, a directory, and a link to itself are three different messages."""
    (tmp_path / "loop.txt").symlink_to("loop.txt")
    refused(command("trace", "missing.txt"), "missing.txt", "No such file")
    refused(command("trace", "."), "a directory", "Name the file")
    refused(command("trace", "loop.txt"), "loop.txt", "symbolic links")
