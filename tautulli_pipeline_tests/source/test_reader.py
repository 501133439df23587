from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from tautulli_pipeline.errors import SourceError
from tautulli_pipeline.events.columns import HISTORY, HISTORY_TABLES, MEDIA_INFO, METADATA
from tautulli_pipeline.source import reader as reader_module
from tautulli_pipeline.source.reader import IdRange, open_reader
from tautulli_pipeline.source.schema import read_schema
from tautulli_pipeline_tests import tautulli_databases
from tautulli_pipeline_tests.eras import (
    make_database,
    make_era_database,
    make_half_migrated_database,
    make_one_jump_database,
    play,
)

EVERY_ID = IdRange(-(2**63), 2**63 - 1)


@contextmanager
def reading(path):
    with open_reader(path, read_schema(path, named=path), named=path) as reader:
        yield reader


def read(path, first=EVERY_ID.first, last=EVERY_ID.last):
    with reading(path) as reader:
        return reader.read(IdRange(first, last))


def ids_of(table):
    return [int(row_id) for row_id in table[f"{HISTORY}.id"].to_pylist()]


def change(path, *statements):
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def rebuild_without_key(path, table):
    change(
        path,
        f"CREATE TABLE rebuilt AS SELECT * FROM {table}",
        f"DROP TABLE {table}",
        f"ALTER TABLE rebuilt RENAME TO {table}",
    )


def rows_by_sqlite(path):
    """Return the plays joined with Python's sqlite3, with every cell as text."""
    with closing(sqlite3.connect(path)) as connection:
        found = {}
        for table in HISTORY_TABLES:
            names = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            cells = ", ".join(f'CAST("{name}" AS TEXT)' for name in names)
            rows = connection.execute(f"SELECT id, {cells} FROM {table}").fetchall()
            named = [f"{table}.{name}" for name in names]
            found[table] = {row[0]: dict(zip(named, row[1:], strict=True)) for row in rows}
            found[table][None] = dict.fromkeys(named)
    return [
        row
        | found[METADATA].get(row_id, found[METADATA][None])
        | found[MEDIA_INFO].get(row_id, found[MEDIA_INFO][None])
        for row_id, row in sorted((i, row) for i, row in found[HISTORY].items() if i is not None)
    ]


def without_lookups(table):
    return table.drop_columns(table.column_names[-4:]).to_pylist()


@pytest.mark.parametrize("name", tautulli_databases.NAMES)
def test_every_cell_of_a_real_database_equals_sqlites_value(tmp_path, name):
    path = tmp_path / "tautulli.db"
    tautulli_databases.build(name, path)
    expected = rows_by_sqlite(path)
    assert expected
    assert without_lookups(read(path)) == expected


@pytest.mark.parametrize(
    "make",
    [
        lambda path: make_era_database(path, "v1.0", rows=12),
        lambda path: make_era_database(path, "v2.17.2", rows=12, migrated_from="v1.4.25"),
        lambda path: make_half_migrated_database(path, (HISTORY, METADATA), rows=12),
        lambda path: make_one_jump_database(path, rows=12),
    ],
    ids=["v1.0", "migrated", "half_migrated", "one_jump"],
)
def test_every_cell_of_an_unusual_database_equals_sqlites_value(tmp_path, make):
    path = tmp_path / "tautulli.db"
    make(path)
    assert without_lookups(read(path)) == rows_by_sqlite(path)


def test_null_empty_and_odd_values_stay_distinct(tmp_path):
    path = tmp_path / "tautulli.db"
    odd = [None, "", "NULL", 0, -1, 1.5, 1e300, 2**63 - 1, "'; DROP TABLE users; --", "プ🎬\n\t\\"]
    make_database(path, plays=[play(i, bandwidth=v, title=v) for i, v in enumerate(odd, 1)])
    rows = read(path).to_pylist()
    assert [row[f"{HISTORY}.bandwidth"] for row in rows][:6] == [None, "", "NULL", "0", "-1", "1.5"]
    assert without_lookups(read(path)) == rows_by_sqlite(path)


