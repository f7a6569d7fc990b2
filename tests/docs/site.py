"""The built site, as a browser sees it: do its links lead somewhere, and does it need a network?

``python -m tests.docs.site DIRECTORY`` says what is wrong with it, which is what ``make docs`` ends with.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ADDRESSES = frozenset({"action", "data", "href", "poster", "src", "srcset", "xlink:href"})
"""Attributes that hold an address."""
FOLLOWED = frozenset({"a", "area", "form"})
"""Elements whose address is gone to when somebody asks for it.  The others load what it names."""
RELATIONS = frozenset({"author", "canonical", "index", "license", "next", "prev", "search"})
"""What a ``link`` can name without loading it."""
NAMESPACE = "http://www.w3.org/"
"""Scripts name the elements that they make so; nothing is loaded from there."""


@dataclass(frozen=True)
class Address:
    """What a page names, and whether it loads that by itself."""

    text: str
    loaded: bool


class Page(HTMLParser):
    """A page: its title, its anchors, and all that it leads to or loads."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.title = ""
        self.anchors: set[str] = set()
        self.addresses: list[Address] = []
        self.follows = ""  # the page that comes next in the order of reading
        self.navigation: list[str] = []  # what the tree at the side leads to
        self._element = ""
        self._depth = 0  # of elements in that tree
        self.feed(file.read_text())
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self._element = tag
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        self._look_for_navigation(tag, given)
        relations = set(given.get("rel", "").split()) if tag == "link" else set()
        loaded = tag not in FOLLOWED and not relations & RELATIONS
        for name in ADDRESSES & set(given):
            texts = [one.split()[0] for one in given[name].split(",")] if name == "srcset" else [given[name]]
            self.addresses += [Address(text, loaded) for text in texts]
        if "next" in relations:
            self.follows = given["href"]
        if given.get("http-equiv", "").lower() == "refresh":
            self.addresses.append(Address(given["content"].partition("url=")[2], loaded=False))
        self.addresses += loaded_by_style(given.get("style", ""))

    def handle_endtag(self, tag: str) -> None:
        self._element = ""
        if tag == "div" and self._depth:
            self._depth -= 1

    def handle_data(self, data: str) -> None:
        if self._element == "title" and not self.title:
            self.title = data.strip()
        if self._element == "style":
            self.addresses += loaded_by_style(data)

    def _look_for_navigation(self, tag: str, given: dict[str, str]) -> None:
        if tag == "div" and (self._depth or "sidebar-tree" in given.get("class", "").split()):
            self._depth += 1
        if tag == "a" and self._depth:
            self.navigation.append(given["href"])


def loaded_by_style(text: str) -> list[Address]:
    found = re.findall(r"""(?:url\(|@import)\s*("[^"]*"|'[^']*'|[^)'"\s;]+)""", text)
    return [Address(one.strip("\"'"), loaded=True) for one in found]


class Site:
    """A directory of pages."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()
        self.landing = self.directory / "docs" / "index.html"
        self.page = cache(Page)

    def problems(self) -> Iterator[str]:
        """Everything that would not work, a line each."""
        for file in self.files("html"):
            if not self.page(file).title:
                yield f"{self.name(file)}: no title"
            yield from self._faults(file, self.page(file).addresses)
        for file in self.files("css"):
            yield from self._faults(file, loaded_by_style(file.read_text()))
        for file in self.files("js"):
            for found in re.findall(r"""["'`]((?:https?:)?//\w[^"'`\s]*)""", file.read_text()):
                if not found.startswith(NAMESPACE):
                    yield f"{self.name(file)}: {found} may be loaded from the network"
        yield from self._left_out()

    def reading_order(self) -> list[Path]:
        """The pages that one comes to from the landing page by going on to the next one."""
        found = [self.landing]
        while follows := self.page(found[-1]).follows:
            target = self._target(follows, found[-1])
            if target in found or not target.is_file():
                break
            found.append(target)
        return found

    def files(self, kind: str) -> list[Path]:
        return sorted(self.directory.rglob(f"*.{kind}"))

    def name(self, file: Path) -> str:
        return file.relative_to(self.directory).as_posix()

    def _target(self, text: str, file: Path) -> Path:
        path = unquote(urlsplit(text).path)
        return (file.parent / path).resolve() if path else file

    def _faults(self, file: Path, addresses: list[Address]) -> Iterator[str]:
        for address in dict.fromkeys(addresses):
            if fault := self._fault(address, file):
                yield f"{self.name(file)}: {address.text} {fault}"

    def _fault(self, address: Address, file: Path) -> str:
        parts = urlsplit(address.text)
        if parts.scheme == "data":
            return ""
        if parts.scheme or parts.netloc:
            return "is loaded from the network" if address.loaded else ""
        if parts.path.startswith("/"):
            return "holds only where the site is at the top of its host"
        target = self._target(address.text, file)
        if not target.is_file() or not target.is_relative_to(self.directory):
            return "leads nowhere"
        if parts.fragment and target.suffix == ".html" and unquote(parts.fragment) not in self.page(target).anchors:
            return "has no such anchor"
        return ""

    def _left_out(self) -> Iterator[str]:
        """Pages that nobody comes to, by the tree at the side or by reading on."""
        if not self.landing.is_file():
            yield f"{self.name(self.landing)}: not there"
            return
        listed = {self._target(one, self.landing) for one in self.page(self.landing).navigation}
        order = self.reading_order()
        aside = {self.landing, self.directory / "index.html", self.directory / "search.html"}
        for file in self.files("html"):
            if file in aside:
                continue
            if file not in listed:
                yield f"{self.name(file)}: not in the navigation"
            if file not in order:
                yield f"{self.name(file)}: no page leads on to it"


if __name__ == "__main__":
    wrong = list(Site(Path(sys.argv[1])).problems())
    sys.stderr.writelines(f"{one}\n" for one in wrong)
    sys.exit(1 if wrong else 0)
