"""A live run that others call into: any task of the host's program starts paths in it while it goes on.

Whoever is outside is one path, ``main``, whose code is the host's.  Each call is a step of it, by which the path is
spawned that the call runs, and so are the beginning and the end of waiting until nothing moves; so the schedule of such
a run is one like any other, and replays in the simulator over a story that takes the same turns
(`slabactors.runtime.turns.taken_again`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import anyio
from anyio.lowlevel import RunVar

from slabactors.actors import Operation, Spawn
from slabactors.errors import EndlessLoop, ForeignAwait, KernelBug, MachineOff, UsageError, WrongReturn
from slabactors.runtime.calling import Call, Host
from slabactors.runtime.live import LiveRuntime, first
from slabactors.runtime.remake import Surveyor, frame_of
from slabactors.runtime.step import Decision, Outcome, uncaught
from slabactors.runtime.turns import CALL, LEAVE, SETTLE, SETTLED, Left, Outside, Settled, Settles, Turn

T = TypeVar("T")


def _cancelling() -> int:
    """How often somebody has asked asyncio to cancel the task at hand; 0 on another event loop."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return 0
    return task.cancelling() if task is not None else 0


class ServedRuntime(LiveRuntime):
    """A live run that is open to calls from outside as long as a block of the host's program lasts.

    Timers that are due fire while the block does something else.  Once the run is broken every call that waits raises
    the bug, the rest of the block is cancelled, and `outcome` says what it was.

    Args:
        options: of `LiveRuntime`.

    Attributes:
        calls: all that were made.
        things: what their recipes name by number.
        outcome: how it ended, if it did not end well.
        told: what callers were given because it had ended.
        waiting: who waited for whom when the block raised something and nothing else could move.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(autojump=True, **options)
        self.calls: list[Call[Any]] = []
        self.outcome: Outcome | None = None
        self.told: list[BaseException] = []
        self.waiting = ""
        self._outside = Outside()
        self._turns: list[Call[Any] | Settles | Settled] = []
        self._returned: list[int] = []
        self._mistake: EndlessLoop | ForeignAwait | WrongReturn | None = None
        self._at_rest: Callable[[], None] | None = None
        self._settlers = 0
        self._asking = 0
        """How many of those who wait for rest are in the block, and do not leave it."""
        self._here = RunVar[bool]("whether this is the event loop of the block", False)
        self._settled: anyio.Event
        self._host: Host
        self._surveyor: Surveyor

    # -- the block -------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def serve(
        self, world: Any, *, daemons: Sequence[Spawn[Any]] = (), at_rest: Callable[[], None] | None = None
    ) -> AsyncIterator[None]:
        """Be there for calls; when the block is left without an exception settle, and look at what is left.

        Whatever happens, no task is left behind.  What the block raises comes out as it is; look at `outcome` first.

        Args:
            world: where the arguments of calls are looked for, so that they can be made again.
            daemons: paths that are there from the start.
            at_rest: looks at the settled world; raises `KernelBug`.
        """
        self._surveyor = Surveyor(world)
        self._at_rest = at_rest
        here = self._here.set(True)
        self._nudge = anyio.Event()
        thrown: BaseException | None = None
        steps = asked = 0
        try:
            async with anyio.create_task_group() as group:
                self._group = group
                for request in daemons:
                    self._start(request, None)
                self._host = Host(len(self.paths), self._roots)
                self._roots += 1
                self.paths.append(self._host)
                self._wake_host()
                group.start_soon(self._keep)
                try:
                    yield
                    await self._settle()
                except BaseException as raised:
                    thrown = raised
                    self.waiting = self._stuck()
                    raise
                finally:
                    self._over = True  # what others raise from here on, they do because they are cancelled
                    steps, asked = len(self.steps), _cancelling()
                group.cancel_scope.cancel()
        except BaseExceptionGroup as several:
            if thrown is None or any(one is not thrown for one in several.exceptions):
                # Paths and operations never raise through their tasks; this is Ctrl-C, or the host's own trouble.
                raise first(several) from None
        except asyncio.CancelledError:
            # A task group of asyncio's that has failed can leave its task marked as cancelled (Python 3.11's does), and
            # then anyio lets even the cancellation through that was for the tasks of the run.
            if thrown is not None or _cancelling() != asked:
                raise
        finally:
            self._here.reset(here)
            self._over = True
            self._end()
            if self.outcome is None:
                del self.steps[steps:]  # by tasks that were on their way when they were cancelled
            self._close()
            for call in self.calls:
                call.close()
        if thrown is not None and not isinstance(thrown, anyio.get_cancelled_exc_class()):
            raise thrown

    async def _keep(self) -> None:
        """Keep time until the run is broken, or the block is left."""
        while True:
            await self._keep_time()
            if not self._stopping:
                self._look(self._at_rest)
            if self._failures or self._bounded:
                break
            self._rested()
        self._over = True
        self._end()
        self._group.cancel_scope.cancel()

    def _end(self) -> None:
        """Nothing is delivered any more: say why, to all who wait."""
        if self.outcome is None and self._mistake is None and (self._failures or self._bounded):
            try:
                self.outcome = self._outcome()
            except (EndlessLoop, ForeignAwait, WrongReturn) as mistake:
                self._mistake = mistake
        for call in self.calls:
            call.over.set()
        if self._settlers:
            self._settled.set()

    def _ended(self) -> Exception:
        """What somebody gets who asks for something that will not come any more."""
        error: Exception
        bug = self.outcome.bug if self.outcome is not None else None
        if bug is not None:
            error = KernelBug(bug.kind, bug.message, clause=bug.clause, about=bug.about)
        elif self._mistake is not None:
            error = type(self._mistake)(*self._mistake.args)
        elif self._bounded:
            error = MachineOff(
                f"the machine has made {self.steps_max} steps, as many as it may.\n  Give it more: steps_max=..."
            )
        else:
            error = MachineOff("the machine is off: its block was left.\n  Call it inside of: async with ...")
        self.told.append(error)
        return error

    # -- what is left of it ----------------------------------------------------------------------------------------

    @property
    def things(self) -> list[Any]:
        """Code and objects that the recipes of the turns name by number."""
        return self._surveyor.things

    def turns(self) -> list[Turn]:
        """What was done from outside so far.

        Raises:
            UsageError: a call cannot be made again, or a path has awaited something of the event loop.
        """
        if self.hosted:
            raise UsageError("a path has awaited something of the event loop, which no simulated run can repeat.")
        return [turn.turn() if isinstance(turn, Call) else turn for turn in self._turns]

    def left(self, raised: BaseException) -> tuple[Left, Decision]:
        """The turn by which the program outside has raised something of its own, and its place in the schedule.

        Args:
            raised: what that was.
        """
        bug = uncaught(raised, self._host)
        left = Left(bug.message, bug.clause, self._returned)
        return left, Decision(self._host.key, LEAVE.name, self._outside.name)

    # -- calls -----------------------------------------------------------------------------------------------------

    def enter(self, request: Spawn[T], *, waited_for: bool) -> Call[T]:
        """Start a path from outside: a step of whoever is there.

        Args:
            request: the path.
            waited_for: whoever calls will get what it raises.

        Raises:
            KernelBug: the run is broken.
            MachineOff: it is over.
            UsageError: that is no path that could be started, or this is another thread or event loop.
        """
        if frame_of(request.coroutine) is None:
            raise UsageError(
                f"expected a path that has not begun, found {request.coroutine!r}.\n"
                "  Call the path's function here: call(kmem_cache_alloc(cpu, cache))"
            )
        try:
            self._check()
        except Exception:
            request.coroutine.close()
            raise
        call = Call(request, waited_for=waited_for)
        call.number = len(self.calls)
        self.calls.append(call)
        call.after = self._take_turn(CALL)
        self._turns.append(call)
        try:
            call.recipe = self._surveyor.spawned(request)
        except UsageError as reason:
            call.reason = reason
        if not self._stopping:
            call.path = self._start(request.instead(call.run()), self._host)
        return call

    def _check(self) -> None:
        """See whether somebody who asks for something can have it.

        Raises:
            UsageError: they are in another thread, or on another event loop.
            KernelBug: the run is broken.
            MachineOff: it is over.
        """
        if self._over:
            raise self._ended()
        try:
            here = self._here.get()
        except RuntimeError:  # no event loop at all
            here = False
        if not here:
            raise UsageError(
                "the machine is called from another thread or event loop than that of its block.\n"
                "  From a thread that anyio.to_thread has started: anyio.from_thread.run(machine.call, path)"
            )

    def _take_turn(self, operation: Operation) -> list[int]:
        """A step of whoever is outside; gives the calls that it comes after and the turn before did not."""
        after, self._returned = self._returned, []
        if not self._stopping:
            for number in after:
                path = self.calls[number].path
                assert path is not None
                self._host.catch_up(path)
            self._busy += 1
            self._execute(self._host, (operation, self._outside, ()))
            if not self._stopping:
                self._busy -= 1
        return after

    async def result(self, call: Call[T]) -> T:
        """Wait for what comes of a call.  Whoever is cancelled leaves the path alone, and it goes on.

        Raises:
            KernelBug: the run is broken.
            MachineOff: it is over.
            Exception: what the path raised, if that is for whoever has called.
        """
        if not call.over.is_set():
            self._check()
        try:
            await call.over.wait()
        except BaseException:
            if call.raised is None or call.known:
                call.abandoned = not call.returned
                raise
        if not call.returned:
            raise self._ended()
        self._learn(call)
        if call.raised is not None:
            raise call.raised
        result: T = call.result
        return result

    def _learn(self, call: Call[Any]) -> None:
        """Somebody outside knows what came of a call: calls from here on come after it, and may make use of it."""
        if not call.known:
            call.known = True
            self._returned.append(call.number)
            self._surveyor.add(call.result)

    # -- rest ------------------------------------------------------------------------------------------------------

    async def settle(self) -> None:
        """Wait until nothing moves any more, as at the end of the run, and look at what is left.

        Raises:
            KernelBug: it is broken.
            MachineOff: it is over.
        """
        self._check()
        self._turns.append(Settles(self._take_turn(SETTLE)))
        self._asking += 1
        try:
            await self._settle()
        finally:
            self._asking -= 1

    async def _settle(self) -> None:
        if self._over:
            raise self._ended()
        if not self._settlers:
            self._settled = anyio.Event()
            self._hosted_now -= 1
            self._alive -= 1
            self._rest()
        self._settlers += 1
        settled = self._settled
        try:
            await settled.wait()
        except BaseException:
            if not settled.is_set():
                self._settlers -= 1
                if not self._settlers:
                    self._wake_host()
            raise
        if self.outcome is not None or self._mistake is not None:
            raise self._ended()

    def _rested(self) -> None:
        """Nothing moves, and nothing is wrong: whoever waited for that goes on."""
        for call in self.calls:
            if call.returned:
                self._learn(call)
        self._wake_host()
        if self._asking:
            self._turns.append(Settled(self._take_turn(SETTLED)))
        if not self._stopping:
            self._settlers = 0
            self._settled.set()

    def _wake_host(self) -> None:
        """From here on somebody outside may call, and time waits for them."""
        self._act = 1
        self._busy += 1
        self._hosted_now += 1
        self._alive += 1
        self._nudge.set()

    def _stuck(self) -> str:
        """Who waits for whom when nothing can move but the host; empty when something can."""
        if self._busy > self._hosted_now or self._timers or self._stopping:
            return ""
        try:
            self._hung()
        except KernelBug as deadlock:
            return deadlock.message
        return ""
