"""The Arrow batch that a query reads which is planned once and run for many."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

# DuckDB takes a batch piece by piece; what a query makes of one stays in the processor's
# cache and its memory serves the next. Measured on 5 KB a row: smaller pieces cost more
# in calls, larger ones in pages that have to be cleared.
ROWS_PER_PIECE: Final = 1024


class CurrentBatch:
    """A table to register with DuckDB once, standing for whichever batch is current.

    Planning a query over 150 columns costs as much as running it over a thousand rows,
    so queries are prepared over this and executed for each batch put into it.
    """

    def __init__(self, schema: pa.Schema, *, rows_per_piece: int = ROWS_PER_PIECE) -> None:
        self.table = schema.empty_table()
        self._rows_per_piece = rows_per_piece

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The batch as Arrow's C stream, which DuckDB asks for at each execution."""
        pieces = self.table.to_batches(max_chunksize=self._rows_per_piece)
        reader = pa.RecordBatchReader.from_batches(self.table.schema, pieces)
        return reader.__arrow_c_stream__(requested_schema)
