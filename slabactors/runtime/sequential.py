"""The sequential driver: paths one after the other, for workloads that are played and not searched.

No strategy, no record, no steps.  A path runs until it has to wait; then whoever can run goes on, first come first
served.  A path that is started runs at once, as an interrupt does, and its starter goes on when it has returned or
waits.  Time stands still unless everything waits for it, or `Sequential.advance` lets it pass.

Where several paths can run, `Turns` may say who goes on: that is how a flush of several CPUs is played in any order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Coroutine, Sequence
from typing import Any, Protocol, TypeVar

from slabactors.actors import (
    Actor,
    Choose,
    Clock,
    Join,
    Locks,
    Message,
    MightSleep,
    Parallel,
    Request,
    Sleep,
    Spawn,
    Tell,
    Timed,
    Tombstone,
    join,
    message_of,
    start,
)
from slabactors.errors import ForeignAwait
from slabactors.runtime.step import NOTHING, checked_count, deliver, hung, place_of, touched_freed, unknown_request

__all__ = ["Sequential", "SequentialPath"]

T = TypeVar("T")


class SequentialPath:
    """A path that is played.

    Attributes:
        name: what it does.
        lane: where it runs.
        daemon: nobody waits for it, and it may wait for ever.
        request: its pending message: operation, actor, arguments.
        parent: who started it; None for what was played and for daemons.
        sections: how many critical sections it has left, and objects it has freed, since it was started.
        done: it has returned.
        result: what it returned.
        deadline: while it sleeps, in jiffies.
        lanes: for each actor that it has told something, the path of what it told last.
    """

    __slots__ = (
        "coroutine",
        "daemon",
        "deadline",
        "done",
        "gathers",
        "joiners",
        "key",
        "lane",
        "lanes",
        "missing",
        "name",
        "parent",
        "reply",
        "request",
        "result",
        "sections",
    )

    def __init__(self, coroutine: Coroutine[Any, Any, Any], name: str, lane: str, daemon: bool) -> None:
        self.coroutine = coroutine
        self.name = self.key = name
        self.lane = lane
        self.daemon = daemon
        self.request: Message = NOTHING
        self.parent: SequentialPath | None = None
        self.sections = 0
        self.done = False
        self.result: Any = None
        self.reply: Any = None
        self.deadline: int | None = None
        self.joiners: list[SequentialPath] = []
        self.lanes: dict[Actor, SequentialPath] = {}
        self.missing = 0
        self.gathers: list[SequentialPath] | None = None


class Turns(Protocol):
    """Says who goes on where several paths can: when one has left a critical section, started another, or waits."""

    def next(self, ready: Sequence[SequentialPath]) -> SequentialPath:
        """One of at least two paths, in the order in which they came."""
        ...


class Sequential:
    """Plays paths on one machine.

    Args:
        turns: says who goes on where several paths can; by default whoever runs, then first come first served.

    Attributes:
        clock: virtual time, for the machine.
        deliveries: how many operations were delivered.
    """

    def __init__(self, turns: Turns | None = None) -> None:
        self.clock = Clock()
        self.turns = turns
        self.deliveries = 0
        self._ready: deque[SequentialPath] = deque()
        """Those that wait for nothing but their turn."""
        self._guarded: list[SequentialPath] = []
        """Those whose message has a guard that did not hold when they came."""
        self._sleeping: list[SequentialPath] = []
        self._timers: dict[Timed, int] = {}
        """Those that are set, with their deadlines, in the order in which they were."""

    # -- the user's side -------------------------------------------------------------------------------------------

    def run(self, coroutine: Coroutine[Any, Any, T], lane: str = "", name: str = "") -> T:
        """Play a path until it returns, then whoever it has left something to do.

        Args:
            coroutine: the path.
            lane: where it runs.
            name: what it does.

        Raises:
            KernelBug: an operation or a path found one, or everybody waits for something that will not happen.
            ForeignAwait: a path awaited something of an event loop.
        """
        path = SequentialPath(coroutine, name or getattr(coroutine, "__name__", "path"), lane, False)
        try:
            self._play(path)
            while not path.done:
                if not self._go_on() and not (self._waits_for_time() and self._pass_time()):
                    self._hung()
        finally:
            if not path.done:
                coroutine.close()
                self._forget(path)
        self._drain()
        result: T = path.result
        return result

    def start(self, daemons: Sequence[Spawn[Any]]) -> None:
        """Start paths that go on by themselves, each up to where it waits."""
        for daemon in daemons:
            self._play(SequentialPath(daemon.coroutine, daemon.name, daemon.lane, True))
        self._drain()

    def advance(self, jiffies: int) -> None:
        """Let time pass: timers fire, sleepers wake, and daemons do what that leaves them to do."""
        until = self.clock.now + jiffies
        self._drain()
        while self._pass_time(until):
            self._drain()
        self.clock.now = until

    def close(self) -> None:
        """Close the paths that still wait: idle daemons, for the most part."""
        for path in [*self._ready, *self._guarded, *self._sleeping]:
            path.coroutine.close()
        self._ready.clear()
        self._guarded.clear()
        self._sleeping.clear()

    # -- playing ---------------------------------------------------------------------------------------------------

    def _play(self, path: SequentialPath) -> None:
        """Play one path until it returns or waits: the hot loop of every workload."""
        send = path.coroutine.send
        reply = path.reply
        path.reply = None
        delivered = 0
        alone = self.turns is None
        request: Any = None
        try:
            while True:
                request = send(reply)
                if type(request) is not tuple:
                    path.request = NOTHING
                    if not self._serve(path, request):
                        return
                    reply, path.reply = path.reply, None
                    continue
                operation, actor, args = request
                if actor.tombstone is None and (operation.guard is None or operation.guard(actor, *args)):
                    function = operation.function
                    reply = function(actor, *args) if args else function(actor)
                    delivered += 1
                    if not operation.special:
                        continue
                    if alone and not (operation.frees or operation.clock):
                        # A lock, and nobody is asked who goes on: as in `_special`, without its call.
                        if operation.acquires or (operation.tries and reply and not operation.shares):
                            actor.holder = path
                        elif operation.releases:
                            actor.holder = None
                        continue
                    path.request = request
                    self.deliveries += delivered
                    delivered = 0
                    if self._special(path, reply) and self.turns is not None:
                        path.reply = reply
                        self._ready.appendleft(path)
                        return
                    continue
                path.request = request
                if actor.tombstone is not None:
                    touched_freed(operation, actor, actor.tombstone, path)
                self._guarded.append(path)
                return
        except StopIteration as stop:
            self._finish(path, stop.value)
        finally:
            self.deliveries += delivered

    def _special(self, path: SequentialPath, reply: Any) -> bool:
        """What a delivery does besides changing its actor; whether a critical section ends with it."""
        operation, actor, _ = path.request
        if operation.frees:
            actor.bury(Tombstone(self.deliveries, path.name, path.lane))
        if operation.clock and isinstance(actor, Timed) and actor.deadline != self._timers.get(actor):
            # Whatever was armed again goes behind the others: of equal deadlines the older one fires first.
            self._timers.pop(actor, None)
            if actor.deadline is not None:
                self._timers[actor] = actor.deadline
        if operation.acquires or (operation.tries and reply and not operation.shares):
            actor.holder = path
        elif operation.releases:
            actor.holder = None
        if operation.releases or operation.frees:
            path.sections += 1
            return True
        return False

    def _finish(self, path: SequentialPath, result: Any) -> None:
        path.done = True
        path.result = result
        for joiner in path.joiners:
            joiner.missing -= 1
            if not joiner.missing:
                gathers = joiner.gathers
                joiner.reply = result if gathers is None else [child.result for child in gathers]
                joiner.gathers = None
                self._ready.append(joiner)

    def _go_on(self) -> bool:
        """Play one of those that can run, if there is one."""
        ready = [*self._ready, *(path for path in self._guarded if _holds(path))]
        if not ready:
            return False
        path = self.turns.next(ready) if self.turns is not None and len(ready) > 1 else ready[0]
        if path in self._ready:
            self._ready.remove(path)
        else:
            self._guarded.remove(path)
            self._deliver(path)
        self._play(path)
        return True

    def _deliver(self, path: SequentialPath) -> None:
        """Deliver a message whose guard holds now."""
        operation, actor, args = path.request
        if actor.tombstone is not None:
            touched_freed(operation, actor, actor.tombstone, path)
        path.reply = operation.function(actor, *args)
        self.deliveries += 1
        if operation.special:
            self._special(path, path.reply)

    def _drain(self) -> None:
        """Play until everybody waits.  Bounded by what there is to do: a daemon that never waits never ends."""
        while self._ready or any(map(_holds, self._guarded)):
            self._go_on()

    def _forget(self, path: SequentialPath) -> None:
        """A path was closed in the middle of something; others go on without it."""
        for waiting in (self._ready, self._guarded, self._sleeping):
            if path in waiting:
                waiting.remove(path)

    # -- requests --------------------------------------------------------------------------------------------------

    def _serve(self, path: SequentialPath, request: Any) -> bool:
        """Serve what is not a message; whether the path can go on at once, with `SequentialPath.reply`."""
        if isinstance(request, Spawn):
            path.reply = self._start(request, path)
            return self.turns is None or self._yield(path)
        if isinstance(request, Join):
            return self._wait_for(path, [request.task], gather=False)
        if isinstance(request, Parallel):
            children = []
            for one in request.paths:
                request.begun += 1
                children.append(self._start(one, path))
            return self._wait_for(path, children, gather=True)
        if isinstance(request, MightSleep):
            path.reply = None
            return True
        if isinstance(request, Sleep):
            path.deadline = self.clock.now + request.jiffies
            self._sleeping.append(path)
            return False
        if isinstance(request, Choose):
            checked_count(request)
            path.reply = 0
            return True
        if isinstance(request, Tell):
            self._tell(path, message_of(request.message))
            return self.turns is None or self._yield(path)
        if isinstance(request, Request):
            raise unknown_request(path.name, path.coroutine, request)
        raise ForeignAwait(
            f"path {path.name!r} awaited something of an event loop at {place_of(path.coroutine)}; "
            "what is played one path at a time has none.\n"
            "  Await operations, sleep(), spawn() and join() only."
        )

    def _tell(self, path: SequentialPath, message: Message) -> None:
        """A lane: a path of its own that asks and forgets.  Lanes of one path to one actor stay in order."""
        actor = message[1]
        before = path.lanes.get(actor)

        async def in_order() -> None:
            if before is not None and not before.done:
                await join(before)
            await deliver(message)

        path.lanes[actor] = SequentialPath(in_order(), f"tell {actor.name}", path.lane, False)
        self._begin(path.lanes[actor], path)

    def _yield(self, path: SequentialPath) -> bool:
        self._ready.append(path)
        return False

    def _start(self, request: Spawn[Any] | Coroutine[Any, Any, Any], parent: SequentialPath) -> SequentialPath:
        if isinstance(request, Spawn):
            child = SequentialPath(request.coroutine, request.name, request.lane, request.daemon)
        else:
            child = SequentialPath(request, getattr(request, "__name__", "path"), parent.lane, False)
        self._begin(child, parent)
        return child

    def _begin(self, child: SequentialPath, parent: SequentialPath) -> None:
        child.parent = parent
        if self.turns is None:
            self._play(child)
        else:
            self._ready.append(child)

    def _wait_for(self, path: SequentialPath, children: Sequence[Any], *, gather: bool) -> bool:
        missing = [child for child in children if not child.done]
        if not missing:
            path.reply = [child.result for child in children] if gather else children[0].result
            return True
        path.gathers = list(children) if gather else None
        path.missing = len(missing)
        for child in missing:
            child.joiners.append(path)
        return False

    # -- time ------------------------------------------------------------------------------------------------------

    def _waits_for_time(self) -> bool:
        """Whether anything is due that somebody may wait for; a deferrable timer is nothing to wait for."""
        return bool(self._sleeping) or any(not getattr(timer, "deferrable", False) for timer in self._timers)

    def _pass_time(self, until: int | None = None) -> bool:
        """Let whatever is due first happen; false when nothing is, up to then."""
        due: list[tuple[int, int, Timed | SequentialPath]] = [
            (deadline, 0, timer) for timer, deadline in self._timers.items()
        ]
        due.extend((path.deadline, 1, path) for path in self._sleeping if path.deadline is not None)
        if not due:
            return False
        deadline, _, first = min(due, key=lambda one: one[:2])
        if until is not None and deadline > until:
            return False
        self.clock.now = max(self.clock.now, deadline)
        if isinstance(first, SequentialPath):
            self._sleeping.remove(first)
            first.deadline = None
            self._ready.append(first)
            return True
        del self._timers[first]
        path = SequentialPath(_expire(first), f"timer {first.name}", "timer", True)
        self._play(path)
        return True

    def _hung(self) -> None:
        hung([path for path in self._guarded if not path.request[0].parks], Locks())
        raise RuntimeError("nothing moves, and nobody waits for a guard")


async def _expire(timer: Timed) -> None:
    """What a timer does when it fires: itself, then the path that follows."""
    await timer.expire()
    follows = timer.on_expiry()
    if follows is not None:
        await start(follows)


def _holds(path: SequentialPath) -> bool:
    operation, actor, args = path.request
    guard = operation.guard
    return actor.tombstone is not None or guard is None or bool(guard(actor, *args))
