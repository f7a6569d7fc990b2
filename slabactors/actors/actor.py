"""Actors and operations: who owns state, and the linearisation points at which it changes.

An `Actor` owns some state; an `operation` is a plain method of it that runs to completion.  Calling an operation does
not run it: it makes a message, and awaiting that yields the message to whoever drives the path (`slabactors.runtime`).
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Coroutine, Generator, Iterable, MutableSequence, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Concatenate, ParamSpec, TypeAlias, TypeVar, cast, overload

from slabactors.actors.footprint import CountsDown, Narrow, Reach, footprint
from slabactors.errors import Kind

if TYPE_CHECKING:
    from slabactors.actors.path import Spawn

P = ParamSpec("P")
R = TypeVar("R")
A = TypeVar("A", bound="Actor")

Message: TypeAlias = "tuple[Operation, Actor, tuple[Any, ...]]"
"""An operation, the actor it goes to, and its arguments.

A bare tuple: one is made for every await, and building anything more costs a third of a delivery.  It is also how a
driver tells a message from what other libraries' awaitables yield.
"""


class Operation:
    """One linearisation point of an actor class: the function and what is declared about it.

    Attributes:
        function: the method body, called as ``function(actor, *args)``.
        name: its method name.
        expression: the C expression it stands for, from the first line of its docstring.
        guard: when given, the message waits in the mailbox until ``guard(actor, *args)`` holds.
        footprint: what it may meet whatever the state, see `slabactors.actors.footprint`.
        frees: the object is freed by this step; any later message to it is a use after free.
        clock: may read the clock or set the actor's deadline.
        acquires: takes a lock that the actor is.
        releases: gives it back.
        shares: takes the lock as one of several that may have it.
        recursive: who shares it waits for nobody who waits to have it alone.
        tries: takes the lock if the reply is true.
        nested: takes it while another lock of its class is held, and is meant to.
        waits_for: what it waits for as if it took a lock, given the actor and its own arguments.
        enters: what the path is doing from here on and others may wait for, given the actor and the reply.
        leaves: it has done that, and holds nothing of it.
        sleeps: must not be reached where nobody may sleep.
        parks: a path that waits here is at rest, not hung (an idle kworker).
        locks: it has to do with locks, or with who may sleep; see `slabactors.actors.locks`.
        excludes: it takes or gives back a lock that nobody else can have meanwhile.
        only_locks: that is all that is special about it.
        plain: it has no guard, and does nothing but what its function does.
        stale: the kind of bug that it is when this operation reaches an object already freed.
        narrow: smaller footprints that it has in some states; the first one that applies is used.
    """

    __slots__ = (
        "acquires",
        "clock",
        "enters",
        "excludes",
        "expression",
        "footprint",
        "frees",
        "function",
        "guard",
        "leaves",
        "locks",
        "name",
        "narrow",
        "nested",
        "only_locks",
        "owner",
        "parks",
        "plain",
        "recursive",
        "releases",
        "shares",
        "sleeps",
        "special",
        "stale",
        "tries",
        "waits_for",
    )

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        guard: Callable[..., bool] | None = None,
        reads: str | Iterable[str] | None = None,
        writes: str | Iterable[str] | None = None,
        frees: bool = False,
        clock: bool = False,
        acquires: bool = False,
        releases: bool = False,
        shares: bool = False,
        recursive: bool = False,
        tries: bool = False,
        nested: bool = False,
        waits_for: Callable[..., Actor] | None = None,
        enters: Callable[..., tuple[Actor, ...]] | None = None,
        leaves: bool = False,
        sleeps: bool = False,
        parks: bool = False,
        stale: Kind | None = None,
        narrow: Sequence[Narrow | CountsDown] = (),
    ) -> None:
        self.function = function
        self.name = function.__name__
        self.owner = function.__qualname__.rpartition(".")[0].rpartition(".")[2]
        self.expression = _expression(function)
        self.guard = guard
        self.footprint = footprint(reads, writes, frees=frees)
        self.narrow = tuple(narrow)
        self.frees = frees
        self.clock = clock
        self.acquires = acquires
        self.releases = releases
        self.shares = shares
        self.recursive = recursive
        self.tries = tries
        self.nested = nested
        self.waits_for = waits_for
        self.enters = enters
        self.leaves = leaves
        self.sleeps = sleeps
        self.parks = parks
        self.locks = acquires or releases or shares or tries or leaves or sleeps or bool(enters or waits_for)
        self.excludes = acquires or releases
        self.only_locks = self.locks and not frees and not clock
        self.special = frees or clock or self.locks
        self.plain = guard is None and not self.special
        self.stale = stale or (Kind.DOUBLE_FREE if frees else Kind.USE_AFTER_FREE)

    def reach_in(self, actor: Actor, args: tuple[Any, ...]) -> Reach:
        """What a delivery meets that is made in the state in which the actor is now."""
        if actor.tombstone is None:
            for narrow in self.narrow:
                reach = narrow.reach(actor, args)
                if reach is not None:
                    return reach
        return self.footprint

    def __repr__(self) -> str:
        return f"<operation {self.owner}.{self.name}>"


def _positional(method: Callable[..., Any], actor: Actor, args: Any, kwargs: Any) -> tuple[Any, ...]:
    """Arguments in the order of the signature: how a message was written must not show in logs."""
    bound = inspect.signature(method).bind(actor, *args, **kwargs)
    bound.apply_defaults()
    return bound.args[1:]


def _takes_nothing(method: Callable[..., Any]) -> bool:
    """Whether a method has no parameter but ``self``."""
    code = getattr(method, "__code__", None)
    variable = inspect.CO_VARARGS | inspect.CO_VARKEYWORDS
    return code is not None and (code.co_argcount, code.co_kwonlyargcount, code.co_flags & variable) == (1, 0, 0)


def _expression(function: Callable[..., Any]) -> str:
    """What stands between the first double backquotes of a docstring, else the function's name with ``()``."""
    parts = (function.__doc__ or "").split("``", 2)
    return parts[1] if len(parts) == 3 else f"{function.__name__}()"


