from __future__ import annotations

import sqlite3
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest

from tautulli_pipeline.errors import SourceError
from tautulli_pipeline.events.columns import HISTORY, HISTORY_TABLES, MEDIA_INFO, METADATA
from tautulli_pipeline.source.schema import (
    LARGEST_ID,
    SMALLEST_ID,
    SourceSchema,
    read_schema,
)
from tautulli_pipeline_tests import tautulli_databases
from tautulli_pipeline_tests.eras import (
    NEWEST_TAG,
    TAGS,
    make_database,
    make_era_database,
    make_half_migrated_database,
    make_one_jump_database,
    play,
)

TABLES = (*HISTORY_TABLES, "users", "library_sections", "version_info")


def schema_of(path):
    return read_schema(path, named=path)


def change(path, *statements):
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def columns_of(path):
    """Return the columns by table, as reported by SQLite."""
    with closing(sqlite3.connect(path)) as connection:
        return {
            table: tuple(row[1] for row in connection.execute(f"PRAGMA table_info({table})"))
            for table in TABLES
        }


@pytest.mark.parametrize("tag", TAGS)
def test_the_schema_of_every_era_is_read(tmp_path, tag):
    path = tmp_path / "tautulli.db"
    make_era_database(path, tag, rows=1)
    schema = schema_of(path)
    assert schema.tables == columns_of(path)
    assert schema.keyed == set(HISTORY_TABLES)
    assert schema.tautulli_version == (tag if schema.tables["version_info"] else None)


@pytest.mark.parametrize("name", tautulli_databases.NAMES)
def test_the_schema_of_every_real_database_is_read(tmp_path, name):
    path = tmp_path / "tautulli.db"
    tautulli_databases.build(name, path)
    schema = schema_of(path)
    assert schema.tables == columns_of(path)
    assert all(schema.history_columns.values())


@pytest.mark.parametrize("section_id_in", [(), (HISTORY,), (METADATA,), (HISTORY, METADATA)])
def test_a_half_migrated_database_has_no_version(tmp_path, section_id_in):
    path = tmp_path / "tautulli.db"
    make_half_migrated_database(path, section_id_in, rows=2)
    schema = schema_of(path)
    assert schema.tautulli_version is None
    assert {t for t in HISTORY_TABLES if schema.has(t, "section_id")} == set(section_id_in)


def test_a_database_upgraded_in_one_jump_lacks_columns_that_its_version_has(tmp_path):
    path = tmp_path / "tautulli.db"
    make_one_jump_database(path, rows=2)
    schema = schema_of(path)
    assert schema.tautulli_version == NEWEST_TAG
    assert set(schema.missing_columns) == {
        *("marker_credits_first", "marker_credits_final"),
        *("channel_id", "channel_title", "channel_vcn"),
    }


def test_missing_columns_of_the_newest_and_the_oldest_version(tmp_path):
    newest, oldest = tmp_path / "newest.db", tmp_path / "oldest.db"
    make_era_database(newest, NEWEST_TAG, rows=1)
    make_era_database(oldest, TAGS[0], rows=1)
    assert schema_of(newest).missing_columns == ()
    missing = schema_of(oldest).missing_columns
    assert {"reference_id", "section_id", "secure", "live", "transcode_decision"} < set(missing)
    assert {"id", "started", "stopped", "user_id", "title", "duration"}.isdisjoint(missing)


@pytest.mark.parametrize(
    ("statement", "missing"),
    [
        (f"DROP TABLE {HISTORY}", f"no table {HISTORY}"),
        (f"DROP TABLE {METADATA}", f"no table {METADATA}"),
        (f"ALTER TABLE {HISTORY} RENAME COLUMN started TO began", f"no column {HISTORY}.started"),
        (f"ALTER TABLE {HISTORY} RENAME COLUMN user_id TO viewer", f"no column {HISTORY}.user_id"),
        (f"ALTER TABLE {METADATA} RENAME COLUMN title TO name", f"no column {METADATA}.title"),
        (f"ALTER TABLE {METADATA} RENAME COLUMN id TO ident", f"no column {METADATA}.id"),
    ],
)
def test_a_database_that_is_not_tautullis_is_rejected_with_the_missing_part(
    tmp_path, statement, missing
):
    path = tmp_path / "tautulli.db"
    make_database(path, plays=[play(1)])
    change(path, statement)
    with pytest.raises(SourceError) as caught:
        read_schema(path, named=Path("/home/me/given.db"))
    assert caught.value.message == f"/home/me/given.db is not a Tautulli database: it has {missing}"
    assert "tautulli.db" in caught.value.hint


def test_a_damaged_schema_is_a_source_error(tmp_path):
    path = tmp_path / "tautulli.db"
    make_database(path, plays=[play(1)])
    content = bytearray(path.read_bytes())
    content[100:1000] = b"\xff" * 900
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"cannot read the schema of .*tautulli\.db: "):
        schema_of(path)


@pytest.mark.parametrize("table", ["users", "library_sections", "version_info", MEDIA_INFO])
def test_a_missing_side_table_is_accepted(tmp_path, table):
    path = tmp_path / "tautulli.db"
    make_database(path, plays=[play(1)], drop_tables=[table])
    schema = schema_of(path)
    assert schema.tables[table] == ()
    assert not schema.has(table, "id")
    assert schema.tautulli_version == (None if table == "version_info" else NEWEST_TAG)


def test_media_info_without_ids_is_ignored(tmp_path):
    path = tmp_path / "tautulli.db"
    make_database(path, plays=[play(1)])
    change(path, f"ALTER TABLE {MEDIA_INFO} RENAME COLUMN id TO ident")
    assert schema_of(path).history_columns[MEDIA_INFO] == ()


