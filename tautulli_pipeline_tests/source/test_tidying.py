"""The private copy is prepared: no tokens, and row numbers in every table."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from tautulli_pipeline.errors import SourceError
from tautulli_pipeline.events.columns import HISTORY, HISTORY_TABLES, MEDIA_INFO, METADATA
from tautulli_pipeline.source.opening import open_source
from tautulli_pipeline.source.reader import IdRange, _batch_query
from tautulli_pipeline.source.schema import LARGEST_ID, SMALLEST_ID
from tautulli_pipeline.source.tidying import forget_secrets
from tautulli_pipeline_tests.cases import make_database, play

EVERYTHING = IdRange(SMALLEST_ID, LARGEST_ID)
TOKEN = "tok3n-of-somebody"
SIDE_TABLES = ["users", "library_sections", "version_info"]


@pytest.fixture
def database(tmp_path):
    path = tmp_path / "tautulli.db"
    make_database(path, plays=[play(n) for n in range(1, 8)])
    change(path, "PRAGMA journal_mode = DELETE")
    return path


def change(path, *statements):
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def rebuild_without_rowid(path, table, key="id", kind="INTEGER"):
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        columns = [row[1:3] for row in connection.execute(f"PRAGMA table_info({table})")]
        declared = ", ".join(
            f'"{name}" {kind if name == key else declared_as}' for name, declared_as in columns
        )
        connection.execute(f"CREATE TABLE new ({declared}, PRIMARY KEY ({key})) WITHOUT ROWID")
        connection.execute(f"INSERT INTO new SELECT * FROM {table}")
        connection.execute(f"DROP TABLE {table}")
        connection.execute(f"ALTER TABLE new RENAME TO {table}")


def read(path, snapshots):
    """Return all rows of a source, and its counts by partition."""
    with open_source(path, snapshots) as source:
        contents = [(c.key, c.rows) for c in source.survey(None, 1000)]
        with source.open_reader() as reader:
            return reader.read(EVERYTHING).to_pylist(), contents


@pytest.mark.parametrize("table", [*HISTORY_TABLES, "users", "library_sections"])
def test_a_table_without_rowid_is_read_like_any_other(database, tmp_path, table):
    before = read(database, tmp_path / "snapshots")
    rebuild_without_rowid(database, table)
    assert read(database, tmp_path / "snapshots") == before


def test_a_version_without_rowid_is_read(database, tmp_path):
    rebuild_without_rowid(database, "version_info", key="key", kind="TEXT")
    with open_source(database, tmp_path / "snapshots") as source:
        assert source.schema.tautulli_version is not None


def test_a_number_as_text_is_the_key_of_a_table_without_rowid(database, tmp_path):
    before, _ = read(database, tmp_path / "snapshots")
    for table in HISTORY_TABLES:
        rebuild_without_rowid(database, table, kind="TEXT")
    rows, contents = read(database, tmp_path / "snapshots")
    assert (rows, contents) == (before, [("other", 7)])


def test_a_key_that_is_not_a_number_is_kept_in_a_table_without_rowid(database, tmp_path):
    rebuild_without_rowid(database, HISTORY)
    change(database, f"UPDATE {HISTORY} SET id = 'seven' WHERE id = 7")
    rows, contents = read(database, tmp_path / "snapshots")
    assert [row[f"{HISTORY}.id"] for row in rows] == ["1", "2", "3", "4", "5", "6", "seven"]
    assert contents == [("0000000001-0000001000", 6), ("other", 1)]


@pytest.mark.parametrize("table", [HISTORY, METADATA, MEDIA_INFO, *SIDE_TABLES])
@pytest.mark.parametrize("salvaging", [False, True])
def test_a_view_instead_of_a_table_is_refused(database, tmp_path, table, salvaging):
    forever = "WITH RECURSIVE n AS (SELECT 1 AS id UNION ALL SELECT id + 1 FROM n) SELECT * FROM n"
    change(database, f"DROP TABLE {table}", f"CREATE VIEW {table} AS {forever}")
    refused = f"is not a Tautulli database: {table} is a view instead of a table"
    with (
        pytest.raises(SourceError, match=refused),
        open_source(database, tmp_path / "snapshots", salvaging=salvaging),
    ):
        pass


def test_a_virtual_table_is_refused(database, tmp_path):
    change(database, "DROP TABLE users", "CREATE VIRTUAL TABLE Users USING fts5(user_id)")
    with (
        pytest.raises(SourceError, match="Users is a virtual table instead of a table"),
        open_source(database, tmp_path / "snapshots"),
    ):
        pass


def test_the_copy_has_no_tokens(database, tmp_path):
    change(
        database,
        f"UPDATE users SET user_token = '{TOKEN}', server_token = '{TOKEN}'",
        "CREATE TABLE mobile_devices (id INTEGER PRIMARY KEY, device_token TEXT UNIQUE)",
        f"INSERT INTO mobile_devices VALUES (1, '{TOKEN}'), (2, '{TOKEN}-2')",
        'CREATE TABLE "odd "" name" (id, notifier_config TEXT)',
        f"""INSERT INTO "odd "" name" VALUES (1, '{{"key": "{TOKEN}" }}')""",
        "CREATE TABLE login (jwt_token TEXT PRIMARY KEY) WITHOUT ROWID",
        "CREATE TRIGGER refuse BEFORE UPDATE ON users BEGIN SELECT raise(ABORT, 'no'); END",
    )
    content = database.read_bytes()
    assert content.count(TOKEN.encode()) >= 5
    with open_source(database, tmp_path / "snapshots") as source:
        assert TOKEN.encode() not in source.snapshot.path.read_bytes()
        with source.open_reader() as reader:
            assert reader.read(EVERYTHING)["users.username"].to_pylist() == ["mira"] * 7
    assert database.read_bytes() == content


def test_history_columns_with_such_names_are_kept(database, tmp_path):
    change(
        database,
        f"ALTER TABLE {HISTORY} ADD COLUMN session_token TEXT",
        f"UPDATE {HISTORY} SET session_token = 'kept'",
    )
    rows, _ = read(database, tmp_path / "snapshots")
    assert {row[f"{HISTORY}.session_token"] for row in rows} == {"kept"}


def test_tokens_that_must_not_be_null_do_not_stop_an_import(database, tmp_path):
    change(
        database,
        "CREATE TABLE devices (device_token TEXT NOT NULL)",
        f"INSERT INTO devices VALUES ('{TOKEN}')",
    )
    assert len(read(database, tmp_path / "snapshots")[0]) == 7


def test_a_file_that_cannot_be_changed_is_left_alone(tmp_path):
    path = tmp_path / "damaged.db"
    path.write_bytes(b"SQLite format 3\0" + bytes(9000))
    forget_secrets(path)
    assert path.stat().st_size == 9016


def rebuild_without_key(path):
    for table in HISTORY_TABLES:
        change(
            path,
            f"CREATE TABLE new AS SELECT * FROM {table}",
            f"DROP TABLE {table}",
            f"ALTER TABLE new RENAME TO {table}",
        )


@pytest.mark.parametrize("salvaging", [False, True])
def test_tables_without_a_primary_key_are_searched_by_an_index(database, tmp_path, salvaging):
    before = read(database, tmp_path / "snapshots")
    rebuild_without_key(database)
    assert read(database, tmp_path / "snapshots") == before
    with open_source(database, tmp_path / "snapshots", salvaging=salvaging) as source:
        query = _batch_query(source.schema)
        with closing(sqlite3.connect(source.snapshot.path)) as connection:
            plan = connection.execute(f"EXPLAIN QUERY PLAN {query}", (1, 5)).fetchall()
    searched = [step for *_, step in plan if step.startswith("SEARCH")]
    for table in HISTORY_TABLES:
        assert any(f"USING INDEX place_in_{table} " in step for step in searched), plan
    assert not [step for *_, step in plan if step.startswith(("SCAN h", "SCAN session"))]
