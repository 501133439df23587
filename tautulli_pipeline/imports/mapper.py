"""Batches of history rows to events, many by one query."""

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

# Planning the query costs as much as mapping a thousand rows. A branch of it that is taken
# seldom holds the last batch that took it, whole, until the query ends.
_BATCHES_PER_QUERY: Final = 16


class Mapper:
    """Maps the rows of one file.

    Args:
        columns: the columns each history table has in this file.
        server_id: goes into keys and events.
        max_payload_bytes: an event over this size is rejected.
    """

    def __init__(
        self, columns: Mapping[str, Sequence[str]], server_id: str, *, max_payload_bytes: int
    ) -> None:
        self._query = mapping_query(columns, server_id, max_payload_bytes=max_payload_bytes)
        self._record_query = record_query(columns)

    def map(self, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
        """Map `batches`, which have `schema`, while they come.

        Yields:
            The rows of `mapping_query`, in the order of the batches, with the raw
            `record` of those that became no event.

        Raises:
            Exception: whatever `batches` raise.
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
        with feed.own_faults():
            for rows in connection.execute(self._query).to_arrow_reader(ROWS_PER_PIECE):
                records = self._records(feed.take(rows.num_rows), rows)
                yield pa.Table.from_batches([rows]).append_column("record", records)

    def _records(self, raw: pa.Table, rows: pa.RecordBatch) -> pa.Array:
        """The raw rows that became no event, each in its place."""
        none = pa.nulls(rows.num_rows, pa.string())
        if rows["reason"].null_count == rows.num_rows:
            return none
        rejected = pc.is_valid(rows["reason"])
        with duckdb.connect(config={"threads": 1}) as connection:
            connection.register("batch", raw.filter(rejected))
            records = connection.execute(self._record_query).to_arrow_table(ROWS_PER_PIECE)
        return pc.replace_with_mask(none, rejected, records["record"].combine_chunks())


class _Feed:
    """Batches on their way into a query, which are wanted again beside its rows."""

    def __init__(self, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
        self._schema = schema
        self._batches = batches
        self._passed: deque[pa.RecordBatch] = deque()
        self._fault: BaseException | None = None

    def reader(self) -> pa.RecordBatchReader:
        return pa.RecordBatchReader.from_batches(self._schema, self._pass_on())

    def _pass_on(self) -> Iterator[pa.RecordBatch]:
        try:
            for batch in self._batches:
                self._passed.append(batch)
                yield batch
        except BaseException as error:
            self._fault = error
            raise

    @contextmanager
    def own_faults(self) -> Iterator[None]:
        """Raise what went wrong here in place of the query's words for it."""
        try:
            yield
        except (duckdb.Error, pa.ArrowInvalid, OSError):
            if self._fault is not None:
                raise self._fault from None
            raise

    def take(self, count: int) -> pa.Table:
        """The next `count` rows of what passed."""
        taken = []
        while count:
            batch = self._passed.popleft()
            if batch.num_rows > count:
                self._passed.appendleft(batch.slice(count))
                batch = batch.slice(0, count)
            taken.append(batch)
            count -= batch.num_rows
        return pa.Table.from_batches(taken, self._schema)
