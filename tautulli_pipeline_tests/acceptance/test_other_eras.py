"""Databases of Tautulli versions without a real test file, and rows that are not valid plays."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from tautulli_pipeline.demo.database import make_demo_database
from tautulli_pipeline_tests.acceptance.conftest import Import, import_each
from tautulli_pipeline_tests.command import imported, outcomes, query
from tautulli_pipeline_tests.eras import (
    make_era_database,
    make_half_migrated_database,
    make_one_jump_database,
)

if TYPE_CHECKING:
    from pathlib import Path

ROWS = 30
ERAS = ("v1.0", "v1.3.0", "v2.0.0-beta", "one_jump", "half_migrated")
TABLES = ("session_history", "session_history_metadata", "session_history_media_info")
# Columns with another name in the warehouse, and columns that the mapping fills in if empty.
RENAMED = {"id": "source_row_id", "user": "username", "duration": "media_duration_ms"}
MOMENTS = {"started": "epoch(started_at)::BIGINT", "stopped": "epoch(stopped_at)::BIGINT"}
FILLED_IN = {"section_id", "transcode_decision"}


@pytest.fixture(scope="module")
def databases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("eras")
    paths = {name: folder / f"{name}.db" for name in ERAS}
    for tag in ("v1.0", "v1.3.0", "v2.0.0-beta"):
        make_era_database(paths[tag], tag, ROWS)
    make_one_jump_database(paths["one_jump"], ROWS)
    make_half_migrated_database(paths["half_migrated"], ["session_history_metadata"], ROWS)
    return paths


@pytest.fixture(scope="module")
def imports(
    databases: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Import]:
    return import_each(databases, tmp_path_factory.mktemp("data"))


def source_rows(database: Path) -> list[dict[str, Any]]:
    """Return each play's columns: from history, else from metadata, else from media info."""
    with closing(sqlite3.connect(database)) as connection:
        connection.row_factory = sqlite3.Row
        rows: dict[int, dict[str, Any]] = {}
        for table in TABLES:
            for row in connection.execute(f"SELECT * FROM {table} ORDER BY id"):
                rows[row["id"]] = dict(row) | rows.get(row["id"], {})
    return list(rows.values())


def as_text(value: Any) -> str | None:
    if isinstance(value, bool):
        value = int(value)
    return None if value in ("", None) else str(value)


@pytest.mark.slow
@pytest.mark.parametrize("era", ERAS)
def test_every_cell_of_every_era_is_imported(
    era: str, databases: dict[str, Path], imports: dict[str, Import]
) -> None:
    counts = {"total_records": ROWS, "processed": ROWS, "imported": ROWS}
    assert outcomes(imports[era].summary) == counts
    rows = source_rows(databases[era])
    names = [name for name in rows[0] if name not in FILLED_IN]
    columns = ", ".join((RENAMED | MOMENTS).get(name, f'"{name}"') for name in names)
    stored = query(
        imports[era].data_dir, f"SELECT {columns} FROM playback_events ORDER BY source_row_id"
    )
    expected = [[as_text(row[name]) for name in names] for row in rows]
    assert [[as_text(value) for value in row] for row in stored] == expected


def test_invalid_rows_become_dead_letters(tmp_path: Path) -> None:
    make_demo_database(database := tmp_path / "tautulli.db", 45, damaged_rows=5)
    summary = imported(database, data_dir=tmp_path / "data")
    counts = {"total_records": 50, "processed": 50, "imported": 46, "rejected": 4}
    assert outcomes(summary) == counts
    letters = query(
        tmp_path / "data",
        "SELECT source_row_id, reason, origin, record::VARCHAR FROM dead_letters ORDER BY 1",
    )
    reasons = ["missing start", "missing user_id", "missing title", "missing title"]
    assert [letter[1:3] for letter in letters] == [(r, "session_history") for r in reasons]
    history = {row["id"]: row for row in source_rows(database)}
    for row_id, _, _, record in letters:
        kept = json.loads(record)["session_history"]
        cells = {name: history[row_id][name] for name in kept}
        assert kept == {n: None if v is None else str(v) for n, v in cells.items()}
