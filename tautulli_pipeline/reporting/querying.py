"""Answers queries of people, and lets them change nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import duckdb

from tautulli_pipeline.errors import ConfigurationError, PipelineError
from tautulli_pipeline.reporting.access import open_to_read

_BATCH_ROWS: Final = 1000
_READING: Final = frozenset({duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN})
_TABLES_HINT: Final = "`tautulli-pipeline query 'SHOW TABLES'` lists the tables"


@dataclass(frozen=True)
class Answer:
    """The result of a query.

    Attributes:
        columns: names of the columns; no two are the same.
        batches: the rows, a thousand at a time, as they are computed.
    """

    columns: Sequence[str]
    batches: Iterator[list[tuple[Any, ...]]]


@contextmanager
def answer(database: Path, sql: str) -> Iterator[Answer]:
    """Run one query that reads; it can neither write nor open any other file.

    Raises:
        ConfigurationError: the query is wrong, writes, or is not a single one.
        WarehouseError: another program writes the database.
    """
    with open_to_read(database, locked=True) as connection, _explained():
        _require_reading(connection, sql)
        connection.execute(sql)
        names = [column[0] for column in connection.description or ()]
        yield Answer(_told_apart(names), _batches(connection))


def _require_reading(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    kinds = [statement.type for statement in connection.extract_statements(sql)]
    if not kinds:
        raise ConfigurationError("the query is empty", hint=_TABLES_HINT)
    # PIVOT becomes two statements, of which the first creates a temporary type.
    *before, last = kinds
    if last not in _READING:
        raise ConfigurationError(
            f"the query is not allowed: it is a {last.name} statement",
            hint="queries only read: SELECT, FROM, WITH, DESCRIBE, SHOW, SUMMARIZE, EXPLAIN",
        )
    if any(kind != duckdb.StatementType.CREATE for kind in before):
        raise ConfigurationError("this is more than one query", hint="run them one by one")


def _batches(connection: duckdb.DuckDBPyConnection) -> Iterator[list[tuple[Any, ...]]]:
    while rows := connection.fetchmany(_BATCH_ROWS):
        yield rows


def _told_apart(names: Sequence[str]) -> list[str]:
    """Return names with a number behind those that occur again."""
    found: list[str] = []
    for name in names:
        free, number = name, 1
        while free in found:
            free, number = f"{name}_{number}", number + 1
        found.append(free)
    return found


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except duckdb.OutOfMemoryException as error:
        raise PipelineError(
            "the query needs too much memory", hint="select fewer columns, or add a LIMIT"
        ) from error
    except duckdb.Error as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        advice = [line for line in lines[1:] if line.startswith(("Did you mean", "Candidate"))]
        raise ConfigurationError(
            f"the query cannot be run: {lines[0]}", hint=advice[0] if advice else _TABLES_HINT
        ) from error
