"""Reads id ranges of the joined history tables as Arrow tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa

from tautulli_pipeline.errors import SourceDamagedError, SourceError
from tautulli_pipeline.events.batch import ROWS_PER_PIECE
from tautulli_pipeline.events.columns import (
    FRIENDLY_NAME_LOOKUP,
    GROUP_START_LOOKUP,
    HISTORY,
    HISTORY_TABLES,
    LIBRARY_LOOKUP,
    MEDIA_INFO,
    METADATA,
    USERNAME_LOOKUP,
)
from tautulli_pipeline.events.identity import quote_identifier, quote_literal
from tautulli_pipeline.source.address import Named
from tautulli_pipeline.source.damage import BACKUP_HINT
from tautulli_pipeline.source.schema import SourceSchema

_EXTENSION_WHEEL: Final = "duckdb_extension_sqlite_scanner"
# Checking the signature of its 35 MB takes 0.12 s for each connection, and it comes from the same
# place as DuckDB itself: a wheel that pip has checked.
_SETTINGS: Final[dict[str, Any]] = {"threads": 1, "allow_unsigned_extensions": True}
# SQLite's own words, and the query that DuckDB shows before them.
_DAMAGE: Final = ("database disk image is malformed", "file is not a database")
_FAILED_QUERY: Final = re.compile(r'Failed to \w+ query ".*": ', re.DOTALL)
_ALIASES: Final = dict(zip(HISTORY_TABLES, ("h", "m", "i"), strict=True))


# Finding the large plays takes a third of the time of reading all plays, so a file that is not
# much larger than one part is not searched.
_SMALL_FILE_BYTES: Final = 64 * 2**20
_LARGE_PLAY_BYTES: Final = 2**14
_PART_BYTES: Final = 4 * 2**20
NAME_CHARACTERS: Final = 1024
# SQLite limits the depth of an expression.
_TERMS: Final = 50


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
        self,
        connection: duckdb.DuckDBPyConnection,
        schema: SourceSchema,
        named: Named,
        *,
        splitting: bool,
    ) -> None:
        self._connection = connection
        self._named = named
        self._query = quote_literal(_batch_query(schema))
        self._sizes_query = quote_literal(_large_plays_query(schema)) if splitting else None

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
        plays. A range with many large plays is split, because DuckDB reads 2048 rows at once.
        Do not run another query until the iterator is exhausted.
        """
        for ids in (part for whole in ranges for part in self._split(whole)):
            with self._naming_damage(ids):
                for batch in self._execute(ids).to_arrow_reader(ROWS_PER_PIECE):
                    yield from _as_utf8(pa.Table.from_batches([batch])).to_batches()

    def _split(self, ids: IdRange) -> list[IdRange]:
        """Split a range so that the large plays of each part have at most `_PART_BYTES`."""
        if self._sizes_query is None:
            return [ids]
        parts, first, size = [], ids.first, 0
        with self._naming_damage(ids):
            large = self._execute(ids, self._sizes_query)
            while rows := large.fetchmany(ROWS_PER_PIECE):
                for row_id, row_bytes in ((int(row), int(size)) for row, size in rows):
                    if size and size + row_bytes > _PART_BYTES:
                        parts.append(IdRange(first, row_id - 1))
                        first, size = row_id, 0
                    size += row_bytes
        return [*parts, IdRange(first, ids.last)]

    @property
    def columns(self) -> pa.Schema:
        """The schema of the tables that `read` returns."""
        return self.read(IdRange(0, -1)).schema

    def _execute(self, ids: IdRange, query: str = "") -> duckdb.DuckDBPyConnection:
        parameters = ", ".join(f"CAST({n} AS BIGINT)" for n in (ids.first, ids.last))
        return self._connection.execute(
            f"FROM sqlite_query('source', {query or self._query}, params = row({parameters}))"
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
def open_reader(database: Path, schema: SourceSchema, *, named: Named) -> Iterator[HistoryReader]:
    """Open the private copy `database`; messages name `named`, the user's path."""
    with duckdb.connect(config=_SETTINGS) as connection:
        load_sqlite_scanner(connection)
        # ATTACH takes no parameters, so the path is quoted to prevent SQL injection.
        connection.execute(
            f"ATTACH {quote_literal(str(database))} AS source (TYPE sqlite, READ_ONLY)"
        )
        splitting = database.stat().st_size > _SMALL_FILE_BYTES
        yield HistoryReader(connection, schema, named, splitting=splitting)


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
    return f"SELECT {', '.join(columns)} {_joined(schema)}"


def _large_plays_query(schema: SourceSchema) -> str:
    """Return the SQLite query for the id and the size in bytes of each large play of a range."""
    sizes = [
        f"ifnull(length(CAST({_ALIASES[table]}.{quote_identifier(column)} AS BLOB)), 0)"
        for table, names in schema.history_columns.items()
        for column in names
    ]
    sums = [f"({' + '.join(sizes[i : i + _TERMS])})" for i in range(0, len(sizes), _TERMS)]
    return (
        f"SELECT id, bytes FROM (SELECT h.id, {' + '.join(sums)} AS bytes {_joined(schema)}) "
        f"WHERE bytes > {_LARGE_PLAY_BYTES} AND typeof(id) = 'integer'"
    )


def _joined(schema: SourceSchema) -> str:
    joins = [schema.join(table, _ALIASES[table]) for table in (METADATA, MEDIA_INFO)]
    return (
        f"FROM {HISTORY} h {' '.join(joins)} "
        f"WHERE {schema.has_id_within(HISTORY, 'h.id')} ORDER BY h.id"
    )


def _lookups(schema: SourceSchema) -> dict[str, str]:
    """Return SQL for names from the small tables; the first of several rows wins.

    A longer name is cut: it would be repeated in each of many plays.
    """
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
    group_start = {GROUP_START_LOOKUP: _group_start(schema)}
    orders = {"users": "rowid DESC", "library_sections": sections_in_use_first(schema)}
    names = {
        name: (
            f"(SELECT substr({column}, 1, {NAME_CHARACTERS}) FROM {table} "
            f"WHERE {table}.{key} = {value} ORDER BY {orders[table]} LIMIT 1)"
            if schema.has(table, column, key)
            else "NULL"
        )
        for name, (table, column, key, value) in wanted.items()
    }
    return names | group_start


def _group_start(schema: SourceSchema) -> str:
    """Return SQL for the start of the first play of a group.

    Row numbers change when databases are merged, and the start of a play does not.
    """
    if not schema.has(HISTORY, "reference_id"):
        return "NULL"
    # Without a primary key, looking for the other row would read the whole table.
    other = f"(SELECT g.started FROM {HISTORY} g WHERE g.id = h.reference_id)"
    first = other if HISTORY in schema.keyed else "NULL"
    return f"CASE WHEN h.reference_id = h.id THEN h.started ELSE {first} END"


def sections_in_use_first(schema: SourceSchema) -> str:
    """Return the order of library sections of the same number, whatever their row numbers are.

    After a merge, the sections of an older server have the higher row numbers.
    """

    def is_set(column: str, *, otherwise: int) -> str:
        is_there = schema.has("library_sections", column)
        return f"coalesce({column}, {otherwise}) = 1" if is_there else f"{otherwise} = 1"

    active, deleted = is_set("is_active", otherwise=1), is_set("deleted_section", otherwise=0)
    server = ["server_id"] if schema.has("library_sections", "server_id") else []
    return ", ".join([f"({active}) - ({deleted}) DESC", f"{active} DESC", *server, "section_name"])
