"""Messages of other producers, and warehouses to write them to."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
import uuid
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from tautulli_pipeline.warehouse.cache import DedupCache
from tautulli_pipeline.warehouse.schema import SETTINGS, connect
from tautulli_pipeline.warehouse.writer import MESSAGES, Writer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

STREAM = "MEDIA_EVENTS@2026-01-01T00:00:00+00:00"


def uuid_of(number: int) -> str:
    return str(uuid.UUID(int=number + 2**120))


def event(number: int, **fields: Any) -> dict[str, Any]:
    """Return a play that shares no key with other numbers; None omits a field."""
    standard = {
        "event_id": uuid_of(number),
        "source": "plex",
        "session_key": f"session-{number}",
        "user_id": 7,
        "title": f"Film {number}",
        "rating_key": str(number),
        "machine_id": "machine-1",
        "started_at": f"2024-05-01T{number // 3600:02d}:{number // 60 % 60:02d}:{number % 60:02d}Z",
    }
    return {name: value for name, value in (standard | fields).items() if value is not None}


def message(
    sequence: int, content: dict[str, Any] | bytes, *, import_id: str | None = None
) -> tuple[Any, ...]:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    source = "plex" if isinstance(content, bytes) else content.get("source", "plex")
    return sequence, f"playback.{source}.movie", import_id, f"message-{sequence}", body


def batch(messages: Iterable[tuple[Any, ...]]) -> pa.Table:
    names = [name for name in MESSAGES.names if name != "content"]
    rows = [dict(zip(names, row[:5], strict=True)) | dict(row[5:]) for row in messages]
    return pa.Table.from_pylist(rows, schema=MESSAGES)


@cache
def empty_warehouse() -> Path:
    """Return an empty warehouse to copy: creating one takes fifteen times as long as copying it."""
    folder = Path(tempfile.mkdtemp(prefix="empty-warehouse-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    file = folder / "playback.duckdb"
    connect(file, {}).close()
    return file


@contextmanager
def memory_warehouse() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(config={**SETTINGS, "temp_directory": ""}) as connection:
        connection.execute(f"ATTACH '{empty_warehouse()}' AS empty (READ_ONLY)")
        connection.execute("COPY FROM DATABASE empty TO memory")
        connection.execute("DETACH empty")
        yield connection


def writer(
    connection: duckdb.DuckDBPyConnection, *, entries: int = 10_000, stream_id: str = STREAM
) -> Writer:
    return Writer(connection, DedupCache(1e9, entries), stream_id)


def rows(connection: duckdb.DuckDBPyConnection, sql: str) -> list[tuple[Any, ...]]:
    found = connection.execute(sql).fetchall()
    return [tuple(str(v) if isinstance(v, uuid.UUID) else v for v in row) for row in found]


def sequences(connection: duckdb.DuckDBPyConnection) -> list[int]:
    """Return the stream sequences of the stored plays."""
    found = rows(connection, "SELECT stream_sequence FROM playback_events ORDER BY ALL")
    return [sequence for (sequence,) in found]


def audit(connection: duckdb.DuckDBPyConnection) -> list[tuple[Any, ...]]:
    """Return (sequence, layer, reason, matched event) of each duplicate."""
    return rows(
        connection,
        "SELECT stream_sequence, dedupe_layer, dedupe_reason, matched_event_id "
        "FROM dedupe_audit_log ORDER BY ALL",
    )
