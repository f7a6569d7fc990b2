"""Reads logs of runs back, a line at a time, from either end; a log of any length in little memory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec

from slabactors.errors import LogFileError
from slabactors.trace.log import SCHEMA

__all__ = ["EndLine", "LogReader", "RunLine", "StepLine"]

BLOCK: Final = 1 << 16
"""Bytes that are read at a time when a file is read backwards."""
SCAN: Final = 1 << 20
"""Bytes that are read at a time when a whole file is looked through."""
LINE_MAX: Final = 1 << 24
"""Bytes of the longest line that is read: whatever has a longer one is something else, and need not fit in memory."""
NO_EVENT: Final = (ValueError, RecursionError)
"""What a decoder raises: the library's own error, bytes that are not UTF-8, and JSON too deep for it, in this order."""


_LAST = re.compile(r"(?:[^/(]|\([^)]*\)|\()*$")
"""What a path's key has after its last slash; a memcg's name, in parentheses, may have some, too."""


def name_of(path: str) -> str:
    """What a path does, from its key."""
    match = _LAST.search(path)
    return (match[0] if match else path).rpartition(".")[0]


class RunLine(msgspec.Struct, tag_field="event", tag="run", frozen=True):
    """The first line of a log: what was run.  Fields of the schema that only some commands write may be None."""

    schema: int
    version: str | None = None
    scenario: str | None = None
    trace: str | None = None
    lifecycle: str | None = None
    parameters: dict[str, Any] = {}
    seed: int | None = None
    runtime: str | None = None
    replay: str | None = None


class StepLine(msgspec.Struct, tag_field="event", tag="step", frozen=True, gc=False):
    """A step; the fields are those of the schema."""

    step: int
    act: int
    jiffies: int
    seconds: float
    path: str
    lane: str
    actor: str
    operation: str
    does: str
    args: list[Any]
    reply: Any
    causes: list[int]
    changed: dict[str, Any]

    @property
    def who(self) -> str:
        """Where it ran and what it did there: the column of tables."""
        name = name_of(self.path)
        spawned = self.path.rpartition(".")[0] != name
        if spawned and self.lane and not self.lane.endswith(name):
            return f"{self.lane} {name}"
        return self.lane or name


class EndLine(msgspec.Struct, tag_field="event", tag="end", frozen=True):
    """The last line: how the run ended."""

    ending: str
    deliveries: int
    jiffies: int
    seconds: float
    kind: str | None = None
    message: str | None = None
    signature: str | None = None
    broke: dict[str, Any] | None = None
    caches: list[dict[str, Any]] = []


Line = RunLine | StepLine | EndLine


