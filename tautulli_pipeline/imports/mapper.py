"""Map batches of history rows to events, many batches per query."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from typing import Final

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from tautulli_pipeline.events.batch import ROWS_PER_PIECE
from tautulli_pipeline.events.mapping import mapping_query, record_query

# Planning the query costs as much as mapping a thousand rows. A rarely taken branch of the
# query keeps the last batch that took it in memory until the query ends.
_BATCHES_PER_QUERY: Final = 16


class Mapper:
    """Maps the rows of one file.

    Args:
        columns: the columns of each history table in this file.
        server_id: goes into keys and events.
        max_payload_bytes: larger events are rejected.
    """

    def __init__(
        self, columns: Mapping[str, Sequence[str]], server_id: str, *, max_payload_bytes: int
    ) -> None:
        self._query = mapping_query(columns, server_id, max_payload_bytes=max_payload_bytes)
        self._record_query = record_query(columns)

    def map(self, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
        """Map `batches`, which have `schema`, as they arrive.

        Yields:
            The rows of `mapping_query`, in the order of the batches, with the raw
            `record` of each rejected row.

        Raises:
            Exception: any error that `batches` raises.
        """
        left = iter(batches)
        with duckdb.connect(config={"threads": 1}) as connection:
            while (first := next(left, None)) is not None:
                some = chain([first], islice(left, _BATCHES_PER_QUERY - 1))
                yield from self._map_by_one_query(connection, _Feed(schema, some))

    def _map_by_one_query(
        self, connection: duckdb.DuckDBPyConnection, feed: _Feed
    ) -> Iterator[pa.Table]:
        connection.register("batch", feed.reader())
        with feed.source_errors():
            for rows in connection.execute(self._query).to_arrow_reader(ROWS_PER_PIECE):
                records = self._records(feed.take(rows.num_rows), rows)
                yield pa.Table.from_batches([rows]).append_column("record", records)

    def _records(self, raw: pa.Table, rows: pa.RecordBatch) -> pa.Array:
        """Return the raw record of each rejected row, at its position."""
        none = pa.nulls(rows.num_rows, pa.string())
        if rows["reason"].null_count == rows.num_rows:
            return none
        rejected = pc.is_valid(rows["reason"])
        with duckdb.connect(config={"threads": 1}) as connection:
            connection.register("batch", raw.filter(rejected))
            records = connection.execute(self._record_query).to_arrow_table(ROWS_PER_PIECE)
        return pc.replace_with_mask(none, rejected, records["record"].combine_chunks())


class _Feed:
    """Feeds batches to a query and keeps them until its rows arrive."""

    def __init__(self, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
        self._schema = schema
        self._batches = batches
        self._passed: deque[pa.RecordBatch] = deque()
        self._error: BaseException | None = None

    def reader(self) -> pa.RecordBatchReader:
        return pa.RecordBatchReader.from_batches(self._schema, self._pass_on())

    def _pass_on(self) -> Iterator[pa.RecordBatch]:
        try:
            for batch in self._batches:
                self._passed.append(batch)
                yield batch
        except BaseException as error:
            self._error = error
            raise

    @contextmanager
    def source_errors(self) -> Iterator[None]:
        """Raise the error of the batches instead of the query error that it caused."""
        try:
            yield
        except (duckdb.Error, pa.ArrowInvalid, OSError):
            if self._error is not None:
                raise self._error from None
            raise

    def take(self, count: int) -> pa.Table:
        """Return the next `count` rows that passed."""
        taken = []
        while count:
            batch = self._passed.popleft()
            if batch.num_rows > count:
                self._passed.appendleft(batch.slice(count))
                batch = batch.slice(0, count)
            taken.append(batch)
            count -= batch.num_rows
        return pa.Table.from_batches(taken, self._schema)
