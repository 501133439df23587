"""Reads id ranges of the joined history tables as Arrow tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa

from tautulli_pipeline.errors import SourceDamagedError, SourceError
from tautulli_pipeline.events.batch import ROWS_PER_PIECE
from tautulli_pipeline.events.columns import (
    FRIENDLY_NAME_LOOKUP,
    HISTORY,
    HISTORY_TABLES,
    LIBRARY_LOOKUP,
    MEDIA_INFO,
    METADATA,
    USERNAME_LOOKUP,
)
from tautulli_pipeline.events.identity import quote_identifier, quote_literal
from tautulli_pipeline.source.damage import BACKUP_HINT
from tautulli_pipeline.source.schema import SourceSchema

_EXTENSION_WHEEL: Final = "duckdb_extension_sqlite_scanner"
# SQLite's own words, and the query that DuckDB shows before them.
_DAMAGE: Final = ("database disk image is malformed", "file is not a database")
_FAILED_QUERY: Final = re.compile(r'Failed to \w+ query ".*": ', re.DOTALL)
_ALIASES: Final = dict(zip(HISTORY_TABLES, ("h", "m", "i"), strict=True))


@dataclass(frozen=True)
class IdRange:
    """An inclusive range of `session_history.id`."""

    first: int
    last: int


class HistoryReader:
    """Reads plays by id from a private copy.

    Each batch runs as a query inside SQLite, which uses the primary key. DuckDB's own scan
    of an attached table would read the whole table for each batch. Rows that SQLite cannot
    read raise a `SourceDamagedError`.
    """

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, schema: SourceSchema, named: Path
    ) -> None:
        self._connection = connection
        self._named = named
        self._query = quote_literal(_batch_query(schema))

    def read(self, ids: IdRange) -> pa.Table:
        """Read the plays of `ids` in id order.

        A range that ends at the largest id includes plays whose id is not an integer.

        Returns:
            A table of text columns named `<table>.<column>`, in which NULL and '' differ.
            Metadata and media info are NULL for a play without them. Bytes that are not
            UTF-8 become replacement characters.
        """
        with self._naming_damage(ids):
            return _as_utf8(self._execute(ids).to_arrow_table(ROWS_PER_PIECE))

    def stream(self, ranges: Iterable[IdRange]) -> Iterator[pa.RecordBatch]:
        """Yield the same plays range by range, in batches of at most `ROWS_PER_PIECE`.

        Each range takes one query, because planning it costs as much as reading a thousand
        plays. Do not run another query until the iterator is exhausted.
        """
        for ids in ranges:
            with self._naming_damage(ids):
                for batch in self._execute(ids).to_arrow_reader(ROWS_PER_PIECE):
                    yield from _as_utf8(pa.Table.from_batches([batch])).to_batches()

    @property
    def columns(self) -> pa.Schema:
        """The schema of the tables that `read` returns."""
        return self.read(IdRange(0, -1)).schema

    def _execute(self, ids: IdRange) -> duckdb.DuckDBPyConnection:
        parameters = ", ".join(f"CAST({n} AS BIGINT)" for n in (ids.first, ids.last))
        return self._connection.execute(
            f"FROM sqlite_query('source', {self._query}, params = row({parameters}))"
        )

    @contextmanager
    def _naming_damage(self, ids: IdRange) -> Iterator[None]:
        try:
            yield
        except (duckdb.Error, OSError) as error:  # Arrow streams raise OSError
            reason = _FAILED_QUERY.sub("", str(error)).splitlines()[0]
            failed = f"cannot read plays {ids.first} to {ids.last} of {self._named}: {reason}"
            if any(words in reason for words in _DAMAGE):
                raise SourceDamagedError(failed, hint=BACKUP_HINT) from error
            raise SourceError(failed) from error


def _as_utf8(table: pa.Table) -> pa.Table:
    """Replace invalid UTF-8: SQLite stores any bytes as text and DuckDB does not check."""
    try:
        table.validate(full=True)
    except pa.ArrowInvalid:
        columns = [_with_replacements(column) for column in table.columns]
        return pa.Table.from_arrays(columns, names=table.column_names)
    return table


def _with_replacements(column: pa.ChunkedArray) -> pa.ChunkedArray | pa.Array:
    with suppress(pa.ArrowInvalid):
        column.validate(full=True)
        return column
    cells = column.cast(pa.binary()).to_pylist()
    texts = [None if cell is None else cell.decode(errors="replace") for cell in cells]
    return pa.array(texts, column.type)


@contextmanager
def open_reader(database: Path, schema: SourceSchema, *, named: Path) -> Iterator[HistoryReader]:
    """Open the private copy `database`; messages name `named`, the user's path."""
    with duckdb.connect(config={"threads": 1}) as connection:
        load_sqlite_scanner(connection)
        # ATTACH takes no parameters, so the path is quoted to prevent SQL injection.
        connection.execute(
            f"ATTACH {quote_literal(str(database))} AS source (TYPE sqlite, READ_ONLY)"
        )
        yield HistoryReader(connection, schema, named)


