"""What a run leaves behind, the same for both drivers: its steps, its schedule, and how it ended."""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path as FilePath
from types import CoroutineType
from typing import Any, NoReturn, Protocol, Self, cast

from slabactors.actors import Actor, Choose, Locks, Message, Operation, Request, Timed, Tombstone
from slabactors.errors import EndlessLoop, ForeignAwait, KernelBug, Kind

__all__ = ["Decision", "Ending", "Observer", "Outcome", "Step", "TimePolicy"]

WAKE = Operation(lambda actor: None, clock=True)
WAKE.name = "wake"
WAKE.owner = "Clock"
WAKE.expression = "wakes up"
CLOCK = Actor("clock")
"""Stands in the actor column of the step at which a sleeping path wakes up."""
NOTHING: Message = (WAKE, CLOCK, ())
"""What a path asks for that has not asked for anything yet."""


class TimePolicy(StrEnum):
    """When a timer may fire.

    ``adversarial``: the earliest at any moment, a bounded number of times before everything else has come to rest.
    ``quiescent``: only when nothing else can move.
    ``untimed``: as adversarial, but any that is set, whatever its deadline: time says nothing about order.
    ``recorded``: whichever the schedule says; for the replay of live runs, whose clock is not the simulator's.
    """

    ADVERSARIAL = "adversarial"
    QUIESCENT = "quiescent"
    UNTIMED = "untimed"
    RECORDED = "recorded"


class PathView(Protocol):
    """A path as steps and strategies see it."""

    @property
    def key(self) -> str:
        """Stable identity: the chain of spawns that led to it, the same in every run that contains it."""
        ...

    @property
    def name(self) -> str:
        """What it does."""
        ...

    @property
    def lane(self) -> str:
        """Where it runs."""
        ...


class Lineage:
    """Where a path comes from; the same for both drivers, so that a schedule of one fits the other.

    Attributes:
        name: what it does; siblings may share it.
        lane: where it runs.
        parent: who spawned it; None for those there from the start, and for timers.
        ordinal: its position among the siblings.
        children: how many it has spawned.
        born: index of its spawner's last step when it was spawned, of the step that armed it for a timer; -1 for none.
            Known in live runs and in observed simulated ones.
        joins: the paths that it has waited for, and that its spawner had.
        done: it has returned.
    """

    __slots__ = ("_key", "born", "children", "done", "joins", "lane", "name", "ordinal", "parent")

    def __init__(self, name: str, lane: str, parent: Lineage | None, ordinal: int) -> None:
        self.name = name
        self.lane = lane
        self.parent = parent
        self.ordinal = ordinal
        self.children = 0
        self.born = -1
        self.joins: tuple[Any, ...] = ()
        self.done = False
        self._key: str | None = None

    def joined(self) -> list[Self]:
        """The paths that have returned of those that it has waited for, or that these have waited for."""
        found = dict.fromkeys(child for child in self.joins if child.done)
        left = list(found)
        for child in left:
            # A child may have returned in the step of one that it was waiting for.  Each is looked at once: a child
            # has all that its spawner had waited for, so that the ways to the first of n double with each of them.
            for grandchild in child.joins:
                if grandchild.done and grandchild not in found:
                    found[grandchild] = None
                    left.append(grandchild)
        return cast("list[Self]", left)

    @property
    def key(self) -> str:
        """Stable identity: the chain of spawns, each by name and by position among its siblings."""
        if self._key is None:
            own = f"{self.name}.{self.ordinal}"
            self._key = own if self.parent is None else f"{self.parent.key}/{own}"
        return self._key

    def __repr__(self) -> str:
        return f"<path {self.key}>"


class Asking(PathView, Protocol):
    """A path that has asked for something."""

    @property
    def request(self) -> Message:
        """What it asked for last."""
        ...


@dataclass(frozen=True, slots=True)
class Step:
    """One delivery.

    Attributes:
        index: position in the run, from 0.
        now: virtual time in jiffies after it.
        path: who asked.
        operation: what was delivered.
        actor: to whom.
        args: its arguments.
        reply: what it returned.
        act: 1 while the strategy plays the scenario, 2 while the machine settles.
        preempts: the path that took the step before could have gone on.  Known in simulated runs only.
    """

    index: int
    now: int
    path: PathView
    operation: Operation
    actor: Actor
    args: tuple[Any, ...]
    reply: Any
    act: int
    preempts: bool = False


Observer = Callable[[Step], None]
"""Called after each delivery, before the asking path goes on."""


CHOOSE = "choose"
"""What a decision has for an operation when it is a value that ``choose()`` returned."""


@dataclass(frozen=True, slots=True)
class Decision:
    """One choice of a schedule, as it is stored.

    Attributes:
        path: key of the path whose message was delivered; of the path that chose, for a value.
        operation: name of the operation delivered (``choose`` for a value).
        actor: name of the actor it was delivered to.
        value: what ``choose()`` returned, else None.
    """

    path: str
    operation: str
    actor: str
    value: int | None = None


class Ending(StrEnum):
    """How a run ended."""

    DONE = "done"
    BUG = "bug"
    BOUND = "bound"


@dataclass(slots=True)
class Outcome:
    """The result of one run.

    Attributes:
        ending: done, a bug, or the bound on steps was hit.
        bug: what broke, when something did.
        deliveries: how many steps it took.
        now: virtual time at the end, in jiffies.
        culprit: the path whose step broke it, if one did.
        operation: the operation at which it broke.
        actor: the actor at which it broke.
        going: when the bound on steps was hit, who was going on, and where.
    """

    ending: Ending
    deliveries: int
    now: int
    bug: KernelBug | None = None
    culprit: PathView | None = None
    operation: Operation | None = None
    actor: Actor | None = None
    going: str = ""
    error: BaseException | None = field(default=None, repr=False)