@overload
def operation(function: Callable[Concatenate[A, P], R], /) -> Callable[Concatenate[A, P], Coroutine[Any, Any, R]]: ...
@overload
def operation(
    *,
    guard: Callable[..., bool] | None = None,
    reads: str | Iterable[str] | None = None,
    writes: str | Iterable[str] | None = None,
    frees: bool = False,
    clock: bool = False,
    acquires: bool = False,
    releases: bool = False,
    shares: bool = False,
    recursive: bool = False,
    tries: bool = False,
    nested: bool = False,
    waits_for: Callable[..., Actor] | None = None,
    enters: Callable[..., tuple[Actor, ...]] | None = None,
    leaves: bool = False,
    sleeps: bool = False,
    parks: bool = False,
    stale: Kind | None = None,
    narrow: Sequence[Narrow | CountsDown] = (),
) -> Callable[[Callable[Concatenate[A, P], R]], Callable[Concatenate[A, P], Coroutine[Any, Any, R]]]: ...
def operation(
    function: Callable[..., Any] | None = None,
    /,
    *,
    guard: Callable[..., bool] | None = None,
    reads: str | Iterable[str] | None = None,
    writes: str | Iterable[str] | None = None,
    frees: bool = False,
    clock: bool = False,
    acquires: bool = False,
    releases: bool = False,
    shares: bool = False,
    recursive: bool = False,
    tries: bool = False,
    nested: bool = False,
    waits_for: Callable[..., Actor] | None = None,
    enters: Callable[..., tuple[Actor, ...]] | None = None,
    leaves: bool = False,
    sleeps: bool = False,
    parks: bool = False,
    stale: Kind | None = None,
    narrow: Sequence[Narrow | CountsDown] = (),
) -> Any:
    """Make a method a linearisation point: calling it makes a message, awaiting the message delivers it.

    Args:
        function: the method; a plain ``def`` that touches its own actor only and never waits.
        guard: a predicate with the operation's own arguments; the message waits in the mailbox until it holds.
        reads: names of the cells it reads (blank-separated, or an iterable; ``"*"`` for all).
        writes: names of the cells it writes.  Declaring neither means "writes everything of its actor".
        frees: frees the object.
        clock: reads the clock or sets the actor's deadline (see `Timed`).
        acquires: takes the lock that the actor is; give it a guard.
        releases: gives that lock back.  Whoever took it does: what one path takes and another gives back (a semaphore,
            a completion) is no lock, and declares neither.
        shares: takes it as a reader, beside others; ``releases`` gives it back.
        recursive: sharing it waits only for who has it alone, and not for who waits for that.
        tries: takes the lock if the reply is true, and does not wait for it.
        nested: takes a lock while another of its class is held, and is meant to: ``mutex_lock_nested()``.
        waits_for: given the actor and the arguments, what is waited for as if a lock were taken and given back at once.
        enters: given the actor and the reply, what the path is doing from here on: others wait for it by ``waits_for``.
        leaves: it has done all that, and gives back the first of them with all that it has taken since.
        sleeps: may put its caller to sleep: ``might_sleep()``.
        parks: a path that waits here is at rest, not hung.
        stale: what it is called when this reaches a freed object; ``use-after-free``, or ``double-free`` for one
            that frees.
        narrow: smaller footprints that it has in some states, the first one that applies; see
            `slabactors.actors.footprint`.
    """

    def decorate(method: Callable[..., Any]) -> Any:
        spec = Operation(
            method,
            guard=guard,
            reads=reads,
            writes=writes,
            frees=frees,
            clock=clock,
            acquires=acquires,
            releases=releases,
            shares=shares,
            recursive=recursive,
            tries=tries,
            nested=nested,
            waits_for=waits_for,
            enters=enters,
            leaves=leaves,
            sleeps=sleeps,
            parks=parks,
            stale=stale,
            narrow=narrow,
        )

        def ask(actor: Actor, *args: Any, **kwargs: Any) -> Generator[Message, Any, Any]:
            if kwargs:
                args = _positional(method, actor, args, kwargs)
            return (yield (spec, actor, args))

        def ask_bare(actor: Actor) -> Generator[Message, Any, Any]:
            return (yield (spec, actor, ()))

        # A generator-based coroutine and not an awaitable object: it is the cheapest thing Python can await.  Most
        # operations take no arguments, and packing none into a tuple and a dict takes as long as the rest.
        message: Callable[..., Any] = types.coroutine(ask_bare if _takes_nothing(method) else ask)
        message.__name__ = method.__name__
        message.__qualname__ = method.__qualname__
        message.__module__ = method.__module__
        message.__doc__ = method.__doc__
        message.__wrapped__ = method  # type: ignore[attr-defined]
        message.operation = spec  # type: ignore[attr-defined]
        return message

    return decorate if function is None else decorate(function)


