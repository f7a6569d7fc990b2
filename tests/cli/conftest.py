"""A command line to type at: in this process, with what it printed; and scenario files to type about."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from slabactors import cli

HEAD = """\
from slabactors.actors import Actor, choose, join, operation, parallel, sleep, spawn, tell
from slabactors.scenario import Machine, scenario

"""

CHECKOUT = Path(__file__).parents[2]

PROGRAM = [sys.executable, "-c", "from slabactors.cli import main; main()"]
"""The command line as a process, also where no script of that name is on the path."""


@dataclass(frozen=True)
class Said:
    """What a command did: its exit code and what it printed where."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """What ``--json`` printed: exactly one document, or this raises."""
        return json.loads(self.out)


Command = Callable[..., Said]


@pytest.fixture
def command(capsys, monkeypatch, tmp_path) -> Command:
    """Run a command in this process, in an empty directory."""
    monkeypatch.chdir(tmp_path)

    def go(*arguments: object) -> Said:
        capsys.readouterr()
        code = cli.run([str(argument) for argument in arguments])
        return Said(code, *capsys.readouterr())

    return go


@pytest.fixture
def process(tmp_path) -> Command:
    """Run a command in a process of its own, in the same directory."""

    def go(*arguments: object, **options: Any) -> Said:
        done = subprocess.run(
            [*PROGRAM, *map(str, arguments)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            **options,
        )
        return Said(done.returncode, done.stdout, done.stderr)

    return go


@pytest.fixture
def write(tmp_path) -> Callable[..., Path]:
    """Write a scenario file: the usual imports, then the text."""

    def go(text: str, name: str = "story.py", head: str = HEAD) -> Path:
        path = tmp_path / name
        path.write_text(head + text)
        return path

    return go


def refused(said: Said, *fragments: str) -> None:
    """Assert one clear message of the user's mistake, with these in it, and nothing else."""
    assert said.code == cli.MISTAKE, said
    assert said.out == ""
    assert said.err.startswith("slabactors: ")
    assert "Traceback" not in said.err
    assert "itself failed" not in said.err
    lines = said.err.splitlines()
    assert all(line.startswith("  ") for line in lines[1:]), lines
    for fragment in fragments:
        assert fragment in said.err
    assert len(lines) > 1 or ": did you mean" in said.err, "it must say what to type next"


def listing(directory: Path) -> set[str]:
    """Every file there is, to see that none was left behind; but for what Python caches."""
    return {
        os.path.relpath(Path(folder) / file, directory)
        for folder, _, files in os.walk(directory)
        for file in files
        if "__pycache__" not in folder
    }


@pytest.fixture(scope="session")
def wheel(tmp_path_factory) -> Path:
    """The wheel of this checkout."""
    if not (CHECKOUT / "pyproject.toml").exists():
        pytest.skip("these tests are not run in a checkout")
    where = tmp_path_factory.mktemp("wheels")
    # Without the build backend beside us, pip fetches it.
    here = ["--no-build-isolation"] if importlib.util.find_spec("hatchling") is not None else []
    pip(["wheel", "--no-deps", *here, "--wheel-dir", str(where), str(CHECKOUT)])
    (built,) = where.glob("*.whl")
    return built


def pip(arguments: list[str], *, python: Path | None = None) -> None:
    """Let pip do something, in this environment or for another one's Python."""
    other = ["--python", str(python)] if python is not None else []
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *other, *arguments],
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
