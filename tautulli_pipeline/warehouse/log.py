"""Keeps the write-ahead log in a state that DuckDB can replay after a crash."""

from __future__ import annotations

from typing import Final

import duckdb

from tautulli_pipeline.warehouse.schema import ROWS_PER_TRANSACTION, checkpoint

# Loose rows stay in memory until a checkpoint; one transaction needs half as much.
_LOOSE_BYTES: Final = 48 * 2**20


class WriteAheadLog:
    """Never lets one log hold both whole row groups and loose rows.

    A transaction that fills a row group writes it to the file and logs only a reference.
    DuckDB 1.5 cannot replay such references together with loose rows of a table with
    unique indexes: after a crash, the file could no longer be opened.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._holds_row_groups: bool | None = None
        self._loose_bytes = 0

    def admit(self, rows: int, size_bytes: int) -> None:
        """Checkpoint first if a transaction of `rows` rows does not fit the current log."""
        fills_row_group = rows >= ROWS_PER_TRANSACTION
        differs = rows > 0 and self._holds_row_groups not in {None, fills_row_group}
        loose_bytes = 0 if fills_row_group else size_bytes
        if differs or self._loose_bytes + loose_bytes > _LOOSE_BYTES:
            checkpoint(self._connection)
            self._loose_bytes = 0
        self._loose_bytes += loose_bytes
        if rows > 0:
            self._holds_row_groups = fills_row_group