def operation_of(method: Callable[..., Any]) -> Operation:
    """The `Operation` behind a method made by `operation`."""
    return cast("Operation", method.operation)  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Tombstone:
    """Left where a freed actor was: the step that freed it, and the name and lane of the path that did."""

    step: int
    path: str
    lane: str


class Actor:
    """The one owner of some state; its life is the life of the kernel object it stands for.

    Args:
        name: how logs and reports call it; unique in a run among actors that are alive.
        container: the object whose memory holds this one (a work item's cache): they are freed together.
    """

    role: ClassVar[str] = ""
    """How signatures call every actor of the class; the class name unless given."""

    reports: ClassVar[tuple[str, ...]] = ()
    """Attributes that are only told about it: nothing that happens depends on them."""
    timeless: ClassVar[bool] = False
    """Its operations that read the clock only set deadlines so long from now: nothing depends on what time it is."""
    counts: ClassVar[tuple[str, ...]] = ()
    """Attributes that only grow: a round of work that changes nothing else has got nowhere."""
    atomic: str = ""
    """As a lock: how a report ends that says where nobody may sleep ("interrupts off"); empty where one may."""
    ordered: ClassVar[bool] = True
    """As a lock: others wait for it, so it matters in which order it and others are taken; interrupts that are off have
    no order."""
    lock_class: str = "Actor"
    """As a lock: what lockdep calls it and all that are used alike; the role unless given."""

    tombstone: Tombstone | None = None
    embedded: tuple[Actor, ...] = ()
    guarded: MutableSequence[Any] | tuple[()] = ()
    """Messages of this actor that have a guard, for the driver; a list from the first one on."""
    holder: Any = None
    """The path that holds the lock that this actor is, for the driver's deadlock report."""

    def __init__(self, name: str, container: Actor | None = None) -> None:
        self.name = name
        # Also in the instance: drivers look at both in every step, and Python finds them there much faster.
        self.tombstone = None
        self.guarded = ()
        if container is not None:
            container.embedded += (self,)

    def family(self) -> list[Actor]:
        """The object, and all that is embedded in its memory, at any depth: what is freed together."""
        found: list[Actor] = [self]
        for actor in found:
            found.extend(actor.embedded)
        return found

    def bury(self, tombstone: Tombstone) -> None:
        """Mark the object, and all that is embedded in its memory, as freed.  For drivers."""
        for actor in self.family():
            actor.tombstone = tombstone

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "role" not in cls.__dict__:
            cls.role = cls.__name__
        if "lock_class" not in cls.__dict__:
            cls.lock_class = cls.role

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


class Clock:
    """Virtual time as operations marked ``clock=True`` see it; a driver advances it."""

    now: int = 0
    """Jiffies since the start of the run; ``HZ`` of them are a second."""


class Timed(Actor):
    """An actor with a deadline that the driver's clock watches.

    An operation marked ``clock=True`` sets or clears `deadline` (absolute jiffies).  When it is reached, or earlier in
    terms of other paths' steps when time is adversarial, the driver delivers `expire` and then starts `on_expiry`.
    """

    deferrable: ClassVar[bool] = False
    """Whether the timer is late rather than that anything waits for it: it does not keep a run going, and others may
    fire before it however late they are due."""
    deadline: int | None = None
    pending_timer: Any = None
    """The driver's handle of the armed timer."""
    armed: int = 0
    """How often it has been armed in this run: part of the timer's identity."""

    def __init__(self, name: str, clock: Clock, container: Actor | None = None) -> None:
        super().__init__(name, container)
        self.clock = clock

    @operation(clock=True)
    def expire(self) -> None:
        """``timer expires``: the timer is no longer pending from here on."""
        self.deadline = None

    def in_vain(self) -> bool:
        """Whether what a deferrable timer starts would find nothing to do now; a machine that settles does without it.

        For drivers, between two steps: it may look at any actor, and change nothing.
        """
        return False

    def on_expiry(self) -> Spawn[Any] | None:
        """The path that runs after `expire`, in softirq context; none by default."""
        return None


def operations(cls: type[Actor]) -> Sequence[Operation]:
    """Every operation of an actor class, in the order of their names."""
    found = {}
    for name in dir(cls):
        spec = getattr(getattr(cls, name), "operation", None)
        if isinstance(spec, Operation):
            found[name] = spec
    return [found[name] for name in sorted(found)]
