"""``slabactors new``: a file to start from."""

from __future__ import annotations

import ast
import keyword
import re
import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import Final

from slabactors.cli import FINE
from slabactors.cli.output import replace_whole, say, say_json
from slabactors.errors import OutputError, UsageError

TEMPLATES: Final = Path(__file__).parent / "templates"


class New(StrEnum):
    """What can be begun."""

    SCENARIO = "scenario"
    LIFECYCLE = "lifecycle"
    TEST = "test"


NEXT: Final = {
    New.SCENARIO: (("search it", "python {file}"), ("its knobs", "slabactors run {file} --help")),
    New.LIFECYCLE: (("break it", "slabactors explore dead-cache/rmdir-races-last-free --lifecycle {file}"),),
    New.TEST: (("see it fail", "pytest {file}"),),
}
"""What to type next, with what that does."""


def new_file(kind: New, name: str, *, directory: Path, force: bool, json: bool) -> int:
    """Write a starting point that runs as it is.

    Args:
        kind: of what.
        name: of the scenario, the lifecycle or the test; ``my-story`` is the same as ``my_story``.
        directory: where to; it is made if there is none.
        force: overwrite a file of that name.
        json: print one JSON document.

    Raises:
        UsageError: the name cannot be one, or there is a file of that name.
        OutputError: the place cannot be written to.
    """
    snake = python_name(name, kind)
    stem = f"test_{snake}" if kind is New.TEST else snake
    path = directory / f"{stem}.py"
    _write(path, filled(kind, snake), kind, force=force)
    lines = [(what, command.format(file=shlex.quote(str(path)))) for what, command in NEXT[kind]]
    if json:
        say_json({"kind": kind, "name": snake, "file": str(path), "next": [command for _, command in lines]})
        return FINE
    say(f"wrote {path}")
    for what, command in lines:
        say(f"  {what}: {command}")
    return FINE


def filled(kind: New, snake: str) -> str:
    """The text of a template with a name in it.

    Args:
        kind: of what.
        snake: its name, as that of a function.
    """
    text = _template(kind)
    return (
        text.replace("new_name", snake).replace("new-name", snake.replace("_", "-")).replace("NewName", _camel(snake))
    )


def python_name(name: str, kind: New) -> str:
    """A name as that of a function: ``my-story``, ``MyStory`` and ``my_story.py`` are all ``my_story``.

    Raises:
        UsageError: there cannot be a function, a class or a file of that name.
    """
    bare = name.removesuffix(".py")
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", bare.replace("-", "_")).lower()
    example = f"  Type for example: slabactors new {kind}"
    if kind is New.TEST:
        snake = snake.removeprefix("test_")
    if "/" in bare:
        folder, _, last = bare.rpartition("/")
        raise UsageError(
            f"expected a name, found the path {name!r}.\n{example} {last or 'first'} --directory {folder}/"
        )
    if not re.fullmatch(r"[a-z][a-z0-9_]*", snake):
        raise UsageError(
            f"a {kind} is named like a function, of letters, digits and dashes, a letter first; not {name!r}.\n"
            f"{example} first"
        )
    if kind is not New.TEST:  # which is called test_NAME everywhere
        _check_meaning(snake, kind, f"{example} my-{snake.replace('_', '-')}")
    return snake


def _check_meaning(snake: str, kind: New, example: str) -> None:
    """A name must not mean something else already.

    Raises:
        UsageError: it does.
    """
    if keyword.iskeyword(snake) or keyword.iskeyword(_camel(snake)):
        raise UsageError(f"{snake!r} is a word of Python itself.\n{example}")
    if snake in sys.stdlib_module_names or snake in ("slabactors", "pytest"):
        raise UsageError(f"a file {snake}.py would stand in the way of the module {snake}.\n{example}")
    called = _camel(snake) if kind is New.LIFECYCLE else snake
    if called in _names(_template(kind)):
        raise UsageError(f"{called!r} is the name of something that a {kind} uses.\n{example}")


def _names(text: str) -> set[str]:
    """The names that a Python text uses."""
    nodes = list(ast.walk(ast.parse(text)))
    return {
        *(node.id for node in nodes if isinstance(node, ast.Name)),
        *(node.arg for node in nodes if isinstance(node, ast.arg)),
        *(node.name for node in nodes if isinstance(node, ast.alias)),
        *(node.name for node in nodes if isinstance(node, ast.AsyncFunctionDef)),
    } - {"new_name", "NewName"}


def _camel(snake: str) -> str:
    return "".join(word.capitalize() for word in snake.split("_"))


def _template(kind: New) -> str:
    return (TEMPLATES / f"{kind}.py").read_text(encoding="utf-8")


def _write(path: Path, text: str, kind: New, *, force: bool) -> None:
    """Write the file, whole or not at all.

    Raises:
        UsageError: there is one already.
        OutputError: the place cannot be written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise UsageError(f"{path} is a directory.\n  Take another name: slabactors new {kind} NAME")
        if not force and (path.is_symlink() or path.exists()):
            raise UsageError(
                f"there is a file {path} already, and it was left as it is.\n"
                "  Take another name, or overwrite it: --force"
            )
        replace_whole(path, text)
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror}.\n  Name a directory that can be written to: --directory DIR"
        ) from error
