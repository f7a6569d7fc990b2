"""What is public is on one page, documented, and enough for what the documentation and the templates do."""

from __future__ import annotations

import ast
import importlib
import inspect
from itertools import chain

import pytest

from slabactors.cli.new import TEMPLATES
from tests.docs.api import PUBLIC, page
from tests.docs.pages import PAGES, ROOT, blocks, page_id

MODULES = [f"slabactors.{short}" for short in chain(*PUBLIC.values())]


def test_the_page_is_what_the_code_says():
    """Names, signatures and first lines of docstrings: after a change, type what the page says."""
    assert (ROOT / "docs" / "reference" / "api.md").read_text() == page()


@pytest.mark.parametrize("module", MODULES)
def test_everything_public_is_there_and_documented(module):
    """Each name of ``__all__`` exists, and says what it is."""
    found = importlib.import_module(module)
    assert found.__all__
    assert len(set(found.__all__)) == len(found.__all__)
    for name in found.__all__:
        value = getattr(found, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert inspect.getdoc(value), f"{module}.{name}"


def sources():
    """Name and text of every scenario, template, and block of Python that is not an excerpt."""
    for file in [*(ROOT / "scenarios").rglob("*.py"), *TEMPLATES.glob("*.py")]:
        yield page_id(file), file.read_text()
    for where in PAGES:
        for block in blocks(where):
            if block.language == "python" and "source" not in block.marks:
                yield f"{page_id(where)}:{block.line}", block.text


def test_stories_need_nothing_that_is_not_public():
    """Whoever follows the documentation imports public names from public modules."""
    seen = 0
    for place, text in sources():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("slabactors"):
                assert node.module in MODULES, f"{place} imports {node.module}"
                names = set(importlib.import_module(node.module).__all__)
                missing = {one.name for one in node.names} - names
                assert not missing, f"{place} imports {missing} of {node.module}"
                seen += 1
    assert seen > 50
