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
