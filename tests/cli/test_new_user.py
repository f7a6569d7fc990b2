"""The path of somebody new: install the wheel, write a test, see it fail, see it again, mend it."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from slabactors import __version__, cli
from slabactors.scenario import shipped
from tests.cli.conftest import pip

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """A fresh virtual environment with the wheel in it, and within sight of what it depends on."""
    where = tmp_path_factory.mktemp("user") / "env"
    venv.create(where, with_pip=False)
    pip(["install", "--no-deps", "--no-index", str(wheel)], python=where / "bin" / "python")
    (site,) = where.glob("lib/python*/site-packages")
    # What is named here is on the path, but an editable install in it is not looked at.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return where


@pytest.fixture
def shell(environment, tmp_path):
    """Type a line in an empty directory, with the environment activated."""

    def go(line: str) -> subprocess.CompletedProcess[str]:
        words = shlex.split(line)
        program = [str(environment / "bin" / "python"), "-m", "pytest"] if words[0] == "pytest" else [words[0]]
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}
        return subprocess.run(
            [*program, *words[1:]],
            cwd=tmp_path,
            env={**clean, "PATH": f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "120"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return go


def test_the_first_test_fails_replays_and_is_mended(shell, tmp_path):
    """As the template's comments say it: each step by the line that the one before has printed."""
    done = shell("slabactors new test first")
    assert done.returncode == cli.FINE, done.stderr
    done = shell(done.stdout.splitlines()[-1].partition("see it fail: ")[2])
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(r"<--\s+breaks", done.stdout)
    assert re.search("cpu0 rmdir +cpu1 free", done.stdout)

    pasted = re.search("see it again: (.*)", done.stdout)
    assert pasted is not None
    again = shell(pasted.group(1))
    assert again.returncode == 1
    assert "by a schedule that is known" in again.stdout
    assert re.search(r"<--\s+breaks", again.stdout)

    file = tmp_path / "test_first.py"
    text = file.read_text()
    assert 'Change "v5" to "repaired"' in text
    assert text.count('lifecycle="v5"') == 1
    file.write_text(text.replace('lifecycle="v5"', 'lifecycle="repaired"'))
    done = shell("pytest test_first.py")
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_what_is_shipped_is_in_the_wheel(shell, environment):
    """Names, scenarios, templates: and it is the wheel's, not the checkout's."""
    done = shell("slabactors list")
    assert done.returncode == cli.FINE, done.stderr
    assert all(f"  {name}\n" in done.stdout for name in shipped())
    assert shell("slabactors --version").stdout.strip() == __version__
    done = shell("slabactors run dead-cache/emptied --log run.jsonl")
    assert (done.returncode, done.stderr) == (cli.FINE, "")
    done = shell("python -c 'import slabactors; print(slabactors.__file__)'")
    assert Path(done.stdout).is_relative_to(environment), done.stdout


def test_a_first_scenario_is_searched_under_a_first_lifecycle(shell):
    """The other two templates, and what their files say to type."""
    for line in ("slabactors new scenario my-story", "slabactors new lifecycle my-protocol"):
        assert shell(line).returncode == cli.FINE
    done = shell("python my_story.py --runs 300 --lifecycle my_protocol.py --save findings")
    assert done.returncode == cli.BUG, done.stderr
    pasted = re.search("see it again: (.*)", done.stdout)
    assert pasted is not None
    assert shell(pasted.group(1)).returncode == cli.BUG
    done = shell("slabactors verify my_story.py --help")
    assert "--set objects=INT" in done.stdout


def test_python_is_the_one_of_the_tests(shell):
    """Or what is installed beside it would not fit."""
    done = shell("python -c 'import sys; print(sys.version)'")
    assert done.stdout.strip() == sys.version
