"""The calls of a live machine as a story: in the process that made them, and in any other one that has a file of them.

A finding of a live machine has no scenario of its own: its file holds what was called, turn by turn, and this makes a
program of that again.
"""

from __future__ import annotations

import importlib
import sys
import tokenize
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import msgspec

from slabactors.errors import UsageError
from slabactors.explore.finding import Finding
from slabactors.files import module_of
from slabactors.machine import Machine
from slabactors.runtime.recipe import Function, Named, Place
from slabactors.runtime.turns import Turn, taken_again
from slabactors.scenario import BoundScenario, find, scenario

__all__ = ["STEPS_MAX", "program_of", "story_of_turns", "things_of"]

STEPS_MAX: Final = 20_000
"""Of a live machine, unless it is told otherwise."""


@dataclass
class Run:
    """One run of the calls, in which recipes are followed.

    Args:
        things: what recipes name by number.
    """

    things: Mapping[int, Any]
    roots: list[Any] = field(default_factory=list)

    def thing(self, place: Place) -> Any:
        """What has that number."""
        return self.things[place.number]

    def code(self, place: Place) -> tuple[types.CodeType, dict[str, Any]]:
        """What has that number."""
        found: tuple[types.CodeType, dict[str, Any]] = self.things[place.number]
        return found


def things_of(turns: Sequence[Turn]) -> dict[int, Any]:
    """Import what the recipes of some turns name, in another process than that which made the calls.

    Raises:
        UsageError: something cannot be had again.
    """
    found: dict[int, Any] = {}
    for place, is_code in _places(list(turns)):
        if place.number not in found:
            found[place.number] = _code(place) if is_code else _thing(place)
    return found


def _places(part: Any) -> Iterator[tuple[Place, bool]]:
    """The places in some turns, and whether they are of code."""
    if isinstance(part, Function | Named):
        yield part.place, isinstance(part, Function)
    if isinstance(part, msgspec.Struct):
        part = [getattr(part, name) for name in part.__struct_fields__]
    if isinstance(part, dict):
        part = list(part.values())
    if isinstance(part, list | tuple):
        for one in part:
            yield from _places(one)


def _thing(place: Place) -> Any:
    """What a module has under a name."""
    if not place.module:
        raise UsageError(
            f"{place.name} is an object of the process that the path was called in, and cannot be had again.\n"
            "  Give paths plain values, functions, and what earlier paths have returned."
        )
    found: Any = _imported(place)
    for name in filter(None, place.name.split(".")):
        found = getattr(found, name, None)
    if found is None:
        raise _lost(place)
    return found


def _code(place: Place) -> tuple[types.CodeType, dict[str, Any]]:
    """The code of a function, wherever it is in its module, and the module's names."""
    module = _imported(place)
    found = [code for code in _codes(_compiled(place, module)) if code.co_qualname == place.name]
    same = [code for code in found if code.co_firstlineno == place.line]
    match same or found:
        case [code]:
            return code, vars(module)
    raise _lost(place)


def _lost(place: Place) -> UsageError:
    return UsageError(
        f"there is no {place.name} in {place.file or place.module}, or several.\n"
        "  A path is found again by the name of its function."
    )


def _imported(place: Place) -> types.ModuleType:
    """The module of a place, by its name, or else by its file."""
    file = Path(place.file)
    if place.file and place.module != "__main__" and place.module not in sys.modules:
        root = str(file.absolute().parents[place.module.count(".") + (file.name == "__init__.py")])
        if root not in sys.path:
            sys.path.append(root)
    try:
        module = importlib.import_module(place.module)
    except Exception as error:
        if isinstance(error, ImportError) and file.is_file():
            return module_of(file)
        raise UsageError(f"{place.file or place.module} cannot be imported: {type(error).__name__}: {error}") from error
    if place.file and Path(module.__file__ or "").resolve() != file.resolve():
        return module_of(file)  # of two files of one name, or of two programs
    return module


def _compiled(place: Place, module: types.ModuleType) -> types.CodeType:
    try:
        with tokenize.open(module.__file__ or "") as file:
            return compile(file.read(), module.__file__ or "", "exec", dont_inherit=True)
    except (OSError, SyntaxError) as error:
        raise UsageError(f"the source of {place.file or place.module} cannot be read: {error}") from error


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """A code object, and all that are in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def program_of(finding: Finding) -> BoundScenario:
    """The program that a finding was found in.

    Raises:
        UsageError: it cannot be found here.
    """
    if finding.calls is msgspec.UNSET:
        return find(finding.scenario).bind(lifecycle_name=finding.lifecycle, settings=finding.parameters)
    return story_of_turns(
        finding.calls,
        things_of(finding.calls),
        name=finding.scenario,
        lifecycle=finding.lifecycle,
        settings=finding.parameters,
        steps_max=max(STEPS_MAX, 2 * len(finding.schedule)),
    )


def story_of_turns(
    turns: Sequence[Turn],
    things: Mapping[int, Any],
    *,
    name: str,
    lifecycle: str | None,
    settings: dict[str, Any],
    steps_max: int = STEPS_MAX,
) -> BoundScenario:
    """The program that calls what was called, in an order that a schedule says.

    Args:
        turns: what was called, and when somebody settled.
        things: what their recipes name by number.
        name: what the program is called.
        lifecycle: the generation; v5 by default.
        settings: of the machine.
        steps_max: bound on steps.
    """

    async def live_machine(machine: Machine) -> None:
        await taken_again(Run(things, [machine]), turns)

    story = scenario(title="the calls of a live machine")(live_machine)
    return replace(story, name=name, steps_max=steps_max).bind(lifecycle_name=lifecycle, settings=settings)
