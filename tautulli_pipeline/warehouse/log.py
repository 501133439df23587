"""The write-ahead log, kept so that DuckDB can replay it after a crash."""

from __future__ import annotations

from typing import Final

import duckdb

from tautulli_pipeline.warehouse.schema import ROWS_PER_TRANSACTION

# Loose rows stay in memory until a checkpoint; half as much is what one transaction needs.
_LOOSE_BYTES: Final = 48 * 2**20


class WriteAheadLog:
    """Keeps whole row groups and loose rows apart: one log never holds both.

    A transaction that fills a row group writes it into the file and only notes it in the
    log. DuckDB 1.5 cannot replay such notes together with loose rows of a table that has
    unique indexes: after a crash the file could not be opened any more.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._holds_row_groups: bool | None = None
        self._loose_bytes = 0

    def admit(self, rows: int, size_bytes: int) -> None:
        """Begin a new log where a transaction of `rows` does not go with what it holds."""
        fills_row_group = rows >= ROWS_PER_TRANSACTION
        differs = rows > 0 and self._holds_row_groups not in {None, fills_row_group}
        loose_bytes = 0 if fills_row_group else size_bytes
        if differs or self._loose_bytes + loose_bytes > _LOOSE_BYTES:
            self._connection.execute("CHECKPOINT")
            self._loose_bytes = 0
        self._loose_bytes += loose_bytes
        if rows > 0:
            self._holds_row_groups = fills_row_group
