"""The line language of workloads: what a line says, and what a script must not say.

One operation a line, ``#`` for comments::

    create NAME SIZE [ALIGN] [hwalign|rcu|account|reclaim|ctor ...]
    alloc  CPU NAME COUNT TAG [node=N]     appends COUNT objects to TAG
    free   CPU NAME TAG [LIST]             all, or items A, A-B, A-B/STEP by commas, in this order
    allocb, freeb                          the same with the bulk calls
    shrink NAME | destroy NAME | dump NAME | sleep MS
    set NAME FILE VALUE | read NAME FILE   a file of /sys/kernel/slab/NAME
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from slabactors.errors import WorkloadError
from slabactors.mm.allocator import CacheSpec

COUNT_MAX: Final = 10_000_000
"""Objects that one line may allocate."""
SLEEP_MAX: Final = 86_400_000
"""Milliseconds: a day."""
ALIGN_MAX: Final = 4096
"""Bytes: a page."""

FLAGS: Final = {
    "hwalign": "hwcache_align",
    "rcu": "rcu",
    "account": "account",
    "reclaim": "reclaimable",
    "ctor": "ctor",
}
"""Flags of a cache, with the attribute of `CacheSpec` that each sets; ``ctor`` is our own."""

LINES: Final = {
    "create": "create NAME SIZE [ALIGN] [FLAG ...]",
    "alloc": "alloc CPU NAME COUNT TAG [node=N]",
    "allocb": "allocb CPU NAME COUNT TAG",
    "free": "free CPU NAME TAG [LIST]",
    "freeb": "freeb CPU NAME TAG [LIST]",
    "shrink": "shrink NAME",
    "destroy": "destroy NAME",
    "dump": "dump NAME",
    "sleep": "sleep MS",
    "set": "set NAME FILE VALUE",
    "read": "read NAME FILE",
}
"""Every operation, as it is typed."""


@dataclass(frozen=True, slots=True)
class Line:
    """What every operation has.

    Attributes:
        line: where it stands in its file, from 1.
        text: as it was written, blanks made one.
    """

    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Create(Line):
    """Create a cache."""

    name: str
    spec: CacheSpec


@dataclass(frozen=True, slots=True)
class Alloc(Line):
    """Allocate objects and append them to a tag."""

    cpu: int
    name: str
    count: int
    tag: str
    node: int | None = None
    bulk: bool = False


@dataclass(frozen=True, slots=True)
class Free(Line):
    """Free objects of a tag; all that are held when no items are named."""

    cpu: int
    name: str
    tag: str
    items: tuple[range, ...] | None = None
    bulk: bool = False


@dataclass(frozen=True, slots=True)
class Shrink(Line):
    """Give back the empty slabs of a cache."""

    name: str


@dataclass(frozen=True, slots=True)
class Destroy(Line):
    """Destroy a cache."""

    name: str


@dataclass(frozen=True, slots=True)
class Dump(Line):
    """Say how a cache is."""

    name: str


@dataclass(frozen=True, slots=True)
class Sleep(Line):
    """Let milliseconds pass."""

    milliseconds: int


@dataclass(frozen=True, slots=True)
class Set(Line):
    """Write a file of a cache's directory in sysfs."""

    name: str
    file: str
    value: str


@dataclass(frozen=True, slots=True)
class Read(Line):
    """Read a file of a cache's directory in sysfs."""

    name: str
    file: str


Op: TypeAlias = "Create | Alloc | Free | Shrink | Destroy | Dump | Sleep | Set | Read"

_ITEM = re.compile(r"(\d{1,9})(?:-(\d{1,9})(?:/(\d{1,9}))?)?\Z", re.ASCII)
_NAME = re.compile(r"[^\s,|/]{1,64}\Z")


def parse(line: int, text: str) -> Op | None:
    """What a line says; None when it says nothing.

    Args:
        line: its number, for messages.
        text: the line.

    Raises:
        WorkloadError: it is none of the language.
    """
    words = text.partition("#")[0].split()
    if not words:
        return None
    reader = _READERS.get(words[0])
    if reader is None:
        raise WorkloadError(
            line, f"expected an operation, found {quoted(words[0])}.", f"Operations: {', '.join(LINES)}."
        )
    return reader(_Words(line, words))


class _Words:
    """The words of one line, and what is wrong with them."""

    def __init__(self, line: int, words: list[str]) -> None:
        self.line = line
        self.words = words
        self.text = " ".join(words)

    def wrong(self, what: str) -> WorkloadError:
        return WorkloadError(self.line, what, f"Type: {LINES[self.words[0]]}")

    def expect(self, least: int, most: int) -> list[str]:
        """The words behind the first one, when there are as many as there should be."""
        given = len(self.words) - 1
        if not least <= given <= most:
            wanted = str(least) if least == most else f"{least} to {most}"
            raise self.wrong(f"{self.words[0]} takes {wanted} words, found {given}.")
        return self.words[1:]

    def number(self, text: str, what: str, least: int, most: int) -> int:
        if not (text.isascii() and text.isdigit()) or len(text) > 18:
            raise self.wrong(f"{what} must be a number, found {quoted(text)}.")
        value = int(text)
        if not least <= value <= most:
            raise self.wrong(f"{what} must be from {least} to {most}, found {value}.")
        return value

    def name(self, text: str, what: str) -> str:
        if _NAME.match(text) is None:
            raise self.wrong(f"{what} must be at most 64 letters without commas or slashes, found {quoted(text)}.")
        return text


