"""How a path that was called in one run is called in another one: plain data, which a file can hold.

A recipe gives a value in the run at hand: its counterpart of what stood there in the run that the recipe was written in
(`slabactors.runtime.remake`).  Functions and other things of Python's that have a name are told by it.
"""

from __future__ import annotations

import types
from ast import literal_eval
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, Protocol, TypeAlias

import msgspec

from slabactors.actors import Spawn

Container: TypeAlias = Literal["list", "tuple", "set", "frozenset"]
CONTAINERS: Final[dict[Container, Any]] = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}


class Place(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where something that has a name is defined.

    Attributes:
        number: of the thing, in the process that wrote the recipe.
        module: the module.
        file: its file, when it is somebody's own; that of a library is found by the module's name.
        name: its qualified name there.
        line: of a function, the first one.
    """

    number: int
    module: str
    name: str
    file: str = ""
    line: int = 0


class Surroundings(Protocol):
    """The run at hand, in which recipes are followed."""

    @property
    def roots(self) -> list[Any]:
        """The world, and then what came of earlier calls, in the order in which somebody outside learnt of it."""
        ...

    def thing(self, place: Place) -> Any:
        """What is defined at a place.

        Raises:
            UsageError: it cannot be found.
        """
        ...

    def code(self, place: Place) -> tuple[types.CodeType, dict[str, Any]]:
        """The code of a function, and the names of its module.

        Raises:
            UsageError: it cannot be found.
        """
        ...


class Plain(msgspec.Struct, frozen=True, tag=True):
    """A value that JSON knows."""

    value: bool | int | float | str | None

    def made(self, run: Surroundings) -> Any:
        """The value."""
        return self.value


class Spelled(msgspec.Struct, frozen=True, tag=True):
    """A value as Python spells it: bytes, or a complex number."""

    text: str

    def made(self, run: Surroundings) -> Any:
        """The value."""
        return literal_eval(self.text)


class Named(msgspec.Struct, frozen=True, tag=True):
    """What has a name for everybody: a class, a module, a member of an enumeration; or one process's own object."""

    place: Place

    def made(self, run: Surroundings) -> Any:
        """The thing."""
        return run.thing(self.place)


class Way(msgspec.Struct, frozen=True, tag=True):
    """From a root to an object that is part of it: by attributes, and by positions among items."""

    root: int
    steps: list[str | int] = []

    def made(self, run: Surroundings) -> Any:
        """What is there."""
        return self.follow(run.roots)

    def follow(self, roots: Sequence[Any]) -> Any:
        """What is there."""
        found = roots[self.root]
        for step in self.steps:
            found = taken(found, step)
        return found

    def leads_to(self, wanted: Any, roots: Sequence[Any]) -> bool:
        """Whether an object is still there."""
        try:
            return self.follow(roots) is wanted
        except (AttributeError, IndexError, KeyError):
            return False


def taken(holder: Any, step: str | int) -> Any:
    """What an object holds: by the name of an attribute, or by the position among its items."""
    if isinstance(step, str):
        return getattr(holder, step)
    if isinstance(holder, Mapping):
        key = list(holder)[step // 2]
        return holder[key] if step % 2 else key
    return holder[step]


class Several(msgspec.Struct, frozen=True, tag=True):
    """A container of values."""

    kind: Container
    members: list[Recipe]

    def made(self, run: Surroundings) -> Any:
        """The container, with the counterparts of its members."""
        return CONTAINERS[self.kind]([member.made(run) for member in self.members])


class Pairs(msgspec.Struct, frozen=True, tag=True):
    """A dictionary."""

    pairs: list[tuple[Recipe, Recipe]]

    def made(self, run: Surroundings) -> Any:
        """The dictionary, with the counterparts of its keys and values."""
        return {key.made(run): value.made(run) for key, value in self.pairs}


class Bound(msgspec.Struct, frozen=True, tag=True):
    """A method of an object."""

    owner: Recipe
    name: str

    def made(self, run: Surroundings) -> Any:
        """The counterpart's method."""
        return getattr(self.owner.made(run), self.name)


class Function(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """A function: its code, and the variables of other functions that it uses."""

    place: Place
    free: dict[str, Recipe] = {}
    defaults: list[Recipe] = []
    named_defaults: dict[str, Recipe] = {}

    def made(self, run: Surroundings) -> Any:
        """The function."""
        code, names = run.code(self.place)
        free = tuple(types.CellType(self.free[name].made(run)) for name in code.co_freevars)
        defaults = tuple(one.made(run) for one in self.defaults)
        function = types.FunctionType(code, names, code.co_name, defaults or None, free)
        function.__kwdefaults__ = {name: one.made(run) for name, one in self.named_defaults.items()}
        return function


class Path(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """A path: a function, called."""

    function: Function
    arguments: list[Recipe] = []
    named: dict[str, Recipe] = {}

    def made(self, run: Surroundings) -> Any:
        """The path; it has not begun."""
        arguments = [one.made(run) for one in self.arguments]
        return self.function.made(run)(*arguments, **{name: one.made(run) for name, one in self.named.items()})


class Asked(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """A message: an operation of an actor."""

    actor: Recipe
    operation: str
    arguments: list[Recipe] = []
    named: dict[str, Recipe] = {}

    def made(self, run: Surroundings) -> Any:
        """The message; it has not been sent."""
        arguments = [one.made(run) for one in self.arguments]
        named = {name: one.made(run) for name, one in self.named.items()}
        return getattr(self.actor.made(run), self.operation)(*arguments, **named)


class Spawned(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """A path with a name and a lane."""

    path: Recipe
    name: str
    lane: str = ""
    daemon: bool = False

    def made(self, run: Surroundings) -> Any:
        """The path; it has not begun."""
        return Spawn(self.path.made(run), name=self.name, lane=self.lane, daemon=self.daemon)


Recipe: TypeAlias = Plain | Spelled | Named | Way | Several | Pairs | Bound | Function | Path | Asked | Spawned
