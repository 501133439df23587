"""Map batches of history rows to events, many batches per query."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Final

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from tautulli_pipeline.events.batch import ROWS_PER_PIECE
from tautulli_pipeline.events.mapping import mapping_query, record_query
from tautulli_pipeline.imports.messages import payload_bytes
from tautulli_pipeline.stream.limits import DEFAULT_MESSAGE_LIMIT, MessageLimit

# Planning the query costs as much as mapping a thousand rows. A rarely taken branch of the
# query keeps the last batch that took it in memory until the query ends.
_BATCHES_PER_QUERY: Final = 16
# The rows of a query arrive in pieces of many batches. A piece takes memory in several places.
_QUERY_BYTES: Final = 4 * 2**20


class Mapper:
    """Maps the rows of one file.

    Args:
        columns: the columns of each history table in this file.
        server_id: goes into keys and events.
        limit: larger messages are rejected.
    """

    def __init__(
        self,
        columns: Mapping[str, Sequence[str]],
        server_id: str,
        limit: MessageLimit = DEFAULT_MESSAGE_LIMIT,
    ) -> None:
        self._query = mapping_query(
            columns,
            server_id,
            max_payload_bytes=payload_bytes(limit),
            limit=limit.set_by,
        )
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
                some = _bounded(chain([first], left))
                yield from self._map_by_one_query(connection, schema, some)

    def _map_by_one_query(
        self,
        connection: duckdb.DuckDBPyConnection,
        schema: pa.Schema,
        batches: Iterable[pa.RecordBatch],
    ) -> Iterator[pa.Table]:
        unmapped: list[pa.RecordBatch] = []
        errors: list[BaseException] = []

        def pass_on() -> Iterator[pa.RecordBatch]:
            try:
                for batch in batches:
                    unmapped.append(batch)
                    yield batch
            except BaseException as error:
                errors.append(error)
                raise

        connection.register("batch", pa.RecordBatchReader.from_batches(schema, pass_on()))
        try:
            for rows in connection.execute(self._query).to_arrow_reader(ROWS_PER_PIECE):
                raw = pa.Table.from_batches(unmapped, schema)
                unmapped[:] = raw.slice(rows.num_rows).to_batches()
                records = self._records(raw.slice(0, rows.num_rows), rows)
                yield pa.Table.from_batches([rows]).append_column("record", records)
        except (duckdb.Error, pa.ArrowInvalid, OSError):
            if errors:  # the query fails with an error of its own
                raise errors[0] from None
            raise

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


def _bounded(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield the next batches for one query, which are few if they are large."""
    size_bytes = 0
    for batch in islice(batches, _BATCHES_PER_QUERY):
        yield batch
        size_bytes += batch.nbytes
        if size_bytes > _QUERY_BYTES:
            return
