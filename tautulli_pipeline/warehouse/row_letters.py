"""Writes, replaces and closes the dead letters of source rows when a partition is settled.

All queries read the view `receipt_rows` or the table `row_outcomes` of the ledger and run in
its transaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

import duckdb

from tautulli_pipeline.warehouse.dead_letters import facts, letter_uuid, same_play

# A letter written after the row was published describes a later state of the row.
_OPEN_LETTERS: Final = """
    FROM dead_letters d WHERE d.closed_at IS NULL AND d.origin = 'session_history'
        AND d.source_row_id BETWEEN $first AND $last
"""

_ARRIVED: Final = "f.final IN ('imported', 'cache', 'database', 'stream')"
_HAS_ARRIVED: Final = f"""
    SELECT 1 FROM row_outcomes f WHERE {_ARRIVED}
        AND f.source_row_id IN (SELECT d.source_row_id {_OPEN_LETTERS}) LIMIT 1
"""
_FACTS_OF_EVENT: Final = """[
    coalesce(epoch(e.started_at),
        epoch(TRY_CAST(a.discarded_payload ->> '$.started_at' AS TIMESTAMP)))::BIGINT::VARCHAR,
    coalesce(e.user_id::VARCHAR, a.discarded_payload ->> '$.user_id'),
    coalesce(e.rating_key, a.discarded_payload ->> '$.rating_key'),
    coalesce(e.machine_id, a.discarded_payload ->> '$.machine_id')
]"""
_CLOSE_ARRIVED: Final = f"""
    UPDATE dead_letters
    SET closed_at = $now, closed_by = 'import', closed_event_id = arrived.event_id
    FROM (
        SELECT d.id AS letter_id, any_value(coalesce(e.id, a.matched_event_id)) AS event_id
        FROM (SELECT d.*, {facts("d.record")} AS facts {_OPEN_LETTERS}) d
        JOIN row_outcomes f ON f.source_row_id = d.source_row_id AND f.server_id = d.server_id
            AND f.published_at >= d.created_at AND {_ARRIVED}
        LEFT JOIN playback_events e ON e.id = f.event_id
        LEFT JOIN dedupe_audit_log a ON a.discarded_event_id = f.event_id AND e.id IS NULL
        WHERE {same_play("d.facts", _FACTS_OF_EVENT)}
        GROUP BY d.id
    ) arrived
    WHERE dead_letters.id = arrived.letter_id
"""

_REJECTED_ID: Final = letter_uuid("r.server_id", "r.source_row_id", "r.record")
# A rejected row has one open letter, with its current content.
_CLOSE_SUPERSEDED: Final = f"""
    UPDATE dead_letters SET closed_at = $now, closed_by = 'superseded'
    FROM (
        SELECT d.id AS letter_id
        FROM (SELECT d.*, {facts("d.record")} AS facts {_OPEN_LETTERS}) d
        JOIN (
            SELECT *, {facts("record::JSON")} AS facts FROM receipt_rows
            WHERE outcome = 'rejected'
        ) r ON r.source_row_id = d.source_row_id AND r.server_id = d.server_id
            AND r.published_at >= d.created_at
        WHERE d.id <> {_REJECTED_ID} AND {same_play("d.facts", "r.facts")}
    ) older
    WHERE dead_letters.id = older.letter_id
"""
_INSERT_LETTERS: Final = f"""
    INSERT INTO dead_letters
        (id, reason, origin, record, server_id, source_row_id, import_id, created_at)
    SELECT DISTINCT ON (letter_id) letter_id, reason, 'session_history', record, server_id,
        source_row_id, import_id, $now
    FROM (
        SELECT {_REJECTED_ID} AS letter_id, r.* FROM receipt_rows r WHERE outcome = 'rejected'
    ) ORDER BY published_at
    ON CONFLICT DO NOTHING
"""
# The row has its earlier content again.
_REOPEN: Final = f"""
    UPDATE dead_letters SET closed_at = NULL, closed_by = NULL
    FROM receipt_rows r
    WHERE r.outcome = 'rejected' AND dead_letters.id = {_REJECTED_ID}
        AND closed_by = 'superseded' AND closed_at < r.published_at
"""


def insert_rejected(
    connection: duckdb.DuckDBPyConnection, span: Mapping[str, object], now: datetime
) -> None:
    """Insert one open letter for each rejected row of `receipt_rows`.

    `span` has the `first` and the `last` row id. Safe to repeat: ids derive from content.
    """
    connection.execute(_INSERT_LETTERS, {"now": now})
    connection.execute(_CLOSE_SUPERSEDED, {**span, "now": now})
    connection.execute(_REOPEN)


def close_arrived(
    connection: duckdb.DuckDBPyConnection, span: Mapping[str, object], now: datetime
) -> None:
    """Close the letters of rows that have become events, such as rows whose metadata came late."""
    if connection.execute(_HAS_ARRIVED, dict(span)).fetchone():
        connection.execute(_CLOSE_ARRIVED, {**span, "now": now})
