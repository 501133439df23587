"""Databases with the schema of any Tautulli version since v1.0, fresh or migrated."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tautulli_pipeline.demo.plays import plays
from tautulli_pipeline.demo.rows import HISTORY_COLUMNS, MEDIA_INFO_COLUMNS, METADATA_COLUMNS
from tautulli_pipeline.demo.viewers import library_rows, user_rows
from tautulli_pipeline_tests.cases import Cells, Play, insert_rows, make_database, play
from tautulli_pipeline_tests.schema_facts import (
    NEWEST_TAG,
    TAGS,
    Column,
    columns_at,
    create_table,
    version_key,
)

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

__all__ = [
    "NEWEST_TAG",
    "TAGS",
    "Play",
    "make_database",
    "make_era_database",
    "make_half_migrated_database",
    "make_one_jump_database",
    "play",
    "version_key",
]

HISTORY, METADATA, MEDIA_INFO = (
    "session_history",
    "session_history_metadata",
    "session_history_media_info",
)
_STARTED_AT = 1_440_000_000
_UPGRADED_AFTER_SECONDS = 400 * 86_400
_LIVE_TV_TAG = "v2.2.0-beta"
_SECTION_MOVE_TAG = "v2.7.0-beta"
# Gaps that are too rare for thirty random rows to contain them reliably.
_GAPS_IN_HISTORY: dict[int, Cells] = {
    4: {"ip_address": None, "machine_id": None, "secure": None},
    5: {"ip_address": "", "bandwidth": ""},
}
_GAPS_IN_METADATA: dict[int, Cells] = {6: {"year": "", "duration": ""}}

# By table: column declarations by name, in file order.
_Schema = dict[str, dict[str, str]]


@dataclass(frozen=True)
class _Written:
    """A play as a particular version wrote it, by table and column."""

    rows: dict[str, Cells]

    def limited_to(self, schema: _Schema) -> _Written:
        return _Written(
            {
                table: {name: value for name, value in row.items() if name in schema[table]}
                for table, row in self.rows.items()
            }
        )


def make_era_database(
    path: Path, tag: str, rows: int = 30, *, seed: int = 0, migrated_from: str | None = None
) -> None:
    """Write a new database with the schema of version `tag`.

    With `migrated_from`, the first half of the rows is from that version, and later columns are
    at the end of their table, where ALTER TABLE adds them. `tag` may be any version, not only
    one of TAGS.
    """
    if migrated_from is None:
        _write(path, _fresh(tag), _written(tag, rows, seed=seed), version=tag)
    else:
        schema = _migrated(migrated_from, tag)
        _write(path, schema, _migrated_rows(migrated_from, tag, rows, seed=seed), version=tag)


def make_one_jump_database(
    path: Path, rows: int = 30, *, seed: int = 0, migrated_from: str = "v2.6.10"
) -> None:
    """Write a database that was upgraded to the newest version directly from before v2.7.

    To move section_id, the upgrade rebuilds session_history_metadata from 37 columns. This
    drops columns that the same upgrade has just added, although version_info is up to date.
    """
    schema = _migrated(migrated_from, NEWEST_TAG)
    schema[METADATA] = _declared(columns_at(_SECTION_MOVE_TAG)[METADATA])
    plays_written = _migrated_rows(migrated_from, NEWEST_TAG, rows, seed=seed)
    _write(path, schema, plays_written, version=NEWEST_TAG)


def make_half_migrated_database(
    path: Path, section_id_in: Collection[str], rows: int = 30, *, seed: int = 0
) -> None:
    """Write a v1.0 database whose upgrade to the newest version failed halfway.

    The history tables have their new columns, users has none of them, and library_sections and
    version_info exist but are empty. `section_id_in` lists the history tables that have a
    section_id: session_history, session_history_metadata, both or neither. The second half of
    the rows was written after the upgrade.
    """
    schema = _migrated("v1.0", NEWEST_TAG)
    schema[METADATA] = _extended("v1.0", NEWEST_TAG, METADATA)
    schema["users"] = _fresh("v1.0")["users"]
    for table in (HISTORY, METADATA):
        schema[table].pop("section_id", None)
        if table in section_id_in:
            schema[table]["section_id"] = "section_id INTEGER"
    old, new = _old_and_new("v1.0", NEWEST_TAG, rows, seed=seed)
    before = [written.limited_to(_fresh("v1.0")) for written in old]
    _write(path, schema, before + new, version=None, libraries=False)


def _declared(columns: list[Column]) -> dict[str, str]:
    return {column.name: column.declaration for column in columns}


def _fresh(tag: str) -> _Schema:
    return {table: _declared(columns) for table, columns in columns_at(tag).items()}


def _extended(old: str, new: str, table: str) -> dict[str, str]:
    """Return a table of version `old` with all later columns at its end."""
    present = columns_at(new)[table]
    before = [column for column in columns_at(old)[table] if column in present]
    since = sorted(
        (column for column in present if column not in before),
        key=lambda column: version_key(column.first_tag),
    )
    return _declared(before) | {column.name: column.upgrade_declaration for column in since}


def _migrated(old: str, new: str) -> _Schema:
    """Return the schema after upgrading version by version."""
    schema = {}
    for table, columns in columns_at(new).items():
        if table not in columns_at(old):
            schema[table] = _declared(columns)
        elif table == METADATA and _crosses_section_move(old, new):
            schema[table] = _extended(_SECTION_MOVE_TAG, new, table)
        else:
            schema[table] = _extended(old, new, table)
    return schema


def _crosses_section_move(old: str, new: str) -> bool:
    return version_key(old) < version_key(_SECTION_MOVE_TAG) <= version_key(new)


def _written(
    tag: str, rows: int, *, seed: int, first_id: int = 1, started_at: int = _STARTED_AT
) -> list[_Written]:
    """Return plays of every kind that version `tag` supports, some with missing cells."""
    live = version_key(tag) >= version_key(_LIVE_TV_TAG)
    written = []
    for number, made in enumerate(plays(rows, seed=seed, started_at=started_at, live=live)):
        history: Cells = dict(zip(HISTORY_COLUMNS, made.history, strict=True))
        metadata: Cells = dict(zip(METADATA_COLUMNS, made.metadata or (), strict=True))
        media_info: Cells = dict(zip(MEDIA_INFO_COLUMNS, made.media_info or (), strict=True))
        for row in (history, metadata, media_info):
            row["id"] += first_id - 1
        history["reference_id"] += first_id - 1
        metadata["section_id"] = history["section_id"]
        history |= _GAPS_IN_HISTORY.get(number, {})
        metadata |= _GAPS_IN_METADATA.get(number, {})
        written.append(_Written({HISTORY: history, METADATA: metadata, MEDIA_INFO: media_info}))
    return written


def _old_and_new(
    old: str, new: str, rows: int, *, seed: int
) -> tuple[list[_Written], list[_Written]]:
    before = _written(old, rows // 2, seed=seed)
    last_id = before[-1].rows[HISTORY]["id"] if before else 0
    later = _STARTED_AT + _UPGRADED_AFTER_SECONDS
    since = _written(new, rows - rows // 2, seed=seed, first_id=last_id + 1, started_at=later)
    return before, since


def _migrated_rows(old: str, new: str, rows: int, *, seed: int) -> list[_Written]:
    before, since = _old_and_new(old, new, rows, seed=seed)
    return [_upgraded(written, _fresh(old)) for written in before] + since


def _upgraded(written: _Written, old_schema: _Schema) -> _Written:
    """Return the cells of the old version and those that the upgrade backfills."""
    rows = written.limited_to(old_schema).rows
    rows[HISTORY]["reference_id"] = written.rows[HISTORY]["reference_id"]
    decision = written.rows[MEDIA_INFO]["transcode_decision"]
    rows[MEDIA_INFO]["transcode_decision"] = decision
    if "section_id" in old_schema[METADATA]:
        rows[HISTORY]["section_id"] = rows[METADATA]["section_id"]
    return _Written(rows)


def _write(
    path: Path,
    schema: _Schema,
    written_plays: list[_Written],
    *,
    version: str | None,
    libraries: bool = True,
) -> None:
    rows: dict[str, list[Cells]] = {"users": user_rows()}
    if libraries:
        rows["library_sections"] = library_rows()
    if version is not None:
        rows["version_info"] = [{"key": "version", "value": version}]
    for table in (HISTORY, METADATA, MEDIA_INFO):
        rows[table] = [written.rows[table] for written in written_plays]
    path.touch(exist_ok=False)
    with closing(sqlite3.connect(path)) as connection:
        for table, declarations in schema.items():
            connection.execute(create_table(table, list(declarations.values())))
            for row in rows.get(table, []):
                cells = {name: value for name, value in row.items() if name in declarations}
                insert_rows(connection, table, [cells])
        connection.commit()
        connection.execute("PRAGMA journal_mode = WAL")
