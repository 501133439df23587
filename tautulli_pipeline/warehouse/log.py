"""Keeps the write-ahead log in a state that DuckDB can replay after a crash."""

from __future__ import annotations

from typing import Final

import duckdb

from tautulli_pipeline.warehouse.schema import (
    ROWS_PER_TRANSACTION,
    checkpoint,
    split_row_groups,
)

# Loose rows stay in memory until a checkpoint; one transaction needs half as much.
_LOOSE_BYTES: Final = 48 * 2**20
# 2048 rows of this size can still be read at once.
_LARGE_ROW_BYTES: Final = 2**16
# Large rows in one row group.
_SPLIT_BYTES: Final = 16 * 2**20


class WriteAheadLog:
    """Decides when to write the log into the file, for the sake of memory and of recovery.

    A transaction that fills a row group writes it to the file and logs only a reference.
    DuckDB 1.5 cannot replay such references together with loose rows of a table with
    unique indexes: after a crash, the file could no longer be opened. So one log never holds both.

    Loose rows are added to the last row group. At each commit, DuckDB reads its rows from the last
    multiple of 2048 on, and at each checkpoint, it writes all of it again. So large rows begin a
    row group after each checkpoint: otherwise, memory would grow with their number, and time with
    its square.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._holds_row_groups: bool | None = None
        self._loose_bytes = 0
        self._splits = False

    def admit(self, rows: int, size_bytes: int, largest_bytes: int) -> None:
        """Checkpoint first if a transaction of `rows` rows does not fit the current log.

        Raises:
            WarehouseBrokenError: the warehouse has to be reopened.
        """
        fills_row_group = rows >= ROWS_PER_TRANSACTION
        differs = rows > 0 and self._holds_row_groups not in {None, fills_row_group}
        loose_bytes = 0 if fills_row_group else size_bytes
        if largest_bytes > _LARGE_ROW_BYTES and not self._splits:
            split_row_groups(self._connection)
            self._splits = True
            self._loose_bytes = 0
        elif differs or self._loose_bytes + loose_bytes > self._limit_bytes:
            checkpoint(self._connection)
            self._loose_bytes = 0
        self._loose_bytes += loose_bytes
        if rows > 0:
            self._holds_row_groups = fills_row_group

    @property
    def _limit_bytes(self) -> int:
        return _SPLIT_BYTES if self._splits else _LOOSE_BYTES
