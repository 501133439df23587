"""Counts and digests of a private copy by partition, in one cheap pass."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain, groupby
from pathlib import Path
from typing import Any, Final

from tautulli_pipeline.errors import SourceDamagedError
from tautulli_pipeline.events.columns import HISTORY, HISTORY_TABLES, MEDIA_INFO, METADATA
from tautulli_pipeline.events.identity import quote_identifier
from tautulli_pipeline.source.address import Named
from tautulli_pipeline.source.damage import SALVAGE_HINT
from tautulli_pipeline.source.partitions import LAST_GRID_ID, OTHER, Grid, Partition
from tautulli_pipeline.source.queries import CopyConnection, explained, open_copy
from tautulli_pipeline.source.reader import IdRange
from tautulli_pipeline.source.records import RecordsUnreadableError, open_records
from tautulli_pipeline.source.schema import LOOKUPS, SourceSchema

_ALIASES: Final = dict(zip(HISTORY_TABLES, ("h", "m", "i"), strict=True))
# One printf() takes half the time of a quote() per cell. Older SQLite versions allow at
# most 100 arguments.
_CELL_FORMAT: Final = "%s\x1f"
_PRINTF_CELLS: Final = 50
# A row whose start is missing or not a number is not a play.
# A start in the future is a mistake, and would say that all other files are older.
_HAS_START: Final = "typeof({0}) = 'integer' AND {0} BETWEEN 1 AND {1}"
_DAY_SECONDS: Final = 86_400


@dataclass(frozen=True)
class PartitionContent:
    """A partition that has rows.

    Attributes:
        digest: changes when the content of the rows changes.
        started: first and last start in Unix seconds; None if no row has one.
    """

    partition: Partition
    rows: int
    digest: str
    started: tuple[int, int] | None = None

    @property
    def key(self) -> str:
        """The key of the partition."""
        return self.partition.key


def out_of_order(named: Named) -> SourceDamagedError:
    """Return the error for rows that cannot be found by their ids."""
    return SourceDamagedError(
        f"cannot read all of {named}: rows of {HISTORY} are out of order", hint=SALVAGE_HINT
    )


def with_unreadable(
    contents: Iterable[PartitionContent], unreadable: Sequence[int], grid: Grid
) -> list[PartitionContent]:
    """Add unreadable plays to their partitions.

    They are part of the digest, so repairing the file makes their partitions stale.
    """
    found = {content.partition: content for content in contents}
    for partition, ids in groupby(unreadable, grid.partition_of):
        lost = list(ids)
        readable = found.get(partition, PartitionContent(partition, 0, ""))
        digest = hashlib.blake2b(f"{readable.digest}{lost}".encode(), digest_size=16).hexdigest()
        found[partition] = replace(readable, rows=readable.rows + len(lost), digest=digest)
    return sorted(found.values(), key=lambda content: content.key)


@dataclass(frozen=True)
class _Content:
    """How to find the content of an id range.

    Attributes:
        query: SQL for the count, the first and the last start, and the digest.
        digest_of: the digest, if it is not in the query.
    """

    query: str
    digest_of: Callable[[IdRange], str]


class Survey:
    """Computes counts and digests; rows that cannot be read raise a `SourceDamagedError`."""

    def __init__(
        self, database: Path, connection: CopyConnection, schema: SourceSchema, named: Named
    ) -> None:
        self._database = database
        self._connection = connection
        self._schema = schema
        self._named = named

    def count_rows(self) -> int:
        """Count the rows of `session_history`, without an index, which may disagree."""
        # Nothing interrupts a `count(*)`.
        return int(self._one(f"SELECT count(1) FROM {HISTORY} NOT INDEXED")[0])

    def count_ranges(self, width: int) -> int:
        """Count the ranges of `width` ids on the grid that have rows."""
        integer = self._schema.has_integer(HISTORY, "id")
        sql = (
            f"SELECT count(DISTINCT (id - 1) / ?) FROM {HISTORY} "
            f"WHERE {integer} AND id BETWEEN 1 AND ?"
        )
        return int(self._one(sql, width, LAST_GRID_ID)[0])

    def count_users(self) -> int:
        """Count the users that have plays."""
        return int(self._one(f"SELECT count(DISTINCT user_id) FROM {HISTORY}")[0])

    def id_range(self) -> tuple[int, int] | None:
        """Return the first and last id; None if there are no plays."""
        integer = self._schema.has_integer(HISTORY, "id")
        first, last = (
            self._one(f"SELECT {end}(id) FROM {HISTORY} WHERE {integer}")[0]
            for end in ("min", "max")
        )
        return None if first is None else (first, last)

    def with_rows(self, grid: Grid) -> list[Partition]:
        """Return the partitions of `grid` that have rows, in key order, without digests."""
        found = list(self._on_grid(grid))
        within = self._schema.has_id_within(HISTORY, "id")
        exists = f"SELECT EXISTS (SELECT 1 FROM {HISTORY} WHERE {within})"
        outside = any(self._one(exists, ids.first, ids.last)[0] for ids in OTHER.ranges)
        return [*found, OTHER] if outside else found

    def _on_grid(self, grid: Grid) -> Iterator[Partition]:
        place = self._schema.place(HISTORY, "id")
        first_from = f"SELECT min({place}) FROM {HISTORY} WHERE {place} >= ?"
        next_id = 1
        while (row_id := self._one(first_from, next_id)[0]) is not None:
            partition = grid.partition_of(row_id)
            if partition == OTHER:
                return
            yield partition
            next_id = partition.last_id + 1

    def partitions(self, grid: Grid) -> Iterator[PartitionContent]:
        """Yield the content of each partition of `grid` that has rows, in key order."""
        content = self._records_content(grid) or self._cells_content()
        self._require_lookups()
        rows = 0
        for partition in chain(self._on_grid(grid), [OTHER]):
            found = self._content(partition, content)
            rows += found.rows
            if found.rows:
                yield found
        if rows != self.count_rows():
            raise out_of_order(self._named)

    def _content(self, partition: Partition, content: _Content) -> PartitionContent:
        rows, digests, starts = 0, [], []
        for ids in partition.ranges:
            count, first, last, digest, *_ = self._one(content.query, ids.first, ids.last)
            rows += count
            digests.append(content.digest_of(ids) or digest or "")
            starts += [moment for moment in (first, last) if moment is not None]
        started = (min(starts), max(starts)) if starts else None
        return PartitionContent(partition, rows, "".join(digests)[:64], started)

    def _records_content(self, grid: Grid) -> _Content | None:
        """Compute digests from records; None if tables of the file have no row numbers."""
        tables = [table for table in HISTORY_TABLES if self._schema.has(table, "id")]
        if not self._schema.keyed.issuperset(tables):
            return None

        def last_of(row_id: int) -> int:
            ranges = grid.partition_of(row_id).ranges
            return next(ids.last for ids in ranges if row_id <= ids.last)

        roots = self._roots()
        try:
            with open_records(self._database) as records:
                digests = [records.digests(roots[table], last_of) for table in tables]
        except RecordsUnreadableError:
            return None  # SQLite says what is wrong, if anything is
        columns = [self._schema.tables[table] for table in tables]

        def digest_of(ids: IdRange) -> str:
            found = [of_table.get(ids.last) for of_table in digests]
            whole = repr((columns, found)).encode()
            return hashlib.blake2b(whole, digest_size=16).hexdigest() if any(found) else ""

        # SQLite has to look at the whole record to find its last cell.
        ends = {
            alias: f"{alias}.{quote_identifier(self._schema.tables[table][-1])}"
            for table, alias in _ALIASES.items()
            if table in tables
        }
        return _Content(self._query(ends, "count"), digest_of)

    def _roots(self) -> dict[str, int]:
        """Return the number of the first page of each table."""
        tables = "SELECT lower(name), rootpage FROM sqlite_master WHERE type = 'table'"
        return dict(self._all(tables))

    def _cells_content(self) -> _Content:
        """Compute digests from cells, with text as blobs (not always UTF-8)."""
        # The type stub allows only steps over integers.
        self._connection.create_aggregate("content_digest", 1, _Digest)  # type: ignore[arg-type]
        cells = [
            f"{alias}.{quote_identifier(column)}"
            for table, alias in _ALIASES.items()
            if self._schema.has(table, "id")
            for column in self._schema.tables[table]
        ]
        whole = {"content": f"CAST({_as_one_text(cells)} AS BLOB)"}
        return _Content(self._query(whole, "content_digest"), lambda _ids: "")

    def _query(self, values: Mapping[str, str], aggregate: str) -> str:
        """Return SQL for the count, the first and the last start, and aggregates of an id range."""
        joins = f"{self._schema.join(METADATA, 'm')} {self._schema.join(MEDIA_INFO, 'i')}"
        has_start = _HAS_START.format("h.started", int(time.time()) + _DAY_SECONDS)
        start = f"CASE WHEN {has_start} THEN h.started END"
        listed = ", ".join(f"{sql} AS {name}" for name, sql in {"start": start, **values}.items())
        sums = ", ".join(f"{aggregate}({name})" for name in values)
        return (
            f"SELECT count(*), min(start), max(start), {sums} FROM ("
            f"SELECT {listed} FROM {HISTORY} h {joins} "
            f"WHERE {self._schema.has_id_within(HISTORY, 'h.id')} ORDER BY h.id)"
        )

    def require_ends(self) -> None:
        """Read what the reader scans as a whole: it would never finish pages in a circle."""
        self._require_lookups()
        for table in HISTORY_TABLES:
            if table == HISTORY or (
                self._schema.has(table, "id") and table not in self._schema.keyed
            ):
                self._one(f"SELECT count(1) FROM {table} NOT INDEXED")

    def _require_lookups(self) -> None:
        """Read all pages of the small tables and of the indexes used for lookups."""
        for table in ("users", "library_sections"):
            columns, key = self._schema.tables[table], LOOKUPS[table][0]
            if self._schema.has(table, key):
                lengths = ", ".join(f"total(length({quote_identifier(c)}))" for c in columns)
                self._one(f"SELECT {lengths} FROM {table} NOT INDEXED")
                in_order = f"SELECT {key} FROM {table} ORDER BY {key} LIMIT -1"
                self._one(f"SELECT total(length({key})) FROM ({in_order})")

    def _one(self, sql: str, *parameters: int | None) -> Any:  # noqa: ANN401 - any SQLite value
        return self._all(sql, *parameters)[0]

    def _all(self, sql: str, *parameters: int | None) -> list[Any]:
        with explained(self._connection, f"cannot read {self._named}"):
            return self._connection.execute(sql, parameters).fetchall()


def _as_one_text(cells: Sequence[str]) -> str:
    """Return SQL that joins the cells with a separator, so that 1, 23 differs from 12, 3."""
    parts = [cells[i : i + _PRINTF_CELLS] for i in range(0, len(cells), _PRINTF_CELLS)]
    return " || ".join(f"printf('{_CELL_FORMAT * len(part)}', {', '.join(part)})" for part in parts)


class _Digest:
    """A SQLite aggregate: BLAKE2 over the rows of a range."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)

    def step(self, content: bytes | None) -> None:
        self._hash.update(content or b"\0")

    def finalize(self) -> str:
        return self._hash.hexdigest()


@contextmanager
def open_survey(database: Path, schema: SourceSchema, *, named: Named) -> Iterator[Survey]:
    """Open the private copy `database`; messages name `named`, the user's path."""
    with open_copy(database) as connection:
        yield Survey(database, connection, schema, named)