class LogReader:
    """One log file.

    Args:
        path: the file.

    Attributes:
        run: its first line.
        end: its last one; None when the run was cut off before it was written, and until `steps` or `ending` was read.
        cut: the last line is no whole one: whoever wrote it was stopped.

    Raises:
        LogFileError: it cannot be read, or is no log, or one of another schema.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.end: EndLine | None = None
        self.cut = False
        self._decode = msgspec.json.Decoder(Line).decode
        try:
            self._file: BinaryIO = path.open("rb")
        except OSError as error:
            raise LogFileError(
                f"cannot read the log {path}: {error.strerror}.\n  Write one: slabactors run TARGET --log FILE.jsonl"
            ) from error
        try:
            first = self._read(self._file.readline, LINE_MAX)
            self.run = self._header(first)
        except BaseException:
            self._file.close()
            raise
        self._begin = len(first)

    def __enter__(self) -> LogReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _read(self, read: Any, *arguments: Any) -> bytes:
        try:
            data: bytes = read(*arguments)
        except OSError as error:
            raise LogFileError(
                f"cannot read the log {self.path}: {error.strerror}.\n  Give a file that slabactors run --log wrote."
            ) from error
        return data

    def _header(self, first: bytes) -> RunLine:
        if not first:
            raise LogFileError(f"{self.path} is empty.\n  Write a log: slabactors run TARGET --log FILE.jsonl")
        try:
            facts = msgspec.json.decode(first)
        except NO_EVENT:
            facts = None
        if not isinstance(facts, dict) or facts.get("event") != "run" or "schema" not in facts:
            raise LogFileError(
                f"{self.path} is not a log of a run: its first line is not the event 'run'.\n"
                "  Give a file that slabactors run --log wrote."
            )
        if facts["schema"] != SCHEMA:
            raise LogFileError(
                f"{self.path} has schema {facts['schema']!r}, of slabactors {facts.get('version', 'unknown')}; "
                f"this version reads schema {SCHEMA}.\n  Write it again: slabactors run TARGET --log FILE.jsonl"
            )
        try:
            return msgspec.json.decode(first, type=RunLine)
        except NO_EVENT as error:
            raise self._broken(1, first, error) from error

    def _broken(self, number: int, line: bytes, error: Exception) -> LogFileError:
        shown = line[:60].decode(errors="backslashreplace").rstrip()
        return LogFileError(
            f"{self.path}, line {number}, is not an event of a run: {shown!r} ({error}).\n"
            "  Somebody has changed the file; write it again: slabactors run TARGET --log FILE.jsonl"
        )

    def steps(self) -> Iterator[StepLine]:
        """Every step, from the first on.

        Raises:
            LogFileError: a line is no event, or there is more than one run.
        """
        self.end = None
        decode = self._decode
        with self.path.open("rb") as file:  # its own, so that other lines can be looked up meanwhile
            self._read(file.readline, LINE_MAX)
            number = 1
            while line := self._read(file.readline, LINE_MAX):
                number += 1
                try:
                    event = decode(line)
                except NO_EVENT as error:
                    if not line.endswith(b"\n") and len(line) < LINE_MAX:
                        self.cut = True
                        return
                    raise self._broken(number, line, error) from error
                if self.end is not None or isinstance(event, RunLine):
                    raise self._another(number)
                if isinstance(event, EndLine):
                    self.end = event
                else:
                    yield event

    def check_alone(self) -> None:
        """Look for a second run, for those that do not read every line as an event: much faster than `steps`.

        Raises:
            LogFileError: there is more than one run.
        """
        begins = b'\n{"event":"run",'
        overlap = len(begins) - 1
        start = 0
        with self.path.open("rb") as file:
            while len(block := self._read(file.read, SCAN)) > overlap:
                place = block.find(begins)
                if place >= 0:
                    raise self._another(self._newlines(start + place + 1) + 1)
                start += len(block) - overlap
                file.seek(start)

    def _newlines(self, end: int) -> int:
        """How many there are before a position."""
        self._file.seek(0)
        blocks = (self._read(self._file.read, min(SCAN, end - begin)) for begin in range(0, end, SCAN))
        return sum(block.count(b"\n") for block in blocks)

    def _another(self, number: int) -> LogFileError:
        return LogFileError(
            f"{self.path}, line {number}, is of another run, and a log has one.\n"
            f"  Cut it in two: split -l {number - 1} {self.path}"
        )

    # -- from a place in the middle ------------------------------------------------------------------------------------

    def ending(self) -> EndLine | None:
        """The last line, without what is before it; None when the run was cut off."""
        for line in self._backwards(self._size()):
            try:
                event = self._decode(line)
            except NO_EVENT:
                return None
            return event if isinstance(event, EndLine) else None
        return None

    def step(self, number: int) -> StepLine:
        """One step, found without reading those before it.

        Raises:
            LogFileError: there is no such step.
        """
        for event in self.before(number + 1):
            if event.step == number:
                return event
            break
        raise LogFileError(
            f"{self.path} has no step {number}.\n  See which there are: slabactors log stats {self.path}"
        )

    def before(self, number: int) -> Iterator[StepLine]:
        """The steps with lower numbers, from the last of them back to the first."""
        low, high = self._begin, self._size()
        # Steps are numbered in the order of lines: look for the first line that is not before.
        while low < high:
            middle = (low + high) // 2
            start = self._line_start(middle, low)
            event = self._at(start)
            if isinstance(event, StepLine) and event.step < number:
                low = start + self._length
            else:
                high = start
        for line in self._backwards(low):
            try:
                event = self._decode(line)
            except NO_EVENT as error:
                raise self._broken(self._number_of(line), line, error) from error
            if isinstance(event, StepLine):
                yield event

    def _number_of(self, line: bytes) -> int:
        self._file.seek(0)
        return next((number for number, other in enumerate(self._file, 1) if other.rstrip(b"\n") == line), 0)

    def _size(self) -> int:
        return self._file.seek(0, 2)

    def _line_start(self, position: int, low: int) -> int:
        """Where the line begins that a byte is in."""
        while position > low:
            begin = max(low, position - BLOCK)
            self._file.seek(begin)
            newline = self._read(self._file.read, position - begin).rfind(b"\n")
            if newline >= 0:
                return begin + newline + 1
            position = begin
        return low

    def _at(self, start: int) -> Any:
        """The event of the line that begins there, None when it is no whole one; `_length` is its length."""
        self._file.seek(start)
        line = self._read(self._file.readline, LINE_MAX)
        self._length = len(line)
        try:
            return self._decode(line)
        except NO_EVENT:
            return None

    def _backwards(self, end: int) -> Iterator[bytes]:
        """The lines that end before a position, from the last one back to the second of the file."""
        rest = b""
        while end > self._begin:
            begin = max(self._begin, end - BLOCK)
            self._file.seek(begin)
            block = self._read(self._file.read, end - begin) + rest
            lines = block.split(b"\n")
            rest = lines.pop(0)
            end = begin
            if len(rest) > LINE_MAX:
                raise LogFileError(
                    f"{self.path} has a line of more than {LINE_MAX} bytes, and no event of a run is so long.\n"
                    "  Write it again: slabactors run TARGET --log FILE.jsonl"
                )
            for line in reversed(lines):
                if line:
                    yield line
        if rest:
            yield rest
