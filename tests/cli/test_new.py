"""``slabactors new``: what it writes runs as it is, and what it will not write it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from slabactors import cli
from slabactors.cli.new import TEMPLATES, New, filled, python_name
from slabactors.scenario import find, find_lifecycle
from slabactors.testing import verify_sync
from tests.cli.conftest import listing, refused

RACE = "dead-cache/rmdir-races-last-free"


@pytest.fixture
def python(tmp_path):
    """Run Python in the directory in which the files are."""

    def go(*arguments):
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return go


# -- scenario ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_new_scenario_runs_under_every_command(command, tmp_path):
    """``run``, ``explore``, ``verify``, then ``replay`` and ``why`` of what was found."""
    said = command("new", "scenario", "my-story")
    assert said.code == cli.FINE
    assert said.out.splitlines() == [
        "wrote my_story.py",
        "  search it: python my_story.py",
        "  its knobs: slabactors run my_story.py --help",
    ]
    assert listing(tmp_path) == {"my_story.py"}
    assert command("run", "my_story.py").code == cli.FINE
    said = command("explore", "my_story.py", "--runs", 300, "--save", "found", "--json")
    assert said.code == cli.BUG
    assert "freed-active-work" in {one["kind"] for one in said.document["findings"]}
    for verb in ("replay", "why"):
        assert command(verb, said.document["findings"][0]["file"]).code == cli.BUG
    assert command("verify", "my_story.py", "--json").document["verdict"] == "broken"
    said = command("verify", "my_story.py", "--lifecycle", "repaired", "--json")
    assert (said.code, said.document["verdict"]) == (cli.FINE, "verified")


@pytest.mark.parametrize("settings", ["objects=3", "objects=0", "object_size=3000", "min_partial=5", "cpus=1"])
def test_every_knob_of_a_new_scenario_works(command, settings):
    """No value of a knob makes the story itself fail."""
    command("new", "scenario", "my-story")
    said = command("explore", "my_story.py", "--lifecycle", "repaired", "--runs", 100, "--set", settings)
    assert said.code == cli.FINE, said


@pytest.mark.slow
def test_a_new_scenario_runs_by_itself(command, python):
    """``python FILE`` explores; a command and its options can follow."""
    command("new", "scenario", "my-story")
    done = python("my_story.py", "--runs", 200)
    assert done.returncode == cli.BUG
    assert "under v5: 200 executions" in done.stdout
    done = python("my_story.py", "run", "--set", "objects=2")
    assert done.returncode == cli.FINE, done.stderr
    assert "my_story.py:my_story under v5 (sim, seed 0)" in done.stdout
    assert python("my_story.py", "verify", "--lifecycle", "repaired").returncode == cli.FINE


# -- lifecycle ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_new_lifecycle_breaks_as_the_founding_patch_does(command):
    """It is the founding protocol until it is changed: the same bugs, and no other."""
    said = command("new", "lifecycle", "my-protocol")
    assert said.out.splitlines() == [
        "wrote my_protocol.py",
        f"  break it: slabactors explore {RACE} --lifecycle my_protocol.py",
    ]
    own = {one.finding.signature for one in verify_sync(RACE, lifecycle="my_protocol.py").reports}
    founding = {one.finding.signature for one in verify_sync(RACE, lifecycle="v5").reports}
    assert own == founding
    assert len(own) == 5
    assert len((TEMPLATES / "lifecycle.py").read_text().splitlines()) <= 70


@pytest.mark.parametrize("story", ["dead-cache/freed-later", "dead-cache/root-destroyed"])
def test_a_new_lifecycle_runs_the_other_stories(command, story):
    """Also those in which its work comes again, or its caches are destroyed by others."""
    command("new", "lifecycle", "MyProtocol")
    assert find_lifecycle("my_protocol.py").release == "a sketch"
    said = command("explore", story, "--lifecycle", "my_protocol.py", "--runs", 200, "--json")
    assert "exception" not in {one["kind"] for one in said.document["findings"]}
    assert said.document["verdict"] == ("clean" if story.endswith("later") else "broken")


def test_a_new_lifecycle_can_be_changed_as_its_comment_asks(command, tmp_path):
    """Initialising the work at creation takes the uninitialised work away, and leaves the rest."""
    command("new", "lifecycle", "my-protocol")
    file = tmp_path / "my_protocol.py"
    at_offline = "            await params.destroy.init(self.work_func(params))\n"
    hint = 'Why not initialise its work here?"""\n'
    at_creation = """\
        assert cache.params is not None
        await cache.params.destroy.init(self.work_func(cache.params))
"""
    text = file.read_text()
    assert (text.count(at_offline), text.count(hint)) == (1, 1)
    file.write_text(text.replace(at_offline, "").replace(hint, hint + at_creation))
    kinds = {one.finding.kind for one in verify_sync(RACE, lifecycle=str(file)).reports}
    assert kinds == {"freed-active-work", "use-after-free"}


