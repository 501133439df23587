"""Counts of what was added to the warehouse since a given time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import duckdb

_MONTHS: Final = """
    SELECT strftime(started_at, '%Y-%m'), count(*) FROM playback_events
    GROUP BY ALL ORDER BY ALL
"""
_DISCARDED: Final = """
    SELECT dedupe_layer, dedupe_reason, count(*)
    FROM dedupe_audit_log WHERE created_at >= ? GROUP BY ALL ORDER BY ALL
"""
_FIGURES: Final = """
    SELECT count(*) FILTER (created_at >= $1), min(started_at), max(started_at), count(*),
        (SELECT count(*) FROM dead_letters WHERE created_at >= $1)
    FROM playback_events
"""


@dataclass(frozen=True)
class Arrivals:
    """Counts of stored plays, discarded duplicates and new dead letters.

    Attributes:
        stored: plays that were added to the table.
        discarded: discarded duplicates by layer and reason.
        row_count: all plays in the table.
        months: all plays in the table by month of their start, in UTC.
        span: the first and last start of all plays in the table; None if it is empty.
    """

    stored: int
    months: tuple[tuple[str, int], ...]
    span: tuple[datetime, datetime] | None
    discarded: tuple[tuple[str, str, int], ...]
    dead_letters: int
    row_count: int

    @property
    def has_changes(self) -> bool:
        """Whether anything was stored, discarded or kept as a dead letter."""
        return bool(self.stored or self.discarded or self.dead_letters)


def arrivals_since(connection: duckdb.DuckDBPyConnection, moment: datetime) -> Arrivals:
    """Return the counts since `moment`, which is in UTC without a time zone."""

    def rows(sql: str) -> list[Any]:
        return connection.execute(sql, [moment]).fetchall()

    ((stored, first, last, row_count, dead_letters),) = rows(_FIGURES)
    return Arrivals(
        stored=stored,
        months=tuple(connection.execute(_MONTHS).fetchall()),
        span=(first, last) if first else None,
        discarded=tuple(rows(_DISCARDED)),
        dead_letters=dead_letters,
        row_count=row_count,
    )
