"""One run is one JSON-lines file, written through structlog; or the application's own log.

Schema version 2.  Every line has ``event``: one ``run`` (what was run), a ``step`` for each delivery, one ``end`` (how
it ended).  Times are virtual: jiffies, and seconds of ``HZ`` jiffies.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec

from slabactors.actors import Actor
from slabactors.errors import OutputError
from slabactors.runtime.causes import Causes
from slabactors.runtime.step import Ending, Outcome, Step
from slabactors.trace.render import plain

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

__all__ = ["SCHEMA", "AppLog", "RunLog", "StepFields"]

SCHEMA = 2
JIFFIES_PER_SECOND = 1000
LEVELS = {"debug": 10, "info": 20, "error": 40}
"""The numbers of the standard library's levels."""


CELLS_SHOWN = 8
"""A cell with more elements than that is told by how many it has."""

NOT_CELLS = frozenset({"name", "tombstone", "guarded", "embedded", "holder", "pending_timer"})
"""What every actor has for the drivers; no state of what it stands for."""


def _serialise(event: dict[str, Any], **_: Any) -> bytes:
    return msgspec.json.encode(event)


def _event_first(_: Any, __: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    return {"event": event.pop("event"), **event}


def cells_of(actor: Actor) -> dict[str, Any]:
    """An actor's state as logs show it: attribute by attribute, long lists and dictionaries by their length."""
    return {name: _cell(value) for name, value in vars(actor).items() if name not in NOT_CELLS and name[0] != "_"}


def _cell(value: Any) -> Any:
    if isinstance(value, list | tuple | dict | set | frozenset) and len(value) > CELLS_SHOWN:
        return f"{len(value)} elements"
    return plain(value)


def broke_at(outcome: Outcome) -> dict[str, str] | None:
    """The step at which a run broke, which no observer has seen."""
    if outcome.culprit is None or outcome.operation is None or outcome.actor is None:
        return None
    return {
        "path": outcome.culprit.key,
        "lane": outcome.culprit.lane,
        "actor": outcome.actor.name,
        "operation": outcome.operation.name,
        "does": outcome.operation.expression,
    }


class StepFields:
    """What a log tells of each step; an observer that drivers also ask to look at an actor before it changes."""

    def __init__(self) -> None:
        self._causes = Causes()
        self._before: dict[str, Any] = {}

    def about_to_change(self, actor: Actor) -> None:
        """The next step is this actor's."""
        self._before = cells_of(actor)

    def of(self, step: Step) -> dict[str, Any]:
        """The fields of a step's line."""
        operation = step.operation
        before = self._before
        after = cells_of(step.actor)
        return {
            "step": step.index,
            "act": step.act,
            "jiffies": step.now,
            "seconds": step.now / JIFFIES_PER_SECOND,
            "path": step.path.key,
            "lane": step.path.lane,
            "actor": step.actor.name,
            "operation": operation.name,
            "does": operation.expression,
            "args": plain(step.args),
            "reply": plain(step.reply),
            "causes": self._causes.of(step),
            "changed": {name: value for name, value in after.items() if name not in before or before[name] != value},
        }


class AppLog:
    """Tells the steps of a run to the application's own log, as its structlog configuration has it.

    Steps are ``debug`` events called ``step``, with the fields of the files.  Give it as the observer of a run.

    Args:
        logger: a structlog logger; ``structlog.get_logger("slabactors")`` by default.
    """

    def __init__(self, logger: Any = None) -> None:
        if logger is None:
            import structlog

            logger = structlog.get_logger("slabactors")
        self._log = logger
        self._fields = StepFields()
        self.about_to_change = self._fields.about_to_change

    def __call__(self, step: Step) -> None:
        """A step."""
        self._log.debug("step", **self._fields.of(step))


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
            processors=[
                structlog.processors.add_log_level,
                _event_first,
                structlog.processors.JSONRenderer(serializer=_serialise),
            ],
            wrapper_class=structlog.make_filtering_bound_logger(0),
            context_class=dict,
        )
        self._fields = StepFields()
        self.about_to_change = self._fields.about_to_change
        self._begins: list[int] = []
        """Where the line of each step begins; only where lines can be taken back."""

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

    def _write(self, level: str, event: str, fields: dict[str, Any]) -> None:
        try:
            self._log.log(LEVELS[level], event, **fields)
        except OSError as error:
            raise self._unwritable(error) from error

    def run(self, **facts: Any) -> None:
        """The first line: what is run."""
        self._write("info", "run", {"schema": SCHEMA} | {key: plain(value) for key, value in facts.items()})

    def __call__(self, step: Step) -> None:
        """A step."""
        if self._part is not None:
            self._begins.append(self._file.tell())
        self._write("debug", "step", self._fields.of(step))

    def keep(self, steps: int) -> None:
        """Forget all but the first steps: of a live run that broke some were made that turned out not to count."""
        if steps < len(self._begins):
            self._file.seek(self._begins[steps])
            self._file.truncate()
            del self._begins[steps:]

    def end(self, **facts: Any) -> None:
        """The last line: how it ended; an ``error`` when that was a bug."""
        broke = facts.get("ending") == Ending.BUG
        self._write("error" if broke else "info", "end", {key: plain(value) for key, value in facts.items()})
