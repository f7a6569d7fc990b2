"""A live machine in a program of one's own: any task of asyncio, trio or anyio may run the machine's paths.

async with live_machine(cpus=2) as machine:
    cpu0, cpu1 = machine.cpus
    dentry = await machine.call(kmem_cache_create(cpu0, "dentry", 192))
    obj = await machine.call(kmem_cache_alloc(cpu1, dentry))

The machine is to the block what a task group is: paths run while the block does, the block waits for them at its end,
and when the machine breaks the rest of the block is cancelled.  What comes out of the block:

- what its body has raised, as it is; a cancellation too.  The machine is taken down at once, without settling;
- `Failed` when the machine has broken, before or while it settled;
- an exception group of both, when the body has raised something besides what the machine had told it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from math import inf
from pathlib import Path as FilePath
from typing import Any, Final, Generic, TypeAlias, TypeVar

from anyio import get_cancelled_exc_class

from slabactors.actors import Spawn
from slabactors.calls import STEPS_MAX, story_of_turns
from slabactors.errors import OutputError, UsageError
from slabactors.explore.finding import signature
from slabactors.kernel.jiffies import HZ
from slabactors.machine import SETTLE_JIFFIES, Machine
from slabactors.report.finding import Report
from slabactors.report.live import reports_of_live, text_of_left
from slabactors.runtime.calling import Call
from slabactors.runtime.served import ServedRuntime
from slabactors.runtime.step import Decision, Observer, Outcome
from slabactors.runtime.turns import Turn
from slabactors.runtime.watchdog import watched
from slabactors.scenario import BoundScenario
from slabactors.testing import Failed, Session, current

__all__ = ["Failed", "LiveMachine", "Running", "live_machine"]

T = TypeVar("T")
Path: TypeAlias = "Spawn[T] | Coroutine[Any, Any, T]"

NAME: Final = "live-machine"
"""What its program is called, unless a test has made it."""

TIME_SCALE: Final = 1000.0
"""How many times faster than real time timers go: a minute's is due after 60 ms."""


class Running(Generic[T]):
    """A path in the background; see `LiveMachine.start`."""

    def __init__(self, runtime: ServedRuntime, call: Call[T]) -> None:
        self._runtime = runtime
        self._call = call

    @property
    def done(self) -> bool:
        """It has returned."""
        return self._call.returned

    async def wait(self) -> T:
        """What it returns, when it has.

        Raises:
            KernelBug: the machine is broken, or the path has broken it.
            MachineOff: the block was left.
        """
        return await self._runtime.result(self._call)


class LiveMachine(Machine):
    """A machine whose actors and paths are tasks of the event loop at hand; made by `live_machine`."""

    def __init__(self, program: BoundScenario, runtime: ServedRuntime, seed: int, called: str) -> None:
        super().__init__(runtime.clock, program.lifecycle, program.config)
        self._program = program
        self._seed = seed
        self._called = called
        self._runtime = runtime

    async def call(self, path: Path[T]) -> T:
        """Run a path, and give what it returns.  Any number of tasks may call at the same time.

        A kernel path cannot be interrupted: when whoever waits for it is cancelled, it goes on in the background.

        Args:
            path: as in ``call(kmem_cache_alloc(cpu, cache))``; on a CPU's lane and with a name of its own by
                ``call(cpu.task(path, "alloc"))``.

        Raises:
            Exception: what the path raised.
            KernelBug: the machine is broken, by this path or another one.
            MachineOff: the block was left, or the machine has made all the steps it may.
        """
        return await self._runtime.result(self._runtime.enter(_spawn(path), waited_for=True))

    def start(self, path: Path[T]) -> Running[T]:
        """Run a path in the background.  What it raises breaks the machine.

        Raises:
            KernelBug: the machine is broken.
            MachineOff: as for `call`.
        """
        return Running(self._runtime, self._runtime.enter(_spawn(path), waited_for=False))

    async def settle(self) -> None:
        """Wait until nothing moves any more, and let all checkers look.  The machine goes on afterwards.

        Raises:
            KernelBug: one of them found something, or the machine was broken.
            MachineOff: as for `call`.
        """
        await self._runtime.settle()

    def decisions(self) -> list[Decision]:
        """The schedule so far; of a machine that broke, up to the step that broke it."""
        return self._runtime.decisions()

    def program(self) -> BoundScenario:
        """The calls so far as a story of its own, to be replayed by `decisions`, searched or verified.

        Each call comes after those that had returned to their callers when it was made; all others can move freely.

        Raises:
            UsageError: a call cannot be made again, or a path has awaited something of the event loop.
        """
        return self._story(self._runtime.turns())

    def text_of(self, raised: BaseException, directory: FilePath | None) -> str:
        """What is told when something failed that had used the machine, which itself was in order; empty if it was not.

        Args:
            raised: what failed; the run ends there.
            directory: where the run is to be kept; None for nowhere.
        """
        if self._runtime.outcome is not None or not self._runtime.calls:
            return ""
        try:
            turns = self._runtime.turns()
            last, decision = self._runtime.left(raised)
            turns.append(last)
            decisions = [*self.decisions(), decision]
            return text_of_left(self._story(turns), decisions, turns, seed=self._seed, directory=directory)
        except (UsageError, OutputError) as reason:
            return f"The live machine's run cannot be replayed: {reason}"

    def turns(self) -> list[Turn]:
        """What was done to the machine from outside, as a finding's file holds it.

        Raises:
            UsageError: as for `program`.
        """
        return self._runtime.turns()

    def _story(self, turns: list[Turn]) -> BoundScenario:
        bound = self._program
        return story_of_turns(
            turns,
            dict(enumerate(self._runtime.things)),
            name=self._called,
            lifecycle=bound.lifecycle.name,
            settings=bound.settings,
            steps_max=self._runtime.steps_max,
        )


