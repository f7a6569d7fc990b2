"""What is known of the search that a finding comes from: of the finding's file, and of the campaign beside it."""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from slabactors.explore.campaign import SearchResult
from slabactors.explore.corpus import NAME, as_text, checksum_of
from slabactors.explore.finding import Finding


def search_of(finding: Finding, file: Path) -> dict[str, Any]:
    """The search of a finding.

    Args:
        finding: the bug.
        file: where it is kept; the campaign is looked for beside it, and only read.
    """
    return {
        "strategy": finding.strategy,
        "seed": finding.seed,
        "execution": finding.execution,
        "decisions": len(finding.schedule),
        "preemptions": finding.preemptions,
        "minimum": finding.preemptions_minimum,
        "campaign": _campaign(finding, file.with_name(NAME)),
    }


def _campaign(finding: Finding, corpus: Path) -> dict[str, Any] | None:
    """Counts of the campaign that has found it, if it is there and sound."""
    if not corpus.is_file():
        return None
    try:
        with closing(sqlite3.connect(f"{corpus.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            rows = connection.execute(
                "SELECT number, executions, deliveries, part, checksum FROM block WHERE campaign IN "
                "(SELECT campaign FROM finding WHERE document = ?) ORDER BY number, executions DESC",
                [as_text(finding)],
            ).fetchall()
        parts = _whole_blocks(rows)
    except (sqlite3.DatabaseError, msgspec.DecodeError, TypeError, UnicodeError):
        return None
    return _counts(finding, parts) if parts else None


def _whole_blocks(rows: list[tuple[int, int, int, str, int]]) -> list[SearchResult]:
    """What each block has found; of a block that was done in several sizes, the largest.  Damaged ones are left out."""
    found: dict[int, SearchResult] = {}
    for number, executions, deliveries, text, checksum in rows:
        if number not in found and checksum == checksum_of(number, executions, deliveries, text):
            found[number] = msgspec.json.decode(text, type=SearchResult)
    return list(found.values())


def _counts(finding: Finding, parts: list[SearchResult]) -> dict[str, Any]:
    executions: Counter[str] = Counter()
    broke: Counter[str] = Counter()
    bugs: Counter[str] = Counter()
    for part in parts:
        for strategy, share in part.shares.items():
            executions[strategy] += share.executions
            broke[strategy] += share.found
        for signature, one in part.found.items():
            bugs[signature] += one.count
    return {
        "executions": sum(part.executions for part in parts),
        "deliveries": sum(part.deliveries for part in parts),
        "bounded": sum(part.bounded for part in parts),
        "shares": [[name, executions[name], broke[name]] for name in sorted(executions)],
        "bugs": sorted(([name, count, name == finding.signature] for name, count in bugs.items()), key=_commonest),
    }


def _commonest(bug: list[Any]) -> tuple[int, str]:
    return -bug[1], bug[0]
