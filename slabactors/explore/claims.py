"""The blocks of a campaign that is kept in a corpus, and that several processes may share."""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import msgspec

from slabactors.explore.campaign import Blocks, Plan, SearchResult
from slabactors.explore.corpus import Corpus, as_text, checksum_of
from slabactors.explore.program import Program

LEASE_SECONDS: Final = 60.0
"""How long a claim holds without a sign of life, when it cannot be seen whether its process is alive."""

BEAT_SECONDS: Final = 5.0
"""How often a process gives a sign of life."""


class SavedBlocks(Blocks):
    """Blocks that are kept as soon as they are done, and taken by one process at a time.

    A process claims a block before it runs it.  A claim ends with its process, as far as that can be seen from here,
    and at the latest when its lease does; a process that wakes up later than that has run its block for nothing, for
    the block is kept once, and is the same whoever ran it.

    Args:
        corpus: where they are kept.
        campaign: its number there.
        plan: which blocks there are.
        program: what is run.

    Attributes:
        resumed: executions that had been made before.

    Raises:
        CorpusError: the corpus is damaged.
    """

    def __init__(self, corpus: Corpus, campaign: int, plan: Plan, program: Program) -> None:
        super().__init__(plan, program)
        self._corpus = corpus
        self._campaign = campaign
        self._owner = owner()
        self._done: set[int] = set()
        self._elsewhere: list[int] = []
        self._beaten = time.monotonic()
        with corpus.guarded():
            rows = corpus.connection.execute(
                "SELECT number, executions FROM block WHERE campaign = ? ORDER BY number", [campaign]
            ).fetchall()
        for block, executions in rows:
            if 0 <= block < plan.blocks and executions == plan.size(block):
                self._collect(block)
        self.resumed = self.total.executions

    def __enter__(self) -> SavedBlocks:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Give back what was taken and not run."""
        with suppress(Exception), self._corpus.transaction() as execute:
            execute("DELETE FROM claim WHERE campaign = ? AND owner = ?", [self._campaign, self._owner])

    def _row(self, block: int) -> list[int]:
        return [self._campaign, block, self.plan.size(block)]

    def _collect(self, block: int) -> bool:
        """Count in a block that is done, whoever ran it; false when it is not."""
        if block in self._done:
            return True
        part = self._corpus.read_part(*self._row(block))
        if part is None:
            return False
        self._done.add(block)
        self.total.add(part)
        return True

    def take(self) -> int | None:
        """A block that nobody has taken; None when there is none at the moment."""
        while self._next < self.plan.blocks and self._next in self._done:
            self._next += 1
        if self._next >= self.plan.blocks and not self._elsewhere:
            self.others = False
            return None
        taken = None
        with self._corpus.transaction() as execute:
            left = []
            for block in self._elsewhere:
                if taken is not None:
                    left.append(block)
                elif not self._collect(block):
                    if self._claim(execute, block):
                        taken = block
                    else:
                        left.append(block)
            self._elsewhere = left
            while taken is None and self._next < self.plan.blocks:
                block = self._next
                self._next += 1
                if not self._collect(block):
                    if self._claim(execute, block):
                        taken = block
                    else:
                        self._elsewhere.append(block)
        self.others = bool(self._elsewhere)
        return taken

    def _claim(self, execute: Any, block: int) -> bool:
        """Take a block, unless a process that is alive has it."""
        row = self._row(block)
        held = execute("SELECT owner, expires FROM claim WHERE (campaign, number, executions) = (?, ?, ?)", row)
        for holder, expires in held.fetchall():
            if holder != self._owner and expires > time.time() and is_alive(holder):
                return False
        execute("INSERT OR REPLACE INTO claim VALUES (?, ?, ?, ?, ?)", [*row, self._owner, time.time() + LEASE_SECONDS])
        return True

    def keep(self, block: int, part: SearchResult) -> None:
        """A block that was taken is done: from here on nobody has to run it again.

        Raises:
            OutputError: it cannot be written; it counts all the same.
        """
        if block in self._done:
            return
        self._done.add(block)
        super().keep(block, part)
        row = self._row(block)
        text = as_text(part)
        sum_ = checksum_of(block, part.executions, part.deliveries, text)
        with self._corpus.transaction() as execute:
            execute("INSERT OR IGNORE INTO block VALUES (?, ?, ?, ?, ?, ?)", [*row, part.deliveries, text, sum_])
            execute("DELETE FROM claim WHERE (campaign, number, executions) = (?, ?, ?)", row)

    def cut(self, block: int, part: SearchResult | None) -> None:
        """A block was not run to its end: it counts now, and will be run again by the next command."""
        super().cut(block, part)
        with self._corpus.transaction() as execute:
            execute("DELETE FROM claim WHERE (campaign, number, executions) = (?, ?, ?)", self._row(block))

    def beat(self) -> None:
        """Prolong the leases now and then."""
        now = time.monotonic()
        if now - self._beaten < BEAT_SECONDS:
            return
        self._beaten = now
        with self._corpus.transaction() as execute:
            execute("UPDATE claim SET expires = ? WHERE owner = ?", [time.time() + LEASE_SECONDS, self._owner])


def owner() -> str:
    """This process, in words that hold as long as it lives and not longer: a number may be given to another process."""
    return as_text([_place(), os.getpid(), _started(os.getpid())])


def is_alive(holder: str) -> bool:
    """Whether a process may be alive; one that cannot be seen from here may be."""
    try:
        place, pid, started = msgspec.json.decode(holder, type=tuple[str, int, str])
    except msgspec.DecodeError:
        return False
    return place != _place() or _started(pid) == started


def _place() -> str:
    """Where process numbers mean the same: the machine, and the name space of its process numbers."""
    space = ""
    with suppress(OSError):
        space = str(Path("/proc/self/ns/pid").readlink())
    return f"{socket.gethostname()} {space}"


def _started(pid: int) -> str:
    """When a process was started, in ticks since the machine was; empty for one that is not there, or is a zombie."""
    try:
        state, *numbers = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state in "ZX" else numbers[18]
