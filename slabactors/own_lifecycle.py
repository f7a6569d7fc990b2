"""Lifecycles of files that users give: found, looked over, and told apart from shipped ones by where they are.

What can be seen in a class is said before anything is run: a method that is missing, that nobody would call, or that
cannot be called as the machine will.  What a hook returns is looked at when it does.  Nothing of it costs a run that is
in order anything; shipped lifecycles are not looked at.
"""

from __future__ import annotations

import ast
import functools
import inspect
import traceback
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from slabactors.errors import LifecycleMistake, UnknownName, WrongReturn
from slabactors.files import module_of, place_of, typed
from slabactors.lifecycle import LIFECYCLES, Lifecycle, lifecycle
from slabactors.mm.memcontrol import MemcgCacheParams
from slabactors.mm.slab_common import KmemCache
from slabactors.runtime.watchdog import watched
from slabactors.unawaited import unawaited

__all__ = ["find_lifecycle"]

RETURNS: Final[dict[str, tuple[type, str]]] = {
    "get_cache": (KmemCache, "the child, or the root"),
    "create_child": (KmemCache, "the child, or the root"),
    "create_cache": (KmemCache, "the new cache"),
    "charge_slab": (bool, "true, or false at the limit"),
    "may_merge": (bool, "true or false"),
    "needed": (bool, "true or false"),
    "css_holders": (int, "a number"),
    "expected_references": (int, "a number"),
    "new_params": (MemcgCacheParams, "a MemcgCacheParams"),
}
"""Hooks that have to return something: what, and in words."""

BEGIN: Final = "begin with: slabactors new lifecycle my-protocol"

CLOSE: Final = 0.8
"""How like the name of a hook another one is that is taken for it, where nobody else could call that."""


def find_lifecycle(name: str, called: str | None = None) -> Lifecycle:
    """A shipped lifecycle by name, or one of a file: ``FILE.py:CLASS``, or ``FILE.py`` when it holds just one.

    One of a file goes by where it is, whatever its ``name`` says.

    Args:
        name: which one.
        called: the name that one of a file is to have, if not that one.

    Raises:
        UnknownName: there is no such lifecycle.
        ScenarioError: the file does not import.
        LifecycleMistake: the file is missing, or its class cannot be a lifecycle.
        EndlessLoop: importing the file, or making the lifecycle, does not end.
    """
    path, separator, class_name = name.rpartition(":")
    if not separator or not path.endswith(".py"):
        path, class_name = name, ""
    if not path.endswith(".py"):
        return lifecycle(name)
    file = Path(path)
    if not file.is_file():
        raise LifecycleMistake(
            f"there is no lifecycle file {file}.\n"
            "  Begin one with: slabactors new lifecycle my-protocol; or list the shipped ones with: slabactors list"
        )
    with watched(str(file)):
        module = module_of(file)
        cls = _chosen(path, module, class_name)
        check(cls)
        # A class of its own by that name, so that findings and reports say where it is.
        named = {"name": called or name, "__module__": module.__name__ + ".named", **dict(_looking(cls))}
        return _made(type(cls.__name__, (cls,), named), file)


def _chosen(path: str, module: ModuleType, class_name: str) -> type[Lifecycle]:
    """The class of a file that is meant."""
    classes = {key: one for key, one in vars(module).items() if isinstance(one, type) and issubclass(one, Lifecycle)}
    own = {key: one for key, one in classes.items() if one.__module__ == module.__name__}
    if not class_name and len(own) == 1:
        class_name = next(iter(own))
    if not class_name:
        held = f"several lifecycles: {', '.join(sorted(own))}" if own else "no lifecycle: no subclass of Lifecycle"
        example = f"--lifecycle {path}:{sorted(own)[0]}" if own else "slabactors new lifecycle my-protocol"
        raise LifecycleMistake(f"{path} holds {held}.\n  {'Name one' if own else 'Begin with'}: {example}")
    found = classes.get(class_name)
    if found is None and class_name in vars(module):
        raise LifecycleMistake(
            f"{_where(module, class_name)}: {class_name} is no lifecycle.\n"
            f"  Write: class {class_name}(Lifecycle), after: from slabactors.lifecycle import Lifecycle"
        )
    if found is None:
        raise UnknownName(
            f"lifecycle in {path}",
            class_name,
            sorted(own),
            hint=f"Name one: --lifecycle {path}:{sorted(own)[0]}" if own else f"It has none; {BEGIN}",
        )
    if found is LIFECYCLES.get(getattr(found, "name", "")):
        raise LifecycleMistake(
            f"{path}: {class_name} is the shipped lifecycle {found.name}.\n"
            f"  Type: --lifecycle {found.name}; or derive a class of your own from it."
        )
    lines = [one.lineno for one in _tree(module).body if isinstance(one, ast.ClassDef) and one.name == found.__name__]
    if len(lines) > 1 and found.__module__ == module.__name__:
        raise LifecycleMistake(
            f"{path}: two classes are called {class_name}, at line {lines[0]} and at line {lines[-1]}.\n"
            "  Give one of them another name."
        )
    return found


