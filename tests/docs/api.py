"""The page of the public API, made of the code: ``python -m tests.docs.api > docs/reference/api.md``.

Public is what a module of `PUBLIC` has in its ``__all__``.  Signatures are shown as the source has them, so that the
page does not depend on the release of Python that makes it.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from functools import cache
from itertools import chain

WIDTH = 120

PUBLIC = {
    "Tell stories": ["scenario", "actors", "machine"],
    "What stories and lifecycles call": [
        "mm.slab_common", "mm.memcontrol", "mm.memcg_caches", "mm.files", "mm.slab_page", "mm.vmscan", "mm.page_alloc",
        "kernel.cgroup", "kernel.cpu", "kernel.hotplug", "kernel.jiffies", "kernel.locking", "kernel.percpu_ref",
        "kernel.rcu", "kernel.sysfs", "kernel.workqueue",
    ],
    "Lifecycles": ["lifecycle", "lifecycle.v5", "lifecycle.v3_16"],
    "Search": ["testing", "live", "report.finding", "explore.finding"],
    "Compare lifecycles": ["report.comparing", "report.plotting", "report.dead_caches"],
    "Real bugs": ["catalogue", "catalogue.verification", "catalogue.matrix"],
    "Read what a run left": ["trace.reader", "trace.query", "trace.sql", "trace.log"],
    "Read a machine": ["mm.slabinfo", "mm.sysfs_slab", "mm.memcg_files"],
    "Searches and drivers of your own": [
        "explore.verify", "explore.strategy", "explore.replay", "explore.program", "explore.footprints",
        "runtime.simulated", "runtime.sequential", "runtime.live", "runtime.step",
    ],
    "Errors": ["errors"],
}  # fmt: skip
"""Headings, and the public modules under each, without ``slabactors.``."""

HEAD = """\
# API

Everything that is public, module by module; what is not here may change without notice. An operation of an actor is a
message that is sent when it is awaited; what each stands for in the kernel is in the [kernel map](kernel-map.md), so
operations are not listed again. The package is typed: mypy and pyright check what you write with it.

