"""Reads the ftrace text that a real kernel recorded.

Three printers are understood, for kernels 3.8 to 6.x: the kernel's own ``trace`` file, ``perf script`` and ``trace-cmd
report``.  A line that cannot be read is counted and located, never raised: traces are long, and cut.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from io import BufferedReader
from pathlib import Path

from slabactors.errors import TraceFileError
from slabactors.trace.formats.ftrace_events import EVENTS_KNOWN, PAYLOADS, Payload, SkipReason

__all__ = [
    "EVENTS_KNOWN",
    "SkipReason",
    "SkippedLine",
    "Trace",
    "TraceEvent",
    "TraceFormat",
    "parse_trace",
    "read_trace",
]

EXAMPLES_MAX = 8
"""Lines kept of each reason for skipping; the counts are exact."""

UNKNOWN_NAMES_MAX = 200
"""Names of unknown events counted one by one; further ones are counted as ``(others)``."""

CPUS_MAX = 8192
"""The largest NR_CPUS of the kernel; a CPU from there on is a damaged line."""

_LINE_CHARS_MAX = 8192  # a trace_seq holds one or two pages, so no event line is longer
_LINE_BYTES_MAX = 1 << 16


class TraceFormat(StrEnum):
    """Which program printed the text."""

    FTRACE = "ftrace"
    PERF_SCRIPT = "perf script"
    TRACE_CMD = "trace-cmd"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class TraceEvent:
    """One event that the kernel recorded.

    Attributes:
        line: position in the file, from 1.
        task: name that the pid had when the text was printed, not when the event happened; ``<idle>`` for pid 0.
        pid: thread id (the kernel's ``task->pid``).
        cpu: where it happened.
        microseconds: of the trace clock; for a clock that counts (no point in the time column), its count.
        name: the event, without its system.
        fields: the payload's keys in its order, values as printed; pointers lose ``0x`` and are 8 or 16 digits long.
            ``work struct`` is the key ``work``; the text of a marker is the key ``text``.
        flags: the four or five latency characters, "" when the printer leaves them out; no part of equality.
    """

    line: int
    task: str
    pid: int
    cpu: int
    microseconds: int
    name: str
    fields: dict[str, str]
    flags: str = field(default="", compare=False)

    @property
    def in_interrupt(self) -> bool:
        """Whether the flags say hard interrupt, soft interrupt or NMI; false when there are none."""
        return self.flags[2:3] in {"h", "H", "s", "z", "Z"}


@dataclass(frozen=True, slots=True)
class SkippedLine:
    """A line that gave no event; ``text`` is its first 80 characters."""

    line: int
    reason: SkipReason
    text: str


@dataclass(slots=True)
class Trace:
    """What a trace holds.

    Attributes:
        events: in the order of the file.
        skipped: the first `EXAMPLES_MAX` lines of each reason, in the order of the file.
        skipped_counts: all of them; reasons that never occurred are absent.
        unknown_events: lines by name of the event that this reader knows nothing of.
        format: a guess.
        lines: how many there were, comments too.
        lost: events that the printer reports as lost, where it says how many.
        overwritten: events that the kernel's header says were overwritten before they were read.
    """

    events: list[TraceEvent] = field(default_factory=list)
    skipped: list[SkippedLine] = field(default_factory=list)
    skipped_counts: dict[SkipReason, int] = field(default_factory=dict)
    unknown_events: dict[str, int] = field(default_factory=dict)
    format: TraceFormat = TraceFormat.UNKNOWN
    lines: int = 0
    lost: int = 0
    overwritten: int = 0


def read_trace(path: str | os.PathLike[str]) -> Trace:
    """Read a file line by line.

    Raises:
        TraceFileError: it is missing, a directory, unreadable or not text; bytes that are not UTF-8 in a text are not
            an error, and become U+FFFD.
    """
    try:
        with Path(path).open("rb") as file:
            _refuse_binary(path, file.peek())
            return parse_trace(_lines(file))
    except IsADirectoryError as error:
        raise _unreadable(path, "a directory", "Name the file in it that holds the trace.") from error
    except (OSError, ValueError) as error:
        found = getattr(error, "strerror", None) or error
        raise _unreadable(path, f"an error ({found})", "Check the path and its permissions.") from error


def parse_trace(lines: Iterable[str]) -> Trace:
    """Read lines, with or without their newlines; never raises on what they hold."""
    parser = _Parser()
    for number, line in enumerate(lines, 1):
        parser.read(number, line)
    return parser.finish()


_MAGIC = (
    (b"\x17\x08\x44tracing", "trace-cmd's binary trace.dat", "trace-cmd report -i {path} > trace.txt"),
    (b"PERFILE2", "perf's binary perf.data", "perf script -i {path} > trace.txt"),
    (b"\x1f\x8b", "gzip", "gunzip -c {path} > trace.txt"),
    (b"\xfd7zXZ", "xz", "xz -dc {path} > trace.txt"),
    (b"\x28\xb5\x2f\xfd", "zstd", "zstd -dc {path} > trace.txt"),
    (b"\xff\xfe", "UTF-16 text", "iconv -f utf-16 -t utf-8 {path} > trace.txt"),
)


def _refuse_binary(path: str | os.PathLike[str], head: bytes) -> None:
    for magic, found, command in _MAGIC:
        if head.startswith(magic):
            raise _unreadable(path, found, f"Type: {command.format(path=os.fspath(path))}")
    again = "Record it again with: cat /sys/kernel/tracing/trace > trace.txt"
    if zeros := head.count(0):
        raise _unreadable(path, f"binary data ({zeros} NUL bytes in the first {len(head)})", again)
    text = head.decode("utf-8", "replace")
    strange = sum(char == "\ufffd" or (char < " " and char not in "\t\n\r") for char in text)
    if strange * 3 > len(head):
        raise _unreadable(path, f"binary data ({strange} unprintable bytes in the first {len(head)})", again)


def _unreadable(path: str | os.PathLike[str], found: str, advice: str) -> TraceFileError:
    expected = "ftrace text (lines like 'sh-112 [003] ..... 5.805918: kfree: call_site=... ptr=...')"
    return TraceFileError(f"{os.fspath(path)!s}: expected {expected}, found {found}.\n  {advice}")


def _lines(file: BufferedReader) -> Iterator[str]:
    while raw := file.readline(_LINE_BYTES_MAX):
        tail = raw
        while len(tail) == _LINE_BYTES_MAX and not tail.endswith(b"\n"):  # far too long a line: its rest is of no use
            tail = file.readline(_LINE_BYTES_MAX)
        yield raw.decode("utf-8", "replace")


# Names of tasks are at most 15 bytes and may hold anything; the first place that reads as pid, CPU, time and event
# wins, since a marker's text may quote a whole line.
_HEAD = re.compile(
    r"(?P<task>.{0,48}?)(?P<join>-|\s{1,16}|^)(?P<pid>-?\d{1,10})(?:/-?\d{1,10})?\s{1,16}"
    r"(?:\([-\s\d]{1,12}\)\s{1,4})?"  # the tgid, with the option record-tgid
    r"\[(?P<cpu>\d{1,5})\]\s{1,16}"
    r"(?:(?P<flags>[^\s:]{4,6})\s{1,16})?"
    r"(?P<whole>\d{1,20})(?:\.(?P<fraction>\d{1,9}))?:\s{1,24}"
    r"(?:\d{1,20}\s{1,24})?"  # perf's period
    r"(?:(?P<system>[\w-]{1,64}):)?(?P<event>[\w.-]{1,64}):(?:(?P<pad>\s{1,64})(?P<payload>.*))?$",
    re.ASCII,
)
_HEAD_CUT = re.compile(
    r".{0,48}?[-\s]\d{1,10}\s{1,16}(?:\[\d{0,5}|\[\d{1,5}\]\s*(?:[^\s:]{1,6}\s*)?[\d.]{0,24}:?\s*[\w:]*)$"
)
_LOST = re.compile(r"CPU:\d+ \[(?:LOST )?(?:(\d{1,18}) )?EVENTS(?: DROPPED)?\]|.*PERF_RECORD_LOST\w* lost (\d{1,18})")
_STACK = re.compile(r"=> |[0-9a-f]{8,16} \S|.{0,120}: <stack trace>|.{0,120}: kernel_stack:")
_PREAMBLE = re.compile(r"(?:version = \d+|cpus=\d+|CPU \d+ is empty)$")
_WRITTEN = re.compile(r"#\s*entries-in-buffer/entries-written:\s*(\d{1,18})/(\d{1,18})")
_TWO_LINES = re.compile(r"-\d{1,10}\s+\[\d{3,5}\]\s")


class _Parser:
    """Holds what one pass over the lines must remember."""

    def __init__(self) -> None:
        self.trace = Trace()
        self.keys_seen: dict[str, set[str]] = {}
        self.newlines = False

    def read(self, number: int, line: str) -> None:
        self.trace.lines = number
        ends = line.endswith("\n")
        text = line.strip().lstrip("\ufeff")
        if not text or text.startswith("#") or _PREAMBLE.match(text):
            self._header(text)
        elif ("LOST" in text or "DROPPED" in text) and (lost := _LOST.match(text)):
            self.trace.lost += int(lost[1] or lost[2] or 0)
            self._skip(number, SkipReason.LOST_EVENTS, text)
        elif self.newlines and not ends:  # the kernel ends every line; the last value of this one may be a part
            self._skip(number, SkipReason.TRUNCATED, text)
        elif (head := _HEAD.match(text) if len(text) <= _LINE_CHARS_MAX else None) is not None:
            self._event(number, head)
        elif _STACK.match(text):
            self._skip(number, SkipReason.STACK_TRACE, text)
        else:
            self._skip(number, SkipReason.TRUNCATED if _HEAD_CUT.match(text) else SkipReason.NOT_AN_EVENT, text)
        self.newlines = self.newlines or ends

    def finish(self) -> Trace:
        if self.trace.format is TraceFormat.UNKNOWN and self.trace.events:
            self.trace.format = TraceFormat.FTRACE
        return self.trace

    def _header(self, text: str) -> None:
        if written := _WRITTEN.match(text):
            self.trace.overwritten = max(0, int(written[2]) - int(written[1]))
        if text.startswith("# tracer:"):
            self.trace.format = TraceFormat.FTRACE
        elif text.startswith("cpus="):
            self.trace.format = TraceFormat.TRACE_CMD

    def _event(self, number: int, head: re.Match[str]) -> None:
        name, payload = head["event"], head["payload"] or ""
        if name == "print" and payload.startswith("tracing_mark_write: "):  # trace-cmd and perf name the event's format
            name, payload = "tracing_mark_write", payload.removeprefix("tracing_mark_write: ")
        if name not in PAYLOADS:
            unknown = self.trace.unknown_events
            key = name if name in unknown or len(unknown) < UNKNOWN_NAMES_MAX else "(others)"
            unknown[key] = unknown.get(key, 0) + 1
            self._skip(number, SkipReason.UNKNOWN_EVENT, head.string)
            return
        grammar = PAYLOADS[name]
        fields = grammar.parse(payload)
        if (reason := self._reject(name, grammar, payload, fields, int(head["cpu"]))) is not None or fields is None:
            self._skip(number, reason or SkipReason.MALFORMED, head.string)
            return
        self._guess_format(head)
        pid, task = int(head["pid"]), head["task"].strip()
        microseconds = int(head["whole"])
        if head["fraction"] is not None:
            microseconds = microseconds * 1_000_000 + int(head["fraction"].ljust(6, "0")[:6])
        self.trace.events.append(
            TraceEvent(
                line=number,
                task="<idle>" if pid == 0 and task.startswith("swapper") else task,
                pid=pid,
                cpu=int(head["cpu"]),
                microseconds=microseconds,
                name=name,
                fields=fields,
                flags=head["flags"] or "",
            )
        )

    def _reject(
        self, name: str, grammar: Payload, payload: str, fields: dict[str, str] | None, cpu: int
    ) -> SkipReason | None:
        if fields is None:
            return grammar.blame(payload)
        if cpu >= CPUS_MAX or (name != "tracing_mark_write" and _TWO_LINES.search(payload)):
            return SkipReason.MALFORMED
        if any(fields[key].startswith("(") and fields[key] not in {"(null)", "(nil)"} for key in grammar.pointers):
            return SkipReason.HIDDEN_POINTER
        # A kernel prints the same keys every time: one that this event had before is missing because the line was cut.
        seen = self.keys_seen.setdefault(name, set())
        whole = {key for key, value in fields.items() if value or key == "flags"}  # a timer may have no flags
        if any(key in seen and key not in whole for key in grammar.optional):
            return SkipReason.TRUNCATED
        seen |= whole
        return None

    def _guess_format(self, head: re.Match[str]) -> None:
        if self.trace.format is not TraceFormat.UNKNOWN:
            return
        if head["system"] or head["join"] != "-":
            self.trace.format = TraceFormat.PERF_SCRIPT
        elif len(head["pad"] or "") > 1 and head["event"] != "tracing_mark_write":
            self.trace.format = TraceFormat.TRACE_CMD

    def _skip(self, number: int, reason: SkipReason, text: str) -> None:
        count = self.trace.skipped_counts.get(reason, 0)
        self.trace.skipped_counts[reason] = count + 1
        if count < EXAMPLES_MAX:
            self.trace.skipped.append(SkippedLine(number, reason, text[:80]))
