"""Writes the duplicates of a batch to the audit log and its faulty messages to the dead letters.

Their ids derive from the message, so neither can be written twice. All queries read the views
`messages` and `incoming` of the writer.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

import duckdb
import pyarrow as pa

from tautulli_pipeline.events import identity
from tautulli_pipeline.warehouse.cache import Match
from tautulli_pipeline.warehouse.decoder import content_columns, whole_content_query

_NAME: Final = "concat($stream, ':', i.sequence)"
_ID: Final = f"CAST({identity.uuid_of_name(_NAME)} AS UUID)"
_INSERT_AUDIT: Final = f"""
    INSERT INTO dedupe_audit_log (id, discarded_event_id, discarded_payload, discarded_source,
        discarded_subject, matched_event_id, matched_source, dedupe_layer, dedupe_reason,
        content_differs, source_row_id, import_id, stream_id, stream_sequence, created_at)
    SELECT {_ID}, i.id::UUID, m.body, i.source, i.subject, d.event_id::UUID, d.source, d.layer,
        d.reason, d.position IN (SELECT unnest($differing::BIGINT[])), i.source_row_id, i.import_id,
        $stream, i.sequence, $now
    FROM discarded d JOIN incoming i USING (position) JOIN messages m USING (position)
"""
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


def insert_audit(
    connection: duckdb.DuckDBPyConnection,
    stream_id: str,
    duplicates: Mapping[int, Match],
    nearby: str,
    now: datetime,
) -> None:
    """Insert one audit row for each of these duplicates in `messages`, given by position.

    Redelivered duplicates never get here: they are recognized by their message in the
    audit log. So this needs no lookup, which would take as long as everything else.
    Rows `t` that do not meet the SQL condition `nearby` differ from every event.
    """
    rows = [{"position": position, **match._asdict()} for position, match in duplicates.items()]
    connection.register("discarded", pa.Table.from_pylist(rows))
    differing = _differing(connection, nearby)
    connection.execute(_INSERT_AUDIT, {"stream": stream_id, "now": now, "differing": differing})


def _differing(connection: duckdb.DuckDBPyConnection, nearby: str) -> list[int]:
    """Return the positions of duplicates whose content differs from the row they match."""
    match = f"""
        LEFT JOIN (FROM playback_events t WHERE {nearby}) t ON t.id = d.event_id::UUID"""
    other_bytes = connection.execute(
        f"""
        SELECT 1 FROM discarded d JOIN messages m USING (position) {match}
        WHERE hash(m.body) IS DISTINCT FROM t.payload_hash LIMIT 1
        """
    ).fetchone()
    if not other_bytes:
        return []
    other_content = connection.execute(
        f"""
        SELECT position FROM discarded d JOIN ({whole_content_query()}) c USING (position) {match}
        WHERE row({content_columns("c")}) IS DISTINCT FROM row({content_columns("t")})
        """
    ).fetchall()
    return [position for (position,) in other_content]


def insert_dead_letters(
    connection: duckdb.DuckDBPyConnection, stream_id: str, now: datetime
) -> None:
    """Insert one row for each message that is not an event."""
    connection.execute(_INSERT_LETTERS, {"stream": stream_id, "now": now})


def close_arrived(connection: duckdb.DuckDBPyConnection, now: datetime) -> None:
    """Close the dead letters of messages whose events arrived again and could be read."""
    connection.execute(_CLOSE_ARRIVED, {"now": now})
