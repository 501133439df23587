"""Map the source rows of dead letters again, from their record or from the source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

import duckdb
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from tautulli_pipeline.events.columns import HISTORY, HISTORY_TABLES, LOOKUPS
from tautulli_pipeline.events.mapping import CUT, record_query
from tautulli_pipeline.imports.mapper import Mapper
from tautulli_pipeline.source.reader import HistoryReader, IdRange
from tautulli_pipeline.source.schema import SourceSchema
from tautulli_pipeline.warehouse.dead_letters import Letter, facts, same_play

_IDS_PER_QUERY: Final = 1000
_MAPPED: Final = ("event_id", "subject", "payload", "reason")

_SAME: Final = f"""
    SELECT place, letters.id, now.record
    FROM (
        SELECT *, {facts("record::JSON")} AS facts
        FROM (SELECT row_number() OVER () - 1 AS place, * FROM ({{}}))
    ) now
    JOIN (SELECT *, {facts("record::JSON")} AS facts FROM letters) letters
        ON row_id = source_row_id
    WHERE {same_play("letters.facts", "now.facts")}
"""

_Cells = dict[str, str | None]
_Columns = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class RejectedRow:
    """A row to map, from the source or from its record.

    Attributes:
        columns: the columns of each history table.
        cells: the values by `<table>.<column>`.
        record: the raw record, if the row was read from the source.
    """

    columns: _Columns
    cells: _Cells
    record: str | None = None

    @classmethod
    def of_record(cls, record: str) -> RejectedRow:
        """Build the row from its record."""
        tables: dict[str, _Cells] = orjson.loads(record)
        columns: dict[str, Sequence[str]] = {
            table: tuple(tables[table]) for table in HISTORY_TABLES if table in tables
        }
        cells = {f"{t}.{column}": cell for t, row in tables.items() for column, cell in row.items()}
        return cls(columns, dict.fromkeys(LOOKUPS) | cells)


def is_whole(record: str) -> bool:
    """Whether the record of a row contains all of its cells in full."""
    return CUT not in orjson.loads(record)


@dataclass(frozen=True)
class Mapped:
    """The result of mapping a row; either `reason` or `payload` is None."""

    event_id: str | None
    subject: str
    payload: str | None
    reason: str | None


class RowSource:
    """Reads the current source rows of dead letters."""

    def __init__(self, reader: HistoryReader, schema: SourceSchema) -> None:
        self._reader = reader
        self._columns = schema.history_columns

    def read(self, letters: Sequence[Letter]) -> dict[str, RejectedRow]:
        """Return the rows by letter id, if the source still has the same play."""
        found: dict[str, RejectedRow] = {}
        for ids, some in _ranges(letters):
            wanted = pa.array([str(n.source_row_id) for n in some], pa.string())
            batch = self._reader.read(ids)
            batch = batch.filter(pc.is_in(batch[f"{HISTORY}.id"], wanted))
            with duckdb.connect(config={"threads": 1}) as connection:
                connection.register("batch", batch)
                connection.register("letters", _as_table(some))
                same = connection.execute(_SAME.format(record_query(self._columns))).fetchall()
            rows = batch.take(pa.array([place for place, _, _ in same], pa.int64())).to_pylist()
            for (_, letter_id, record), cells in zip(same, rows, strict=True):
                found[letter_id] = RejectedRow(self._columns, cells, record)
        return found


def _as_table(letters: Sequence[Letter]) -> pa.Table:
    schema = pa.schema([("id", pa.string()), ("row_id", pa.int64()), ("record", pa.string())])
    rows = [{"id": n.id, "row_id": n.source_row_id, "record": n.record} for n in letters]
    return pa.Table.from_pylist(rows, schema=schema)


def _ranges(letters: Sequence[Letter]) -> Iterator[tuple[IdRange, list[Letter]]]:
    """Group the letters by narrow ranges of row ids."""
    numbered = [(n.source_row_id, n) for n in letters if n.source_row_id is not None]
    numbered.sort(key=itemgetter(0))
    for _, group in groupby(numbered, lambda pair: pair[0] // _IDS_PER_QUERY):
        ids, some = zip(*group, strict=True)
        yield IdRange(ids[0], ids[-1]), list(some)


def map_rows(rows: Sequence[RejectedRow], server_ids: Sequence[str]) -> list[Mapped]:
    """Map each row with the current mapping; keep the order."""
    alike: dict[tuple[Any, ...], list[int]] = {}
    for place, (row, server_id) in enumerate(zip(rows, server_ids, strict=True)):
        columns = tuple((table, tuple(names)) for table, names in row.columns.items())
        alike.setdefault((server_id, columns), []).append(place)
    mapped: dict[int, Mapped] = {}
    for (server_id, columns), places in alike.items():
        found = _map([rows[place] for place in places], dict(columns), server_id)
        mapped.update(zip(places, found, strict=True))
    return [mapped[place] for place in range(len(rows))]


def _map(rows: Sequence[RejectedRow], columns: _Columns, server_id: str) -> list[Mapped]:
    names = [f"{table}.{column}" for table in HISTORY_TABLES for column in columns.get(table, ())]
    schema = pa.schema([(name, pa.string()) for name in (*names, *LOOKUPS)])
    batch = pa.Table.from_pylist([row.cells for row in rows], schema=schema)
    # These events go straight to the table, so no stream limits their size.
    mapper = Mapper(columns, server_id)
    found = pa.concat_tables(mapper.map(schema, batch.to_batches()))
    return [Mapped(**row) for row in found.select(_MAPPED).to_pylist()]
