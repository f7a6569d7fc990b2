"""How Sphinx makes a site of these pages: ``make docs``.

The pages are plain Markdown, to be read on a code host as well, so nothing about the site is in them.  What Sphinx has
to be told beside that is here.  Its source directory is the checkout: README and changelog are pages of the site, and
other files that a page links to, a scenario or a module, are copied into it.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from markdown_it import MarkdownIt

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "slabactors"
extensions = ["myst_parser"]
root_doc = "docs/index"
include_patterns = ["README.md", "CHANGELOG.md", "docs/**.md"]
exclude_patterns = ["build", ".*"]
nitpicky = True
myst_heading_anchors = 6  # those that code hosts give to headings
smartquotes = False  # a heading about --json has two hyphens

html_theme = "furo"
html_title = project
html_static_path = ["site/static"]
html_extra_path = ["site/root"]  # leads from the top of the site to docs/index.html
html_css_files = ["site.css"]
html_copy_source = False
html_use_index = False
html_show_copyright = False
pygments_style = "tango"
pygments_dark_style = "github-dark"


def chapters(source: str) -> dict[str, list[tuple[str, str]]]:
    """What an index page leads to: for each heading, text and address of the first link of each item under it."""
    found: dict[str, list[tuple[str, str]]] = {}
    heading, before = "", ""
    in_item = False
    for token in MarkdownIt("commonmark").parse(source):
        if before == "heading_open":
            heading = token.content
        in_item = in_item or token.type == "list_item_open"
        if in_item and token.type == "inline":
            in_item = False
            parts = token.children or []
            for opened, text in pairwise(parts):
                if opened.type == "link_open":
                    found.setdefault(heading, []).append((text.content, str(opened.attrs["href"])))
                    break
        before = token.type
    return found


def add_navigation(app: Sphinx, docname: str, source: list[str]) -> None:
    """Make the lists of an index page the navigation: the order in which they stand is that of reading."""
    if PurePosixPath(docname).name != "index":
        return
    where = Path(app.srcdir, docname).parent
    for heading, links in chapters(source[0]).items():
        lines = ["```{toctree}", ":hidden:", f":caption: {heading}"]
        for text, address in links:
            page = (where / address).resolve().relative_to(Path(app.srcdir).resolve()).with_suffix("")
            lines.append(f"{text} </{page.as_posix()}>")
        source[0] += "\n\n" + "\n".join([*lines, "```"]) + "\n"


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", add_navigation)
