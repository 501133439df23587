"""An Arrow batch for queries that are planned once and run for many batches."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

# DuckDB reads a batch in pieces. The results of one piece fit into the CPU cache, and their
# memory is reused for the next. Measured at 5 KB per row: smaller pieces need more calls,
# larger ones more freshly zeroed pages.
ROWS_PER_PIECE: Final = 1024


class CurrentBatch:
    """A table that is registered with DuckDB once and returns the current batch.

    Planning a query over 150 columns costs as much as running it on a thousand rows, so
    queries are prepared once against this table and executed for each batch.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self.table = schema.empty_table()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Return the batch as an Arrow C stream, which DuckDB requests at each execution."""
        pieces = self.table.to_batches(max_chunksize=ROWS_PER_PIECE)
        reader = pa.RecordBatchReader.from_batches(self.table.schema, pieces)
        return reader.__arrow_c_stream__(requested_schema)
