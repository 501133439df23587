"""Answers queries of people, and lets them change nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, Final

import duckdb

from tautulli_pipeline.errors import ConfigurationError, PipelineError
from tautulli_pipeline.events.identity import quote_identifier, quote_literal
from tautulli_pipeline.reporting.access import open_to_read

_BATCH_ROWS: Final = 1000
_CHUNK_BYTES: Final = 2**16
_READING: Final = frozenset({duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN})
# They read nothing, and change how DuckDB logs.
_CHANGING: Final = re.compile(r"\b(enable|disable)_(logging|profiling)\b", re.IGNORECASE)
_NESTED: Final = re.compile(r"\]$|^(STRUCT|MAP|UNION)\(")
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


def copy_as_csv(database: Path, sql: str, file: BinaryIO) -> bool:
    """Have DuckDB write the result of a query as CSV, which takes a fifteenth of the time.

    NULL is an empty field, an empty text is a quoted one, nested values are JSON, and binary ones
    are hexadecimal digits. The only field of a row is never left empty: readers skip empty lines.

    Args:
        database: the analytics or the warehouse.
        sql: the query; the rules of `answer` hold.
        file: receives the text, in UTF-8.

    Returns:
        Whether DuckDB could; it cannot for EXPLAIN and PIVOT, and has written nothing then.

    Raises:
        ConfigurationError: the query is wrong, writes, or is not a single one.
        WarehouseError: another program writes the database.
        OSError: `file` cannot be written, or its reader has gone away.
    """
    source, target = os.pipe()
    pipe = f"/dev/fd/{target}"
    with (
        os.fdopen(source, "rb", buffering=0) as reading,
        os.fdopen(target, "wb", buffering=0) as writing,
        open_to_read(database, locked=True, output=pipe) as connection,
        _explained(),
    ):
        _require_reading(connection, sql)
        selected = _in_csv(connection, sql)
        if selected is not None:
            copying = f"COPY ({selected}) TO {quote_literal(pipe)} (FORMAT csv, HEADER)"
            _run_beside(connection, copying, writing, lambda: _pass_on(reading, file))
    return selected is not None


def _pass_on(reading: IO[bytes], file: BinaryIO) -> None:
    with reading:  # a writer is not left waiting
        while chunk := reading.read(_CHUNK_BYTES):
            file.write(chunk)
    file.flush()


def _run_beside(
    connection: duckdb.DuckDBPyConnection, sql: str, writing: IO[bytes], pass_on: Callable[[], None]
) -> None:
    """Run a statement that writes to a pipe, and pass on what it writes.

    It runs in a thread, because Ctrl-C does not reach it while it waits for a reader.
    """

    def run() -> None:
        with writing:
            connection.execute(sql)

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run)
        try:
            pass_on()
        except BaseException:
            connection.interrupt()
            raise
        running.result()


def _in_csv(connection: duckdb.DuckDBPyConnection, sql: str) -> str | None:
    """Return the query with its columns told apart, as text; None if it cannot be part of one."""
    query = f"FROM (\n{sql.rstrip().removesuffix(';')}\n)"
    try:
        described = connection.execute(f"DESCRIBE {query}").fetchall()
    except duckdb.ParserException:
        return None
    places = ", ".join(f"c{n}" for n in range(len(described)))
    columns = [
        f"{_as_text(f'c{n}', kind, is_only=len(described) == 1)} AS {quote_identifier(name)}"
        for n, (name, (_, kind, *_)) in enumerate(
            zip(_told_apart([name for name, *_ in described]), described, strict=True)
        )
    ]
    return f"SELECT {', '.join(columns)} {query} AS found({places})"


def _as_text(column: str, kind: str, *, is_only: bool) -> str:
    if kind == "BLOB":
        column = f"lower(hex({column}))"
    elif _NESTED.search(kind):
        column = f"to_json({column})"
    return f"coalesce({column}::VARCHAR, '')" if is_only else column


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
    if calls := _CHANGING.search(sql):
        raise ConfigurationError(
            f"the query is not allowed: it calls {calls[0].lower()}", hint="queries only read"
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
