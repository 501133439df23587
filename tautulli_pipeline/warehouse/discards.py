"""Writes the faulty messages of a batch to the dead letters.

Their ids derive from the message, so none can be written twice. All queries read the views
`messages` and `incoming` of the writer.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

import duckdb

from tautulli_pipeline.events import identity

_NAME: Final = "concat($stream, ':', i.sequence)"
_ID: Final = f"CAST({identity.uuid_of_name(_NAME)} AS UUID)"
_INSERT_LETTERS: Final = f"""
    INSERT INTO dead_letters (id, reason, origin, record, event_id, source_row_id, import_id,
        stream_id, stream_sequence, created_at)
    SELECT {_ID}, fault, i.subject, CASE
            WHEN m.record IS NOT NULL THEN m.record
            WHEN json_valid(m.body) THEN m.body
            ELSE to_json(m.body) END,
        i.message_id, i.source_row_id, i.import_id, $stream, i.sequence, $now
    FROM incoming i JOIN messages m USING (position) WHERE fault IS NOT NULL
    ON CONFLICT DO NOTHING
"""
# Letters of source rows have no event id; they are closed when a partition is settled.
_CLOSE_ARRIVED: Final = """
    UPDATE dead_letters
    SET closed_at = $now, closed_by = 'import', closed_event_id = i.id::UUID
    FROM incoming i WHERE i.fault IS NULL AND closed_at IS NULL
        AND split_part(dead_letters.event_id, ':', 1) = i.id
"""


def insert_dead_letters(
    connection: duckdb.DuckDBPyConnection, stream_id: str, now: datetime
) -> None:
    """Insert one row for each message that is not an event."""
    connection.execute(_INSERT_LETTERS, {"stream": stream_id, "now": now})


def close_arrived(connection: duckdb.DuckDBPyConnection, now: datetime) -> None:
    """Close the dead letters of messages whose events arrived again and could be read."""
    connection.execute(_CLOSE_ARRIVED, {"now": now})
