"""Searches for test suites: stories over a machine, explored or verified, with a report when one breaks.

Under pytest decorate an ``async def`` test; anywhere else await `explore` or `verify`, or call `explore_sync`:

    @interleavings(cpus=2, runs=500)
    async def test_the_last_object(machine):
        ...

    result = await explore(my_story, lifecycle="v5")
    result.check()
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast, overload

from slabactors.errors import UsageError
from slabactors.scenario import BoundScenario, Machine, Scenario, find
from slabactors.scenario import scenario as make_scenario

if TYPE_CHECKING:
    from slabactors.report.finding import Report

# What searches and shrinks is imported by the first search, under pytest before the first test: a suite is collected
# without it.

__all__ = ["Failed", "InterleavedTest", "Searched", "explore", "explore_sync", "interleavings", "verify", "verify_sync"]

Story = Callable[..., Coroutine[Any, Any, Any]]


class Failed(AssertionError):
    """Some interleaving of a story breaks it.

    Args:
        summary: the message.
        reports: what was found, or what gives it to whoever asks first.
        text: the reports for a person; made of them by default.
    """

    def __init__(
        self, summary: str, reports: Sequence[Report] | Callable[[], Sequence[Report]], text: str | None = None
    ) -> None:
        super().__init__(summary)
        self._reports = reports
        self._text = text

    @property
    def reports(self) -> list[Report]:
        """What was found, each with its shortest schedule.  That of a live run is looked for by the first who asks.

        Raises:
            UsageError: the simulator cannot repeat the live run.
        """
        if callable(self._reports):
            self._reports = self._reports()
        return list(self._reports)

    @property
    def text(self) -> str:
        """The reports for a person."""
        if self._text is None:
            try:
                self._text = text_of(self.reports)
            except UsageError as error:
                self._text = f"The schedule cannot be shown: {error}"
        return self._text


def text_of(reports: Sequence[Report], again: Callable[[Path], str] | None = None) -> str:
    """Some reports for a person; ``again`` says what to type to see a finding's file again, the command by default."""
    from slabactors.report.finding import lines_of, replay_line

    return "\n\n".join("\n".join(lines_of(report, again or replay_line)) for report in reports)


@dataclass(slots=True)
class Searched:
    """What a search came to.

    Attributes:
        verdict: ``clean``, ``verified``, ``broken`` or ``undetermined``, as the commands have it.
        executions: how many runs.
        deliveries: how many steps in all.
        seconds: wall time, without that of shrinking.
        exhaustive: every interleaving was explored.
        seed: of the search.
        reports: the distinct bugs, each with its shortest schedule.
    """

    verdict: str
    executions: int
    deliveries: int
    seconds: float
    exhaustive: bool
    seed: int
    reports: list[Report] = field(default_factory=list)

    def __repr__(self) -> str:
        from slabactors.report.words import counted

        bugs = counted(len(self.reports), "distinct bug")
        return f"<{self.verdict}: {bugs} in {counted(self.executions, 'execution')}, {self.seconds:.1f} s>"

    def _repr_html_(self) -> str:
        """As a notebook shows it."""
        from html import escape

        return f"<pre>{escape(repr(self)[1:-1])}\n\n{escape(self.text)}</pre>"

    @property
    def text(self) -> str:
        """The reports for a person."""
        return text_of(self.reports)

    def check(self) -> None:
        """Nothing was found.

        Raises:
            Failed: something was, or the search was cut short by the bound on steps.
        """
        __tracebackhide__ = True
        if self.reports:
            first = self.reports[0]
            raise Failed(summary_of(first, self.executions, self.seed), self.reports, self.text) from raised_by(first)
        if self.verdict == "undetermined":
            raise Failed("undetermined: some executions hit the bound on steps", [], "")


def summary_of(report: Report, executions: int, seed: int) -> str:
    """What a search found first, and how, in two lines."""
    from slabactors.report.words import counted

    return f"{report.finding.signature}, in {counted(executions, 'execution')} (seed {seed})\n{report.finding.message}"


def raised_by(report: Report) -> BaseException | None:
    """What the story's own code raised, so that a test's assertion is shown as pytest shows them."""
    return report.shrunken.outcome.error


# -- searches anywhere -------------------------------------------------------------------------------------------------


