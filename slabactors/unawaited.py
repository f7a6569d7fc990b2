"""Operations and paths that a file calls and does not await: a message that is made and never sent.

Python says nothing about them, and neither does a run, in which the step is just not there.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from types import ModuleType
from typing import Final

from slabactors.actors import Actor
from slabactors.actors.actor import operations
from slabactors.lifecycle import Lifecycle

AMBIGUOUS: Final = frozenset(name for kind in (list, dict, set, str) for name in dir(kind))
"""Names of operations that may just as well be methods of Python's own containers."""


def unawaited(module: ModuleType | None, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and text of each such call in the paths of a file, where only its being true, or nothing of it, is used."""
    known = vars(module) if module is not None else {}
    paths = {name for name, one in known.items() if inspect.iscoroutinefunction(one)}
    methods = _operations() | {name for name in dir(Lifecycle) if inspect.iscoroutinefunction(getattr(Lifecycle, name))}
    for path in ast.walk(tree):
        if not isinstance(path, ast.AsyncFunctionDef):
            continue
        for node in ast.walk(path):
            for one in _used_bare(node):
                match one:
                    case ast.Call(func=ast.Name(id=name)) if name in paths:
                        yield one.lineno, ast.unparse(one)
                    case ast.Call(func=ast.Attribute(attr=name, value=owner)) if name in methods:
                        if _root(owner) not in known:  # as a lock of the module's own is
                            yield one.lineno, ast.unparse(one)


def _root(node: ast.expr) -> str:
    """The name that an expression begins with."""
    while isinstance(node, ast.Attribute | ast.Call | ast.Subscript):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def _used_bare(node: ast.AST) -> Iterator[ast.expr]:
    """The expressions of a node that are thrown away, or only asked whether they are true."""
    match node:
        case ast.Expr(value=value):
            yield value
        case ast.If(test=test) | ast.While(test=test) | ast.IfExp(test=test) | ast.Assert(test=test):
            yield from _terms(test)


def _terms(test: ast.expr) -> Iterator[ast.expr]:
    match test:
        case ast.BoolOp(values=values):
            for one in values:
                yield from _terms(one)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield from _terms(operand)
        case ast.Compare(left=left, comparators=others):
            yield from (left, *others)
        case _:
            yield test


def _operations() -> frozenset[str]:
    """The names of all operations of all actors that there are."""
    found: set[str] = set()
    left: list[type[Actor]] = [Actor]
    while left:
        cls = left.pop()
        left.extend(cls.__subclasses__())
        found.update(one.name for one in operations(cls))
    return frozenset(found) - AMBIGUOUS
