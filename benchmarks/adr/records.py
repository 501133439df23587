"""Reads plays as the algorithm of the ADR does, and converts them to events.

The columns are those of the ADR that a real database has. `session_key` is the id of the play.
"""

from __future__ import annotations

import hashlib
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import duckdb

from tautulli_pipeline.events.identity import quote_literal
from tautulli_pipeline.source.reader import load_sqlite_scanner

BATCH_ROWS: Final = 1000
SOURCE: Final = "tautulli-import"

_HISTORY: Final = """
    id started stopped user_id user ip_address platform player paused_counter machine_id product
    location
"""
_METADATA: Final = """
    media_type title parent_title grandparent_title rating_key parent_rating_key
    grandparent_rating_key year media_index parent_media_index thumb parent_thumb
    grandparent_thumb content_rating guid directors writers actors genres studio full_title
    original_title originally_available_at
"""
_MEDIA_INFO: Final = """
    video_resolution video_codec video_full_resolution audio_codec audio_channels container
    bitrate transcode_decision video_decision audio_decision stream_bitrate stream_video_codec
    stream_video_resolution stream_audio_codec stream_audio_channels
"""
_COPIED: Final = tuple(f"{_HISTORY} {_METADATA} {_MEDIA_INFO}".split())
_TYPES: Final = {
    "id": "UUID PRIMARY KEY",
    "user_id": "INTEGER",
    "started_at": "TIMESTAMP",
    "stopped_at": "TIMESTAMP",
}
_COMPUTED: Final = ("started_at", "stopped_at", "session_key", "correlation_key", "source")
COLUMNS: Final = ("id", *_COMPUTED, *(c for c in _COPIED if c not in {"id", "started", "stopped"}))


def open_source(database: Path) -> duckdb.DuckDBPyConnection:
    """Return a DuckDB connection with the database attached.

    It reads every cell as text, because no real database can be read with the declared types.
    """
    connection = duckdb.connect()
    load_sqlite_scanner(connection)
    connection.execute("SET sqlite_all_varchar = true")
    connection.execute(
        f"ATTACH {quote_literal(str(database))} AS tautulli (TYPE sqlite, READ_ONLY)"
    )
    return connection


def read_batch(connection: duckdb.DuckDBPyConnection, since_id: int) -> list[dict[str, Any]]:
    """Return the next batch of plays after `since_id`, in id order."""
    columns = [
        *(f"h.{name}" for name in _HISTORY.split()),
        *(f"m.{name}" for name in _METADATA.split()),
        *(f"i.{name}" for name in _MEDIA_INFO.split()),
    ]
    rows = connection.execute(
        f"""
        SELECT {", ".join(columns)}
        FROM tautulli.session_history h
        LEFT JOIN tautulli.session_history_metadata m ON h.id = m.id
        LEFT JOIN tautulli.session_history_media_info i ON h.id = i.id
        WHERE h.id::BIGINT > ? ORDER BY h.id::BIGINT LIMIT {BATCH_ROWS}
        """,
        [since_id],
    ).fetchall()
    return [dict(zip(_COPIED, row, strict=True)) for row in rows]


def to_event(record: dict[str, Any]) -> dict[str, Any]:
    """Return the event of a play."""
    started, stopped = int(record["started"]), int(record["stopped"] or 0)
    key, user_id = record["id"], int(record["user_id"])
    name = f"{SOURCE}:{key}:{started}:{user_id}"
    started_at = datetime.fromtimestamp(started, UTC)
    item = record["rating_key"] or hashlib.sha256(record["title"].encode()).hexdigest()[:16]
    machine = record["machine_id"] or "unknown"
    bucket = started_at.strftime("%Y-%m-%dT%H:%M:%S")
    return {
        **{name: value for name, value in record.items() if name not in {"started", "stopped"}},
        "id": str(uuid.UUID(bytes=hashlib.sha256(name.encode()).digest()[:16])),
        "user_id": user_id,
        "session_key": key,
        "started_at": started_at.isoformat(),
        "stopped_at": datetime.fromtimestamp(stopped, UTC).isoformat() if stopped else None,
        "correlation_key": f"{SOURCE}:default:{user_id}:{item}:{machine}:{bucket}:{key}",
        "source": SOURCE,
    }


def table_ddl() -> str:
    """Return the DDL of the table with its three unique keys."""
    columns = [f"{name} {_TYPES.get(name, 'VARCHAR')}" for name in COLUMNS]
    return f"""
        CREATE TABLE playback_events ({", ".join(columns)});
        CREATE UNIQUE INDEX idx_playback_correlation_key ON playback_events (correlation_key);
        CREATE UNIQUE INDEX idx_playback_dedup ON playback_events (rating_key, user_id, started_at);
    """