def program_of(
    story: Story | Scenario | str, *, lifecycle: str | None, name: str = "", **settings: Any
) -> BoundScenario:
    """A story as a program that can be searched.

    Args:
        story: an ``async def`` over a machine, a scenario, or the name of a shipped one.
        lifecycle: the generation; v5, or the scenario's own, by default.
        name: how reports call it.
        settings: of the machine and, for a scenario, of its parameters.
    """
    if isinstance(story, str):
        story = find(story)
    if not isinstance(story, Scenario):
        title = (inspect.getdoc(story) or story.__name__).partition("\n")[0]
        story = make_scenario(title=title)(story)
    return replace(story, name=name or story.name).bind(lifecycle_name=lifecycle, settings=settings)


async def explore(
    story: Story | Scenario | str,
    *,
    lifecycle: str | None = None,
    strategy: str = "portfolio",
    runs: int = 1000,
    seed: int = 0,
    **settings: Any,
) -> Searched:
    """Run a story many times, each time in another order, until something breaks; on any event loop, cancellable.

    Args:
        story: an ``async def`` over a machine, a scenario, or the name of a shipped one.
        lifecycle: the generation of the protocol; v5, or the scenario's own, by default.
        strategy: how the next step is picked.
        runs: how many executions at most.
        seed: of the search; the same seed gives the same executions.
        settings: knobs of the machine (``cpus=4``) and of the scenario.
    """
    from slabactors.searching import Search, finish_async

    program = program_of(story, lifecycle=lifecycle, **settings)
    return await finish_async(Search(program, strategy, runs, seed))


def explore_sync(
    story: Story | Scenario | str,
    *,
    lifecycle: str | None = None,
    strategy: str = "portfolio",
    runs: int = 1000,
    seed: int = 0,
    **settings: Any,
) -> Searched:
    """As `explore`, without an event loop."""
    from slabactors.searching import Search, finish

    program = program_of(story, lifecycle=lifecycle, **settings)
    return finish(Search(program, strategy, runs, seed))


async def verify(
    story: Story | Scenario | str, *, lifecycle: str | None = None, runs: int | None = None, **settings: Any
) -> Searched:
    """Explore every interleaving of a story; on any event loop, cancellable.

    Args:
        story: an ``async def`` over a machine, a scenario, or the name of a shipped one.
        lifecycle: the generation of the protocol; v5, or the scenario's own, by default.
        runs: give up after so many executions.
        settings: knobs of the machine and of the scenario.
    """
    from slabactors.searching import Search, finish_async

    program = program_of(story, lifecycle=lifecycle, **settings)
    return await finish_async(Search(program, runs=runs, exhaustive=True))


def verify_sync(
    story: Story | Scenario | str, *, lifecycle: str | None = None, runs: int | None = None, **settings: Any
) -> Searched:
    """As `verify`, without an event loop."""
    from slabactors.searching import Search, finish

    return finish(Search(program_of(story, lifecycle=lifecycle, **settings), runs=runs, exhaustive=True))


# -- tests -------------------------------------------------------------------------------------------------------------


class Session(Protocol):
    """What the test runner says about a test that is being run."""

    @property
    def name(self) -> str:
        """What the test is called."""
        ...

    @property
    def seed(self) -> int | None:
        """Instead of the test's own."""
        ...

    def runs(self, wanted: int) -> int:
        """How many executions a test may make that wants so many."""
        ...

    @property
    def replay(self) -> Path | None:
        """A finding to be run again, instead of a search."""
        ...

    @property
    def directory(self) -> Path | None:
        """Where the schedules are kept that made tests fail; it is there.

        Raises:
            OSError: it cannot be made.
        """
        ...

    @property
    def machines(self) -> list[Any]:
        """The live machines that the test has used."""
        ...

    def command(self, file: Path) -> str:
        """What to type to see a finding again."""
        ...


current: list[Session] = []
"""The test that is being run, when a plugin says so."""


class InterleavedTest(Protocol):
    """A test as `interleavings` has made it.

    Attributes:
        inner_test: the ``async def`` that it was.
    """

    inner_test: Story

    def __call__(self, *arguments: Any, **named: Any) -> None:
        """Search.

        Raises:
            Failed: some order of its steps breaks it.
        """
        ...


@overload
def interleavings(function: Story | Scenario, /) -> InterleavedTest: ...