def test_columns_in_any_case_are_found_and_keep_their_spelling(tmp_path):
    path = tmp_path / "tautulli.db"
    make_database(path, plays=[play(1)])
    renamed = [(HISTORY, "started", "Started"), (HISTORY, "user_id", "USER_ID")]
    renamed += [(METADATA, "title", "Title"), ("version_info", "value", "VALUE")]
    change(path, *(f"ALTER TABLE {t} RENAME COLUMN {old} TO {new}" for t, old, new in renamed))
    schema = schema_of(path)
    assert {"Started", "USER_ID"} < set(schema.tables[HISTORY])
    assert schema.has(HISTORY, "started", "user_id")
    assert schema.missing_columns == ()
    assert schema.tautulli_version == NEWEST_TAG


@pytest.mark.parametrize("table", HISTORY_TABLES)
def test_a_table_rebuilt_without_its_key_is_detected(tmp_path, table):
    path = tmp_path / "tautulli.db"
    make_database(path, plays=[play(1)])
    change(
        path,
        f"CREATE TABLE rebuilt AS SELECT * FROM {table}",
        f"DROP TABLE {table}",
        f"ALTER TABLE rebuilt RENAME TO {table}",
    )
    assert schema_of(path).keyed == set(HISTORY_TABLES) - {table}


SPELLINGS = [
    ("id INTEGER PRIMARY KEY", True),
    ("ID integer primary key", True),
    ("id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT", True),
    ("id INT PRIMARY KEY", False),
    ("id BIGINT PRIMARY KEY", False),
    ("id INTEGER UNIQUE", False),
    ("id INTEGER, other INTEGER, PRIMARY KEY (id, other)", False),
    ("id INTEGER, other INTEGER PRIMARY KEY", False),
]


@pytest.mark.parametrize(("spelling", "keyed"), SPELLINGS)
def test_only_integer_primary_key_makes_a_table_keyed(tmp_path, spelling, keyed):
    path = tmp_path / "tautulli.db"
    make_database(path, plays=[play(1)])
    change(path, f"DROP TABLE {MEDIA_INFO}", f"CREATE TABLE {MEDIA_INFO} ({spelling})")
    assert (MEDIA_INFO in schema_of(path).keyed) is keyed


@pytest.mark.parametrize(
    ("statement", "version"),
    [
        ("UPDATE version_info SET value = ''", None),
        ("UPDATE version_info SET value = NULL", None),
        ("UPDATE version_info SET key = 'Version'", None),
        ("UPDATE version_info SET value = 217", "217"),
        ("ALTER TABLE version_info RENAME COLUMN value TO amount", None),
    ],
)
def test_the_version_is_the_value_of_its_row_or_none(tmp_path, statement, version):
    path = tmp_path / "tautulli.db"
    make_database(path, plays=[play(1)])
    change(path, statement)
    assert schema_of(path).tautulli_version == version


ODD_IDS = (SMALLEST_ID, -1, 0, 1, 2, 3, LARGEST_ID, None, "2", "abc", 1.5, b"\x02")


def within(keyed, first, last):
    """Return the odd ids that match the condition in SQLite."""
    schema = SourceSchema({}, None, frozenset({HISTORY}) if keyed else frozenset())
    declared = "INTEGER PRIMARY KEY" if keyed else ""
    ids = [i for i in ODD_IDS if isinstance(i, int)] if keyed else ODD_IDS
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(f"CREATE TABLE {HISTORY} (id {declared})")
        connection.executemany(f"INSERT INTO {HISTORY} VALUES (?)", [(i,) for i in ids])
        condition = schema.has_id_within(HISTORY, "id")
        return {
            row_id
            for (row_id,) in connection.execute(
                f"SELECT id FROM {HISTORY} WHERE {condition}", (first, last)
            )
        }


@pytest.mark.parametrize("keyed", [True, False])
def test_every_id_is_in_exactly_one_of_the_adjacent_ranges(keyed):
    edges = [SMALLEST_ID, 0, 2, LARGEST_ID + 1]
    ranges = [within(keyed, a, b - 1) for a, b in pairwise(edges)]
    integers = [{SMALLEST_ID, -1}, {0, 1}, {2, 3, LARGEST_ID}]
    odd = {i for i in ODD_IDS if not isinstance(i, int)}
    assert ranges == (integers if keyed else [*integers[:2], integers[2] | odd])


@pytest.mark.parametrize("keyed", [True, False])
def test_a_join_returns_each_play_once_with_the_newest_row(keyed):
    schema = SourceSchema({METADATA: ("ID", "title")}, None, frozenset([METADATA] * keyed))
    declared = "INTEGER PRIMARY KEY" if keyed else "INTEGER"
    rows = [(1, "one"), (3, "three"), (2, "two")] + [(1, "newer"), (7, "stray")] * (not keyed)
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(f"CREATE TABLE {HISTORY} (id INTEGER PRIMARY KEY)")
        connection.executemany(f"INSERT INTO {HISTORY} VALUES (?)", [(1,), (2,), (4,)])
        connection.execute(f"CREATE TABLE {METADATA} (id {declared}, title)")
        connection.executemany(f"INSERT INTO {METADATA} VALUES (?, ?)", rows)
        found = connection.execute(
            f"SELECT h.id, m.title FROM {HISTORY} h {schema.join(METADATA, 'm')} "
            "WHERE h.id BETWEEN ?1 AND ?2 ORDER BY h.id",
            (1, 4),
        ).fetchall()
    assert found == [(1, "one" if keyed else "newer"), (2, "two"), (4, None)]


def test_a_table_without_ids_is_not_joined():
    assert SourceSchema({METADATA: ("title",)}, None).join(METADATA, "m") == ""
    assert SourceSchema({}, None).join(METADATA, "m") == ""
