"""The pytest plugin.

Options, reports and remembered schedules for tests under `slabactors.testing.interleavings`; and a live machine for
plain async tests, whichever plugin runs those.

Loaded with every pytest run where slabactors is installed, so it imports nothing of it until a test needs it.
"""

from __future__ import annotations

import importlib
import shlex
import sys
from collections.abc import Generator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from slabactors.live import LiveMachine

PROFILES: Final = {"quick": 0.25, "default": 1.0, "thorough": 20.0}
"""By how much the executions of each test are multiplied."""

MARKER: Final = "machine(lifecycle=, seed=, jitter=, time_scale=, steps_max=, **settings)"


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
    """Look at the options, and register the marker."""
    runs = config.getoption("--slabactors-runs")
    if runs is not None and runs < 1:
        raise pytest.UsageError(f"--slabactors-runs must be at least 1, not {runs}")
    config.addinivalue_line(
        "markers", f"{MARKER}: options of the test's live machine; see slabactors.live.live_machine."
    )
    replay = config.getoption("--slabactors-replay")
    if replay is not None and not Path(replay).is_file():
        raise pytest.UsageError(f"--slabactors-replay: there is no file {replay}")


@dataclass(frozen=True)
class Running:
    """One test that is being run; see `slabactors.testing.Session`."""

    config: pytest.Config
    name: str
    path: Path
    machines: list[Any] = field(default_factory=list)

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
        """In pytest's cache; None when that is switched off, or Hypothesis draws the workload and keeps what fails.

        Raises:
            OSError: the cache cannot be written to.
        """
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


RUNNING: Final = pytest.StashKey[Running]()


def _typed(path: Path) -> str:
    """A path as one would type it here."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


@pytest.fixture
def machine(request: pytest.FixtureRequest) -> AbstractAsyncContextManager[LiveMachine]:
    """A live machine, for a test of asyncio, trio or anyio: ``async with machine as m: await m.call(...)``.

    Not a machine yet but what makes one, on the event loop of whoever enters it: so the fixture needs none itself.
    Options come from ``@pytest.mark.machine(cpus=4)`` on the test, its class or its module, the nearest first.
    """
    from slabactors.live import live_machine

    options: dict[str, Any] = {}
    for marker in request.node.iter_markers("machine"):
        if marker.args:
            raise pytest.UsageError(
                f"expected options by name, found {', '.join(map(repr, marker.args))}.\n"
                "  Write for example: @pytest.mark.machine(cpus=4)"
            )
        options = {**marker.kwargs, **options}
    seed = request.config.getoption("--slabactors-seed")
    if seed is not None:
        options["seed"] = seed
    return live_machine(**options)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, None]:
    """Tell the search which test it is of."""
    testing = sys.modules.get("slabactors.testing")  # no test uses it that has not imported it
    if testing is None:
        yield
        return
    # Before the test's clock runs: Hypothesis has a deadline for each of its examples.
    importlib.import_module("slabactors.searching")
    running = item.stash[RUNNING] = Running(item.config, item.nodeid, item.path)
    testing.current.append(running)
    try:
        yield
    finally:
        testing.current.pop()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, None]:
    """Show what was found in a section of its own."""
    outcome = yield
    testing = sys.modules.get("slabactors.testing")
    running = item.stash.get(RUNNING, None)
    machines: list[Any] = []
    if running is not None and call.when == "call":
        machines, running.machines[:] = list(running.machines), []
    if testing is None or call.excinfo is None:
        return
    raised: Any = call.excinfo.value
    failures: list[Any] = _failures(raised, testing.Failed)
    report = outcome.get_result()
    if running is not None and report.failed:
        texts = [machine.text_of(_alone(raised), running.directory) for machine in machines]
        report.sections += [("slabactors", text) for text in texts if text]
    for failed in failures:
        if failed.text:
            report.sections.append(("slabactors", failed.text))
    raised = _alone(raised)
    if raised in failures and raised.text:
        # What a test asserted is shown as pytest shows it; our own lines in between help nobody.
        cause = raised.__cause__
        if cause is not None and isinstance(cause.__context__, StopIteration):
            cause.__suppress_context__ = True  # by which one of our coroutines had ended
        report.longrepr = (
            str(raised) if cause is None else item.repr_failure(pytest.ExceptionInfo.from_exception(cause))
        )


def _alone(raised: Any) -> Any:
    """What a test has failed with, out of the group of a nursery around the test."""
    while isinstance(raised, BaseExceptionGroup) and len(raised.exceptions) == 1:
        raised = raised.exceptions[0]
    return raised


def _failures(raised: BaseException, kind: type[Any]) -> list[Any]:
    """What a test has failed with that has a report; in groups, too."""
    if isinstance(raised, BaseExceptionGroup):
        return [failed for one in raised.exceptions for failed in _failures(one, kind)]
    return [raised] if isinstance(raised, kind) else []
