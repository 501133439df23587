"""Imports end with statistics of everything that is stored."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import duckdb

from tautulli_pipeline_tests.analytics.warehouses import query
from tautulli_pipeline_tests.cases import play
from tautulli_pipeline_tests.command import run

if TYPE_CHECKING:
    from pathlib import Path

PLAYS = [
    play(1),
    play(2),
    play(
        3,
        reference_id=2,
        rating_key=102,
        title="Film 2",
        full_title="Film 2",
        guid=f"plex://movie/{2:024x}",
    ),
]


def edit(database: Path, *statements: str) -> None:
    with closing(sqlite3.connect(database)) as connection:
        for sql in statements:
            connection.execute(sql)
        connection.commit()


def inode(data_dir: Path) -> int:
    return (data_dir / "analytics.duckdb").stat().st_ino


def test_an_import_builds_the_analytics_only_if_something_changed(database, data_dir):
    assert run("import", database, data_dir=data_dir).exit_code == 0
    assert query(data_dir, "SELECT plays, watches, user_name FROM top_users") == [(3, 2, "Mira")]
    before = inode(data_dir)
    assert run("import", database, data_dir=data_dir).exit_code == 0
    assert inode(data_dir) == before
    zone = {"PIPELINE_TIMEZONE": "Asia/Tokyo"}
    assert run("import", database, data_dir=data_dir, **zone).exit_code == 0
    assert query(data_dir, "SELECT timezone FROM about") == [("Asia/Tokyo",)]
    assert inode(data_dir) != before


def test_a_rename_a_new_title_another_group_and_a_later_stop_are_shown(database, data_dir):
    assert run("import", database, data_dir=data_dir).exit_code == 0
    edit(
        database,
        "UPDATE users SET friendly_name = 'Mirabelle' WHERE username = 'mira'",
        "UPDATE library_sections SET section_name = 'Cinema' WHERE section_id = 1",
        "UPDATE session_history_metadata SET title = 'New', full_title = 'New' WHERE id = 1",
        "UPDATE session_history SET stopped = stopped + 60 WHERE id = 1",
        "UPDATE session_history SET reference_id = 3 WHERE id = 3",
    )
    assert run("import", database, data_dir=data_dir).exit_code == 0
    assert query(
        data_dir, "SELECT full_title, seconds, user_name, library FROM plays ORDER BY started_at"
    ) == [
        ("New", 3660, "Mirabelle", "Cinema"),
        ("Film 2", 3600, "Mirabelle", "Cinema"),
        ("Film 2", 3600, "Mirabelle", "Cinema"),
    ]
    assert query(data_dir, "SELECT plays, watches FROM top_users") == [(3, 3)]


def test_a_build_that_fails_leaves_the_import_completed_with_a_warning(database, data_dir):
    data_dir.mkdir()
    in_the_way = data_dir / "analytics.duckdb"
    in_the_way.mkdir()
    (in_the_way / "file").touch()
    outcome = run("import", database, "--json", data_dir=data_dir)
    assert outcome.exit_code == 0
    assert outcome.json["status"] == "completed"
    assert "warning: cannot update the analytics" in outcome.stderr
    (in_the_way / "file").unlink()
    in_the_way.rmdir()
    assert run("import", database, data_dir=data_dir).exit_code == 0
    assert query(data_dir, "SELECT count(*) FROM plays") == [(3,)]


def test_a_dashboard_that_has_the_file_open_does_not_stop_an_import(database, data_dir):
    assert run("import", database, data_dir=data_dir).exit_code == 0
    with duckdb.connect(data_dir / "analytics.duckdb", read_only=True) as dashboard:
        edit(database, "UPDATE session_history_metadata SET full_title = 'New' WHERE id = 1")
        assert run("import", database, data_dir=data_dir).exit_code == 0
        sql = "SELECT full_title FROM plays ORDER BY started_at LIMIT 1"
        assert dashboard.execute(sql).fetchall() == [("Film 1",)]
    assert query(data_dir, sql) == [("New",)]
