"""The corpus of a campaign directory: what was searched, which blocks are done, and which schedules break what.

One SQLite file, so that a process can be killed at any moment and several can share it.  It is in WAL mode: a commit
is one append and no fsync, readers do not wait for writers, and after a kill the next one that opens it finds the last
commit.  (After a power failure the last commits may be missing, and nothing else.)  WAL needs shared memory, so all
processes that share a directory have to be on one machine.

Rows that stand for work that was done carry a checksum: a damaged one is refused, and never believed.
"""

from __future__ import annotations

import hashlib
import sqlite3
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import msgspec

from slabactors import __version__
from slabactors.errors import CorpusError, OutputError
from slabactors.explore.campaign import BLOCK, SearchResult
from slabactors.explore.finding import Finding

NAME: Final = "campaign.sqlite"
APPLICATION_ID: Final = int.from_bytes(b"SLAB")
FORMAT_VERSION: Final = 1

PAGE_MIN: Final = 512
"""No database is shorter, but for an empty one."""

BUSY_SECONDS: Final = 30.0
"""How long to wait for another process that writes."""

SCHEMA: Final = """
CREATE TABLE campaign (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    scenario TEXT NOT NULL,
    scenario_digest TEXT NOT NULL,
    sources_digest TEXT NOT NULL,
    lifecycle TEXT NOT NULL,
    parameters TEXT NOT NULL,
    strategy TEXT NOT NULL,
    seed TEXT NOT NULL,
    program_version TEXT NOT NULL
);
CREATE TABLE block (
    campaign INTEGER NOT NULL REFERENCES campaign,
    number INTEGER NOT NULL,
    executions INTEGER NOT NULL,
    deliveries INTEGER NOT NULL,
    part TEXT NOT NULL,
    checksum INTEGER NOT NULL,
    PRIMARY KEY (campaign, number, executions)
) WITHOUT ROWID;
CREATE TABLE claim (
    campaign INTEGER NOT NULL REFERENCES campaign,
    number INTEGER NOT NULL,
    executions INTEGER NOT NULL,
    owner TEXT NOT NULL,
    expires REAL NOT NULL,
    PRIMARY KEY (campaign, number, executions)
) WITHOUT ROWID;
CREATE TABLE finding (
    scenario TEXT NOT NULL,
    lifecycle TEXT NOT NULL,
    parameters TEXT NOT NULL,
    signature TEXT NOT NULL,
    campaign INTEGER NOT NULL REFERENCES campaign,
    reported INTEGER NOT NULL,
    document TEXT NOT NULL,
    checksum INTEGER NOT NULL,
    PRIMARY KEY (scenario, lifecycle, parameters, signature)
) WITHOUT ROWID;
"""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is searched, and how: two searches of one subject make the same executions.

    Attributes:
        scenario: the target, as it is given to the commands.
        scenario_digest: of the scenario's function.
        sources_digest: of every source that a run can come from.
        lifecycle: the generation.
        parameters: those that were set.
        strategy: what picks the steps.
        seed: of the search.
        program_version: of slabactors.
    """

    scenario: str
    scenario_digest: str
    sources_digest: str
    lifecycle: str
    parameters: dict[str, Any]
    strategy: str
    seed: int
    program_version: str = __version__

    @property
    def columns(self) -> dict[str, Any]:
        """As the database has it."""
        return {
            "scenario": self.scenario,
            "scenario_digest": self.scenario_digest,
            "sources_digest": self.sources_digest,
            "lifecycle": self.lifecycle,
            "parameters": as_text(self.parameters),
            "strategy": self.strategy,
            "seed": str(self.seed),
            "program_version": self.program_version,
        }

    @property
    def key(self) -> str:
        """A digest of everything above."""
        return hashlib.sha256(as_text([*self.columns.values(), BLOCK]).encode()).hexdigest()


def as_text(value: Any) -> str:
    """JSON with sorted keys."""
    return msgspec.json.encode(value, order="deterministic").decode()


def checksum_of(*values: object) -> int:
    """What a row's checksum must be."""
    return zlib.crc32(repr(values).encode())


