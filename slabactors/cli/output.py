"""What commands print: text on stdout, or one JSON document; progress on stderr."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from slabactors.errors import OutputError

if TYPE_CHECKING:
    from rich.live import Live
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

REFRESH_SECONDS: Final = 0.25
LINE_SECONDS: Final = 10.0


def say(text: str = "") -> None:
    """Print a line of the command's result.

    Raises:
        OutputError: it cannot be written, other than because nobody reads it any more.
    """
    with _to_stdout():
        print(text)  # noqa: T201


def pass_on(text: str) -> None:
    """Write a piece of the command's result as it is.

    Raises:
        OutputError: as for `say`.
    """
    with _to_stdout():
        sys.stdout.write(text)


def say_json(document: Any) -> None:
    """Print the command's result as one JSON document.

    Raises:
        OutputError: as for `say`.
    """
    import msgspec  # which --help does without

    # The library's encoder leaves letters as they are, and stdout may not be able to print them.
    say(json.dumps(msgspec.to_builtins(document), indent=2))


def flush() -> None:
    """Write out what was said.

    Raises:
        OutputError: as for `say`.
    """
    with _to_stdout():
        sys.stdout.flush()


@contextmanager
def _to_stdout() -> Iterator[None]:
    """Once stdout cannot be written to, it is /dev/null: what Python flushes when it exits would fail again."""
    try:
        yield
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        # A reader that has read enough (head, less) is no mistake; the exit code still says what was found.
        if not isinstance(error, BrokenPipeError):
            raise OutputError(
                f"cannot write the result to standard output: {error.strerror}.\n"
                "  Write it elsewhere: slabactors ... > FILE"
            ) from error


def note(text: str) -> None:
    """Say something that is not part of the result, to whoever may listen."""
    with suppress(OSError):
        print(text, file=sys.stderr)  # noqa: T201


def replace_whole(path: Path, text: str | bytes | Iterable[str]) -> None:
    """Write a file, whole or not at all.  What is no ordinary file (a pipe, a terminal) is written to as it is.

    Args:
        path: the file.
        text: what is to be in it, or its pieces.

    Raises:
        OSError: the place cannot be written to.
    """
    ordinary = path.is_file() or not path.exists()
    whole = path.resolve()
    part = whole.with_name(f".{whole.name}.{os.getpid()}.part") if ordinary else path
    try:
        if isinstance(text, bytes):
            part.write_bytes(text)
        else:
            with part.open("w", encoding="utf-8", newline="") as file:
                file.writelines([text] if isinstance(text, str) else text)
        if ordinary:
            part.replace(whole)
    finally:
        if ordinary:
            part.unlink(missing_ok=True)


def write_whole(path: Path, text: str | bytes | Iterable[str], option: str) -> None:
    """As `replace_whole`, with what to type next when it cannot be done.

    Args:
        path: the file.
        text: what is to be in it, or its pieces.
        option: of the command line, with which another file can be named.

    Raises:
        OutputError: the place cannot be written to.
    """
    try:
        replace_whole(path, text)
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror}.\n  Give a file that can be written to: {option} FILE"
        ) from error


class Progress:
    """A progress bar on stderr for anything longer than a second; nothing when stderr is no terminal.

    Args:
        what: what is going on.
        total: how many units there are.
    """

    def __init__(self, what: str, total: int) -> None:
        self._what = what
        self._total = total
        self._started = time.monotonic()
        self._bar: Bar | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Progress:
        return self

    def update(self, done: int, found: int) -> None:
        """So many units are done, and so many distinct bugs found."""
        if self._bar is None:
            if time.monotonic() - self._started < 1 or not sys.stderr.isatty():
                return
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as RichProgress

            self._bar = RichProgress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[found]} distinct bugs"),
                console=Console(stderr=True),
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task(self._what, total=self._total, found=found)
        assert self._task is not None
        self._bar.update(self._task, completed=done, found=found)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


class Ticker:
    """What goes on for long, in a few lines on stderr that change; one line now and then when that is no terminal.

    Args:
        seconds: between two of those lines.
    """

    def __init__(self, seconds: float = LINE_SECONDS) -> None:
        self._seconds = seconds
        self._next = time.monotonic() + seconds
        self._live: Live | None = None

    def __enter__(self) -> Ticker:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            self._seconds = REFRESH_SECONDS
            self._next = 0.0
            self._live = Live(console=Console(stderr=True), auto_refresh=False, transient=True)
            self._live.start()
        return self

    def update(self, lines: Callable[[], list[str]]) -> None:
        """It has gone on; it is asked how far when it is time to say so."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + self._seconds
        if self._live is not None:
            from rich.text import Text

            self._live.update(Text("\n".join(lines())), refresh=True)
        else:
            head, *rest = lines()
            note("slabactors: " + head + (":" if rest else "") + ";".join(" " + " ".join(one.split()) for one in rest))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
