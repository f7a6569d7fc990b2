"""Writing down how to call a path again in another world: its function, and where its arguments are to be found.

A path that somebody outside has started in a live run was called with objects of that run.  To replay the run it has to
be called with their counterparts: what stands in the same place of the new world, or came of the same earlier path.
"""

from __future__ import annotations

import inspect
import sys
import types
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from math import isfinite
from pathlib import Path as FilePath
from typing import Any, Final, cast

import slabactors
from slabactors.actors import Actor, Operation, Spawn
from slabactors.errors import UsageError
from slabactors.runtime.recipe import (
    CONTAINERS,
    Asked,
    Bound,
    Container,
    Function,
    Named,
    Pairs,
    Path,
    Place,
    Plain,
    Recipe,
    Several,
    Spawned,
    Spelled,
    Way,
)
from slabactors.runtime.step import LIBRARIES, Lineage

OURS: Final = str(FilePath(slabactors.__file__).parent)
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


def _held(holder: Any) -> Iterator[tuple[str | int, Any]]:
    """What an object holds, and how to get there."""
    if isinstance(holder, Mapping):
        for position, (key, value) in enumerate(holder.items()):
            yield 2 * position, key
            yield 2 * position + 1, value
    elif isinstance(holder, (list, tuple, deque)):
        for position, value in enumerate(holder):
            yield position, value
    else:
        slots = [
            name for cls in type(holder).__mro__ for name in getattr(cls, "__slots__", ()) if hasattr(holder, name)
        ]
        for name in [*getattr(holder, "__dict__", ()), *slots]:
            if not name.startswith("_"):
                yield name, getattr(holder, name)


def _opaque(value: Any) -> bool:
    """Whether a value holds nothing of the world, or nothing that is the world's own."""
    engine = (Lineage, types.FunctionType, types.MethodType, types.CoroutineType, types.GeneratorType, types.FrameType)
    return isinstance(value, (*ATOMS, *engine))


