"""``slabactors log export``: to stdout or to a file, whole or in part, and every way in which it is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slabactors import cli
from slabactors.trace.export import FORMATS
from tests.cli.conftest import listing, refused

STORY = "dead-cache/rmdir-races-last-free"
BEGINNINGS = {
    "perfetto": '{"displayTimeUnit":"ns"',
    "shiviz": "(?<event>",
    "itf": '{"#meta":',
    "dot": "digraph ",
    "mermaid": "sequenceDiagram\n",
    "ftrace": "# tracer: nop\n",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("logs") / "run.jsonl"
    cli.run(["run", STORY, "--seed", "3", "--log", str(path)])
    return path


@pytest.fixture
def log(run, command, tmp_path) -> Path:
    path = tmp_path / "run.jsonl"
    path.write_bytes(run.read_bytes())
    return path


def test_every_format_is_tried():
    assert set(BEGINNINGS) == set(FORMATS)


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_has_what_stdout_would_have_had(command, log, tmp_path, name):
    """And the command says what to do with the file."""
    printed = command("log", "export", log, "--format", name)
    assert (printed.code, printed.err) == (cli.FINE, "")
    assert printed.out.startswith(BEGINNINGS[name])
    written = command("log", "export", log, "--format", name, "-o", "out.txt")
    assert (written.code, written.err) == (cli.FINE, "")
    assert written.out.startswith("out.txt: ")
    assert (tmp_path / "out.txt").read_text() == printed.out
    assert listing(tmp_path) == {"run.jsonl", "out.txt"}


@pytest.mark.parametrize("name", ["dot", "ftrace"])
def test_what_it_says_to_type_can_be_typed(command, log, tmp_path, name):
    said = command("log", "export", log, "--format", name, "--output", "out.txt")
    program, *arguments = said.out.partition("Type: ")[2].split()
    if name == "ftrace":
        assert command(*arguments).code == cli.FINE
    else:
        assert (program, arguments) == ("dot", ["-Tsvg", "out.txt", "-o", "FILE.svg"])


def test_a_part_of_a_run(command, log):
    said = command("log", "export", log, "--format", "perfetto", "--from", 10, "--to", 12)
    slices = [event for event in json.loads(said.out)["traceEvents"] if event["ph"] == "X"]
    assert [event["args"]["step"] for event in slices] == [10, 11, 12]


def test_a_part_that_has_no_steps_is_empty(command, log):
    for name in FORMATS:
        said = command("log", "export", log, "--format", name, "--from", 1000)
        assert (said.code, said.err) == (cli.FINE, "")


def test_the_release_of_a_kernel(command, log):
    old, new = (command("log", "export", log, "--format", "ftrace", "--release", one).out for one in ("3.8", "6.1"))
    assert " name=dentry" in new
    assert " name=" not in old
    assert old == command("log", "export", log, "--format", "ftrace").out


def test_a_run_that_was_cut_off_is_drawn_as_far_as_it_goes(command, log):
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join(lines[:-1]))
    said = command("log", "export", log, "--format", "dot")
    assert said.code == cli.FINE
    assert "has no end" in said.err
    assert "s39 [" in said.out


def test_a_file_is_written_whole_or_not_at_all(command, log, tmp_path):
    """A log that turns out to be damaged in its middle leaves what was there before."""
    lines = log.read_text().splitlines(keepends=True)
    lines[20] = "{}\n"
    log.write_text("".join(lines))
    (tmp_path / "out.json").write_text("before")
    for name in ("perfetto", "shiviz", "itf"):
        refused(command("log", "export", log, "--format", name, "-o", "out.json"), "line 21")
    assert (tmp_path / "out.json").read_text() == "before"
    assert listing(tmp_path) == {"run.jsonl", "out.json"}


def test_a_link_stays_a_link(command, log, tmp_path):
    (tmp_path / "link").symlink_to("there.json")
    assert command("log", "export", log, "--format", "itf", "-o", "link").code == cli.FINE
    assert (tmp_path / "link").is_symlink()
    assert json.loads((tmp_path / "there.json").read_text())["states"]


def test_the_log_itself_is_not_written_over(command, log, tmp_path):
    before = log.read_bytes()
    (tmp_path / "same").symlink_to("run.jsonl")
    for output in ("run.jsonl", "same"):
        refused(command("log", "export", log, "--format", "dot", "-o", output), "is the log itself", "-o FILE")
    assert log.read_bytes() == before


def test_what_cannot_be_written_to(command, log, tmp_path):
    for output in (".", "no/such/directory/out.json"):
        refused(command("log", "export", log, "--format", "itf", "-o", output), f"cannot write {output}", "-o FILE")


def test_mistakes(command, log):
    """Each with what to type instead."""
    export = ("log", "export", log, "--format")
    refused(command(*export, "dot", "--release", "6.1"), "--release is for --format ftrace", "--format ftrace")
    refused(command(*export, "dot", "--from", 9, "--to", 3), "from 9 on and up to 3", "--from 3 --to 9")
    refused(command(*export, "svg"), "svg")
    refused(command("log", "export", log), "--format")
    refused(command("log", "export", "gone.jsonl", "--format", "dot"), "cannot read the log gone.jsonl")


def test_too_many_steps_for_a_picture(command, tmp_path):
    """It says which part there would be room for, and that can be typed."""
    command("run", "dead-cache/freed-later", "--log", "long.jsonl")
    said = command("log", "export", "long.jsonl", "--format", "mermaid")
    refused(said, "more than 60 such steps", "--from 0 --to 59")
    assert command("log", "export", "long.jsonl", "--format", "mermaid", "--from", 0, "--to", 59).code == cli.FINE