# -- test --------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_new_test_fails_with_a_table_and_passes_under_repaired(command, python, tmp_path):
    """What it says to type shows the bug again, and the change that its comment names mends it."""
    said = command("new", "test", "first")
    assert said.out.splitlines() == ["wrote test_first.py", "  see it fail: pytest test_first.py"]
    plugin = () if _installed() else ("-p", "slabactors.pytest_plugin")
    pytest_line = ("-m", "pytest", "-q", *plugin, "-c", os.devnull, "--rootdir=.")
    done = python(*pytest_line, "test_first.py")
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(r"<--\s+breaks", done.stdout)
    found = re.search(r"see it again: pytest '(.*)' --slabactors-replay (.*)", done.stdout)
    assert found is not None
    again = python(*pytest_line, found.group(1), "--slabactors-replay", found.group(2))
    assert again.returncode == 1
    assert "by a schedule that is known" in again.stdout
    file = tmp_path / "test_first.py"
    file.write_text(file.read_text().replace('lifecycle="v5"', 'lifecycle="repaired"'))
    done = python(*pytest_line, "test_first.py")
    assert done.returncode == 0, done.stdout
    file.write_text(file.read_text().replace("runs=500", "exhaustive=True"))
    assert python(*pytest_line, "test_first.py").returncode == 0


def _installed() -> bool:
    from importlib.metadata import entry_points

    return any(one.value == "slabactors.pytest_plugin" for one in entry_points(group="pytest11"))


# -- names and places --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "snake"),
    [
        ("story", "story"),
        ("my-story", "my_story"),
        ("my_story", "my_story"),
        ("MyStory", "my_story"),
        ("my_story.py", "my_story"),
        ("two2-three3", "two2_three3"),
    ],
)
def test_a_name_is_that_of_a_function(name, snake):
    """However it is written, the file and the function are called as Python's are."""
    for kind in New:
        assert python_name(name, kind) == snake
    assert python_name(f"test_{name}", New.TEST) == snake


@pytest.mark.parametrize("kind", New)
def test_a_name_is_filled_in_everywhere(kind):
    """No placeholder is left, in any spelling."""
    text = filled(kind, "my_story")
    assert not re.search("new.?name", text, re.IGNORECASE)
    assert "my_story" in text
    compile(text, "my_story.py", "exec")


@pytest.mark.parametrize(
    ("kind", "name", "fragments"),
    [
        ("scenario", "9lives", ["'9lives'", "a letter first", "slabactors new scenario first"]),
        ("scenario", "", ["''", "like a function"]),
        ("scenario", "my story", ["'my story'"]),
        ("scenario", "st\u00f6ry", ["'st\u00f6ry'"]),
        ("scenario", "_x", ["'_x'"]),
        ("test", "a:b", ["'a:b'", "slabactors new test first"]),
        ("scenario", "a/b", ["the path 'a/b'", "slabactors new scenario b --directory a/"]),
        ("scenario", "for", ["a word of Python", "my-for"]),
        ("lifecycle", "none", ["a word of Python", "my-none"]),
        ("scenario", "inspect", ["in the way of the module inspect", "my-inspect"]),
        ("scenario", "slabactors", ["in the way of the module slabactors"]),
        ("scenario", "parallel", ["'parallel'", "a scenario uses"]),
        ("scenario", "machine", ["'machine'", "a scenario uses"]),
        ("lifecycle", "v5", ["'V5'", "a lifecycle uses"]),
        ("story", "x", ['"story"', "scenario", "lifecycle", "test"]),
        ("scenario", None, ["NAME", "--help"]),
    ],
)
def test_a_name_that_would_not_work_is_refused(command, tmp_path, kind, name, fragments):
    """The message says why, and which one would do; nothing is written."""
    refused(command("new", kind, *([] if name is None else [name])), *fragments)
    assert listing(tmp_path) == set()


def test_a_file_that_is_there_is_left_as_it_is_unless_asked(command, tmp_path):
    """Nobody loses a test by typing the same line again."""
    file = tmp_path / "test_first.py"
    file.write_text("mine\n")
    refused(command("new", "test", "first"), "test_first.py already", "--force")
    assert file.read_text() == "mine\n"
    assert command("new", "test", "first", "--force").code == cli.FINE
    assert "async def test_first" in file.read_text()
    (tmp_path / "story.py").symlink_to("nowhere.py")
    refused(command("new", "scenario", "story"), "story.py already", "--force")
    (tmp_path / "folder.py").mkdir()
    refused(command("new", "scenario", "folder", "--force"), "folder.py is a directory")


def test_a_directory_is_made_and_one_that_cannot_be_is_named(command, tmp_path):
    """One clear message for a place that nobody can write to, and no half a file."""
    said = command("new", "test", "first", "--directory", "tests/new", "--json")
    assert said.document == {
        "kind": "test",
        "name": "first",
        "file": "tests/new/test_first.py",
        "next": ["pytest tests/new/test_first.py"],
    }
    (tmp_path / "file").write_text("")
    for place in ("file", "/proc/nowhere", "/dev/null/x"):
        refused(command("new", "test", "first", "--directory", place), f"cannot write {place}/test_first.py", "DIR")
    assert listing(tmp_path) == {"tests/new/test_first.py", "file"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_directory_without_permission_is_named(command, tmp_path):
    """As any other place that cannot be written to."""
    place = tmp_path / "closed"
    place.mkdir(mode=0o500)
    refused(command("new", "test", "first", "--directory", "closed"), "Permission denied", "--directory DIR")


def test_a_new_scenario_is_found_like_any_other(command):
    """Its title, its knobs and what it says about them."""
    command("new", "scenario", "my-story")
    scenario = find("my_story.py")
    assert {one.name: (one.type, one.default) for one in scenario.described()} == {
        "objects": (int, 1),
        "object_size": (int, 1000),
        "min_partial": (int, 0),
    }
    assert all(one.about for one in scenario.described())
