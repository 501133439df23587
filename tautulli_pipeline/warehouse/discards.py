"""Writes the duplicates of a batch to the audit log and its faulty messages to the dead letters.

Their ids derive from the message, so neither can be written twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

import duckdb
import pyarrow as pa

from tautulli_pipeline.events import identity
from tautulli_pipeline.events.batch import CurrentBatch
from tautulli_pipeline.events.identity import quote_identifier, quote_literal
from tautulli_pipeline.warehouse.cache import Match
from tautulli_pipeline.warehouse.decoder import CONTENT_COLUMNS, payload_hash, whole_content_query

_DISCARDED: Final = pa.schema(
    [
        ("position", pa.int64()),
        ("layer", pa.string()),
        ("reason", pa.string()),
        ("event_id", pa.string()),
        ("source", pa.string()),
        ("content_differs", pa.bool_()),
    ]
)
# Letters of messages; letters of source rows are closed when a partition is settled.
_OPEN: Final = "dead_letters WHERE closed_at IS NULL AND event_id IS NOT NULL"


class Discards:
    """Writes what is not stored; reads the views `messages` and `incoming`."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, stream_id: str) -> None:
        self._connection = connection
        self._stream_id = stream_id
        self._discarded = CurrentBatch(_DISCARDED)
        connection.register("discarded", self._discarded)
        self._may_close = (
            connection.execute(f"SELECT 1 FROM {_OPEN} LIMIT 1").fetchone() is not None
        )

    def insert_audit(self, duplicates: Mapping[int, Match], nearby: str, now: datetime) -> None:
        """Insert one audit row for each duplicate.

        Redelivered duplicates never get here: they are recognized by their message in the
        audit log. So this needs no lookup, which would take as long as everything else.

        Args:
            duplicates: the duplicates in `messages`, by position.
            nearby: SQL condition; rows `t` that do not meet it differ from every event.
            now: UTC.
        """
        self._discarded.table = _as_table(duplicates, frozenset())
        self._discarded.table = _as_table(duplicates, self._differing(nearby))
        self._connection.execute(
            f"""
            INSERT INTO dedupe_audit_log (id, discarded_event_id, discarded_payload,
                discarded_source, discarded_subject, matched_event_id, matched_source,
                dedupe_layer, dedupe_reason, content_differs, source_row_id, import_id,
                stream_id, stream_sequence, created_at)
            SELECT {self._message_uuid("i.sequence")}, i.id::UUID, m.body, i.source, i.subject,
                d.event_id::UUID, d.source, d.layer, d.reason, d.content_differs,
                i.source_row_id, i.import_id, $stream, i.sequence, $now
            FROM discarded d JOIN incoming i USING (position) JOIN messages m USING (position)
            """,
            {"stream": self._stream_id, "now": now},
        )

    def _differing(self, nearby: str) -> frozenset[int]:
        """Return the positions of duplicates whose content differs from the row they match."""
        match = f"""
            LEFT JOIN (FROM playback_events t WHERE {nearby}) t
                ON t.id = d.event_id::UUID"""
        other_bytes = self._connection.execute(
            f"""
            SELECT position FROM discarded d JOIN messages m USING (position) {match}
            WHERE {payload_hash("m.body")} IS DISTINCT FROM t.payload_hash
            """
        ).fetchall()
        if not other_bytes:
            return frozenset()
        names = [quote_identifier(name) for name in CONTENT_COLUMNS]
        discarded, stored = (", ".join(f"{t}.{name}" for name in names) for t in "ct")
        other_content = self._connection.execute(
            f"""
            SELECT position FROM discarded d JOIN ({whole_content_query()}) c USING (position)
            {match} WHERE row({discarded}) IS DISTINCT FROM row({stored})
            """
        ).fetchall()
        return frozenset(position for (position,) in other_content)

    def insert_dead_letters(self, now: datetime) -> None:
        """Insert one row for each message that is not an event."""
        self._connection.execute(
            f"""
            INSERT INTO dead_letters (id, reason, origin, record, event_id, source_row_id,
                import_id, stream_id, stream_sequence, created_at)
            SELECT {self._message_uuid("i.sequence")}, fault, i.subject, CASE
                    WHEN json_valid(m.body) THEN m.body
                    ELSE to_json(coalesce(m.body, m.unreadable)) END,
                i.message_id, i.source_row_id, i.import_id, $stream, i.sequence, $now
            FROM incoming i JOIN messages m USING (position) WHERE fault IS NOT NULL
            ON CONFLICT DO NOTHING
            """,
            {"stream": self._stream_id, "now": now},
        )
        self._may_close = True

    def close_arrived(self, now: datetime) -> None:
        """Close the dead letters of messages whose events arrived again and could be read."""
        if self._may_close:
            self._connection.execute(
                f"""
                UPDATE dead_letters
                SET closed_at = $now, closed_by = 'import', closed_event_id = i.id::UUID
                FROM incoming i WHERE i.fault IS NULL AND dead_letters.id IN (
                    SELECT id FROM {_OPEN}
                ) AND split_part(dead_letters.event_id, ':', 1) = i.id
                """,
                {"now": now},
            )

    def _message_uuid(self, sequence: str) -> str:
        name = f"concat({quote_literal(self._stream_id + ':')}, {sequence})"
        return f"CAST({identity.uuid_of_name(name)} AS UUID)"


def _as_table(duplicates: Mapping[int, Match], differing: frozenset[int]) -> pa.Table:
    rows = [
        {**duplicate._asdict(), "position": position, "content_differs": position in differing}
        for position, duplicate in duplicates.items()
    ]
    return pa.Table.from_pylist(rows, schema=_DISCARDED)
