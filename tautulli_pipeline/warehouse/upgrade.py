"""What the migration from version 0.1.0 does row by row, in portions of limited size."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import duckdb
import pyarrow as pa

from tautulli_pipeline.events.identity import SOURCE, quote_literal
from tautulli_pipeline.memory import release_memory
from tautulli_pipeline.warehouse.decoder import compared, content_query
from tautulli_pipeline.warehouse.redaction import SUSPICIOUS, redact
from tautulli_pipeline.warehouse.screening import OWN_SUBJECTS

_PORTION_BYTES: Final = 8 * 2**20
_PORTION_ROWS: Final = 4096

# Duplicates of version 0.1.0 with other content for the same play of the same server. Those that
# started at about the same time come together, so that few row groups are read for each portion.
_CANDIDATES: Final = f"""
    CREATE OR REPLACE TEMP TABLE candidates AS
    SELECT id, started_at, greatest(sum(size) OVER sorted // {_PORTION_BYTES},
        row_number() OVER sorted // {_PORTION_ROWS}) AS portion
    FROM (
        SELECT a.id, strlen(discarded_payload::VARCHAR) AS size, a.created_at, a.stream_sequence,
            p.started_at, a.matched_event_id
        FROM dedupe_audit_log a JOIN playback_events p ON p.id = a.matched_event_id
        WHERE a.content_differs AND a.status <> 'user_restored'
            AND a.discarded_source = '{SOURCE}' AND p.source = '{SOURCE}'
            AND a.discarded_server_id = p.server_id
    )
    WINDOW sorted AS (ORDER BY started_at, matched_event_id, created_at, stream_sequence, id)
"""
_PORTION: Final = """
    CREATE OR REPLACE TEMP TABLE portion AS
    SELECT row_number() OVER (ORDER BY created_at, stream_sequence, id) - 1 AS position, *
    FROM dedupe_audit_log WHERE id IN (SELECT id FROM candidates WHERE portion = $portion)
"""
_SPAN: Final = "SELECT min(started_at), max(started_at) FROM candidates WHERE portion = $portion"
# They do not say when their group began, so that of the play is taken.
_CONTENT: Final = f"""
    CREATE OR REPLACE TEMP TABLE seeds AS
    WITH messages AS (
        SELECT position, stream_sequence AS sequence, discarded_subject AS subject, import_id,
            NULL::VARCHAR AS message_id, NULL::VARCHAR AS content,
            discarded_payload::VARCHAR AS body, NULL::VARCHAR AS refusal
        FROM portion
    )
    SELECT c.* REPLACE (p.group_started_at AS group_started_at), p.id AS play_id,
        a.created_at AS revised_at, a.stream_id, p.restored_at
    FROM ({content_query()}) c JOIN portion a USING (position)
    JOIN (FROM playback_events t WHERE {{near}}) p ON p.id = a.matched_event_id
        AND p.user_id = c.user_id AND p.started_at = c.started_at
"""
_SEEDS: Final = f"""
    SELECT position, play_id::VARCHAR, id::VARCHAR, {compared("s")}, reference_id
    FROM seeds s ORDER BY position
"""
_NEWEST: Final = f"""
    SELECT id::VARCHAR, id::VARCHAR, {compared("t")}, reference_id, 0 AS revision
    FROM playback_events t WHERE {{near}} AND id IN (SELECT play_id FROM seeds)
    UNION ALL
    SELECT id::VARCHAR, event_id::VARCHAR, {compared("t")}, reference_id, revision
    FROM playback_revisions t WHERE {{near}} AND id IN (SELECT play_id FROM seeds)
    ORDER BY revision
"""
_INSERT: Final = """
    INSERT INTO playback_revisions BY NAME
    SELECT s.* EXCLUDE (position, sequence, play_id) REPLACE (s.play_id AS id),
        s.id AS event_id, k.revision, s.sequence AS stream_sequence
    FROM seeds s JOIN kept k USING (position)
"""
_KEPT: Final = pa.schema([("position", pa.int64()), ("revision", pa.int32())])


class _Content(NamedTuple):
    event_id: str
    compared: int
    reference_id: int | None
    revision: int = 0

    def is_that_of(self, other: _Content) -> bool:
        return self.compared == other.compared and (
            self.event_id != other.event_id or self.reference_id == other.reference_id
        )


def seed_revisions(connection: duckdb.DuckDBPyConnection) -> None:
    """Turn duplicates of version 0.1.0 that had newer content into revisions; the audit stays."""
    connection.execute(_CANDIDATES)
    for portion in _portions(connection):
        connection.execute(_PORTION, {"portion": portion})
        ((first, last),) = connection.execute(_SPAN, {"portion": portion}).fetchall()
        near = f"t.started_at BETWEEN TIMESTAMP '{first}' AND TIMESTAMP '{last}'"
        connection.execute(_CONTENT.replace("{near}", near))
        kept = _newer_contents(connection, near)
        connection.register("kept", pa.Table.from_pylist(kept, schema=_KEPT))
        connection.execute(_INSERT)
        connection.unregister("kept")
        release_memory()
    for table in ("candidates", "portion", "seeds"):
        connection.execute(f"DROP TABLE IF EXISTS temp.{table}")


def _portions(connection: duckdb.DuckDBPyConnection) -> Iterator[int]:
    sql = "SELECT DISTINCT portion FROM candidates ORDER BY 1"
    yield from (portion for (portion,) in connection.execute(sql).fetchall())


def _newer_contents(connection: duckdb.DuckDBPyConnection, near: str) -> list[dict[str, Any]]:
    """Return the seeds of the portion that differ from what was known of their play before.

    Only plays `t` that meet the SQL condition `near` are read.
    """
    newest: dict[str, _Content] = {}
    for play_id, *content in connection.execute(_NEWEST.format(near=near)).fetchall():
        newest[play_id] = _Content(*content)
    kept = []
    for position, play_id, *content in connection.execute(_SEEDS).fetchall():
        seed, known = _Content(*content), newest[play_id]
        if not seed.is_that_of(known):
            newest[play_id] = seed._replace(revision=known.revision + 1)
            kept.append({"position": position, "revision": known.revision + 1})
    return kept


# Columns that hold texts of other producers, by table, and which rows are theirs.
_FOREIGN: Final = {
    ("playback_events", "extra"): f"source <> '{SOURCE}'",
    ("dedupe_audit_log", "discarded_payload"): (
        f"NOT starts_with(discarded_subject, '{OWN_SUBJECTS}')"
    ),
    ("dead_letters", "record"): (
        f"origin <> 'session_history' AND NOT starts_with(origin, '{OWN_SUBJECTS}')"
    ),
}


def remove_secrets(connection: duckdb.DuckDBPyConnection) -> None:
    """Remove the secrets that version 0.1.0 stored from messages of other producers."""
    for (table, column), condition in _FOREIGN.items():
        connection.execute(
            f"""
            CREATE OR REPLACE TEMP TABLE candidates AS
            SELECT id, greatest(sum(size) OVER sorted // {_PORTION_BYTES},
                row_number() OVER sorted // {_PORTION_ROWS}) AS portion
            FROM (
                SELECT id, strlen({column}::VARCHAR) AS size FROM {table}
                WHERE {condition}
                    AND regexp_matches({column}::VARCHAR, {quote_literal(SUSPICIOUS)})
            ) WINDOW sorted AS (ORDER BY id)
            """
        )
        for portion in _portions(connection):
            _clean(connection, table, column, portion)
    connection.execute("DROP TABLE temp.candidates")


def _clean(connection: duckdb.DuckDBPyConnection, table: str, column: str, portion: int) -> None:
    found = connection.execute(
        f"SELECT id::VARCHAR, {column}::VARCHAR FROM {table} "
        "WHERE id IN (SELECT id FROM candidates WHERE portion = $portion)",
        {"portion": portion},
    ).fetchall()
    cleaned = [{"id": row_id, "text": redact(text)} for row_id, text in found]
    connection.register("cleaned", pa.Table.from_pylist(cleaned, schema=_CLEANED))
    connection.execute(
        f"UPDATE {table} SET {column} = c.text FROM cleaned c WHERE {table}.id = c.id::UUID"
    )
    connection.unregister("cleaned")


_CLEANED: Final = pa.schema([("id", pa.string()), ("text", pa.string())])