def _made(cls: type[Lifecycle], file: Path) -> Lifecycle:
    """The one object of a lifecycle."""
    try:
        return cls()
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        own = [one for one in frames if Path(one.filename).resolve() == file.resolve()]
        init = inspect.unwrap(cls.__init__)
        place = f"{typed(file)}:{own[-1].lineno}" if own else place_of(init) if inspect.isfunction(init) else str(file)
        raise LifecycleMistake(
            f"{place}: making {cls.__name__} raised {type(error).__name__}: {error}.\n"
            "  A lifecycle is made without arguments and keeps nothing; what new_params() and new_state() make can."
        ) from error


# -- looking a class over ----------------------------------------------------------------------------------------------


def check(cls: type[Lifecycle]) -> None:
    """Look over what the classes of users have put into a lifecycle.

    Raises:
        LifecycleMistake: it cannot be run as it is.
    """
    for one in own_classes(cls):
        for name, value in vars(one).items():
            if not name.startswith("__"):
                _check_attribute(one, name, value)
    missing = sorted(getattr(cls, "__abstractmethods__", ()))
    if missing:
        raise LifecycleMistake(
            f"{_where_class(cls)}: {cls.__name__} misses {' and '.join(missing)}.\n"
            f"  Write: async def {_shown(missing[0], getattr(Lifecycle, missing[0], None))}; "
            "or derive it from a shipped one: slabactors list"
        )
    for one in own_classes(cls):
        for line, call in unawaited(inspect.getmodule(one), _tree_of(one)):
            raise LifecycleMistake(
                f"{_file_of(one)}:{line}: {call} is not awaited, so nothing comes of it.\n  Write: await {call}"
            )


def own_classes(cls: type[Lifecycle]) -> list[type[Lifecycle]]:
    """Those of a lifecycle's classes that are no part of slabactors."""
    return [one for one in cls.__mro__ if issubclass(one, Lifecycle) and not one.__module__.startswith("slabactors.")]


def _check_attribute(cls: type[Lifecycle], name: str, value: Any) -> None:
    """Look at one thing that a class body defines."""
    inherited = next((vars(base)[name] for base in cls.__mro__[1:] if name in vars(base)), None)
    if inherited is None:
        _check_called(cls, name, value)
        return
    function = value.__func__ if isinstance(value, staticmethod | classmethod) else value
    if isinstance(inherited, bool) and not isinstance(value, bool):
        raise LifecycleMistake(
            f"{_where_in(cls, name)}: {name} is true or false, not {value!r}.\n  Write: {name} = {bool(value)}"
        )
    if not inspect.isfunction(inherited):
        return
    if not callable(function):
        raise LifecycleMistake(
            f"{_where_in(cls, name)}: {name} is a method, not {value!r}.\n  Write: {_headed(name, inherited)}"
        )
    if not inspect.isfunction(function):
        return  # made by somebody's decorator, who knows what it does
    written = inspect.unwrap(function)
    if inspect.iscoroutinefunction(inherited) != inspect.iscoroutinefunction(written):
        is_path = inspect.iscoroutinefunction(inherited)
        yields = inspect.isasyncgenfunction(written) or inspect.isgeneratorfunction(written)
        found = "it has a yield" if yields and is_path else "async def" if not is_path else "def"
        raise LifecycleMistake(
            f"{place_of(function)}: {name}() has to be {'an async def' if is_path else 'a plain def'}, "
            f"{'and ' if yields and is_path else 'not '}{found}.\n  Write: {_headed(name, inherited)}"
        )
    _check_signature(name, value, inherited)


