"""Python files that users give: scenarios and lifecycles, each imported once."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from slabactors.errors import EndlessLoop, ScenarioError
from slabactors.runtime.watchdog import Stuck, watched

FILE_MODULE: Final = "slabactors_file_"
"""How the modules that scenario and lifecycle files are imported as are called, before a digest of the path."""


def place_of(function: Callable[..., Any]) -> str:
    """File and line of a function, as the user would name the file."""
    code = inspect.unwrap(function).__code__
    line = code.co_firstlineno  # of its first decorator
    try:
        text = inspect.getsourcelines(code)[0]
    except OSError:  # typed in at a prompt
        text = []
    line += next((number for number, one in enumerate(text) if one.lstrip().startswith(("async def", "def "))), 0)
    return f"{typed(Path(code.co_filename))}:{line}"


def typed(file: Path) -> str:
    """A file, as one would type it here."""
    return str(file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file)


def module_of(file: Path, name: str | None = None) -> ModuleType:
    """The module of a file, imported once.

    Args:
        file: a Python file.
        name: the module name to import it under.

    Raises:
        ScenarioError: it does not import.
    """
    module_name = name or f"{FILE_MODULE}{hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:12]}"
    module = sys.modules.get(module_name)
    return module if module is not None else _import(file, module_name)


def _import(file: Path, module_name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(module_name, file)
    if spec is None or spec.loader is None:
        raise ScenarioError(f"{file} is not a Python file.\n  A scenario file ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    beside = str(file.parent.resolve())
    if beside not in sys.path:
        sys.path.append(beside)  # so that it can import its neighbours, as a script could
    try:
        with watched(str(file)):
            spec.loader.exec_module(module)
    except (ScenarioError, EndlessLoop, Stuck):
        del sys.modules[module_name]
        raise
    except (Exception, SystemExit) as error:
        del sys.modules[module_name]
        raise ScenarioError(
            f"{file} does not import: {type(error).__name__}{_at_line(file, error)}: {error}\n"
            f"  See the whole traceback with: python {file}"
        ) from error
    return module


def _at_line(file: Path, error: BaseException) -> str:
    """The line of a file at which importing it failed, if there is one: one of no text has none."""
    same = file.resolve()
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).resolve() == same
    ]
    if isinstance(error, SyntaxError) and error.filename and Path(error.filename).resolve() == same:
        lines.append(error.lineno)
    return f" at line {lines[-1]}" if lines and lines[-1] else ""
