"""Holds what was played against what was recorded, field by field."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from slabactors.errors import WorkloadError
from slabactors.workload.language import Read
from slabactors.workload.recording import AGAIN, Entry, Format
from slabactors.workload.slab_states import slab_pairs
from slabactors.workload.slub_states import slub_pairs
from slabactors.workload.states import Labels, Pair

if TYPE_CHECKING:
    from slabactors.mm.slab_common import KmemCache
    from slabactors.workload.player import Document, Player

LEFT_OUT = ("kmsg", "d.flags")
"""Fields of a log that are not compared: kernel messages, and the cache's flag word."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One field that is not as it was recorded.

    Attributes:
        field: its name, as a path into the recorded line.
        recorded: its value there, None when it is not there.
        ours: its value here.
    """

    field: str
    recorded: Any
    ours: Any


class Comparer(Protocol):
    """Compares the entries of one sequence, in their order."""

    def differences(self, player: Player, entry: Entry, document: Document) -> Iterator[Difference]:
        """What differs after an entry was played.

        Args:
            player: who played it.
            entry: what was recorded.
            document: what the player said of the entry's last operation.
        """
        ...


def comparer(format_: Format, layout: str) -> Comparer:
    """A comparer for a sequence of that format, of an allocator with that layout."""
    match format_:
        case Format.LOG:
            return LogComparer()
        case Format.GEOMETRY:
            return GeometryComparer()
        case Format.STATES:
            return StateComparer(slub_pairs if layout == "slub" else slab_pairs)


class LogComparer:
    """For logs: every field of a line, but `LEFT_OUT`."""

    def differences(self, player: Player, entry: Entry, document: Document) -> Iterator[Difference]:
        """See `Comparer`."""
        seen = {key: value for key, value in entry.seen.items() if key not in ("w", "i", "op")}
        if isinstance(entry.ops[0], Read):
            yield from _read(seen, document["d"]["text"])
            return
        ours = {key: value for key, value in document.items() if key != "finding"}
        if isinstance(seen.get("ctr"), dict) and isinstance(ours.get("ctr"), dict):
            ours["ctr"] = {key: _as_recorded(seen["ctr"].get(key), value) for key, value in ours["ctr"].items()}
        yield from differing("", seen, ours)


def _read(seen: dict[str, Any], text: str) -> Iterator[Difference]:
    """What a file said: a text somewhere in the line, whatever it is called."""
    d = seen.get("d")
    texts = [value for value in (d, *seen.values(), *(d.values() if isinstance(d, dict) else ())) if value is not None]
    if text not in [str(value).strip() for value in texts if isinstance(value, str | int)]:
        yield Difference("d.text", d.get("text") if isinstance(d, dict) else d, text)


def _as_recorded(recorded: Any, ours: Any) -> Any:
    """A counter in the recorded spelling, if it says the same: one node alone may be named or not."""
    if isinstance(recorded, str) and isinstance(ours, int):
        return recorded if recorded.strip() in (str(ours), f"{ours} N0={ours}") else ours
    if isinstance(recorded, int) and isinstance(ours, str):
        total, *nodes = ours.split()
        return recorded if len(nodes) == 1 and total == str(recorded) else ours
    return ours


def differing(prefix: str, recorded: dict[str, Any], ours: dict[str, Any]) -> Iterator[Difference]:
    """Fields of two objects that differ, in the recorded order, then those that only we have."""
    for key in (*recorded, *(key for key in ours if key not in recorded)):
        name = f"{prefix}{key}"
        if name in LEFT_OUT:
            continue
        theirs, mine = recorded.get(key), ours.get(key)
        if isinstance(theirs, dict) and isinstance(mine, dict):
            yield from differing(f"{name}.", theirs, mine)
        elif theirs != mine or (key in recorded) is not (key in ours):
            yield Difference(name, theirs, mine)


class GeometryComparer:
    """For new caches: what was made of them."""

    names: ClassVar[dict[str, str]] = {
        "slab_size": "size",
        "slab_align": "align",
        "objs_per_slab": "objects",
    }

    def differences(self, player: Player, entry: Entry, document: Document) -> Iterator[Difference]:
        """See `Comparer`."""
        ours = document["d"]
        for key, value in entry.seen.items():
            if key in ("smp", "size", "align", "flags"):
                continue
            mine = ours.get(self.names.get(key, key))
            if mine != value:
                yield Difference(key, value, mine)


class StateComparer:
    """Compares states recorded as text, see `slabactors.workload.states`.

    Args:
        pairs: gives every field of a state with ours.
    """

    def __init__(self, pairs: Callable[[Labels, Entry, KmemCache, list[str]], Iterator[Pair]]) -> None:
        self._pairs = pairs
        self._labels = Labels()

    def differences(self, player: Player, entry: Entry, document: Document) -> Iterator[Difference]:
        """See `Comparer`."""
        self._labels.forget_gone()
        cache = next(iter(player.caches.values())).cache
        lines = entry.seen["state"]
        if not lines:
            raise WorkloadError(entry.line, "expected the state of a cache, found no line of it.", AGAIN)
        for name, recorded, ours in self._pairs(self._labels, entry, cache, lines):
            if recorded != ours:
                yield Difference(name, recorded, ours)
