"""Which locks each path of a run holds, in which order they were taken, and where nobody may sleep.

What lockdep (kernel/lockdep.c, v3.8) and might_sleep() keep in the kernel.  Locks are told apart by *class*: all
mutexes of one role are one.  Whoever takes a lock while he holds another adds an edge between two classes, and a circle
of edges is a deadlock that some other order of steps may have, whether this one had it or not.

Everything here follows from what each path did, one path at a time: two executions that differ only in the order of
independent steps have the same edges.  That is why searches that run one of them for all may look at the end of it.

What a path did is summed up in a `LockState`.  There are few of them, the same in all runs, and each knows those that
come after it: searches take a hundred thousand locks a second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache, lru_cache
from itertools import pairwise
from typing import Any, Final, Protocol

from slabactors.actors.actor import Actor, Message, Operation
from slabactors.errors import KernelBug, Kind

__all__ = ["AT_LARGE", "LockState", "Locks", "all_edges", "circle"]

Edge = tuple[str, str]
"""Two classes of locks: the second was taken while the first was held."""


SHARED: Final = " (shared)"
"""Behind the class of a lock in the hands of a recursive reader, who waits for nobody that waits for other readers.

So no circle goes through such a lock in which it is shared on both sides: see `circle`.
"""


class Holder(Protocol):
    """A path, as far as locks are concerned."""

    @property
    def name(self) -> str:
        """What it does."""
        ...

    @property
    def request(self) -> Message:
        """What it asked for last."""
        ...


class LockState:
    """What a path holds, and what it has taken while it held what: all that reports depend on, and nothing else.

    Attributes:
        held: classes, oldest first.
        awake: why it must not sleep; empty when it may.
        edges: whatever it took so far, in pairs of classes.
    """

    __slots__ = ("_context", "_locks", "awake", "edges", "following", "held")

    def __init__(self, locks: tuple[tuple[str, str, bool], ...], edges: frozenset[Edge], context: str) -> None:
        self._locks = locks
        self._context = context
        self.held = tuple([one for one, _, _ in locks])
        self.edges = edges
        atomic = next((f"with {atomic}" for _, atomic, _ in locks if atomic), "")
        self.awake = f"in {context}" if context else atomic
        self.following: dict[tuple[Operation, str], LockState] = {}

    def after(self, operation: Operation, actor: Actor) -> LockState:
        """The state after a step.

        Args:
            operation: what was delivered; when it only tries, it has got what it tried to take.
            actor: what it takes, gives back, enters, or waits for.
        """
        key = operation, actor.lock_class
        known = self.following.get(key)
        if known is None:
            known = self.following[key] = self._learn(operation, actor)
        return known

    def _learn(self, operation: Operation, actor: Actor) -> LockState:
        held, edges, name = self._locks, self.edges, actor.lock_class
        if operation.recursive:
            name += SHARED
        takes = operation.acquires or operation.shares or operation.enters is not None
        if actor.ordered and not operation.tries and (takes or operation.waits_for is not None):
            # One that only tries waits for nobody, so it ends no circle; what is taken after it comes after it all
            # the same.
            new = {(one, name) for one, _, ordered in held if ordered and not (operation.nested and one == name)}
            edges = edges | new
        if takes or operation.tries:
            held = (*held, (name, actor.atomic, actor.ordered))
        elif operation.releases and (name in self.held or name + SHARED in self.held):
            if name not in self.held:
                name += SHARED
            last = len(held) - 1 - self.held[::-1].index(name)
            held = held[:last] + held[last + 1 :]
        elif operation.leaves and name in self.held:
            held = held[: self.held.index(name)]
        return _state(held, edges, self._context)


@cache
def _state(locks: tuple[tuple[str, str, bool], ...], edges: frozenset[Edge], context: str) -> LockState:
    """The one state of its kind.  There are as many as programs have ways to hold locks."""
    return LockState(locks, edges, context)


AT_LARGE: Final = _state((), frozenset(), "")
"""A path that holds nothing, and never took a lock while it held another."""


@lru_cache(maxsize=1024)
def circle(edges: frozenset[Edge]) -> tuple[str, ...]:
    """The shortest circle of some edges, the first of them by name, beginning with the first of its classes."""
    after: dict[str, list[str]] = {}
    for one, other in sorted(edges):
        after.setdefault(one, []).append(other)
    following = {
        one: [taken for name in _in_hands(one) for taken in after.get(name, ())] for pair in edges for one in pair
    }
    found = [way for start in sorted(following) if (way := _way_back(start, following))]
    return min(found, key=lambda way: (len(way), way), default=())


def _in_hands(wanted: str) -> tuple[str, ...]:
    """As what those have a lock whom somebody waits for: a recursive reader only waits for who has it alone."""
    return (wanted.removesuffix(SHARED),) if wanted.endswith(SHARED) else (wanted, wanted + SHARED)


def _way_back(start: str, after: dict[str, list[str]]) -> tuple[str, ...]:
    """The shortest way from a class to itself."""
    ways: list[tuple[str, ...]] = [(start,)]
    seen: set[str] = set()
    while ways:
        longer = []
        for way in ways:
            for following in after.get(way[-1], ()):
                if following == start:
                    return way
                if following not in seen:
                    seen.add(following)
                    longer.append((*way, following))
        ways = longer
    return ()


@lru_cache(maxsize=1024)
def _circle_of(states: frozenset[LockState]) -> tuple[str, ...]:
    """The circle of all that some paths did.  Searches ask this after every execution, and nearly always the same."""
    return circle(all_edges(states))


def all_edges(states: Iterable[LockState]) -> frozenset[Edge]:
    """What some paths took while they held what."""
    return frozenset().union(*[state.edges for state in states])


class Locks:
    """The locks of one run, for its driver.

    Attributes:
        states: of the paths that have anything to do with locks, or must not sleep; also of those that are over.
        inside: what others may wait for that a path is doing, of those that do such a thing.
        shared: what a path has had beside others; it still has what is among what it holds.
    """

    __slots__ = ("inside", "shared", "states")

    def __init__(self) -> None:
        self.states: dict[Any, LockState] = {}
        self.inside: dict[Any, tuple[Actor, ...]] = {}
        self.shared: dict[Any, list[Actor]] = {}

    def begin(self, path: Any, context: str, inside: Actor | None) -> None:
        """A path starts that must not sleep, or inside something that others wait for."""
        held = () if inside is None else ((inside.lock_class, inside.atomic, inside.ordered),)
        self.states[path] = _state(held, frozenset(), context)
        if inside is not None:
            self.inside[path] = (inside,)

    def step(self, path: Any, operation: Operation, actor: Actor, args: tuple[Any, ...], reply: Any) -> None:
        """A path has taken a step that has to do with locks.

        Raises:
            KernelBug: ``sleep-in-atomic`` when it may have put the path to sleep that must not.
        """
        states = self.states
        state = states.get(path, AT_LARGE)
        if not operation.excludes:
            if operation.tries and not reply:
                return
            if operation.enters is not None:
                entered = operation.enters(actor, reply)
                if not entered:
                    return
                self.inside[path] = entered
                for one in entered[:-1]:
                    state = state.after(operation, one)
                actor = entered[-1]
            elif operation.leaves:
                self.inside.pop(path, None)
            elif operation.waits_for is not None:
                actor = operation.waits_for(actor, *args)
            elif operation.shares:
                had = self.shared.setdefault(path, [])
                if actor not in had:
                    had.append(actor)
        try:  # as `LockState.after`, without its call: nearly all of these steps are known
            states[path] = state.following[operation, actor.lock_class]
        except KeyError:
            if operation.sleeps:
                self.may_sleep(path, operation, actor)
            states[path] = state.after(operation, actor)

    def may_sleep(self, path: Any, operation: Operation | None = None, actor: Actor | None = None) -> None:
        """A path is about to do what may put it to sleep.

        Args:
            path: who.
            operation: what; None for what is no operation.
            actor: of what.

        Raises:
            KernelBug: ``sleep-in-atomic`` when it must not.
        """
        state = self.states.get(path)
        if state is None or not state.awake:
            return
        said = what = "might_sleep()"
        if operation is not None and actor is not None:
            said, what = f"{operation.expression} of {actor.name}", f"{actor.lock_class}.{operation.name}"
        holding = f", holding {', '.join(state.held)}" if state.held else ""
        raise KernelBug(
            Kind.SLEEP_IN_ATOMIC,
            f"BUG: sleeping function called from invalid context: {path.name} reached {said} {state.awake}{holding}",
            clause=f"{what} {state.awake}",
        )

    def edges(self) -> frozenset[Edge]:
        """What was taken while what was held, by whichever path."""
        return all_edges(self.states.values())

    def judge(self) -> None:
        """Look at the order in which locks were taken in a run that is over.

        Raises:
            KernelBug: ``lock-order`` when it has a circle; of several the shortest, and of these the first by name.
        """
        classes = _circle_of(frozenset(self.states.values()))
        if not classes:
            return
        around = [*classes, *classes[:1]]
        told = []
        for edge in pairwise(around):
            meant = {(one, edge[1]) for one in _in_hands(edge[0])}
            who = next(path.name for path, state in self.states.items() if not meant.isdisjoint(state.edges))
            told.append(f"{who} took {edge[1]} with {edge[0]} held")
        what = "possible circular locking dependency" if len(classes) > 1 else "possible recursive locking"
        raise KernelBug(
            Kind.LOCK_ORDER,
            f"{what} detected: {'; '.join(told)}",
            clause=(" -> " if len(classes) > 1 else " inside ").join(around),
        )

    # -- who waits for whom ----------------------------------------------------------------------------------------

    def waiting_circle(self, stuck: Sequence[Holder], others: Callable[[Any], Sequence[Any]]) -> list[str]:
        """Names of paths that wait for one another in a circle, the first one again at the end; empty for none.

        Args:
            stuck: paths that wait for a guard.
            others: the paths that a path waits for to return.
        """
        for first in stuck:
            way: list[Any] = [first]
            while True:
                owners = self._owners(way[-1]) if way[-1] in stuck else others(way[-1])
                following = next(iter(owners), None)
                if following is None:
                    break
                if following in way:
                    return [one.name for one in (*way[way.index(following) :], following)]
                way.append(following)
        return []

    def _owners(self, path: Holder) -> list[Any]:
        """Who has what a path waits for."""
        operation, actor, args = path.request
        if operation.waits_for is None:
            return self._users(actor) if actor.holder is None else [actor.holder]
        wanted = operation.waits_for(actor, *args)
        return self._users(wanted)

    def _users(self, wanted: Actor) -> list[Any]:
        has = [*self.inside.items(), *self.shared.items()]
        names = {wanted.lock_class, wanted.lock_class + SHARED}
        return [
            one
            for one, those in has
            if wanted in those and not one.done and not names.isdisjoint(self.states[one].held)
        ]
