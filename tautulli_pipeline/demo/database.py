"""Generates a database with Tautulli's newest schema."""

from __future__ import annotations

import sqlite3
from contextlib import ExitStack, closing
from importlib.resources import files
from itertools import islice
from typing import TYPE_CHECKING

from tautulli_pipeline.demo.damage import damaged
from tautulli_pipeline.demo.plays import plays
from tautulli_pipeline.demo.rows import HISTORY_COLUMNS, MEDIA_INFO_COLUMNS, METADATA_COLUMNS
from tautulli_pipeline.demo.viewers import library_rows, user_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from tautulli_pipeline.demo.rows import Cell, Play

VERSION = "v2.17.2"
# 2016-07-01T00:00:00Z
DEFAULT_STARTED_AT = 1_467_331_200
_CHUNK_ROWS = 2000


def make_demo_database(
    path: Path,
    rows: int,
    *,
    seed: int = 0,
    started_at: int = DEFAULT_STARTED_AT,
    damaged_rows: int = 0,
) -> None:
    """Write a new database with `rows` made-up plays and `damaged_rows` damaged ones.

    The same arguments produce the same database. The kinds of damage alternate: no start, no
    user_id, no metadata, no title (all rejected by an import), no media_info (imported).
    Memory use does not grow with `rows`.

    Raises:
        FileExistsError: `path` exists; it is not changed.
    """
    path.touch(exist_ok=False)
    total = rows + damaged_rows
    with ExitStack() as undo:
        undo.callback(path.unlink)
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            all_plays = plays(total, seed=seed, started_at=started_at)
            _build(connection, damaged(all_plays, total, damaged_rows))
        undo.pop_all()


def _build(connection: sqlite3.Connection, all_plays: Iterable[Play]) -> None:
    # A crash loses only a file that can be generated again.
    connection.execute("PRAGMA journal_mode = OFF")
    connection.execute("PRAGMA synchronous = OFF")
    connection.executescript(_sql("schema.sql"))
    connection.execute("BEGIN")
    connection.execute("INSERT INTO version_info VALUES ('version', ?)", (VERSION,))
    _insert_by_name(connection, "users", user_rows())
    _insert_by_name(connection, "library_sections", library_rows())
    _insert_plays(connection, all_plays)
    connection.execute("COMMIT")
    connection.executescript(_sql("indexes.sql"))
    # Tautulli's journal mode.
    connection.execute("PRAGMA journal_mode = WAL")


def _sql(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _insert(table: str, columns: Sequence[str]) -> str:
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"


def _insert_by_name(
    connection: sqlite3.Connection, table: str, rows: Iterable[dict[str, Cell]]
) -> None:
    for row in rows:
        connection.execute(_insert(table, list(row)), list(row.values()))


def _chunks(all_plays: Iterable[Play]) -> Iterator[list[Play]]:
    iterator = iter(all_plays)
    while chunk := list(islice(iterator, _CHUNK_ROWS)):
        yield chunk


def _insert_plays(connection: sqlite3.Connection, all_plays: Iterable[Play]) -> None:
    history = _insert("session_history", HISTORY_COLUMNS)
    metadata = _insert("session_history_metadata", METADATA_COLUMNS)
    media_info = _insert("session_history_media_info", MEDIA_INFO_COLUMNS)
    for chunk in _chunks(all_plays):
        connection.executemany(history, [play.history for play in chunk])
        connection.executemany(metadata, [play.metadata for play in chunk if play.metadata])
        connection.executemany(media_info, [play.media_info for play in chunk if play.media_info])
