"""Making a path again, over another world: its function, and where in the world its arguments are to be found.

A path that somebody outside has started in a live run was called with objects of that run.  To replay the run it has to
be called with their counterparts: what stands in the same place of the new world, or came of the same earlier path.
"""

from __future__ import annotations

import inspect
import types
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, TypeAlias

from slabactors.actors import Actor, Spawn
from slabactors.errors import UsageError
from slabactors.runtime.step import Lineage

Make: TypeAlias = "Callable[[Sequence[Any]], Any]"
"""Gives a value from the roots of a world."""

ATOMS: Final = (
    type(None),
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    Enum,
    type,
    types.ModuleType,
    types.BuiltinFunctionType,
)
LOOKED_AT_MAX: Final = 100_000
"""How many objects of the world are looked at for one argument."""
REACH_MAX: Final = 1_000
"""How many objects of a stranger are looked at, to see that it holds none of the world's."""


@dataclass(frozen=True, slots=True)
class _Step:
    """From an object to one that it holds: by the name of an attribute, or by the position among its items."""

    attribute: str
    position: int = 0

    def take(self, holder: Any) -> Any:
        """The object that is held."""
        if self.attribute:
            return getattr(holder, self.attribute)
        if isinstance(holder, Mapping):
            key = list(holder)[self.position // 2]
            return holder[key] if self.position % 2 else key
        return holder[self.position]


@dataclass(frozen=True, slots=True)
class _Way:
    """From a root to an object of the world."""

    number: int
    steps: tuple[_Step, ...]

    def follow(self, roots: Sequence[Any]) -> Any:
        """What is there."""
        found = roots[self.number]
        for step in self.steps:
            found = step.take(found)
        return found

    def leads_to(self, wanted: Any, roots: Sequence[Any]) -> bool:
        """Whether an object is still there."""
        try:
            return self.follow(roots) is wanted
        except (AttributeError, IndexError, KeyError):
            return False


def _held(holder: Any) -> Iterator[tuple[_Step, Any]]:
    """What an object holds, and how to get there."""
    if isinstance(holder, Mapping):
        for position, (key, value) in enumerate(holder.items()):
            yield _Step("", 2 * position), key
            yield _Step("", 2 * position + 1), value
    elif isinstance(holder, (list, tuple, deque)):
        for position, value in enumerate(holder):
            yield _Step("", position), value
    else:
        slots = [
            name for cls in type(holder).__mro__ for name in getattr(cls, "__slots__", ()) if hasattr(holder, name)
        ]
        for name in [*getattr(holder, "__dict__", ()), *slots]:
            if not name.startswith("_"):
                yield _Step(name), getattr(holder, name)


def _opaque(value: Any) -> bool:
    """Whether a value holds nothing of the world, or nothing that is the world's own."""
    engine = (Lineage, types.FunctionType, types.MethodType, types.CoroutineType, types.GeneratorType, types.FrameType)
    return isinstance(value, (*ATOMS, *engine))


class Surveyor:
    """Finds objects of a live world, and writes down how the path that got them can be made again.

    Args:
        world: where to begin.

    Attributes:
        roots: the world, and then what came of earlier paths; see `add`.
    """

    def __init__(self, world: Any) -> None:
        self.roots: list[Any] = []
        self._numbers: dict[int, int] = {}
        self._ways: dict[int, _Way] = {}
        self._strangers: dict[int, Any] = {}
        self.add(world)

    def add(self, root: Any) -> None:
        """Another root."""
        self._numbers.setdefault(id(root), len(self.roots))
        self.roots.append(root)

    def recipe(self, coroutine: Any) -> Make:
        """How to make the path again that a coroutine is which has not begun.

        Raises:
            UsageError: it has, or holds something of the world that cannot be found again.
        """
        frame = frame_of(coroutine)
        if frame is None:
            raise UsageError(f"{coroutine!r} cannot be made again: it has begun, or is no path.")
        code, known = frame.f_code, dict(frame.f_locals)
        positional = code.co_varnames[: code.co_argcount]
        named = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
        rest = iter(code.co_varnames[code.co_argcount + code.co_kwonlyargcount :])
        varargs = known[next(rest)] if code.co_flags & inspect.CO_VARARGS else ()
        varkeywords = known[next(rest)] if code.co_flags & inspect.CO_VARKEYWORDS else {}
        function = self._function(code, frame.f_globals, None, {name: known.get(name) for name in code.co_freevars})
        arguments = self._value([*(known[name] for name in positional), *varargs])
        keywords = self._value({name: known[name] for name in named} | varkeywords)
        return lambda roots: function(roots)(*arguments(roots), **keywords(roots))

    def _function(
        self, code: types.CodeType, names: dict[str, Any], defaults: tuple[Any, ...] | None, free: dict[str, Any]
    ) -> Make:
        """How to make a function again that has free variables."""
        cells = {name: self._value(value) for name, value in free.items()}

        def make(roots: Sequence[Any]) -> Any:
            closure = tuple(types.CellType(cells[name](roots)) for name in code.co_freevars)
            return types.FunctionType(code, names, code.co_name, defaults, closure)

        return make

    def _value(self, value: Any) -> Make:
        """How to find a value again, or to make it again."""
        if isinstance(value, ATOMS):
            return lambda _: value
        if type(value) in (list, tuple, set, frozenset):
            kind, members = type(value), [self._value(member) for member in value]
            return lambda roots: kind([member(roots) for member in members])
        if type(value) is dict:
            pairs = [(self._value(key), self._value(one)) for key, one in value.items()]
            return lambda roots: {key(roots): one(roots) for key, one in pairs}
        if isinstance(value, Spawn):
            path = self._value(value.coroutine)
            return lambda roots: Spawn(path(roots), name=value.name, lane=value.lane, daemon=value.daemon)
        if isinstance(value, (types.CoroutineType, types.GeneratorType)):
            return self.recipe(value)
        if isinstance(value, types.MethodType):
            owner, name = self._value(value.__self__), value.__func__.__name__
            return lambda roots: getattr(owner(roots), name)
        if isinstance(value, types.FunctionType):
            return self._closure(value)
        way = self._way(value)
        if way is not None:
            return way.follow
        self._strangers[id(value)] = value
        return lambda _: value

    def _closure(self, function: types.FunctionType) -> Make:
        """How to make a nested function again."""
        if not function.__closure__:
            return lambda _: function
        names = function.__code__.co_freevars
        free = {name: _content(cell) for name, cell in zip(names, function.__closure__, strict=True)}
        return self._function(function.__code__, function.__globals__, function.__defaults__, free)

    def _way(self, wanted: Any) -> _Way | None:
        """The way from a root to an object of the world; None for what is no part of it.

        Raises:
            UsageError: it holds something of the world, and is no part of it.
        """
        number = self._numbers.get(id(wanted))
        if number is not None:
            return _Way(number, ())
        if id(wanted) in self._strangers:
            return None
        way = self._ways.get(id(wanted))
        if way is None or not way.leads_to(wanted, self.roots):  # things move: the newest cache is the first of a list
            way = self._search(wanted)
            if way is None:
                self._refuse_part_of_the_world(wanted)
                return None
            self._ways[id(wanted)] = way
        return way

    def _search(self, wanted: Any) -> _Way | None:
        """The shortest way from the oldest root that has one."""
        seen = set(self._numbers)
        for number, root in enumerate(self.roots):
            queue: deque[tuple[Any, tuple[_Step, ...]]] = deque([] if _opaque(root) else [(root, ())])
            while queue and len(seen) < LOOKED_AT_MAX:
                holder, steps = queue.popleft()
                for step, value in _held(holder):
                    if value is wanted:
                        return _Way(number, (*steps, step))
                    if id(value) not in seen and not _opaque(value):
                        seen.add(id(value))
                        queue.append((value, (*steps, step)))
        return None

    def _refuse_part_of_the_world(self, stranger: Any) -> None:
        """Raise for an object that is used as it is, but holds something of the world."""
        queue, seen = deque([stranger]), {id(stranger)}
        while queue and len(seen) < REACH_MAX:
            holder = queue.popleft()
            if isinstance(holder, Actor) or id(holder) in self._numbers:
                raise UsageError(
                    f"{stranger!r} cannot be found again in another run, though it holds something of this one.\n"
                    "  Give a path the objects themselves, as earlier paths returned them."
                )
            for _, value in _held(holder):
                if id(value) not in seen and not _opaque(value):
                    seen.add(id(value))
                    queue.append(value)


def frame_of(coroutine: Any) -> types.FrameType | None:
    """The frame of a path that has not begun; None when it has, or is none."""
    if isinstance(coroutine, types.CoroutineType):
        return coroutine.cr_frame if inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED else None
    if isinstance(coroutine, types.GeneratorType):  # a message
        return coroutine.gi_frame if inspect.getgeneratorstate(coroutine) == inspect.GEN_CREATED else None
    return None


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # a name that has not been bound yet
        return None
