"""The pages of the documentation, taken apart: fenced blocks, tables, links, headings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt  # comes with rich
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]

_parser = MarkdownIt("commonmark").enable("table")


@dataclass(frozen=True)
class Block:
    """A fenced block: what stands behind its fence, its text, and where it begins."""

    language: str
    marks: dict[str, str]
    text: str
    line: int


@dataclass(frozen=True)
class Table:
    """A table, the heading it stands under, and its cells as they are written."""

    heading: str
    header: list[str]
    rows: list[list[str]]


def page_id(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def tokens(page: Path) -> list[Token]:
    return _parser.parse(page.read_text())


def blocks(page: Path) -> Iterator[Block]:
    for token in tokens(page):
        if token.type == "code_block":
            raise AssertionError(f"{page_id(page)}:{token.map}: an indented block; fence it, so that it is checked")
        if token.type == "fence":
            language, _, rest = token.info.partition(" ")
            yield Block(language, dict(re.findall(r'(\w+)="([^"]*)"', rest)), token.content, token.map[0] + 1)


def tables(page: Path) -> list[Table]:
    found: list[Table] = []
    heading = ""
    stream = tokens(page)
    for position, token in enumerate(stream):
        if token.type == "heading_open":
            heading = stream[position + 1].content
        elif token.type == "table_open":
            found.append(Table(heading, [], []))
        elif token.type == "tr_open":
            found[-1].rows.append([])
        elif token.type in ("th_open", "td_open"):
            found[-1].rows[-1].append(stream[position + 1].content)
    return [Table(table.heading, table.rows[0], table.rows[1:]) for table in found]


def headings(page: Path) -> list[str]:
    stream = tokens(page)
    return [stream[position + 1].content for position, token in enumerate(stream) if token.type == "heading_open"]


def slug(heading: str) -> str:
    """The anchor that a heading gets."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def links(page: Path) -> Iterator[str]:
    for token in tokens(page):
        for child in token.children or ():
            if child.type == "link_open":
                yield str(child.attrs["href"])
            elif child.type == "image":
                yield str(child.attrs["src"])


def code_spans(page: Path) -> set[str]:
    """Everything between single backquotes."""
    return {child.content for token in tokens(page) for child in token.children or () if child.type == "code_inline"}


def bare(cell: str) -> str:
    """A table cell without the backquotes around it."""
    return cell.strip().strip("`")


def names_in(cell: str) -> list[str]:
    """What a table cell has between backquotes."""
    return re.findall(r"`([^`]+)`", cell)