def test_only_bytes_that_are_not_utf8_are_replaced(tmp_path):
    path = tmp_path / "tautulli.db"
    make_database(
        path, plays=[play(1, title=b"Caf\xe9", summary=""), play(2), play(3, title="Café")]
    )
    table = read(path)
    table.validate(full=True)
    assert table[f"{METADATA}.title"].to_pylist() == ["Caf\ufffd", "Film 2", "Café"]
    assert table[f"{METADATA}.summary"].to_pylist()[0] == ""
    assert table.schema.equals(read(path, 2, 3).schema)


def test_a_play_without_metadata_or_media_info_is_read(tmp_path):
    path = tmp_path / "tautulli.db"
    plays = [play(i) for i in (1, 2, 3)]
    plays[0].metadata = plays[1].media_info = None
    orphan = play(9)
    orphan.history = None
    make_database(path, plays=[*plays, orphan])
    table = read(path)
    assert ids_of(table) == [1, 2, 3]
    assert table[f"{METADATA}.title"].to_pylist() == [None, "Film 2", "Film 3"]
    assert table[f"{MEDIA_INFO}.container"].to_pylist() == ["mkv", None, "mkv"]


def test_a_range_is_inclusive_and_ordered(tmp_path):
    path = tmp_path / "tautulli.db"
    make_database(path, plays=[play(i) for i in (9, 5, 4, 1, 7)])
    with reading(path) as reader:
        assert ids_of(reader.read(IdRange(4, 7))) == [4, 5, 7]
        assert ids_of(reader.read(IdRange(2, 3))) == []


def test_ids_of_any_size_are_read(tmp_path):
    path = tmp_path / "tautulli.db"
    ids = [-(2**63), -1, 0, 1, 9_999_999_999, 10_000_000_000, 2**63 - 1]
    make_database(path, plays=[play(i, started=1_700_000_000, rating_key=1) for i in ids])
    assert ids_of(read(path)) == ids
    assert [ids_of(read(path, i, i)) for i in ids] == [[i] for i in ids]


