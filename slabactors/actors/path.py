"""What a path may await besides operations: spawn, join, sleep, choose, tell.

A path is an ordinary ``async def`` that owns local variables only.  Each function here makes a request that the driver
of the path serves; none of them is tied to an event loop.
"""

from __future__ import annotations

import types
from collections.abc import Coroutine, Generator, Sequence
from typing import Any, ClassVar, Final, Generic, Protocol, TypeAlias, TypeVar

from slabactors.actors.actor import Actor, Message

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Task(Protocol[T_co]):
    """A path that was spawned, as its spawner sees it."""

    @property
    def name(self) -> str:
        """What it does, for logs and reports."""
        ...


class Request:
    """Something other than a message that a path asks of its driver; never a visible step by itself."""

    __slots__ = ()


class Spawn(Request, Generic[T]):
    """Start a path.

    Args:
        coroutine: the path.
        name: what it does; siblings may share a name.
        lane: where it runs (``cpu0``, ``kworker/0``): its column in tables and timelines.
        daemon: it may wait for ever without that being a deadlock, and the run does not wait for it.
    """

    __slots__ = ("coroutine", "daemon", "lane", "name")

    interrupts: ClassVar[bool] = False
    """It is an `Interrupt`."""

    def __init__(
        self, coroutine: Coroutine[Any, Any, T], *, name: str = "", lane: str = "", daemon: bool = False
    ) -> None:
        self.coroutine = coroutine
        self.name = name or getattr(coroutine, "__name__", "path")
        self.lane = lane
        self.daemon = daemon

    def instead(self, coroutine: Coroutine[Any, Any, Any]) -> Spawn[Any]:
        """The same start of another path."""
        return Spawn(coroutine, name=self.name, lane=self.lane, daemon=self.daemon)


class Interrupt(Spawn[T]):
    """Start a path that must not sleep.

    Args:
        coroutine: the path.
        name: as for `Spawn`.
        lane: as for `Spawn`.
        context: what it is: an interrupt, a softirq.
        inside: what others wait for when they wait for it, by operations with ``waits_for``.
    """

    __slots__ = ("context", "inside")

    interrupts = True

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, T],
        *,
        name: str = "",
        lane: str = "",
        context: str = "an interrupt",
        inside: Actor | None = None,
    ) -> None:
        super().__init__(coroutine, name=name, lane=lane)
        self.context = context
        self.inside = inside

    def instead(self, coroutine: Coroutine[Any, Any, Any]) -> Interrupt[Any]:
        """The same start of another path."""
        return Interrupt(coroutine, name=self.name, lane=self.lane, context=self.context, inside=self.inside)


class Join(Request):
    """Wait until a spawned path has returned."""

    __slots__ = ("task",)

    def __init__(self, task: Task[Any]) -> None:
        self.task = task


class Parallel(Request):
    """Start some paths, one after the other, and wait until all of them have returned.

    One request and not a spawn and a join for each: every execution of a search begins like this.

    Args:
        paths: what to start; a bare coroutine goes by its function's name.

    Attributes:
        begun: how many the driver has begun to start.
    """

    __slots__ = ("begun", "paths")

    def __init__(self, paths: Sequence[Spawn[Any] | Coroutine[Any, Any, Any]]) -> None:
        self.paths = paths
        self.begun = 0

    def close(self) -> None:
        """Nobody will start the rest; unless they are closed they complain that nobody ever awaited them."""
        for path in self.paths[self.begun :]:
            (path.coroutine if isinstance(path, Spawn) else path).close()


class Sleep(Request):
    """Wait for some jiffies of virtual time."""

    __slots__ = ("jiffies",)

    def __init__(self, jiffies: int) -> None:
        self.jiffies = jiffies


class MightSleep(Request):
    """Be told off if the path must not sleep here."""

    __slots__ = ()


class Choose(Request):
    """Let the schedule pick one of ``count`` alternatives."""

    __slots__ = ("count",)

    def __init__(self, count: int) -> None:
        self.count = count


class Tell(Request):
    """Put a message in its actor's mailbox and go on without the reply."""

    __slots__ = ("message",)

    def __init__(self, message: Coroutine[Any, Any, Any]) -> None:
        self.message = message


Yielded: TypeAlias = "Message | Request"


