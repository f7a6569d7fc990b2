"""One run is one JSON-lines file, written through structlog.

Schema version 1.  Every line has ``event``: one ``run`` (what was run), a ``step`` for each delivery, one ``end`` (how
it ended).  Times are virtual: jiffies, and seconds of ``HZ`` jiffies.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec

from slabactors.errors import OutputError
from slabactors.runtime.step import Step
from slabactors.trace.render import plain

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

SCHEMA = 1
JIFFIES_PER_SECOND = 1000


def _serialise(event: dict[str, Any], **_: Any) -> bytes:
    return msgspec.json.encode(event)


class RunLog:
    """Writes the log of one run; an observer of it.  Use it as a context manager.

    The file appears when the run is over; when it could not be run, there is none and what was there before stays.

    Args:
        path: the file; it is replaced.  What is no ordinary file (a pipe, a terminal) is written to at once.

    Raises:
        OutputError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        import structlog

        self.path = path
        self._part: Path | None = None
        """What is written until the run is over, beside the file."""
        try:
            if path.is_file() or not path.exists():
                whole = path.resolve()
                self._part = whole.with_name(f".{whole.name}.{os.getpid()}.part")
            self._file: BinaryIO = (self._part or path).open("wb")
        except OSError as error:
            raise self._unwritable(error) from error
        # A logger of our own: the application's structlog configuration is neither used nor changed.
        self._log: FilteringBoundLogger = structlog.wrap_logger(
            structlog.BytesLogger(self._file),
            processors=[structlog.processors.JSONRenderer(serializer=_serialise)],
            wrapper_class=structlog.make_filtering_bound_logger(0),
            context_class=dict,
        )

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._file.close()
            if self._part is not None and error is None:
                self._part.replace(self.path.resolve())
        except OSError as failure:
            raise self._unwritable(failure) from failure
        finally:
            if self._part is not None:
                self._part.unlink(missing_ok=True)

    def _unwritable(self, error: OSError) -> OutputError:
        return OutputError(
            f"cannot write the log {self.path}: {error.strerror}.\n  Give another file: --log FILE.jsonl"
        )

    def _write(self, event: str, **fields: Any) -> None:
        try:
            self._log.info(event, **fields)
        except OSError as error:
            raise self._unwritable(error) from error

    def run(self, **facts: Any) -> None:
        """The first line: what is run."""
        self._write("run", schema=SCHEMA, **{key: plain(value) for key, value in facts.items()})

    def __call__(self, step: Step) -> None:
        """A step."""
        operation = step.operation
        self._write(
            "step",
            step=step.index,
            act=step.act,
            jiffies=step.now,
            seconds=step.now / JIFFIES_PER_SECOND,
            path=step.path.key,
            lane=step.path.lane,
            actor=step.actor.name,
            operation=operation.name,
            does=operation.expression,
            args=plain(step.args),
            reply=plain(step.reply),
        )

    def end(self, **facts: Any) -> None:
        """The last line: how it ended."""
        self._write("end", **{key: plain(value) for key, value in facts.items()})