@pytest.mark.parametrize(
    "name",
    [
        "it's.db",
        'a "b" c.db',
        "a;b%20c?mode=rw#d.db",
        "100 %.db",
        "プレックス🎬.db",
        "x' AS y; ATTACH 'made' AS z; --.db",
    ],
)
def test_special_characters_in_a_path_are_not_interpreted(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    make_database(tmp_path / name, plays=[play(1)])
    before = set(tmp_path.iterdir())
    assert ids_of(read(tmp_path / name)) == [1]
    left = {path.name for path in set(tmp_path.iterdir()) - before}
    assert left <= {f"{name}-shm", f"{name}-wal"}


def test_names_come_from_the_newest_row_of_the_small_tables(tmp_path):
    path = tmp_path / "tautulli.db"
    users = [{"user_id": 7, "username": "mira", "friendly_name": "Mira"}]
    make_database(path, plays=[play(1, user_id=7), play(2, user_id=8, section_id=99)], users=users)
    rebuild_without_key(path, "users")
    change(path, "INSERT INTO users (user_id, username, friendly_name) VALUES (7, 'm', 'Mimi')")
    lookups = read(path).select(
        ["users.username", "users.friendly_name", "library_sections.section_name"]
    )
    assert [tuple(row.values()) for row in lookups.to_pylist()] == [
        ("m", "Mimi", "Movies"),
        (None, None, None),
    ]


@pytest.mark.parametrize("table", ["users", "library_sections", "version_info", MEDIA_INFO])
def test_plays_are_read_if_a_side_table_is_missing(tmp_path, table):
    path = tmp_path / "tautulli.db"
    make_database(path, plays=[play(1)], drop_tables=[table])
    assert ids_of(read(path)) == [1]


def test_media_info_without_ids_is_left_out(tmp_path):
    path = tmp_path / "tautulli.db"
    make_database(path, plays=[play(1)])
    change(path, f"ALTER TABLE {MEDIA_INFO} RENAME COLUMN id TO ident")
    assert not [name for name in read(path).column_names if name.startswith(MEDIA_INFO)]


def test_columns_in_odd_case_keep_their_spelling(tmp_path):
    path = tmp_path / "tautulli.db"
    make_database(path, plays=[play(1)])
    change(
        path,
        f"ALTER TABLE {HISTORY} RENAME COLUMN id TO ID",
        f"ALTER TABLE {METADATA} RENAME COLUMN id TO Id",
        f"ALTER TABLE {HISTORY} RENAME COLUMN user_id TO User_ID",
    )
    table = read(path)
    assert table[f"{HISTORY}.ID"].to_pylist() == ["1"]
    assert table["users.username"].to_pylist() == ["mira"]


@pytest.mark.parametrize("table", [METADATA, MEDIA_INFO])
@pytest.mark.parametrize("newest", ["newest", None])
def test_a_duplicate_id_in_a_rebuilt_table_gives_one_play(tmp_path, table, newest):
    path = tmp_path / "tautulli.db"
    make_database(path, plays=[play(i) for i in (1, 2, 3)])
    rebuild_without_key(path, table)
    change(path, f"INSERT INTO {table} SELECT * FROM {table} WHERE id = 2")
    with closing(sqlite3.connect(path)) as connection, connection:
        last = f"(SELECT max(rowid) FROM {table})"
        connection.execute(f"UPDATE {table} SET rating_key = ? WHERE rowid = {last}", (newest,))
    found = read(path)
    assert ids_of(found) == [1, 2, 3]
    assert found[f"{table}.rating_key"].to_pylist() == ["101", newest, "103"]


@pytest.mark.parametrize("tag", ["v1.0", "v2.6.10", "v2.17.2"])
def test_a_batch_query_uses_the_primary_keys(tmp_path, tag):
    path = tmp_path / "tautulli.db"
    make_era_database(path, tag, rows=2)
    query = reader_module._batch_query(read_schema(path, named=path))
    with closing(sqlite3.connect(path)) as connection:
        plan = connection.execute(f"EXPLAIN QUERY PLAN {query}", (1, 2)).fetchall()
    steps = [step[3] for step in plan]
    for alias in ("h", "m", "i"):
        assert any(s.startswith(f"SEARCH {alias} USING INTEGER PRIMARY KEY") for s in steps)
    large = ("h", "m", "i", "users", *HISTORY_TABLES)
    assert not [s for s in steps if s.startswith(tuple(f"SCAN {name}" for name in large))]
    # Only the few library sections of one number are sorted.
    assert not [step for step in plan if "TEMP B-TREE" in step[3] and step[1] == 0]


def test_damage_found_while_reading_is_reported_with_the_users_path(tmp_path):
    path, given = tmp_path / "copy.db", Path("/home/me/tautulli.db")
    make_database(path, plays=[play(i) for i in range(1, 200)])
    schema = read_schema(path, named=given)
    content = bytearray(path.read_bytes())
    content[len(content) // 3 :] = b"\xff" * (len(content) - len(content) // 3)
    path.write_bytes(content)
    with open_reader(path, schema, named=given) as reader, pytest.raises(SourceError) as caught:
        reader.read(EVERY_ID)
    assert f"of {given}: " in caught.value.message
    assert "\n" not in caught.value.message


def test_the_copy_is_read_only(tmp_path):
    path = tmp_path / "tautulli.db"
    make_database(path, plays=[play(1)])
    before = path.read_bytes()
    with reading(path) as reader:
        reader.read(EVERY_ID)
        with pytest.raises(duckdb.Error, match="read-only"):
            reader._connection.execute("DELETE FROM source.session_history")
    assert path.read_bytes() == before


def section(name, server, **cells):
    kept = {"section_id": 1, "section_type": "movie", "is_active": 1, "deleted_section": 0}
    return kept | {"server_id": server, "section_name": name} | cells


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize(
    "others",
    [
        [section("Old", "b", is_active=0)],
        [section("Deleted", "b", deleted_section=1)],
        [section("Gone", "b", deleted_section=1, is_active=0), section("Old", "c", is_active="0")],
    ],
)
def test_a_library_has_the_name_of_its_active_section(tmp_path, others, newest_first):
    path = tmp_path / "tautulli.db"
    sections = [section("Films", "z"), *others]
    make_database(path, plays=[play(1)], libraries=sections[:: -1 if newest_first else 1])
    assert read(path)["library_sections.section_name"].to_pylist() == ["Films"]


def test_a_deleted_section_still_has_a_name_and_row_numbers_decide_nothing(tmp_path):
    for order in (1, -1):
        path = tmp_path / f"{order}.db"
        sections = [section("A", "a", deleted_section=1), section("B", "b", is_active=0)]
        other = [section("C", "c", section_id=2), section("D", "d", section_id=2)]
        plays = [play(1), play(2, section_id=2)]
        make_database(path, plays=plays, libraries=[*sections, *other][::order])
        assert read(path)["library_sections.section_name"].to_pylist() == ["A", "C"]


def test_sections_of_old_versions_have_no_state(tmp_path):
    path = tmp_path / "tautulli.db"
    dropped = {"library_sections": ["is_active", "deleted_section"]}
    make_database(path, plays=[play(1)], libraries=[section("Films", "a")], drop_columns=dropped)
    assert read(path)["library_sections.section_name"].to_pylist() == ["Films"]


@pytest.fixture
def large_plays(tmp_path, monkeypatch):
    """Some plays of 40 KB among small ones, in a file whose large plays are searched."""
    monkeypatch.setattr(reader_module, "_SMALL_FILE_BYTES", 0)
    monkeypatch.setattr(reader_module, "_PART_BYTES", 100_000)
    path = tmp_path / "tautulli.db"
    texts = dict.fromkeys((3, 4, 5, 6, 30, 31, 40), "é" * 20000)
    make_database(path, plays=[play(n, summary=texts.get(n, "")) for n in range(1, 51)])
    return path


def test_large_plays_are_read_in_parts_of_limited_size(large_plays):
    with reading(large_plays) as reader:
        whole = reader.read(EVERY_ID)
        batches = list(reader.stream([IdRange(1, 45), IdRange(46, EVERY_ID.last)]))
    assert [ids_of(batch) for batch in batches] == [
        *([*range(1, 5)], [5, *range(6, 30)], [*range(30, 40)], [*range(40, 46)]),
        [*range(46, 51)],
    ]
    assert max(batch.nbytes for batch in batches) < 200_000
    assert pa.Table.from_batches(batches).combine_chunks() == whole.combine_chunks()


@pytest.mark.parametrize("table", [METADATA, MEDIA_INFO, HISTORY])
def test_parts_of_a_table_without_key_contain_every_play_once(large_plays, table):
    rebuild_without_key(large_plays, table)
    if table == HISTORY:
        change(large_plays, f"INSERT INTO {HISTORY} SELECT * FROM {HISTORY} WHERE id IN (4, 5)")
    with reading(large_plays) as reader:
        whole = ids_of(reader.read(EVERY_ID))
        read = [i for batch in reader.stream([EVERY_ID]) for i in ids_of(batch)]
    assert read == whole


def test_a_small_file_is_read_in_one_part(large_plays, monkeypatch):
    monkeypatch.setattr(reader_module, "_SMALL_FILE_BYTES", large_plays.stat().st_size)
    with reading(large_plays) as reader:
        assert len(list(reader.stream([EVERY_ID]))) == 1


def test_a_name_from_a_small_table_is_cut_to_1024_characters(tmp_path):
    path = tmp_path / "tautulli.db"
    make_database(path, plays=[play(1)])
    change(path, "UPDATE users SET friendly_name = printf('%.*c', 5000000, 'x')")
    (name,) = read(path)["users.friendly_name"].to_pylist()
    assert name == "x" * 1024