def _create(words: _Words) -> Create:
    given = words.expect(2, 16)
    name = words.name(given[0], "NAME")
    size = words.number(given[1], "SIZE", 1, 1 << 30)
    flags = given[2:]
    align = 0
    if flags and flags[0].isascii() and flags[0].isdigit():
        align = words.number(flags[0], "ALIGN", 0, ALIGN_MAX)
        flags = flags[1:]
    if align & (align - 1):
        raise words.wrong(f"ALIGN must be 0 or a power of two, found {align}.")
    options = {}
    for flag in (one for word in flags for one in re.split(r"[|,]", word) if one):
        if flag not in FLAGS:
            raise words.wrong(f"expected a flag ({', '.join(FLAGS)}), found {quoted(flag)}.")
        options[FLAGS[flag]] = True
    return Create(words.line, words.text, name, CacheSpec(size, align=align, **options))


def _alloc(words: _Words) -> Alloc:
    given = words.expect(4, 5)
    node = None
    if len(given) == 5:
        if not given[4].startswith("node="):
            raise words.wrong(f"expected node=N, found {quoted(given[4])}.")
        node = words.number(given[4][5:], "node", 0, 1023)
    return Alloc(
        words.line,
        words.text,
        words.number(given[0], "CPU", 0, 8191),
        words.name(given[1], "NAME"),
        words.number(given[2], "COUNT", 1, COUNT_MAX),
        words.name(given[3], "TAG"),
        node,
        words.words[0] == "allocb",
    )


def _free(words: _Words) -> Free:
    given = words.expect(3, 4)
    items = None
    if len(given) == 4 and given[3] != "all":
        items = tuple(_item(words, one) for one in given[3].split(","))
    return Free(
        words.line,
        words.text,
        words.number(given[0], "CPU", 0, 8191),
        words.name(given[1], "NAME"),
        words.name(given[2], "TAG"),
        items,
        words.words[0] == "freeb",
    )


def _item(words: _Words, text: str) -> range:
    """One item of a LIST; the second number may be the smaller one."""
    found = _ITEM.match(text)
    if found is None:
        raise words.wrong(f"LIST has items A, A-B or A-B/STEP by commas, found {quoted(text)}.")
    first = int(found[1])
    if found[2] is None:
        return range(first, first + 1)
    last, step = int(found[2]), int(found[3] or 1)
    if step == 0:
        raise words.wrong(f"STEP must be at least 1, found {quoted(text)}.")
    return range(first, last + 1, step) if first <= last else range(first, last - 1, -step)


def _sleep(words: _Words) -> Sleep:
    (given,) = words.expect(1, 1)
    return Sleep(words.line, words.text, words.number(given, "MS", 0, SLEEP_MAX))


def _set(words: _Words) -> Set:
    name, file, value = words.expect(3, 3)
    return Set(words.line, words.text, words.name(name, "NAME"), file, value)


def _read(words: _Words) -> Read:
    name, file = words.expect(2, 2)
    return Read(words.line, words.text, words.name(name, "NAME"), file)


def _named(make: Callable[[int, str, str], Op]) -> Callable[[_Words], Op]:
    def read(words: _Words) -> Op:
        return make(words.line, words.text, words.name(words.expect(1, 1)[0], "NAME"))

    return read


_READERS: Final[dict[str, Callable[[_Words], Op]]] = {
    "create": _create,
    "alloc": _alloc,
    "allocb": _alloc,
    "free": _free,
    "freeb": _free,
    "shrink": _named(Shrink),
    "destroy": _named(Destroy),
    "dump": _named(Dump),
    "sleep": _sleep,
    "set": _set,
    "read": _read,
}


def quoted(word: str) -> str:
    """A word as a message shows it: what cannot be printed escaped, and no more of it than fits."""
    return ascii(word if len(word) <= 40 else word[:37] + "...")


def parse_script(lines: Iterable[bytes]) -> Iterator[Op]:
    """The operations of a script, one after the other.

    Raises:
        WorkloadError: a line is not text, or none of the language; or nothing is there.
    """
    number = 0
    found = False
    for number, raw in enumerate(lines, 1):
        op = parse(number, text_of(number, raw))
        if op is not None:
            found = True
            yield op
    if not found:
        what = "the script is empty" if not number else f"the script has {number} lines, and none says anything"
        raise WorkloadError(0, f"{what}; expected one operation a line.", "Begin with: create NAME SIZE")


def text_of(number: int, raw: bytes) -> str:
    """A line of a file as text.

    Raises:
        WorkloadError: it is not text.
    """
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise WorkloadError(
            number,
            f"expected text, found the byte 0x{raw[error.start]:02x}.",
            "Give a text file: one operation a line.",
        ) from None
    if "\0" in text:
        raise WorkloadError(number, "expected text, found a zero byte.", "Give a text file: one operation a line.")
    return text
