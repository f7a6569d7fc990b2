"""The package is typed for its users: a program over its public API is clean for both type checkers, and runs."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = Path(__file__).with_name("example_usage.py")
TEMPLATES = sorted((ROOT / "slabactors" / "cli" / "templates").glob("*.py"))


def checked(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed")
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env={**os.environ, "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_the_example_runs():
    """It asserts what it says; nothing is printed."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLE)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.slow
def test_mypy_is_content_with_the_example_and_the_templates():
    """With ``--strict``, and none of this checkout's own settings."""
    done = checked("mypy", "--config-file=", "--strict", str(EXAMPLE))
    assert done.returncode == 0, done.stdout
    for template in TEMPLATES:
        done = checked("mypy", "--config-file=", "--strict", str(template))
        assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_pyright_is_content_with_the_example_and_the_templates():
    """In its strict mode, which the example asks for."""
    assert "# pyright: strict" in EXAMPLE.read_text()
    done = checked("pyright", "--pythonpath", sys.executable, str(EXAMPLE), *map(str, TEMPLATES))
    assert done.returncode == 0, done.stdout + done.stderr
