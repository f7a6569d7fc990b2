"""One scenario file: by itself, under the commands, in a test, at a prompt, and where an event loop is running."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import subprocess
import sys

import pytest

from slabactors import cli
from slabactors.cli.new import New, filled
from slabactors.errors import UsageError
from slabactors.testing import Failed, explore_sync, interleavings, verify_sync

SUITE = """\
from my_story import my_story
from slabactors.scenario import scenario
from slabactors.testing import explore_sync, interleavings

test_as_it_is = interleavings(my_story, lifecycle="repaired", runs=30)
test_broken = interleavings(my_story, runs=300)
test_protocols = interleavings(my_story, lifecycle=["repaired", "v5-no-shrink"], runs=300, objects=2)


@interleavings(lifecycle="repaired", runs=30, objects=3)
@scenario(title="a story that is a test", cpus=3)
async def test_knobs(machine, *, objects: int = 7):
    assert objects == 3
    assert len(machine.cpus) == 3


def test_by_a_call():
    explore_sync(my_story, lifecycle="repaired", runs=30, objects=2).check()
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "my_story.py"
    path.write_text(filled(New.SCENARIO, "my_story"))
    return path


@pytest.fixture
def my_story(file):
    """As a notebook or a test imports it."""
    spec = importlib.util.spec_from_file_location("my_story", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["my_story"] = module
    try:
        spec.loader.exec_module(module)
        yield module.my_story
    finally:
        del sys.modules["my_story"]


def test_a_scenario_is_a_test(file, tmp_path):
    """Under pytest it is searched like any test: under several protocols, with its knobs, and with a table."""
    (tmp_path / "test_suite.py").write_text(SUITE)
    plugin = () if _installed() else ("-p", "slabactors.pytest_plugin")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", *plugin, "-c", "/dev/null", "--rootdir=.", "test_suite.py"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    outcomes = dict(re.findall(r"test_suite.py::(\S+) (PASSED|FAILED)", done.stdout))
    assert outcomes == {
        "test_as_it_is": "PASSED",
        "test_broken": "FAILED",
        "test_protocols[repaired]": "PASSED",
        "test_protocols[v5-no-shrink]": "FAILED",
        "test_knobs": "PASSED",
        "test_by_a_call": "PASSED",
    }, done.stdout
    assert re.search(r"<--\s+breaks", done.stdout)
    assert "see it again: pytest 'test_suite.py::test_broken' --slabactors-replay" in done.stdout


def _installed() -> bool:
    from importlib.metadata import entry_points

    return any(one.value == "slabactors.pytest_plugin" for one in entry_points(group="pytest11"))


def test_a_search_works_inside_a_running_event_loop(my_story):
    """As in a cell of a notebook, which runs on one."""

    async def cell():
        return explore_sync(my_story, runs=300), verify_sync(my_story, lifecycle="repaired")

    broken, proof = asyncio.run(cell())
    assert (broken.verdict, proof.verdict) == ("broken", "verified")


def test_what_a_prompt_shows_is_short(my_story):
    """One line for a scenario and for a result; a notebook gets the tables."""
    knobs = "objects: int = 1, object_size: int = 1000, min_partial: int = 0"
    assert repr(my_story) == f"<scenario my-story({knobs}): rmdir races the last frees>"
    assert repr(my_story.bind(settings={"objects": 2})) == (
        "<scenario my-story(objects=2, object_size=1000, min_partial=0) under v5>"
    )
    broken = explore_sync(my_story, runs=300)
    assert re.fullmatch(r"<broken: \d distinct bugs? in \d+ executions, \d+\.\d s>", repr(broken))
    shown = broken._repr_html_()
    assert shown.startswith("<pre>broken: ")
    assert shown.endswith("</pre>")
    assert "&lt;--" in shown
    assert "params-&gt;dead" in shown
    assert repr(verify_sync(my_story, lifecycle="repaired")).startswith("<verified: 0 distinct bugs in ")


def test_what_is_neither_a_story_nor_a_scenario_is_refused():
    """Whatever it is, the message says what would be a test."""
    for wrong in (lambda machine: None, 7, print):
        with pytest.raises((UsageError, TypeError)):
            interleavings(wrong)


def test_a_scenario_keeps_what_it_asks_of_its_machine_as_a_test(my_story):
    """Also without a runner: the test is called like a function, with knobs if need be."""
    test = interleavings(my_story, runs=300, cpus=1)
    assert test.inner_test is my_story.function
    with pytest.raises(Failed):
        test(objects=2)
    interleavings(my_story, lifecycle="repaired", exhaustive=True)()


def test_a_file_of_stories_says_the_same_by_itself_as_under_the_command(file, capfd):
    """Verdict and findings, up to how long it took and how the file was named."""
    done = _script("--runs", "100", "--json")
    code = cli.run(["explore", "my_story.py:my_story", "--runs", "100", "--json"])
    assert done.returncode == code == cli.BUG
    assert _without_times(done.stdout) == _without_times(capfd.readouterr().out)


def test_a_file_lists_its_own_knobs(file):
    """``--help`` of the file itself, with or without a command, and the mistakes in setting them."""
    for arguments in (["--help"], ["run", "-h"], ["verify", "--lifecycle", "repaired", "--help"]):
        done = _script(*arguments)
        assert done.returncode == cli.FINE, done.stderr
        assert "Parameters of my_story.py:my_story" in done.stdout
        assert "--set objects=INT      dentries that are left when the group is removed. [default: 1]" in done.stdout
    done = _script("run", "--set", "objects=some")
    assert done.returncode == cli.MISTAKE
    assert done.stderr.startswith(
        "slabactors: parameter 'objects' is a whole number, not 'some'.\n  It is declared at "
    )
    assert f"at my_story.py:{_line_of(file, 'async def my_story')}." in done.stderr


def _script(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "my_story.py", *arguments],
        env={**os.environ, "COLUMNS": "120"}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def _line_of(file, beginning: str) -> int:
    return next(number for number, line in enumerate(file.read_text().splitlines(), 1) if line.startswith(beginning))


def _without_times(text: str) -> str:
    return re.sub(r'"seconds": [\d.e-]+', "", text)