@types.coroutine
def _serve(request: Request) -> Generator[Request, Any, Any]:
    return (yield request)


async def start(request: Spawn[T]) -> Task[T]:
    """Start the path that a `Spawn` describes and return at once."""
    task: Task[T] = await _serve(request)
    return task


async def spawn(coroutine: Coroutine[Any, Any, T], *, name: str = "", lane: str = "", daemon: bool = False) -> Task[T]:
    """Start a path and return at once.  The arguments are those of `Spawn`."""
    task: Task[T] = await _serve(Spawn(coroutine, name=name, lane=lane, daemon=daemon))
    return task


async def join(task: Task[T]) -> T:
    """Wait until a path has returned, and give what it returned."""
    result: T = await _serve(Join(task))
    return result


async def parallel(*paths: Spawn[Any] | Coroutine[Any, Any, Any]) -> list[Any]:
    """Start some paths, wait for all of them, and give their results in order."""
    request = Parallel(paths)
    try:
        results: list[Any] = await _serve(request)
    finally:
        request.close()
    return results


async def sleep(jiffies: int) -> None:
    """Sleep for some jiffies of virtual time (``HZ`` of them are a second).

    Raises:
        ValueError: the number is negative.
    """
    if jiffies < 0:
        raise ValueError(f"sleep({jiffies}): time does not run backwards")
    await _serve(Sleep(jiffies))


@types.coroutine
def might_sleep() -> Generator[Request, Any, None]:
    """Say that what follows may sleep, whether it does or not.  No step: nobody else sees it.

    Models might_sleep() (include/linux/kernel.h, v3.8).

    Raises:
        KernelBug: ``sleep-in-atomic`` in an interrupt, a softirq, or with a spinlock held.
    """
    yield MIGHT_SLEEP


MIGHT_SLEEP: Final = MightSleep()


async def choose(count: int) -> int:
    """A number from 0 to ``count - 1`` that the schedule picks, records and replays."""
    picked: int = await _serve(Choose(count))
    return picked


async def tell(message: Coroutine[Any, Any, Any]) -> None:
    """Send a message without waiting for its reply.  Messages told by one path to one actor stay in order."""
    await _serve(Tell(message))


class Prepared(Generic[T]):
    """A path that `prepare` has run because the one at hand started it, for whoever joins it."""

    __slots__ = ("name", "result")

    def __init__(self, name: str, result: T) -> None:
        self.name = name
        self.result = result


def prepare(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a path to its end here and now, as set-up before anybody else moves: no choice, no record, no step.

    A path that it starts (an IPI) runs to its end when it is started.

    Raises:
        RuntimeError: it would do something that others could see or that takes time: wait, free an object, set a timer,
            or send to an actor that somebody waits at.
    """
    send = coroutine.send
    reply: Any = None
    while True:
        try:
            request = send(reply)
        except StopIteration as stop:
            result: T = stop.value
            return result
        if type(request) is not tuple:
            if request is MIGHT_SLEEP:
                reply = None
                continue
            if isinstance(request, Spawn) and not request.daemon:
                reply = Prepared(request.name, prepare(request.coroutine))
                continue
            if isinstance(request, Join) and isinstance(request.task, Prepared):
                reply = request.task.result
                continue
            coroutine.close()
            raise RuntimeError(f"prepare() cannot serve {request!r}; await that path instead")
        operation, actor, args = request
        guard = operation.guard
        if operation.frees or actor.tombstone is not None or (guard is not None and not guard(actor, *args)):
            coroutine.close()
            raise RuntimeError(f"prepare() cannot do {operation!r} on {actor!r}; await that path instead")
        reply = operation.function(actor, *args)
        # Stories are set up anew for every execution of a search, so the rare cases are looked at only when they are.
        woken = actor.guarded and any(waiting.request[0].guard(actor, *waiting.request[2]) for waiting in actor.guarded)
        if woken or (operation.clock and getattr(actor, "deadline", None) is not None):
            coroutine.close()
            raise RuntimeError(f"prepare() cannot set a timer or wake anybody: {operation!r} on {actor!r}")


def message_of(message: Coroutine[Any, Any, Any]) -> Message:
    """The message behind an operation's call, without delivering it."""
    made: Message = message.send(None)
    message.close()
    return made