def _spawn(path: Path[T]) -> Spawn[T]:
    return path if isinstance(path, Spawn) else Spawn(path)


@asynccontextmanager
async def live_machine(
    lifecycle: str | None = None,
    *,
    seed: int = 0,
    jitter: float = 0.0,
    time_scale: float = TIME_SCALE,
    steps_max: int = STEPS_MAX,
    observer: Observer | None = None,
    **settings: Any,
) -> AsyncIterator[LiveMachine]:
    """A machine that is there as long as a block lasts.

    Args:
        lifecycle: the generation of the protocol; v5 by default.
        seed: of ``choose()`` and of the jitter; it does not make a live run deterministic.
        jitter: how often a mailbox lets others go first, 0 to 1.
        time_scale: how many times faster than real time timers go.
        steps_max: bound on steps.
        observer: called with a `Step` after each step, as a log is (`slabactors.trace.log`).
        settings: of the machine: ``cpus=4``.

    Raises:
        Failed: the machine broke, or was not in order when it had settled.
        UsageError: an option does not fit.
    """
    if not 0 <= jitter <= 1:
        raise UsageError(f"jitter must be from 0 to 1, not {jitter}.\n  Write for example: jitter=0.3")
    if not 0 < time_scale < inf:
        raise UsageError(f"time_scale must be more than 0, not {time_scale}.\n  Write for example: time_scale=1000")
    session = current[-1] if current else None
    program = story_of_turns([], {}, name=NAME, lifecycle=lifecycle, settings=settings, steps_max=steps_max)
    runtime = ServedRuntime(
        seed=seed,
        jitter=jitter,
        jiffies_per_second=HZ * time_scale,
        settle_jiffies=SETTLE_JIFFIES,
        steps_max=steps_max,
        observer=observer,
    )
    machine = LiveMachine(program, runtime, seed, session.name if session is not None else NAME)
    if session is not None:
        session.machines.append(machine)
    thrown: BaseException | None = None
    try:
        with watched():
            async with runtime.serve(machine, daemons=machine.daemons(), at_rest=machine.at_rest):
                yield machine
    except BaseException as raised:
        thrown = raised
    outcome = runtime.outcome
    if outcome is not None:
        failed = _failed(machine, outcome, seed, session)
        rest = _without(thrown, runtime.told)
        if rest is not None:
            raise BaseExceptionGroup("the machine broke, and its block raised", [failed, rest]) from None
        raise failed from outcome.error
    if isinstance(thrown, Exception) and (stuck := runtime.waiting):
        thrown.add_note(f"slabactors: {stuck}")
    if thrown is not None:
        raise thrown


def _without(thrown: BaseException | None, told: Sequence[BaseException]) -> BaseException | None:
    """What a block has raised besides what the machine had told it; a cancellation is nothing of the kind."""
    cancelled = get_cancelled_exc_class()

    def known(one: BaseException) -> bool:
        return isinstance(one, cancelled) or any(one is other for other in told)

    if isinstance(thrown, BaseExceptionGroup):
        _, rest = thrown.split(known)
        return rest
    return None if thrown is None or known(thrown) else thrown


def _failed(machine: LiveMachine, outcome: Outcome, seed: int, session: Session | None) -> Failed:
    bug = outcome.bug
    if bug is None:
        return Failed(f"undetermined: the machine made {outcome.deliveries} steps, as many as it may", [], "")
    name = signature(outcome)
    where = "trio" if get_cancelled_exc_class().__module__.startswith("trio") else "asyncio"

    def reports() -> list[Report]:
        directory = session.directory if session is not None else None
        turns = machine.turns()
        return reports_of_live(machine.program(), machine.decisions(), turns, name, bug, seed=seed, directory=directory)

    return Failed(f"{name}, live on {where} (seed {seed})\n{bug.message}", reports)
