"""What came into the warehouse since a moment."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import duckdb

from tautulli_pipeline.warehouse.schema import count_events

_STORED: Final = """
    SELECT strftime(started_at, '%Y-%m'), count(*) FROM playback_events
    WHERE created_at >= ? GROUP BY ALL ORDER BY ALL
"""
_SPAN: Final = "SELECT min(started_at), max(started_at) FROM playback_events WHERE created_at >= ?"
_DISCARDED: Final = """
    SELECT dedupe_layer, dedupe_reason, count(*)
    FROM dedupe_audit_log WHERE created_at >= ? GROUP BY ALL ORDER BY ALL
"""
_DEAD: Final = "SELECT count(*) FROM dead_letters WHERE created_at >= ?"


@dataclass(frozen=True)
class Arrivals:
    """Rows stored, duplicates dropped and dead letters kept.

    Attributes:
        months: stored plays by month of their start, UTC.
        span: first and last start among them; None where nothing was stored.
        discarded: dropped duplicates by layer and reason.
        row_count: plays in the table altogether.
    """

    months: tuple[tuple[str, int], ...]
    span: tuple[datetime, datetime] | None
    discarded: tuple[tuple[str, str, int], ...]
    dead_letters: int
    row_count: int

    @property
    def is_anything(self) -> bool:
        """Whether anything was stored, dropped or kept."""
        return bool(self.stored or self.discarded or self.dead_letters)

    @property
    def stored(self) -> int:
        """Plays that are new in the table."""
        return sum(plays for _, plays in self.months)


def arrivals_since(connection: duckdb.DuckDBPyConnection, moment: datetime) -> Arrivals:
    """What was stored, dropped and kept since `moment`, in UTC without a zone."""

    def rows(sql: str) -> list[Any]:
        return connection.execute(sql, [moment]).fetchall()

    ((first, last),) = rows(_SPAN)
    ((dead,),) = rows(_DEAD)
    return Arrivals(
        months=tuple(rows(_STORED)),
        span=(first, last) if first and last else None,
        discarded=tuple(rows(_DISCARDED)),
        dead_letters=dead,
        row_count=count_events(connection),
    )
