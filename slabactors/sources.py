"""What a search's answer depends on besides its options: the sources of the scenario, the lifecycle, and slabactors."""

from __future__ import annotations

import ast
import hashlib
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from slabactors.lifecycle import Lifecycle
from slabactors.scenario import BoundScenario

PACKAGE = Path(__file__).resolve().parent


def sources_digest(program: BoundScenario) -> str:
    """A digest that changes when any source file changes that a run of the program can come from.

    Those of slabactors itself, the scenario's and the lifecycle's, and the files beside them that these import.
    """
    files = {one: one.relative_to(PACKAGE).as_posix() for one in PACKAGE.rglob("*.py")}
    classes = [one for one in type(program.lifecycle).__mro__ if issubclass(one, Lifecycle)]
    starts: list[Callable[..., Any]] = [program.scenario.function, *classes]
    for start in starts:
        try:
            file = Path(inspect.getfile(start)).resolve()
        except (OSError, TypeError):  # typed in at a prompt, or a class that was made for its name
            continue
        if not file.is_relative_to(PACKAGE):
            files |= {one: one.relative_to(file.parent).as_posix() for one in _with_imports(file)}
    digest = hashlib.sha256()
    for file, name in sorted(files.items(), key=lambda item: (item[1], item[0])):
        data = file.read_bytes()
        digest.update(f"{name} {len(data)}\n".encode() + data)
    return digest.hexdigest()


def _with_imports(file: Path) -> set[Path]:
    """A file, and the modules and packages beside it that it imports, and that these import."""
    directory = file.parent
    found: set[Path] = set()
    left = [file]
    while left:
        one = left.pop()
        if one in found:
            continue
        found.add(one)
        for name in _imported(one):
            if (directory / f"{name}.py").is_file():
                left.append(directory / f"{name}.py")
            elif (directory / name / "__init__.py").is_file():
                left.extend((directory / name).rglob("*.py"))
    return found


def _imported(file: Path) -> Iterator[str]:
    """The top-level names that a file imports."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return  # it cannot be imported either
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]