def load_sqlite_scanner(connection: duckdb.DuckDBPyConnection) -> None:
    """Load the SQLite extension from its wheel, without a download."""
    wheel = files(_EXTENSION_WHEEL) / "extensions" / f"v{duckdb.__version__}"
    with as_file(wheel / "sqlite_scanner.duckdb_extension") as path:
        connection.execute(f"LOAD {quote_literal(str(path))}")


def _batch_query(schema: SourceSchema) -> str:
    """Return the SQLite query for one batch; its parameters are the first and last id."""
    columns = [
        f"{_ALIASES[table]}.{quote_identifier(column)} AS {quote_identifier(f'{table}.{column}')}"
        for table, names in schema.history_columns.items()
        for column in names
    ]
    columns += [f"{sql} AS {quote_identifier(name)}" for name, sql in _lookups(schema).items()]
    joins = [schema.join(table, _ALIASES[table]) for table in (METADATA, MEDIA_INFO)]
    return (
        f"SELECT {', '.join(columns)} FROM {HISTORY} h {' '.join(joins)} "
        f"WHERE {schema.has_id_within(HISTORY, 'h.id')} ORDER BY h.id"
    )


def _lookups(schema: SourceSchema) -> dict[str, str]:
    """Return SQL for names from the small tables; the first of several rows wins."""
    sections = [
        f"nullif({_ALIASES[table]}.section_id, '')"
        for table in HISTORY_TABLES
        if schema.has(table, "section_id")
    ]
    section = f"coalesce({', '.join([*sections, 'NULL', 'NULL'])})"
    wanted = {
        USERNAME_LOOKUP: ("users", "username", "user_id", "h.user_id"),
        FRIENDLY_NAME_LOOKUP: ("users", "friendly_name", "user_id", "h.user_id"),
        LIBRARY_LOOKUP: ("library_sections", "section_name", "section_id", section),
    }
    orders = {"users": "rowid DESC", "library_sections": _sections_in_use_first(schema)}
    return {
        name: (
            f"(SELECT {column} FROM {table} WHERE {table}.{key} = {value} "
            f"ORDER BY {orders[table]} LIMIT 1)"
            if schema.has(table, column, key)
            else "NULL"
        )
        for name, (table, column, key, value) in wanted.items()
    }


def _sections_in_use_first(schema: SourceSchema) -> str:
    """Return the order of library sections of the same number, whatever their row numbers are.

    After a merge, the sections of an older server have the higher row numbers.
    """

    def is_set(column: str, *, otherwise: int) -> str:
        is_there = schema.has("library_sections", column)
        return f"coalesce({column}, {otherwise}) = 1" if is_there else f"{otherwise} = 1"

    active, deleted = is_set("is_active", otherwise=1), is_set("deleted_section", otherwise=0)
    server = ["server_id"] if schema.has("library_sections", "server_id") else []
    return ", ".join([f"({active}) - ({deleted}) DESC", f"{active} DESC", *server, "section_name"])