class Surveyor:
    """Finds objects of a live world, and writes down how the path that got them can be called again.

    Args:
        world: where to begin.

    Attributes:
        roots: the world, and then what came of earlier paths; see `add`.
        things: what recipes name by number: functions' code with the names of its module, classes, and objects of
            nobody's world.
    """

    def __init__(self, world: Any) -> None:
        self.roots: list[Any] = []
        self.things: list[Any] = []
        self._places: dict[int, Place] = {}
        self._numbers: dict[int, int] = {}
        self._ways: dict[int, Way] = {}
        self._strangers: dict[int, Any] = {}
        self.add(world)

    def add(self, root: Any) -> None:
        """Another root."""
        self._numbers.setdefault(id(root), len(self.roots))
        self.roots.append(root)

    def recipe(self, coroutine: Any) -> Recipe:
        """How to call the path again that a coroutine is which has not begun.

        Raises:
            UsageError: it has, or holds something of the world that cannot be found again.
        """
        frame = frame_of(coroutine)
        if frame is None:
            raise UsageError(f"{coroutine!r} cannot be made again: it has begun, or is no path.")
        code, known = frame.f_code, dict(frame.f_locals)
        spec = known.get("spec")
        if isinstance(spec, Operation) and isinstance(coroutine, types.GeneratorType):
            named = {name: self._value(value) for name, value in known.get("kwargs", {}).items()}
            return Asked(self._value(known["actor"]), spec.name, self._values(known.get("args", ())), named)
        positional = code.co_varnames[: code.co_argcount]
        only_named = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
        rest = iter(code.co_varnames[code.co_argcount + code.co_kwonlyargcount :])
        more = known[next(rest)] if code.co_flags & inspect.CO_VARARGS else ()
        more_named = known[next(rest)] if code.co_flags & inspect.CO_VARKEYWORDS else {}
        free = {name: self._value(known.get(name)) for name in code.co_freevars}
        return Path(
            Function(self._code(code, frame.f_globals), free),
            self._values([*(known[name] for name in positional), *more]),
            {name: self._value(value) for name, value in {**{n: known[n] for n in only_named}, **more_named}.items()},
        )

    def _values(self, values: Iterable[Any]) -> list[Recipe]:
        return [self._value(value) for value in values]

    def _value(self, value: Any) -> Recipe:
        """How to find a value again, or to make it again."""
        match value:
            case Enum() | type() | types.ModuleType() | types.BuiltinFunctionType():
                return Named(self._thing(value))
            case bytes() | complex():
                return Spelled(repr(value))
            case None | bool() | int() | str():
                return Plain(value)
            case float():
                return Plain(value) if isfinite(value) else Named(self._thing(value))
            case Spawn():
                return Spawned(self._value(value.coroutine), value.name, value.lane, value.daemon)
            case types.CoroutineType() | types.GeneratorType():
                return self.recipe(value)
            case types.MethodType():
                return Bound(self._value(value.__self__), value.__func__.__name__)
            case types.FunctionType():
                return self._closure(value)
        kind = type(value)
        if kind in CONTAINERS.values():
            return Several(cast("Container", kind.__name__), self._values(value))
        if kind is dict:
            return Pairs([(self._value(key), self._value(one)) for key, one in value.items()])
        way = self._way(value)
        if way is not None:
            return way
        self._strangers[id(value)] = value
        return Named(self._thing(value))

    def _closure(self, function: types.FunctionType) -> Recipe:
        """How to make a function again; one that is defined by a module is found there."""
        if not function.__closure__ and "<locals>" not in function.__qualname__:
            return Named(self._thing(function))
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        return Function(
            self._code(function.__code__, function.__globals__),
            {name: self._value(_content(cell)) for name, cell in cells},
            self._values(function.__defaults__ or ()),
            {name: self._value(value) for name, value in (function.__kwdefaults__ or {}).items()},
        )

    def _code(self, code: types.CodeType, names: dict[str, Any]) -> Place:
        place = self._places.get(id(code))
        if place is None:
            module = str(names.get("__name__", ""))
            place = Place(len(self.things), module, code.co_qualname, _file(code.co_filename), code.co_firstlineno)
            self._places[id(code)] = place
            self.things.append((code, names))
        return place

    def _thing(self, value: Any) -> Place:
        place = self._places.get(id(value))
        if place is None:
            module, name = _name_of(value)
            file = getattr(sys.modules.get(module), "__file__", None) or ""
            place = self._places[id(value)] = Place(len(self.things), module, name, _file(file))
            self.things.append(value)  # which also keeps another one from getting its identity
        return place

    def _way(self, wanted: Any) -> Way | None:
        """The way from a root to an object of the world; None for what is no part of it.

        Raises:
            UsageError: it holds something of the world, and is no part of it.
        """
        number = self._numbers.get(id(wanted))
        if number is not None:
            return Way(number)
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

    def _search(self, wanted: Any) -> Way | None:
        """The shortest way from the oldest root that has one."""
        seen = set(self._numbers)
        for number, root in enumerate(self.roots):
            queue: deque[tuple[Any, list[str | int]]] = deque([] if _opaque(root) else [(root, [])])
            while queue and len(seen) < LOOKED_AT_MAX:
                holder, steps = queue.popleft()
                for step, value in _held(holder):
                    if value is wanted:
                        return Way(number, [*steps, step])
                    if id(value) not in seen and not _opaque(value):
                        seen.add(id(value))
                        queue.append((value, [*steps, step]))
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


def _file(name: str) -> str:
    """The file that something is defined in, if it is somebody's own: no library's, and not slabactors'."""
    if not name or name.startswith(("<", *LIBRARIES, OURS)):
        return ""
    file = FilePath(name).absolute()
    here = FilePath.cwd()
    return str(file.relative_to(here) if file.is_relative_to(here) else file)


def _name_of(value: Any) -> tuple[str, str]:
    """Module and qualified name of what has a name; for anything else no module, and what it looks like."""
    match value:
        case Enum():
            return type(value).__module__, f"{type(value).__qualname__}.{value.name}"
        case types.ModuleType():
            return value.__name__, ""
        case type() | types.FunctionType() | types.BuiltinFunctionType():
            return value.__module__ or "", value.__qualname__
    return "", repr(value)


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # a name that has not been bound yet
        return None