@overload
def interleavings(
    *,
    lifecycle: str | Sequence[str] | None = None,
    strategy: str = "portfolio",
    runs: int = 200,
    seed: int = 0,
    exhaustive: bool = False,
    runtimes: Sequence[str] = ("sim",),
    **settings: Any,
) -> Callable[[Story | Scenario], InterleavedTest]: ...


def interleavings(
    function: Story | Scenario | None = None,
    /,
    *,
    lifecycle: str | Sequence[str] | None = None,
    strategy: str = "portfolio",
    runs: int = 200,
    seed: int = 0,
    exhaustive: bool = False,
    runtimes: Sequence[str] = ("sim",),
    **settings: Any,
) -> Any:
    """Make an ``async def`` test over a machine a search for the order of steps that breaks it.

    The test's first parameter is the machine; all others are fixtures, parameters or drawn data, as usual.  What it
    asserts is checked in every execution, and so is all that the machine's checkers look for.  A scenario is made a
    test in the same way: ``test_my_story = interleavings(my_story)``.

    Args:
        function: the test.
        lifecycle: the generation of the protocol; several make as many tests.
        strategy: how the next step is picked.
        runs: how many executions; ``--slabactors-runs`` overrides it.
        seed: of the search; ``--slabactors-seed`` overrides it.
        exhaustive: explore every interleaving instead, and fail unless all were.
        runtimes: ``sim`` for the search; ``asyncio`` and ``trio`` for one live run each.  Several make as many tests.
        settings: knobs of the machine, and of a scenario: ``cpus=4``.

    Raises:
        UsageError: the test is not an ``async def`` over a machine.
    """
    if function is None:
        return functools.partial(
            interleavings,
            lifecycle=lifecycle,
            strategy=strategy,
            runs=runs,
            seed=seed,
            exhaustive=exhaustive,
            runtimes=runtimes,
            **settings,
        )
    whole = function if isinstance(function, Scenario) else None
    body: Story = function.function if isinstance(function, Scenario) else function
    parameters = list(inspect.signature(body).parameters.values())
    if not inspect.iscoroutinefunction(body) or not parameters:
        called = getattr(body, "__name__", type(body).__name__)
        raise UsageError(
            f"@interleavings is for an async def over a machine, not {called}.\n"
            f"  Write: async def {called}(machine): ..."
        )
    several = not isinstance(lifecycle, str | None)
    own = {"lifecycle": several, "runtime": len(runtimes) > 1}

    visible = [parameter for place, parameter in enumerate(parameters) if place != int(parameters[0].name == "self")]
    visible += [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name, wanted in own.items() if wanted]
    signature = inspect.Signature(visible)

    @functools.wraps(body)
    def test(*arguments: Any, **named: Any) -> None:
        __tracebackhide__ = True
        from slabactors.searching import Search, live, searched

        given = dict(signature.bind(*arguments, **named).arguments)
        generation = given.pop("lifecycle") if several else lifecycle
        runtime = given.pop("runtime") if own["runtime"] else runtimes[0]
        session = current[-1] if current else None
        # What a scenario is called with is knobs, which belong to its findings.
        story: Story | Scenario = whole or _closed(body, given)
        knobs = {} if whole is None else given
        program = program_of(
            story,
            lifecycle=cast("str | None", generation),
            name=session.name if session is not None else body.__qualname__,
            **{**settings, **knobs},
        )
        wanted = seed if session is None or session.seed is None else session.seed
        if runtime != "sim":
            live(program, runtime, wanted, session)
            return
        count = runs if session is None else session.runs(runs)
        searched(Search(program, strategy, None if exhaustive else count, wanted, exhaustive), session)

    del test.__wrapped__  # or runners would see a coroutine function
    test.__signature__ = signature  # type: ignore[attr-defined]
    test.inner_test = body  # type: ignore[attr-defined]
    marked: Any = test
    if any(own.values()):
        import pytest

        if several:
            marked = pytest.mark.parametrize("lifecycle", list(lifecycle or ()))(marked)
        if own["runtime"]:
            marked = pytest.mark.parametrize("runtime", list(runtimes))(marked)
    return marked


def _closed(body: Story, given: dict[str, Any]) -> Story:
    """The test's body over a machine alone, with what the runner has given it."""
    instance = [given.pop("self")] if "self" in given else []

    @functools.wraps(body)
    async def story(machine: Machine) -> None:
        __tracebackhide__ = True
        await body(*instance, machine, **given)

    story.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter("machine", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    )
    return story