# -- what both drivers do in the same words ----------------------------------------------------------------------------


def checked_count(request: Choose) -> int:
    """How many alternatives a path offers.

    Raises:
        ValueError: none.
    """
    if request.count < 1:
        raise ValueError(f"choose({request.count}): there must be at least one alternative")
    return request.count


async def deliver(message: Message) -> Any:
    """A path that asks one thing: what `tell` starts."""
    operation, actor, args = message
    return await getattr(actor, operation.name)(*args)


def touched_freed(operation: Operation, actor: Actor, grave: Tombstone, path: PathView) -> NoReturn:
    """A message has reached an object that is no more.

    Raises:
        KernelBug: of the kind that the operation declares.
    """
    where = f" on {path.lane}" if path.lane not in ("", path.name) else ""
    by = f"{grave.path} on {grave.lane}" if grave.lane not in ("", grave.path) else grave.path
    raise KernelBug(
        operation.stale,
        f"{path.name}{where} reached {actor.name} with {operation.expression}, "
        f"but {by} had freed it at step {grave.step}",
        clause=f"{actor.role}.{operation.name} after free",
    )


def hung(stuck: Sequence[Asking], locks: Locks) -> None:
    """Nothing moves any more.

    Args:
        stuck: the paths that wait for a guard, other than where idle daemons park.
        locks: who holds what.

    Raises:
        KernelBug: ``deadlock``, when there are any.
    """
    if not stuck:
        return
    waits = []
    for path in stuck:
        operation, actor, _ = path.request
        held = f", held by {actor.holder.name}" if actor.holder is not None else ""
        waits.append(f"{path.name} waits for {operation.expression} of {actor.name}{held}")
    circle = locks.waiting_circle(stuck, _awaited)
    if circle:
        waits.append(f"in a circle: {' -> '.join(circle)}")
    raise KernelBug(
        Kind.DEADLOCK,
        "nothing can move: " + "; ".join(waits),
        clause="waits for " + ", ".join(sorted({f"{p.request[1].role}.{p.request[0].name}" for p in stuck})),
        about=tuple(stuck),
    )


def _awaited(path: Any) -> list[Any]:
    """The paths that a path waits for to return."""
    joining = getattr(path, "joining", None)
    return [one for one in getattr(path, "joins", ()) if not one.done] if joining is None else [joining]


def deferrable(timer: Timed | None) -> bool:
    """Whether a path that waits for time to pass does so as a deferrable timer; a sleeper has no timer."""
    return timer is not None and timer.deferrable


def in_vain(timer: Timed | None) -> bool:
    """Whether nothing would come of a deferrable timer if it fired now."""
    return timer is not None and timer.deferrable and timer.in_vain()


LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
"""Where the lines are that no author of a scenario wrote.  In a virtual environment slabactors itself may be there."""

_PACKAGE = FilePath((lambda: None).__code__.co_filename).parent.parent
SHIPPED = (f"{_PACKAGE}{os.sep}", f"{_PACKAGE.parent / 'scenarios'}{os.sep}")
"""Where the lines are that users did not write, but came with slabactors."""


def uncaught(raised: BaseException, path: PathView | None) -> KernelBug:
    """An exception of a path's own code, as a finding that says where."""
    innermost = own = users = ""
    frame = raised.__traceback__
    if isinstance(raised.__cause__, StopIteration):  # which Python replaces where it leaves a coroutine
        frame = raised.__cause__.__traceback__ or frame
    while frame is not None:
        # The innermost line of its author's: the one that he can do something about.
        file = frame.tb_frame.f_code.co_filename
        innermost = f"{FilePath(file).name}:{frame.tb_lineno}"
        if not file.startswith(LIBRARIES):
            own = innermost
        if not file.startswith((*LIBRARIES, *SHIPPED)):
            users = innermost
        frame = frame.tb_next
    place = users or own or innermost or "?"
    who = path.name if path is not None else "the run"
    text = next(iter(str(raised).splitlines()), "no message")
    inside = f", in {own}" if users and own != users else ""
    return KernelBug(
        Kind.EXCEPTION,
        f"{who} raised {type(raised).__name__} at {place}{inside}: {text}",
        clause=f"{type(raised).__name__} at {place}",
    )


def place_of(coroutine: Any) -> str:
    """File and line of the innermost ``await`` that is somebody's own code."""
    place = users = ""
    while isinstance(coroutine, CoroutineType) and coroutine.cr_frame is not None:
        frame = coroutine.cr_frame
        file = frame.f_code.co_filename
        if "/asyncio/" not in file:
            place = f"{FilePath(file).name}:{frame.f_lineno} in {frame.f_code.co_name}()"
            if not file.startswith((*LIBRARIES, *SHIPPED)):
                users = place
        coroutine = coroutine.cr_await
    return users or place


SERVED_MAX = 20_000
"""How many requests that are no message a path may make one after the other: a bound on loops without a step."""


def endless(name: str, coroutine: Any) -> EndlessLoop:
    """A path goes on spawning, choosing and telling, and never comes to a step."""
    return EndlessLoop(
        f"path {name!r} awaited {SERVED_MAX:,} things at {place_of(coroutine)} of which none is a step of an actor; "
        "it may never end.\n  Bound the loop, or await an operation in it."
    )


def unknown_request(name: str, coroutine: Any, request: Request) -> ForeignAwait:
    """A path asked for something that no driver knows."""
    return ForeignAwait(f"path {name} at {place_of(coroutine)} made an unknown request {type(request).__name__}.")
