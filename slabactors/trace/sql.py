"""SQL over the log of a run, by DuckDB: the file is read where it lies, and need not fit in memory."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from slabactors.errors import LogFileError, UnknownName, UsageError

__all__ = ["Answer", "ask", "query_named", "shipped"]

COLUMNS: Final = {
    "event": "VARCHAR",
    "step": "BIGINT",
    "act": "INTEGER",
    "jiffies": "BIGINT",
    "seconds": "DOUBLE",
    "path": "VARCHAR",
    "lane": "VARCHAR",
    "actor": "VARCHAR",
    "operation": "VARCHAR",
    "does": "VARCHAR",
    "args": "JSON",
    "reply": "JSON",
    "causes": "BIGINT[]",
    "changed": "JSON",
}
"""The columns of the table ``steps``."""

MEMORY: Final = "1GB"
"""What DuckDB may use before it writes to a temporary file."""


def shipped() -> dict[str, str]:
    """The text of every shipped query, by name; its first line is a comment that says what it asks."""
    texts = {file.name: file.read_text() for file in (files("slabactors.trace") / "queries").iterdir()}
    return {name.removesuffix(".sql"): texts[name] for name in sorted(texts)}


def query_named(name: str) -> str:
    """The text of a shipped query.

    Raises:
        UnknownName: there is none.
    """
    queries = shipped()
    if name not in queries:
        raise UnknownName("query", name, list(queries))
    return queries[name]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a query came to.

    Attributes:
        columns: their names.
        rows: one tuple for each, as Python values; at most as many as were asked for.
        more: there are more.
    """

    columns: list[str]
    rows: list[tuple[Any, ...]]
    more: bool


def ask(path: Path, sql: str, limit: int, *, cut: bool = False) -> Answer:
    """Ask a log something.

    Args:
        path: the log.
        sql: the query, over the table ``steps``.
        limit: how many rows at most.
        cut: its last line is no whole one, and is left out; see `slabactors.trace.reader.LogReader`.

    Raises:
        UsageError: DuckDB is not installed, or cannot make sense of the query.
        LogFileError: the file is no JSON lines.
    """
    try:
        import duckdb
    except ImportError as error:
        raise UsageError("SQL needs DuckDB, which is not installed.\n  Type: pip install 'slabactors[sql]'") from error
    with TemporaryDirectory(prefix="slabactors-sql-") as spilled:  # or DuckDB would do it where somebody types
        connection = duckdb.connect(config={"memory_limit": MEMORY, "temp_directory": spilled})
        try:
            lines = connection.read_json(str(path), columns=COLUMNS, format="newline_delimited", ignore_errors=cut)
            lines.filter("event = 'step'").project("* EXCLUDE event").create_view("steps")
            cursor = connection.execute(sql)
            columns = [column[0] for column in cursor.description or ()]
            rows = cursor.fetchmany(limit + 1) if columns else []
        except duckdb.InvalidInputException as error:
            raise LogFileError(
                f"{path} cannot be read as JSON lines: {_first(error)}\n"
                "  Write it again: slabactors run TARGET --log FILE.jsonl"
            ) from error
        except duckdb.Error as error:
            names = ", ".join(name for name in COLUMNS if name != "event")
            raise UsageError(
                f"the query failed: {_first(error)}\n  There is one table, steps, with the columns {names}."
            ) from error
        finally:
            connection.close()
    return Answer(columns, rows[:limit], len(rows) > limit)


def _first(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
