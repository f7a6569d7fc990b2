"""How long it takes until anything happens: what is imported before it is needed is paid for by everybody."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TRIES = 7


def seconds(code: str) -> float:
    """CPU seconds of a new Python that runs a line, the least of several: nobody else's work is in them."""
    taken = []
    for _ in range(TRIES):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.DEVNULL, check=False, timeout=60)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(taken)


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "code", "against", "seconds_max"),
    [
        ("import slabactors", "import slabactors", "pass", 0.15),
        ("slabactors --help", "from slabactors.cli import main; main(['--help'])", "pass", 0.3),
        ("the pytest plugin", "import pytest, slabactors.pytest_plugin", "import pytest", 0.02),
        ("a scenario file's imports", "import slabactors.scenario, slabactors.mm.memcontrol", "pass", 0.3),
        ("a test's imports", "import slabactors.testing, slabactors.mm.memcontrol", "import slabactors.scenario", 0.03),
    ],
)
def test_a_start_takes_no_longer_than_it_should(what, code, against, seconds_max):
    """Beyond what an empty Python, or pytest, takes anyway."""
    extra = seconds(code) - seconds(against)
    assert extra < seconds_max, f"{what} takes {extra * 1000:.0f} ms"


@pytest.mark.parametrize(
    ("code", "unwanted"),
    [
        ("import slabactors", ["msgspec", "cyclopts", "rich", "anyio", "structlog", "slabactors.scenario"]),
        (
            "import pytest, slabactors.pytest_plugin",
            ["msgspec", "cyclopts", "anyio", "structlog", "slabactors.testing", "slabactors.scenario"],
        ),
        (
            "from slabactors.cli import run; run(['--help'])",
            ["msgspec", "anyio", "structlog", "trio", "duckdb", "distributed", "slabactors.scenario", "rich.markdown"],
        ),
        ("import slabactors.scenario", ["cyclopts", "rich", "anyio", "structlog", "docstring_parser", "trio"]),
        (
            "from slabactors.testing import interleavings\n@interleavings\nasync def test_it(machine): ...",
            [
                "cyclopts",
                "rich",
                "anyio",
                "structlog",
                "pytest",
                "trio",
                "distributed",
                "slabactors.searching",
                "slabactors.explore.dpor",
                "slabactors.explore.campaign",
                "slabactors.runtime.live",
                "slabactors.report.finding",
                "slabactors.trace.race_table",
            ],
        ),
    ],
)
def test_nothing_is_imported_before_it_is_needed(code, unwanted):
    """The modules that each start does without."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules, file=sys.stderr)"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert not set(unwanted) & set(done.stderr.split())