class Corpus:
    """An open corpus.

    Args:
        directory: the campaign's; it must exist.

    Raises:
        CorpusError: the file there is damaged, something else, or of a newer version.
        OutputError: it cannot be written.
    """

    def __init__(self, directory: Path) -> None:
        self.file = directory / NAME
        if self.file.is_file() and 0 < self.file.stat().st_size < PAGE_MIN:
            raise self._damaged("it is too short")  # SQLite would take it for empty
        with self.guarded():
            self.connection = sqlite3.connect(self.file, timeout=BUSY_SECONDS, isolation_level=None)
        try:
            with self.guarded():
                self._check()
        except BaseException:
            self.connection.close()
            raise

    def __enter__(self) -> Corpus:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.connection.close()

    def _check(self) -> None:
        execute = self.connection.execute
        [[tables]] = execute("SELECT count(*) FROM sqlite_master")
        [[application]] = execute("PRAGMA application_id")
        if application != APPLICATION_ID and (application or tables):
            raise CorpusError(
                f"{self.file} is a database of something else, and not the corpus of a campaign.\n"
                "  Give another directory: --save DIR"
            )
        [[version]] = execute("PRAGMA user_version")
        if version > FORMAT_VERSION:
            raise CorpusError(
                f"{self.file} has format version {version}, made by a newer slabactors; this is {__version__}, "
                f"which reads version {FORMAT_VERSION}.\n  Give another directory: --save DIR"
            )
        self._use_wal()
        if not tables:
            self._create()
        [[sound]] = execute("PRAGMA quick_check(1)")
        if sound != "ok":
            raise self._damaged(sound)

    def _use_wal(self) -> None:
        """Several processes may be about to; whoever comes late is told that it is locked, and not made to wait."""
        until = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                self.connection.execute("PRAGMA journal_mode = WAL")
                self.connection.execute("PRAGMA synchronous = NORMAL")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                    raise
                time.sleep(0.01)

    def _create(self) -> None:
        with self.transaction() as execute:
            [[tables]] = execute("SELECT count(*) FROM sqlite_master")
            if tables:
                return  # another process was faster
            for statement in SCHEMA.split(";"):
                execute(statement)
            execute(f"PRAGMA application_id = {APPLICATION_ID}")
            execute(f"PRAGMA user_version = {FORMAT_VERSION}")

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        """All or nothing, and nobody else writes meanwhile; gives the connection's ``execute``."""
        with self.guarded():
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield self.connection.execute
                self.connection.execute("COMMIT")
            except BaseException:
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Say what went wrong with the database in terms of what can be done.

        Raises:
            CorpusError: it is damaged.
            OutputError: it cannot be read or written.
        """
        try:
            yield
        except UnicodeDecodeError as error:  # of a name in the schema
            raise self._damaged(error) from error
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
            if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or (code == sqlite3.SQLITE_ERROR):
                raise self._damaged(error) from error
            hint = "Make room, or give a directory that can be written to: --save DIR"
            if code == sqlite3.SQLITE_BUSY:
                hint = f"Another process has held it for {BUSY_SECONDS:.0f} seconds; wait until it has ended."
            raise OutputError(
                f"cannot write the campaign to {self.file}: {error}.\n"
                f"  {hint}\n  What was written before is whole, and the same command goes on from there."
            ) from error

    def _damaged(self, what: object) -> CorpusError:
        return CorpusError(
            f"{self.file} is damaged: {what}.\n"
            f"  Move it away (the findings beside it are files of their own), or give another directory: --save DIR"
        )

    # -- campaigns -------------------------------------------------------------------------------------------------

    def campaign(self, subject: Subject) -> int:
        """The number of a campaign in this file."""
        columns = {"key": subject.key, **subject.columns}
        with self.transaction() as execute:
            execute(
                f"INSERT OR IGNORE INTO campaign ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})",
                [*columns.values()],
            )
            [[number]] = execute("SELECT id FROM campaign WHERE key = ?", [subject.key])
        return int(number)

    def read_part(self, campaign: int, block: int, size: int) -> SearchResult | None:
        """What a block has found; None when it is not done.

        Raises:
            CorpusError: it is damaged.
        """
        with self.guarded():
            rows = self.connection.execute(
                "SELECT part, deliveries, checksum FROM block WHERE campaign = ? AND number = ? AND executions = ?",
                [campaign, block, size],
            ).fetchall()
        if not rows:
            return None
        [(text, deliveries, checksum)] = rows
        part: SearchResult = self._decoded(text, SearchResult, checksum == checksum_of(block, size, deliveries, text))
        if (part.begin, part.executions) != (block * BLOCK, size):
            raise self._damaged(f"block {block} is not what it says")
        return part

    def _decoded(self, text: Any, kind: type[Any], sound: bool) -> Any:
        """What a row holds.

        Raises:
            CorpusError: it is damaged.
        """
        if not sound:
            raise self._damaged("the checksum of a row is wrong")
        try:
            return msgspec.json.decode(text, type=kind)
        except (msgspec.DecodeError, TypeError, UnicodeError) as error:
            raise self._damaged(error) from error

    # -- findings --------------------------------------------------------------------------------------------------

    def keep(self, campaign: int, findings: Sequence[Finding], parameters: dict[str, Any] | None = None) -> None:
        """Keep the schedules of a campaign's bugs; a later schedule of the same bug replaces an earlier one.

        Args:
            campaign: its number.
            findings: the bugs.
            parameters: what was searched, when the findings have been made simpler; their own unless given.
        """
        with self.transaction() as execute:
            for one in findings:
                document = as_text(one)
                execute(
                    "INSERT OR REPLACE INTO finding VALUES (?, ?, ?, ?, ?, 0, ?, ?)",
                    [
                        one.scenario,
                        one.lifecycle,
                        as_text(one.parameters if parameters is None else parameters),
                        one.signature,
                        campaign,
                        document,
                        checksum_of(document),
                    ],
                )

    def reported(self, campaign: int) -> None:
        """The findings of a campaign have been shown to somebody."""
        with self.transaction() as execute:
            execute("UPDATE finding SET reported = 1 WHERE campaign = ?", [campaign])

    def known(self, subject: Subject, campaign: int) -> list[Finding]:
        """The bugs that earlier campaigns have found in the same scenario, lifecycle and parameters.

        Those of this one count only once they were shown: until then it is still the same campaign that goes on.

        Raises:
            CorpusError: it is damaged.
        """
        with self.guarded():
            rows = self.connection.execute(
                "SELECT document, checksum FROM finding WHERE scenario = ? AND lifecycle = ? AND parameters = ? "
                "AND (reported OR campaign <> ?) ORDER BY signature",
                [subject.scenario, subject.lifecycle, as_text(subject.parameters), campaign],
            ).fetchall()
        return [self._decoded(text, Finding, checksum == checksum_of(text)) for text, checksum in rows]
