"""Consistency checks of the warehouse tables, each as SQL for the rows that violate it."""

from __future__ import annotations

from typing import Final

import duckdb

from tautulli_pipeline.events import identity

# Ids of more than ten digits, and ids below 1, share the partition `other`.
_LAST_GRID_ID: Final = 9_999_999_999

# Ledger lines whose outcomes do not add up to their rows, or that the tables contradict. There may
# be more plays: of rows that were deleted or renumbered while the import was interrupted.
UNBALANCED_PARTITIONS: Final = f"""
    WITH lines AS (
        SELECT *, imported + duplicates_stream + duplicates_cache + duplicates_database
                + rejected + errors AS settled,
            TRY_CAST(split_part(partition_key, '-', 1) AS BIGINT) AS first_id,
            TRY_CAST(split_part(partition_key, '-', 2) AS BIGINT) AS last_id
        FROM import_ledger
    ),
    grids AS (
        -- The last partition of a grid may be narrower than the others.
        SELECT import_id,
            max(last_id - first_id + 1) FILTER (last_id < {_LAST_GRID_ID}) AS grid_width
        FROM lines GROUP BY ALL
    ),
    stored AS (
        SELECT import_id, CASE WHEN source_row_id BETWEEN 1 AND {_LAST_GRID_ID}
                THEN (source_row_id - 1) // grid_width * grid_width + 1 END AS first_id,
            count(*) AS plays
        FROM playback_events JOIN grids USING (import_id)
        WHERE restored_at IS NULL AND source_row_id IS NOT NULL
        GROUP BY ALL
    ),
    letters AS (
        SELECT lines.import_id, partition_key, count(DISTINCT d.source_row_id) AS letters
        FROM lines JOIN dead_letters d ON d.source_row_id BETWEEN first_id AND last_id
        WHERE rejected > 0 GROUP BY ALL
    )
    SELECT l.import_id, l.partition_key, total_records, processed, settled, imported,
        coalesce(plays, 0) AS imported_in_table, rejected,
        coalesce(letters, 0) AS with_dead_letter
    FROM lines l JOIN grids USING (import_id)
    LEFT JOIN stored s ON s.import_id = l.import_id AND s.first_id IS NOT DISTINCT FROM l.first_id
    LEFT JOIN letters d ON d.import_id = l.import_id AND d.partition_key = l.partition_key
    WHERE total_records <> settled OR processed <> settled
        OR (imported > coalesce(plays, 0) AND (grid_width IS NOT NULL OR l.first_id IS NULL))
        OR (rejected > coalesce(letters, 0) AND l.first_id IS NOT NULL)
    ORDER BY l.import_id, l.partition_key
"""


def _repeated(name: str, key: str, condition: str) -> str:
    """Return SQL for repeated keys; it groups only hashes because they fit in memory."""
    return f"""
        SELECT '{name}' AS key, {key} AS value, count(*) AS plays,
            list(id::VARCHAR ORDER BY id)[:5] AS event_ids
        FROM playback_events WHERE {condition} AND hash({key}) IN (
            SELECT hash({key}) FROM playback_events WHERE {condition}
            GROUP BY hash({key}) HAVING count(*) > 1
        )
        GROUP BY ALL HAVING count(*) > 1
    """


# Keys that two plays share. Restored plays are compared by event id only.
REPEATED_KEYS: Final = " UNION ALL ".join(
    (
        _repeated("event_id", "id::VARCHAR", "true"),
        _repeated(
            "correlation_key",
            "concat_ws('|', server_id, correlation_key)",
            "restored_at IS NULL",
        ),
        _repeated(
            "rating_key_user_started",
            "concat_ws('|', server_id, rating_key, user_id, started_at)",
            "restored_at IS NULL AND rating_key IS NOT NULL",
        ),
    )
)

_EXPECTED_ID: Final = identity.event_id("session_key", "epoch(started_at)::BIGINT", "user_id")
# Imported plays whose event id does not match the id computed from their row.
MISNAMED_EVENTS: Final = f"""
    SELECT id::VARCHAR AS event_id, {_EXPECTED_ID} AS expected, source_row_id, session_key,
        user_id, started_at
    FROM playback_events
    WHERE source = '{identity.SOURCE}' AND id IS DISTINCT FROM TRY_CAST({_EXPECTED_ID} AS UUID)
        AND id IS DISTINCT FROM TRY_CAST({identity.id_on_server("server_id", _EXPECTED_ID)} AS UUID)
    ORDER BY source_row_id
"""

BACKWARD_PLAYS: Final = """
    SELECT id::VARCHAR AS event_id, source, source_row_id, title, started_at, stopped_at
    FROM playback_events WHERE stopped_at < started_at ORDER BY started_at
"""


def position_on(connection: duckdb.DuckDBPyConnection, stream_id: str) -> int:
    """Return the last sequence of a stream that is in the tables, or 0."""
    sql = "SELECT coalesce(max(last_sequence), 0) FROM stream_positions WHERE stream_id = ?"
    ((last,),) = connection.execute(sql, [stream_id]).fetchall()
    return int(last)
