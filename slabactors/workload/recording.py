"""Recordings of real kernels: which file it is, its sequences, and what was done and seen at each position."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from slabactors.errors import WorkloadError
from slabactors.mm.allocator import CacheSpec
from slabactors.workload.language import FLAGS, Alloc, Create, Free, Op, Read, Shrink, Sleep, parse

AGAIN = "Record it again, or give a whole file: slabactors workload --check RECORDING.jsonl --model NAME"


class Format(StrEnum):
    """What a line of a recording looks like."""

    LOG = "log"
    """One operation of the line language, with state and counters (``op``, ``d``, ``ctr``)."""
    STATES = "states"
    """Some commands and the state they left, as text (``cmds``, ``state``)."""
    GEOMETRY = "geometry"
    """One new cache: what it was asked for and what became of it (``size``, ``slab_size`` ...)."""


@dataclass(slots=True)
class Entry:
    """One recorded position.

    Attributes:
        line: of the file, from 1.
        position: in its sequence, as recorded.
        text: what was done.
        ops: the same as operations.
        seen: the whole recorded line.
    """

    line: int
    position: int
    text: str
    ops: list[Op]
    seen: dict[str, Any]


@dataclass(slots=True)
class Sequence:
    """What was done on one new machine, as far as caches are concerned.

    Attributes:
        name: the recording's ``w``.
        entries: in order.
        cpus: CPUs of the machine, where the recording says so for this sequence alone.
    """

    name: str
    entries: list[Entry] = field(default_factory=list)
    cpus: int | None = None


@dataclass(slots=True)
class Recording:
    """A whole file."""

    format: Format
    sequences: list[Sequence]


def read_recording(lines: Iterable[bytes]) -> Recording:
    """Read a recording in any of the formats.

    Raises:
        WorkloadError: it is empty, foreign, truncated or damaged; says in which line.
    """
    sequences: list[Sequence] = []
    format_: Format | None = None
    number = 0
    for number, raw in enumerate(lines, 1):
        if not raw.strip():
            continue
        seen = _document(number, raw)
        found = _format(number, seen)
        if format_ is None:
            format_ = found
        elif found is not format_:
            raise WorkloadError(
                number, f"expected another line of the format {format_.value}, found {found.value}.", AGAIN
            )
        if found is Format.GEOMETRY:
            sequences.append(_geometry(number, seen))
            continue
        name, position = _text(number, seen, "w"), _number(number, seen, "i")
        if position == 0:
            sequences.append(Sequence(name))
        elif not sequences or sequences[-1].name != name or sequences[-1].entries[-1].position != position - 1:
            raise WorkloadError(
                number,
                f"expected position 0 of a sequence or the next one, found {name} {position}: lines are missing.",
                AGAIN,
            )
        sequences[-1].entries.append((_log if found is Format.LOG else _states)(number, position, seen))
    if format_ is None:
        what = "the recording is empty" if not number else f"the recording has {number} lines, and all are blank"
        raise WorkloadError(0, f"{what}; expected one JSON object a line.", AGAIN)
    return Recording(format_, sequences)


def _document(number: int, raw: bytes) -> dict[str, Any]:
    try:
        seen = json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise WorkloadError(number, f"expected JSON, found the byte 0x{raw[error.start]:02x}.", AGAIN) from None
    except (ValueError, RecursionError) as error:
        what = (
            f"{error.msg.removesuffix(' at')} at column {error.colno}"
            if isinstance(error, json.JSONDecodeError)
            else "too deep or too long"
        )
        whole = "" if raw.endswith(b"\n") else " and no end: it was cut off"
        raise WorkloadError(number, f"expected JSON, found {what}{whole}.", AGAIN) from None
    if not isinstance(seen, dict):
        raise WorkloadError(number, f"expected a JSON object, found {type(seen).__name__}.", AGAIN)
    return seen


def _format(number: int, seen: dict[str, Any]) -> Format:
    if "op" in seen:
        return Format.LOG
    if "cmds" in seen and "state" in seen:
        return Format.STATES
    if "size" in seen and "slab_size" in seen:
        return Format.GEOMETRY
    keys = ", ".join(sorted(map(ascii, seen))[:8]) or "nothing"
    raise WorkloadError(number, f"expected op, or cmds and state, or size and slab_size; found {keys}.", AGAIN)


def _text(number: int, seen: dict[str, Any], key: str) -> str:
    value = seen.get(key)
    if not isinstance(value, str):
        raise WorkloadError(number, f"expected a text {key!r}, found {ascii(value)[:60]}.", AGAIN)
    return value


def _number(number: int, seen: dict[str, Any], key: str) -> int:
    value = seen.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise WorkloadError(number, f"expected a number {key!r}, found {ascii(value)[:60]}.", AGAIN)
    return value


def _texts(number: int, seen: dict[str, Any], key: str) -> list[str]:
    value = seen[key]
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise WorkloadError(number, f"expected a list of texts {key!r}, found {ascii(value)[:60]}.", AGAIN)
    return value


# -- logs of the line language -----------------------------------------------------------------------------------------


def _log(number: int, position: int, seen: dict[str, Any]) -> Entry:
    text = _text(number, seen, "op")
    op = parse(number, text)
    if op is None:
        raise WorkloadError(number, "expected an operation in op, found nothing.", AGAIN)
    for key in ("d", "ctr"):
        if not isinstance(seen.get(key), dict | None) and not isinstance(op, Read):
            raise WorkloadError(number, f"expected an object {key!r}, found {ascii(seen[key])[:60]}.", AGAIN)
    if "d" not in seen and not isinstance(op, Sleep | Read):
        raise WorkloadError(number, "expected what the operation did in d, found nothing.", AGAIN)
    return Entry(number, position, text, [op], seen)


# -- caches ------------------------------------------------------------------------------------------------------------


def _geometry(number: int, seen: dict[str, Any]) -> Sequence:
    flags = seen.get("flags", "")
    options = {}
    for flag in re.split(r"[\s|,]+", flags) if isinstance(flags, str) else [None]:
        if flag and flag not in FLAGS:
            raise WorkloadError(number, f"expected flags ({', '.join(FLAGS)}), found {ascii(flags)[:60]}.", AGAIN)
        if flag:
            options[FLAGS[flag]] = True
    size, align = _number(number, seen, "size"), _number(number, seen, "align")
    text = " ".join(["create c", str(size), str(align), *str(flags).split()])
    spec = CacheSpec(size, align=align, **options)
    cpus = _number(number, seen, "smp") if "smp" in seen else None
    name = f"{text[9:]}, {cpus} CPUs" if cpus else text[9:]
    return Sequence(name, [Entry(number, 0, text, [Create(number, text, "c", spec)], seen)], cpus)


# -- commands and states -----------------------------------------------------------------------------------------------

_CREATE = re.compile(r"create (\d+) (\d{1,9}) align=(\d{1,9}) flags=(\d{1,9})\Z", re.ASCII)
_ALLOC = re.compile(r"cpu (\d{1,4}) alloc (\d+) (\d{1,7})\Z", re.ASCII)
_FREE = re.compile(r"cpu (\d{1,4}) free (\d+) (\d{1,9})(?:-(\d{1,9}))?\Z", re.ASCII)
_SHRINK = re.compile(r"shrink (\d+)\Z", re.ASCII)
FLAG_CTOR, FLAG_HWALIGN = 1, 8192


def _states(number: int, position: int, seen: dict[str, Any]) -> Entry:
    commands = _texts(number, seen, "cmds")
    _texts(number, seen, "state")
    ops: list[Op] = []
    for command in commands:
        op = _command(number, command)
        last = ops[-1] if ops else None
        if isinstance(op, Free) and isinstance(last, Free) and last.cpu == op.cpu and last.name == op.name:
            assert last.items is not None
            assert op.items is not None
            ops[-1] = Free(number, command, op.cpu, op.name, "t", last.items + op.items)
        else:
            ops.append(op)
    text = commands[0] if len(commands) == 1 else f"{len(commands)} commands" if commands else "nothing"
    return Entry(number, position, text, ops, seen)


def _command(number: int, command: str) -> Op:
    for pattern, make in _COMMANDS:
        found = pattern.match(command)
        if found is not None:
            return make(number, command, found)
    raise WorkloadError(
        number, f"expected create, cpu N alloc, cpu N free or shrink; found {ascii(command)[:60]}.", AGAIN
    )


def _made(number: int, command: str, found: re.Match[str]) -> Op:
    flags = int(found[4])
    if flags & ~(FLAG_CTOR | FLAG_HWALIGN):
        raise WorkloadError(number, f"expected flags of 1 and 8192, found {flags}.", AGAIN)
    spec = CacheSpec(
        int(found[2]), align=int(found[3]), ctor=bool(flags & FLAG_CTOR), hwcache_align=bool(flags & FLAG_HWALIGN)
    )
    return Create(number, command, found[1], spec)


def _freed(number: int, command: str, found: re.Match[str]) -> Op:
    first = int(found[3])
    last = int(found[4]) if found[4] is not None else first
    return Free(number, command, int(found[1]), found[2], "t", (range(first, last + 1),))


_COMMANDS: tuple[tuple[re.Pattern[str], Callable[[int, str, re.Match[str]], Op]], ...] = (
    (_CREATE, _made),
    (_ALLOC, lambda number, command, found: Alloc(number, command, int(found[1]), found[2], int(found[3]), "t")),
    (_FREE, _freed),
    (_SHRINK, lambda number, command, found: Shrink(number, command, found[1])),
)
