"""Fingerprints of states: two states with the same fingerprint have the same future.

The state of a simulated run is what its actors hold and where its paths are: for each path the chain of awaiting
coroutines, each with its position in the code, its local variables and what lies on its evaluation stack (the iterator
of a loop is nowhere else), and the message it waits with.  Everything that can be reached from there belongs to it.
Time counts from now: deadlines are how long there is still to wait.  What time it is belongs to the state as soon as
there is an actor whose operations may look at it (one that is not declared ``timeless``).

Not part of the state: what is only told about a run (names of what freed an object, attributes that a class lists in
``reports``), and in which order messages came to wait at an actor, since all of them may be delivered.
"""

from __future__ import annotations

import gc
import marshal
from collections import defaultdict, deque
from collections.abc import Callable
from enum import Enum
from functools import partial
from hashlib import blake2b
from operator import attrgetter, itemgetter, methodcaller
from types import (
    AsyncGeneratorType,
    BuiltinFunctionType,
    CellType,
    CoroutineType,
    FunctionType,
    GeneratorType,
    MethodType,
    ModuleType,
)
from typing import Any

from slabactors.actors import Actor, Clock, Timed, operations, parallel
from slabactors.actors.locks import AT_LARGE
from slabactors.errors import UsageError
from slabactors.runtime.guided import EARLY
from slabactors.runtime.simulated import SimPath, Simulation

DIGEST_BYTES = 16
"""With a hundred million states, two of them share a digest of this size with a chance of 1 in 10^22."""

_PLAIN = frozenset((int, str, bool, float, bytes, type(None)))
_SUSPENDED = (CoroutineType, GeneratorType, AsyncGeneratorType)
_BUILTIN = frozenset((list, deque, dict, defaultdict, set, frozenset, FunctionType))
_BY_NAME = (type, ModuleType, BuiltinFunctionType)
_ITERABLES: tuple[Any, ...] = ((), [], "", b"", range(1), range(1 << 70), {}, {}.values(), {}.items(), set())
_ITERATORS: tuple[type, ...] = (
    *[type(iter(one)) for one in _ITERABLES],
    type(reversed([])),
    enumerate,
    zip,
    map,
    filter,
)
_REDUCIBLE = (attrgetter, itemgetter, methodcaller)
_ASKS = Actor.__init__.__code__.co_filename
"""The file of the generators that make the messages of operations."""
DRIVER_ATTRIBUTES = frozenset(
    ("tombstone", "guarded", "pending_timer", "holder", "armed", "deadline", "clock", "lock_class")
)
"""Attributes of actors that are encoded in a way of their own, or not at all."""


class NoFingerprint(UsageError):
    """Something holds state that cannot be looked into."""

    def __init__(self, kind: type) -> None:
        super().__init__(
            f"states cannot be told apart: a {kind.__qualname__} holds something that cannot be looked into.\n"
            "  Hold it in an actor as numbers, texts or lists, or search by traces: verify --search dpor"
        )


