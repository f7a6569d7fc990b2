"""The pytest plugin: options, reports and remembered schedules for tests under `slabactors.testing.interleavings`.

Loaded with every pytest run where slabactors is installed, so it imports nothing of it until a test needs it.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

PROFILES: Final = {"quick": 0.25, "default": 1.0, "thorough": 20.0}
"""By how much the executions of each test are multiplied."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """The plugin's options."""
    group = parser.getgroup("slabactors", "interleavings")
    group.addoption("--slabactors-seed", type=int, metavar="N", help="Seed of every search, instead of the tests' own.")
    group.addoption("--slabactors-runs", type=int, metavar="N", help="Executions of every search.")
    group.addoption(
        "--slabactors-profile",
        choices=list(PROFILES),
        default="default",
        help="How much to search: " + ", ".join(f"{name} (x {factor:g})" for name, factor in PROFILES.items()) + ".",
    )
    group.addoption("--slabactors-replay", metavar="FILE", help="Run the schedule of a finding instead of searching.")


def pytest_configure(config: pytest.Config) -> None:
    """Look at the options."""
    runs = config.getoption("--slabactors-runs")
    if runs is not None and runs < 1:
        raise pytest.UsageError(f"--slabactors-runs must be at least 1, not {runs}")
    replay = config.getoption("--slabactors-replay")
    if replay is not None and not Path(replay).is_file():
        raise pytest.UsageError(f"--slabactors-replay: there is no file {replay}")


@dataclass(frozen=True)
class Running:
    """One test that is being run; see `slabactors.testing.Session`."""

    config: pytest.Config
    name: str
    path: Path

    @property
    def seed(self) -> int | None:
        """Of every search."""
        seed: int | None = self.config.getoption("--slabactors-seed")
        return seed

    def runs(self, wanted: int) -> int:
        """How many executions, after the options."""
        runs: int | None = self.config.getoption("--slabactors-runs")
        return runs or max(1, round(wanted * PROFILES[str(self.config.getoption("--slabactors-profile"))]))

    @property
    def replay(self) -> Path | None:
        """The finding to be run again."""
        file = self.config.getoption("--slabactors-replay")
        return None if file is None else Path(file)

    @property
    def directory(self) -> Path | None:
        """In pytest's cache; None when that is switched off, or Hypothesis draws the workload and keeps what fails."""
        cache = getattr(self.config, "cache", None)
        hypothesis = sys.modules.get("hypothesis")
        if cache is None or (hypothesis is not None and hypothesis.currently_in_test_context()):
            return None
        return Path(cache.mkdir("slabactors"))

    def command(self, file: Path) -> str:
        """What to type to see a finding again."""
        # Names of tests begin at pytest's root directory, which may be above the one that somebody types in.
        test = "::".join([_typed(self.path), *self.name.split("::")[1:]])
        return f"pytest '{test}' --slabactors-replay {shlex.quote(_typed(file))}"


def _typed(path: Path) -> str:
    """A path as one would type it here."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, None]:
    """Tell the search which test it is of."""
    testing = sys.modules.get("slabactors.testing")  # no test uses it that has not imported it
    if testing is None:
        yield
        return
    testing.current.append(Running(item.config, item.nodeid, item.path))
    try:
        yield
    finally:
        testing.current.pop()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, None]:
    """Show what was found in a section of its own."""
    outcome = yield
    testing = sys.modules.get("slabactors.testing")
    if testing is None or call.excinfo is None:
        return
    failed: Any = call.excinfo.value
    if isinstance(failed, testing.Failed) and failed.text:
        report = outcome.get_result()
        report.sections.append(("slabactors", failed.text))
        # What a test asserted is shown as pytest shows it; our own lines in between help nobody.
        cause = failed.__cause__
        if cause is not None and isinstance(cause.__context__, StopIteration):
            cause.__suppress_context__ = True  # by which one of our coroutines had ended
        report.longrepr = (
            str(failed) if cause is None else item.repr_failure(pytest.ExceptionInfo.from_exception(cause))
        )
