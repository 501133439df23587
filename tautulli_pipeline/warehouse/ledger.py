"""The ledger: one fate for each source row, derived from what the warehouse holds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import duckdb
import pyarrow as pa

from tautulli_pipeline.events import identity

_FATES = """
    CREATE OR REPLACE TEMP TABLE fates AS
    SELECT r.source_row_id, r.event_id, r.outcome, CASE
        WHEN r.outcome = 'rejected' THEN 'rejected'
        WHEN r.outcome = 'unreadable' THEN 'errors'
        WHEN e.import_id = $import_id AND e.source_row_id = r.source_row_id THEN 'imported'
        WHEN a.dedupe_layer IS NOT NULL THEN a.dedupe_layer
        WHEN r.outcome = 'duplicate' AND e.id IS NOT NULL THEN 'stream'
    END AS fate
    FROM receipt r
    LEFT JOIN playback_events e ON e.id = r.event_id
        AND e.source_row_id BETWEEN $first AND $last
    LEFT JOIN (
        SELECT source_row_id, any_value(dedupe_layer) AS dedupe_layer
        FROM dedupe_audit_log
        WHERE import_id = $import_id AND source_row_id BETWEEN $first AND $last
        GROUP BY source_row_id
    ) a ON a.source_row_id = r.source_row_id
"""

# Rows that layer 1 dropped in favour of an event found under another row or import,
# and events that reached us but could not be read.
_LATE_FATES = """
    UPDATE fates SET fate = late.fate FROM (
        SELECT DISTINCT ON (f.source_row_id) f.source_row_id, CASE
            WHEN d.event_id IS NOT NULL THEN 'rejected' ELSE 'stream' END AS fate
        FROM fates f
        LEFT JOIN playback_events e ON e.id = f.event_id
        LEFT JOIN dedupe_audit_log a ON a.discarded_event_id = f.event_id
        LEFT JOIN dead_letters d ON d.event_id = f.event_id::VARCHAR
        WHERE f.fate IS NULL AND (d.event_id IS NOT NULL
            OR (f.outcome = 'duplicate' AND (e.id IS NOT NULL OR a.id IS NOT NULL)))
    ) late WHERE fates.source_row_id = late.source_row_id AND fates.fate IS NULL
"""

_ENTRY = """
    INSERT INTO import_ledger
    SELECT $import_id, $partition_key,
        count(*),
        count(fate),
        count(*) FILTER (outcome = 'published' OR fate IN ('imported', 'cache', 'database')),
        count(*) FILTER (fate = 'imported'),
        count(*) FILTER (fate = 'stream'),
        count(*) FILTER (fate = 'cache'),
        count(*) FILTER (fate = 'database'),
        count(*) FILTER (fate = 'rejected'),
        count(*) FILTER (fate = 'errors'),
        $published_at, $now
    FROM fates
    ON CONFLICT (import_id, partition_key) DO UPDATE SET
        total_records = excluded.total_records,
        processed = excluded.processed,
        published = excluded.published,
        imported = excluded.imported,
        duplicates_stream = excluded.duplicates_stream,
        duplicates_cache = excluded.duplicates_cache,
        duplicates_database = excluded.duplicates_database,
        rejected = excluded.rejected,
        errors = excluded.errors,
        published_at = excluded.published_at,
        settled_at = excluded.settled_at
"""


@dataclass(frozen=True)
class LedgerEntry:
    """What identifies the receipt that is settled; see `imports.receipts.Receipt`."""

    import_id: str
    partition_key: str
    server_id: str
    published_at: datetime


class Ledger:
    """Settles partitions whose messages are all consumed."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def settle(self, entry: LedgerEntry, rows: pa.Table, now: datetime) -> list[int]:
        """Write the partition's line and the dead letters of its rejected rows.

        Safe to repeat: the line is derived anew, and a dead letter is named after its
        row's content.

        Args:
            entry: the partition.
            rows: its rows (`imports.receipts.ROWS`).
            now: UTC.

        Returns:
            The ids of rows without a fate: published, but nowhere to be found.
        """
        self._connection.begin()
        try:
            unsettled = self._settle(entry, rows, now)
        except BaseException:
            self._connection.rollback()
            raise
        self._connection.commit()
        return unsettled

    def _settle(self, entry: LedgerEntry, rows: pa.Table, now: datetime) -> list[int]:
        self._connection.register("receipt_rows", rows)
        try:
            self._insert_dead_letters(entry, now)
            self._derive_fates(entry)
        finally:
            self._connection.unregister("receipt_rows")
        self._connection.execute(
            _ENTRY,
            {
                "import_id": entry.import_id,
                "partition_key": entry.partition_key,
                "published_at": entry.published_at,
                "now": now,
            },
        )
        missing = self._connection.execute("SELECT source_row_id FROM fates WHERE fate IS NULL")
        return [row_id for (row_id,) in missing.fetchall()]

    def _derive_fates(self, entry: LedgerEntry) -> None:
        self._connection.execute(
            "CREATE OR REPLACE TEMP TABLE receipt AS "
            "SELECT source_row_id, TRY_CAST(event_id AS UUID) AS event_id, outcome "
            "FROM receipt_rows"
        )
        span = self._connection.execute(
            "SELECT min(source_row_id), max(source_row_id) FROM receipt"
        ).fetchone()
        assert span is not None
        self._connection.execute(
            _FATES, {"import_id": entry.import_id, "first": span[0], "last": span[1]}
        )
        unknown = self._connection.execute("SELECT 1 FROM fates WHERE fate IS NULL LIMIT 1")
        if unknown.fetchone():
            self._connection.execute(_LATE_FATES)

    def _insert_dead_letters(self, entry: LedgerEntry, now: datetime) -> None:
        name = "concat_ws(':', 'session_history', $server_id, source_row_id, sha256(record))"
        self._connection.execute(
            f"""
            INSERT INTO dead_letters
                (id, reason, origin, record, source_row_id, import_id, created_at)
            SELECT CAST({identity.uuid_of_name(name)} AS UUID), reason, 'session_history',
                record, source_row_id, $import_id, $now
            FROM receipt_rows WHERE outcome = 'rejected'
            ON CONFLICT DO NOTHING
            """,
            {"server_id": entry.server_id, "import_id": entry.import_id, "now": now},
        )

    def totals(self, import_id: str) -> dict[str, int]:
        """Sums over the import's partitions, by column of `import_ledger`."""
        columns = ["published", "imported", "duplicates_stream", "duplicates_cache", "duplicates_database", "rejected", "errors"]
        sums = ", ".join(f"coalesce(sum({column}), 0)::BIGINT" for column in columns)
        row: tuple[Any, ...] | None = self._connection.execute(
            f"SELECT {sums} FROM import_ledger WHERE import_id = ?", [import_id]
        ).fetchone()
        assert row is not None
        return dict(zip(columns, row, strict=True))