class Fingerprint:
    """Takes the fingerprints of one run after another.

    Args:
        counts: tell states apart that differ in attributes that a class lists in ``counts``, too: numbers that only
            grow with what is done again and again.
        orders: tell states apart before which locks were taken in other orders, too.
    """

    def __init__(self, *, counts: bool = True, orders: bool = True) -> None:
        self._counts = counts
        self._orders = orders
        self._early_firings_max = 0
        """Up to how many the firings of a timer are counted: it may fire early so many times."""
        self._fields: dict[type, Callable[[Any], list[tuple[str, Any]]]] = {}
        self._seen: dict[int, int] = {}
        self._kept: list[Any] = []
        """What was given a number, so that no two things of one state share an address."""
        self._looks_at_time = False
        """Some actor may look at what time it is, and not only at how long there is still to wait."""
        self._timeless: dict[type, bool] = {}
        self._waiting: deque[Any] = deque()
        self._now = 0
        self._roots: dict[int, str] = {}
        """The paths, by the address of the coroutine that each of them is."""

    def of(self, simulation: Simulation) -> bytes:
        """The fingerprint of the state that a simulation is in, between two steps.

        Raises:
            NoFingerprint: something holds state that cannot be looked into.
        """
        return blake2b(marshal.dumps(self.encoded(simulation), 2), digest_size=DIGEST_BYTES).digest()

    def encoded(self, simulation: Simulation) -> list[Any]:
        """The state in terms that can be compared."""
        self._begin(simulation)
        alive = [path for path in simulation.paths if not path.done and path.timer is None]
        alive.sort(key=lambda path: path.key)
        # What looks at the end of the run sees more than the paths that are left.
        state = [self._path(path) for path in alive] + [self._value(simulation.at_rest)]
        # Who holds what, and what was held while what was taken: a state from which a report can still come is another
        # one than a state from which it cannot.
        locks = simulation.locks
        states = [locks.states.get(path, AT_LARGE) for path in alive]
        state.append([(one.awake, one.held) for one in states])
        if self._orders:
            state.append(sorted(locks.edges()))
        armed = [path for path in simulation.timers if path.timer is not None]
        state += [self._value(path.timer) for path in sorted(armed, key=lambda path: path.key)]
        while self._waiting:
            state.append(self._contents(self._waiting.popleft()))
        if self._looks_at_time and self._counts:
            state.append(self._now)
        return state

    def _begin(self, simulation: Simulation) -> None:
        """A new state: nothing has been met."""
        self._looks_at_time = False
        self._seen.clear()
        self._kept.clear()
        self._now = simulation.clock.now
        early = simulation.time in EARLY
        self._early_firings_max = getattr(simulation, "early_firings_max", 0) if early else 0
        self._roots = {id(path.coroutine): path.key for path in simulation.paths if path.timer is None}

    # -- paths -----------------------------------------------------------------------------------------------------

    def _path(self, path: SimPath) -> Any:
        asleep = None if path.deadline is None else path.deadline - self._now
        operation, actor, args = path.request
        gathers = None if path.gathers is None else tuple([self._value(child) for child in path.gathers])
        waits = gathers is not None or (asleep is None and path.joins and not path.joins[-1].done)
        request = gathers if waits else (id(operation), self._value(actor), self._value(args))
        return path.key, path.daemon, asleep, request, self._suspended(path.coroutine)

    def _suspended(self, coroutine: Any) -> Any:
        """A coroutine or generator and those it awaits: position, variables, stack."""
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        frame = frame or getattr(coroutine, "ag_frame", None)
        if frame is None:
            return "over"
        code = frame.f_code
        if code.co_filename == _ASKS and code.co_name.startswith("ask"):
            return "asks"  # the message says it all
        if code is parallel.__code__:
            return "parallel"  # whom it waits for is known of the path
        held = gc.get_referents(coroutine)
        start = len(held) - held[::-1].index(code)
        return (
            id(code),
            frame.f_lasti,
            # Which variables are bound: their values come next, in this order, and then the stack.
            tuple(frame.f_locals),
            tuple([self._value(one) for one in held[start:]]),
        )

    # -- values ----------------------------------------------------------------------------------------------------

    def _value(self, value: Any) -> Any:
        """A value: itself when it is plain, else a tuple that says what it is."""
        kind = type(value)
        if kind in _PLAIN:
            return value
        if kind is tuple:
            return ("tuple", *[self._value(one) for one in value])
        if isinstance(value, Actor):
            return "actor", self._number(value, later=True)
        if isinstance(value, Enum):
            return "enum", id(kind), self._value(value.value)
        if isinstance(value, tuple):
            return ("tuple", id(kind), *[self._value(one) for one in value])
        if isinstance(value, SimPath):
            return ("path", value.key, self._value(value.result)) if value.done else ("path", value.key)
        if isinstance(value, Clock):
            return ("clock",)
        if isinstance(value, BuiltinFunctionType) and not isinstance(value.__self__, ModuleType | None):
            return "bound", value.__name__, self._value(value.__self__)
        if isinstance(value, _BY_NAME):
            return "name", id(value)
        known = self._seen.get(id(value))
        if known is not None:
            return "again", known
        self._number(value)
        return self._object(value, kind)

    def _number(self, value: Any, *, later: bool = False) -> int:
        """The number of a thing with identity; the next one when it is met for the first time."""
        number = self._seen.get(id(value))
        if number is None:
            number = self._seen[id(value)] = len(self._kept)
            self._kept.append(value)
            if later:
                self._waiting.append(value)
        return number

    def _object(self, value: Any, kind: type) -> Any:
        own = () if kind in _BUILTIN else ("of", id(kind), *self._own_fields(value, kind))
        if isinstance(value, list):
            return ("list", own, *[self._value(one) for one in value])
        if isinstance(value, deque):
            return ("deque", own, value.maxlen, *[self._value(one) for one in value])
        if isinstance(value, dict):
            made = self._value(value.default_factory) if isinstance(value, defaultdict) else None
            return ("dict", own, made, *[(self._value(key), self._value(one)) for key, one in value.items()])
        if isinstance(value, set | frozenset):
            members = [self._value(one) for one in value]
            return ("set", own, *sorted(members, key=repr))
        if isinstance(value, int | str | float | bytes):
            base: Any = next(base for base in (int, str, float, bytes) if isinstance(value, base))
            return "plain", own, base.__repr__(value)
        if isinstance(value, BaseException):
            return "exception", own, self._value(value.args)
        if isinstance(value, FunctionType):
            cells = [self._value(cell) for cell in value.__closure__ or ()]
            defaults = self._value(value.__defaults__), self._value(value.__kwdefaults__)
            return ("function", id(value.__code__), defaults, *cells)
        if isinstance(value, MethodType):
            return "method", id(value.__func__), self._value(value.__self__)
        if isinstance(value, partial):
            return "partial", self._value(value.func), self._value(value.args), self._value(value.keywords)
        if isinstance(value, CellType):
            try:
                return "cell", self._value(value.cell_contents)
            except ValueError:
                return ("cell",)
        if isinstance(value, _SUSPENDED):
            root = self._roots.get(id(value))
            return ("suspended", self._suspended(value)) if root is None else ("path", root)
        if kind is range:
            return "range", value.start, value.stop, value.step
        if isinstance(value, _ITERATORS + _REDUCIBLE):
            return "iterator", id(kind), self._value(value.__reduce__())
        return "object", id(kind), *[(name, self._value(one)) for name, one in self._fields_of(value, kind)]

    def _own_fields(self, value: Any, kind: type) -> list[tuple[str, Any]]:
        """What an object of a subclass of a builtin has besides what the builtin holds."""
        if not hasattr(value, "__dict__") and not any("__slots__" in vars(base) for base in kind.__mro__):
            return []
        return [(name, self._value(one)) for name, one in self._fields_of(value, kind)]

    def _contents(self, actor: Actor) -> Any:
        """What an actor holds."""
        kind = type(actor)
        timeless = self._timeless.get(kind)
        if timeless is None:
            timeless = self._timeless[kind] = actor.timeless or not any(one.clock for one in operations(kind))
        self._looks_at_time = self._looks_at_time or not timeless
        freed = actor.tombstone is not None
        holder = actor.holder.key if isinstance(actor.holder, SimPath) else None
        timer = None
        if isinstance(actor, Timed):
            left = None if actor.deadline is None or actor.pending_timer is None else actor.deadline - self._now
            # The timer that is armed is one less, and one more than the last that may fire early may not.
            timer = left, min(actor.armed, self._early_firings_max + 1) if self._early_firings_max else 0
        fields = [(name, self._value(one)) for name, one in self._fields_of(actor, kind)]
        return id(kind), freed, holder, timer, tuple(fields)

    def _fields_of(self, value: Any, kind: type) -> list[tuple[str, Any]]:
        getter = self._fields.get(kind)
        if getter is None:
            getter = self._fields[kind] = _getter(value, kind, counts=self._counts)
        return getter(value)


def _getter(value: Any, kind: type, *, counts: bool) -> Callable[[Any], list[tuple[str, Any]]]:
    """How the fields of a class of objects are read: all that it has but what only reports read."""
    left_out = set(getattr(kind, "reports", ()))
    if not counts:
        left_out |= set(getattr(kind, "counts", ()))
    if issubclass(kind, Actor):
        left_out |= DRIVER_ATTRIBUTES
    left_out |= {"__dict__", "__weakref__"}
    slots: list[str] = []
    for base in kind.__mro__:
        own = base.__dict__.get("__slots__", ())
        slots.extend(name for name in ((own,) if isinstance(own, str) else own) if name not in left_out)
    has_dict = hasattr(value, "__dict__")
    if (
        not has_dict
        and not slots
        and kind is not object
        and not any("__slots__" in vars(base) for base in kind.__mro__)
    ):
        raise NoFingerprint(kind)

    def read(one: Any) -> list[tuple[str, Any]]:
        found = [(name, getattr(one, name)) for name in slots if hasattr(one, name)]
        if has_dict:
            found.extend(item for item in sorted(vars(one).items()) if item[0] not in left_out)
        return found

    return read
