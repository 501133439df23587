"""Databases with the newest schema and exactly the rows that a test defines."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tautulli_pipeline.demo.rows import EMPTY_MEDIA_INFO, EMPTY_METADATA, HISTORY_COLUMNS
from tautulli_pipeline.demo.viewers import SERVER_ID
from tautulli_pipeline_tests.schema_facts import NEWEST_TAG, columns_at, create_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

Cells = dict[str, Any]

DEFAULT_STARTED_AT = 1_700_000_000
DEFAULT_USERS: tuple[Cells, ...] = (
    {"user_id": 0, "username": "Local"},
    {"user_id": 2_000_001, "username": "mira", "friendly_name": "Mira"},
)
DEFAULT_LIBRARIES: tuple[Cells, ...] = (
    {"server_id": SERVER_ID, "section_id": 1, "section_name": "Movies", "section_type": "movie"},
    {"server_id": SERVER_ID, "section_id": 2, "section_name": "TV Shows", "section_type": "show"},
    {"server_id": SERVER_ID, "section_id": 3, "section_name": "Music", "section_type": "artist"},
)


@dataclass
class Play:
    """A play's rows by column name; None omits a row."""

    history: Cells | None
    metadata: Cells | None
    media_info: Cells | None


def _history(play_id: int, started: Any) -> Cells:
    return dict.fromkeys(HISTORY_COLUMNS, "") | {
        "id": play_id,
        "reference_id": play_id,
        "started": started,
        "stopped": started + 3600 if isinstance(started, int) else DEFAULT_STARTED_AT,
        "rating_key": 100 + play_id,
        "user_id": 2_000_001,
        "user": "mira",
        "ip_address": "192.168.1.20",
        "paused_counter": 0,
        "player": "Chrome",
        "product": "Plex Web",
        "product_version": "4.132.2",
        "platform": "Chrome",
        "platform_version": "128.0",
        "profile": "Web",
        "machine_id": "machine-1",
        "bandwidth": 12000,
        "location": "lan",
        "quality_profile": "Original",
        "secure": 1,
        "relayed": 0,
        "media_type": "movie",
        "section_id": 1,
        "view_offset": 3_600_000,
    }


def _metadata(play_id: int, title: Any) -> Cells:
    return EMPTY_METADATA | {
        "id": play_id,
        "rating_key": 100 + play_id,
        "title": title,
        "full_title": title,
        "media_type": "movie",
        "year": 2001,
        "duration": 7_200_000,
        "guid": f"plex://movie/{play_id:024x}",
        "genres": "Drama;Sci-Fi",
    }


def _media_info(play_id: int) -> Cells:
    file: Cells = {
        "container": "mkv",
        "bitrate": 10_448,
        "video_codec": "h264",
        "video_resolution": "1080",
        "audio_codec": "ac3",
        "audio_channels": 6,
    }
    decisions = ("video_decision", "audio_decision", "transcode_decision")
    return {
        **EMPTY_MEDIA_INFO,
        "id": play_id,
        "rating_key": 100 + play_id,
        "duration": 7_200_000,
        **dict.fromkeys(decisions, "direct play"),
        **file,
        **{f"stream_{name}": value for name, value in file.items()},
    }


def play(
    id: int,  # noqa: A002 - the column's name
    *,
    history: Cells | None = None,
    metadata: Cells | None = None,
    media_info: Cells | None = None,
    **overrides: Any,
) -> Play:
    """Return a valid play of a film; `overrides` apply to every table that has the column.

    `history`, `metadata` and `media_info` override cells of one table and may contain columns
    that Tautulli does not have. Set an attribute of the result to None to omit that row.
    Without overrides, plays with different ids differ in item, start and event.
    """
    rows = (
        _history(id, overrides.get("started", DEFAULT_STARTED_AT + 10_000 * id)),
        _metadata(id, overrides.get("title", f"Film {id}")),
        _media_info(id),
    )
    for name, value in overrides.items():
        matching = [row for row in rows if name in row]
        if not matching:
            raise TypeError(f"no history table has a column {name!r}")
        for row in matching:
            row[name] = value
    by_table = (history or {}, metadata or {}, media_info or {})
    return Play(*(row | changes for row, changes in zip(rows, by_table, strict=True)))


def make_database(
    path: Path,
    *,
    plays: Iterable[Play] = (),
    history: Iterable[Cells] = (),
    metadata: Iterable[Cells] = (),
    media_info: Iterable[Cells] = (),
    users: Iterable[Cells] = DEFAULT_USERS,
    libraries: Iterable[Cells] = DEFAULT_LIBRARIES,
    extra_columns: Mapping[str, Iterable[tuple[str, str]]] | None = None,
    drop_columns: Mapping[str, Iterable[str]] | None = None,
    drop_tables: Iterable[str] = (),
    version: str | None = NEWEST_TAG,
) -> None:
    """Write a new database with exactly these rows.

    Columns missing from a row get their default. Values of dropped columns and tables are
    omitted; an unknown column is an error. Bytes are stored as TEXT, even if they are not
    UTF-8. With `version` None, version_info is empty.
    """
    plays = list(plays)
    rows = {
        "session_history": [*(p.history for p in plays if p.history), *history],
        "session_history_metadata": [*(p.metadata for p in plays if p.metadata), *metadata],
        "session_history_media_info": [*(p.media_info for p in plays if p.media_info), *media_info],
        "users": list(users),
        "library_sections": list(libraries),
        "version_info": [{"key": "version", "value": version}] if version else [],
    }
    path.touch(exist_ok=False)
    with closing(sqlite3.connect(path)) as connection:
        for table, columns in columns_at(NEWEST_TAG).items():
            if table in drop_tables:
                continue
            dropped = set((drop_columns or {}).get(table, ()))
            kept = [column.declaration for column in columns if column.name not in dropped]
            added = [f'"{name}" {kind}' for name, kind in (extra_columns or {}).get(table, ())]
            connection.execute(create_table(table, kept + added))
            insert_rows(connection, table, rows[table], leave_out=dropped)
        connection.commit()
        connection.execute("PRAGMA journal_mode = WAL")


def insert_rows(
    connection: sqlite3.Connection,
    table: str,
    rows: Iterable[Cells],
    *,
    leave_out: Iterable[str] = (),
) -> None:
    """Insert rows given by column name."""
    for row in rows:
        cells = {name: value for name, value in row.items() if name not in set(leave_out)}
        names = ", ".join(f'"{name}"' for name in cells)
        places = ["CAST(? AS TEXT)" if isinstance(v, bytes) else "?" for v in cells.values()]
        connection.execute(
            f"INSERT INTO {table} ({names}) VALUES ({', '.join(places)})", list(cells.values())
        )