def _check_signature(name: str, value: Any, inherited: Callable[..., Any]) -> None:
    """See whether a method can be called as what it replaces is."""
    bound = value.__get__(object(), object) if not isinstance(value, staticmethod) else value.__func__
    asked = list(inspect.signature(inherited).parameters.values())[1:]
    places = [None for one in asked if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    names = {one.name: None for one in asked if one.kind is one.KEYWORD_ONLY}
    try:
        inspect.signature(bound).bind(*places, **names)
    except (TypeError, ValueError) as error:
        own = value.__func__ if isinstance(value, staticmethod | classmethod) else value
        given = [] if isinstance(value, staticmethod) else ["self"]
        given += [f"{one.name}=..." if one.name in names else one.name for one in asked]
        raise LifecycleMistake(
            f"{place_of(own)}: {_shown(name, own)} cannot be called with ({', '.join(given)}): {error}.\n"
            f"  Write: {_headed(name, inherited)}"
        ) from error


def _check_called(cls: type[Lifecycle], name: str, value: Any) -> None:
    """Refuse what looks like a hook, has another name, and is used nowhere: nobody would call it."""
    hooks = [key for key, one in vars(Lifecycle).items() if not key.startswith("_")]
    close = get_close_matches(name, hooks, n=1, cutoff=CLOSE)
    if not close or isinstance(value, property):
        return
    for node in ast.walk(_tree_of(cls)):
        if name == getattr(node, "attr", None) or (isinstance(node, ast.Constant) and node.value == name):
            return
    brackets = "()" if callable(value) else ""
    raise LifecycleMistake(
        f"{_where_in(cls, name)}: nobody uses {name}{brackets}; did you mean {close[0]}{brackets}?\n"
        "  Rename it, or call it from one of the hooks."
    )


def _headed(name: str, function: Callable[..., Any]) -> str:
    return f"{'async ' if inspect.iscoroutinefunction(function) else ''}def {_shown(name, function)}"


def _shown(name: str, function: Any) -> str:
    """A method's head, as it could be typed."""
    if not inspect.isfunction(function):
        return f"{name}(self)"
    parameters = list(inspect.signature(function).parameters.values())
    plain = [one.replace(annotation=inspect.Parameter.empty) for one in parameters]
    return f"{name}{inspect.Signature(plain)}"


# -- what hooks return -------------------------------------------------------------------------------------------------


def _looking(cls: type[Lifecycle]) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Those hooks of users' classes that have to return something, each with a look at what it returns."""
    for name, (kind, words) in RETURNS.items():
        owner = next(one for one in cls.__mro__ if name in vars(one))
        function = vars(owner)[name]
        if owner in own_classes(cls) and inspect.isfunction(function):
            yield name, (_paths if inspect.iscoroutinefunction(function) else _functions)(function, kind, words)


def _paths(function: Callable[..., Any], kind: type, words: str) -> Callable[..., Any]:
    @functools.wraps(function)
    async def looked_at(*args: Any, **kwargs: Any) -> Any:
        got = await function(*args, **kwargs)
        return got if isinstance(got, kind) else _refuse(function, got, words)

    return looked_at


def _functions(function: Callable[..., Any], kind: type, words: str) -> Callable[..., Any]:
    @functools.wraps(function)
    def looked_at(*args: Any, **kwargs: Any) -> Any:
        got = function(*args, **kwargs)
        return got if isinstance(got, kind) else _refuse(function, got, words)

    return looked_at


def _refuse(function: Callable[..., Any], got: object, words: str) -> Any:
    name = function.__name__
    asks = "await " if inspect.iscoroutinefunction(function) else ""
    arguments = inspect.signature(function).parameters.values()
    given = [f"{one.name}={one.name}" if one.kind is one.KEYWORD_ONLY else one.name for one in arguments][1:]
    raise WrongReturn(
        f"{place_of(function)}: {name}() returned {got!r}, and has to return {words}.\n"
        f"  Write for example: return {asks}super().{name}({', '.join(given)})"
    )


# -- where things are --------------------------------------------------------------------------------------------------


def _file_of(cls: type) -> str:
    return typed(Path(inspect.getfile(cls)))


def _tree(module: ModuleType) -> ast.Module:
    return ast.parse(Path(str(module.__file__)).read_bytes())


def _tree_of(cls: type) -> ast.Module:
    return ast.parse(Path(inspect.getfile(cls)).read_bytes())


def _where(module: ModuleType, name: str) -> str:
    """File and line at which a file gives something a name."""
    lines = [node.lineno for node in _tree(module).body if name in _names(node)]
    return typed(Path(str(module.__file__))) + (f":{lines[-1]}" if lines else "")


def _class_node(cls: type) -> ast.ClassDef | None:
    nodes = (one for one in ast.walk(_tree_of(cls)) if isinstance(one, ast.ClassDef) and one.name == cls.__name__)
    return next(nodes, None)


def _where_class(cls: type) -> str:
    node = _class_node(cls)
    return f"{_file_of(cls)}:{node.lineno}" if node is not None else _file_of(cls)


def _where_in(cls: type, name: str) -> str:
    """File and line at which a class body gives something a name."""
    node = _class_node(cls)
    lines = [one.lineno for one in node.body if name in _names(one)] if node is not None else []
    return f"{_file_of(cls)}:{lines[-1]}" if lines else _where_class(cls)


def _names(node: ast.stmt) -> list[str]:
    """What a statement gives a name."""
    match node:
        case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            return [name]
        case ast.Assign(targets=targets):
            return [one.id for one in targets if isinstance(one, ast.Name)]
        case ast.AnnAssign(target=ast.Name(id=name)):
            return [name]
    return []
