"""Changes to the databases that are imported."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Final

from tautulli_pipeline.events.columns import HISTORY, HISTORY_TABLES
from tautulli_pipeline.events.identity import quote_identifier

APPENDED_ROWS: Final = 500


def append_rows(database: Path, rows: int = APPENDED_ROWS) -> None:
    """Append copies of the last `rows` plays, as if they were watched again right after."""
    with closing(sqlite3.connect(database)) as connection, connection:
        first, last, first_start, last_stop = connection.execute(
            f"SELECT min(id), max(id), min(started), max(stopped) FROM "
            f"(SELECT * FROM {HISTORY} ORDER BY id DESC LIMIT ?)",
            [rows],
        ).fetchone()
        # Ids have gaps.
        up, later = last - first + 1, last_stop - first_start + 1
        for table in HISTORY_TABLES:
            _copy(connection, table, first, {"id": up, "started": later, "stopped": later})


def _copy(
    connection: sqlite3.Connection, table: str, first: int, shifts: Mapping[str, int]
) -> None:
    """Copy the rows from id `first` on, and add `shifts` to some columns."""
    described = connection.execute(f"SELECT * FROM {table} LIMIT 0").description
    values = [
        f"{quote_identifier(name)} + {shifts[name]}" if name in shifts else quote_identifier(name)
        for name, *_ in described
    ]
    connection.execute(
        f"INSERT INTO {table} SELECT {', '.join(values)} FROM {table} WHERE id >= ? ORDER BY id",
        [first],
    )