This page is made of the code, and a test holds it to that: `python -m tests.docs.api > docs/reference/api.md`.
"""

Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def body_of(module: str) -> list[ast.stmt]:
    return ast.parse(inspect.getsource(importlib.import_module(module))).body


def home_of(module: str, name: str) -> str:
    """The module that defines a name, which this one may have from another."""
    for node in body_of(module):
        if isinstance(node, ast.ImportFrom) and any(name in (one.asname or one.name,) for one in node.names):
            return home_of(str(node.module), name)
    return module


def found(module: str, name: str) -> list[ast.stmt]:
    """What defines a name: overloads are several."""
    nodes = [node for node in body_of(home_of(module, name)) if defines(node, name)]
    overloads = [node for node in nodes if isinstance(node, Function) and decorated(node, "overload")]
    assert nodes, f"{module} does not define {name}"
    return [*overloads] or nodes[:1]


def defines(node: ast.stmt, name: str) -> bool:
    match node:
        case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
            return node.name == name
        case ast.AnnAssign(target=ast.Name(id=found)) | ast.Assign(targets=[ast.Name(id=found)]):
            return found == name
    return False


def decorated(node: ast.ClassDef | Function, *names: str) -> bool:
    return any(re.match(rf"({'|'.join(names)})\b", ast.unparse(one)) for one in node.decorator_list)


def said(text: str | None) -> str:
    """The first paragraph of a docstring, on one line."""
    paragraph = " ".join((text or "").strip().partition("\n\n")[0].split())
    return paragraph.replace("``", "`")


def item(code: str, text: str, indent: str = "") -> str:
    """One bullet."""
    line = f"{indent}- `{code}`" + (f": {text}" if text else "")
    return textwrap.fill(line, WIDTH, subsequent_indent=f"{indent}  ", break_long_words=False, break_on_hyphens=False)


def signature(node: Function, *, bound: bool = False) -> str:
    returns = f" -> {ast.unparse(node.returns)}" if node.returns is not None else ""
    return f"{node.name}({parameters(node.args, bound=bound)}){returns}"


def parameters(of: ast.arguments, *, bound: bool) -> str:
    """Parameters as one writes them: ``name: type = default``."""
    places = [*of.posonlyargs, *of.args]
    nothing: list[ast.expr | None] = [None] * (len(places) - len(of.defaults))
    told = [parameter(one, default) for one, default in zip(places, [*nothing, *of.defaults], strict=True)]
    if of.posonlyargs:
        told.insert(len(of.posonlyargs), "/")
    if of.vararg is not None:
        told.append(f"*{parameter(of.vararg)}")
    elif of.kwonlyargs:
        told.append("*")
    told += [parameter(one, default) for one, default in zip(of.kwonlyargs, of.kw_defaults, strict=True)]
    if of.kwarg is not None:
        told.append(f"**{parameter(of.kwarg)}")
    return ", ".join(told[1:] if bound else told)


def parameter(one: ast.arg, default: ast.expr | None = None) -> str:
    kind = f": {ast.unparse(one.annotation)}" if one.annotation is not None else ""
    return one.arg + kind + (f" = {ast.unparse(default)}" if default is not None else "")


def constructor(node: ast.ClassDef) -> str:
    """What a class is made of: the arguments of ``__init__``, or the fields of a dataclass or a struct."""
    for one in node.body:
        if isinstance(one, ast.FunctionDef) and one.name == "__init__":
            return f"({parameters(one.args, bound=True)})"
    structs = decorated(node, "dataclass") or any("Struct" in ast.unparse(one) for one in node.bases)
    fields = [ast.unparse(one) for one in node.body if isinstance(one, ast.AnnAssign)] if structs else []
    return f"({', '.join(fields)})" if fields else ""


def entries(module: str, name: str) -> Iterator[str]:
    """The bullets of a public name; one word for what another public module has."""
    home = home_of(module, name)
    if home != module and home.removeprefix("slabactors.") in chain(*PUBLIC.values()):
        yield f"- `{name}`: that of `{home}`"
        return
    value = getattr(importlib.import_module(module), name)
    for node in found(module, name):
        match node:
            case ast.ClassDef():
                yield item(f"class {name}{constructor(node)}", said(inspect.getdoc(value)))
                yield from members(node)
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                kind = "async " if isinstance(node, ast.AsyncFunctionDef) else ""
                yield item(f"{kind}{signature(node)}", said(inspect.getdoc(value)))
            case _:
                yield item(name, constant(module, name))


def constant(module: str, name: str) -> str:
    """What the text below a constant says."""
    body = body_of(home_of(module, name))
    for node, after in zip(body, [*body[1:], None], strict=True):
        if defines(node, name):
            match after:
                case ast.Expr(value=ast.Constant(value=str() as text)):
                    return said(text)
    return ""


def members(node: ast.ClassDef) -> Iterator[str]:
    """Public methods, properties and values of a closed set; no operations, which the kernel map has."""
    if any(ast.unparse(one).endswith("Enum") for one in node.bases):
        values = [ast.unparse(one.targets[0]) for one in node.body if isinstance(one, ast.Assign)]
        yield textwrap.fill("  " + ", ".join(f"`{value}`" for value in values), WIDTH, subsequent_indent="  ")
        return
    for one in node.body:
        if not isinstance(one, Function) or one.name.startswith("_") or decorated(one, "operation", r"\w+\.setter"):
            continue
        kind = "async " if isinstance(one, ast.AsyncFunctionDef) else ""
        code = (
            one.name
            if decorated(one, "property") or decorated(one, "cached_property")
            else kind + signature(one, bound=True)
        )
        yield item(code, said(ast.get_docstring(one)), "  ")


def page() -> str:
    """The whole page."""
    lines = [HEAD]
    for heading, modules in PUBLIC.items():
        lines.append(f"## {heading}\n")
        for short in modules:
            name = f"slabactors.{short}"
            module = importlib.import_module(name)
            lines += [f"### {name}\n", textwrap.fill(said(module.__doc__), WIDTH) + "\n"]
            lines += [entry for one in module.__all__ for entry in entries(name, one)]
            lines.append("")
    return "\n".join(lines).rstrip("\n") + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
