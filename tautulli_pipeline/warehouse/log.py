"""The write-ahead log, kept so that DuckDB can replay it after a crash."""

from __future__ import annotations

import duckdb

from tautulli_pipeline.warehouse.schema import ROWS_PER_TRANSACTION


class WriteAheadLog:
    """Keeps whole row groups and loose rows apart: one log never holds both.

    A transaction that fills a row group writes it into the file and only notes it in the
    log. DuckDB 1.5 cannot replay such notes together with loose rows of a table that has
    unique indexes: after a crash the file could not be opened any more.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._holds_row_groups: bool | None = None

    def admit(self, rows: int) -> None:
        """Begin a new log where a transaction of `rows` does not go with what it holds."""
        if rows == 0:
            return
        fills_row_group = rows >= ROWS_PER_TRANSACTION
        if self._holds_row_groups not in {None, fills_row_group}:
            self._connection.execute("CHECKPOINT")
        self._holds_row_groups = fills_row_group
