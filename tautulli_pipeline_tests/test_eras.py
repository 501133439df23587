from __future__ import annotations

import csv
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tautulli_pipeline.demo.database import make_demo_database
from tautulli_pipeline_tests import schema_facts, tautulli_databases
from tautulli_pipeline_tests.eras import (
    HISTORY,
    MEDIA_INFO,
    METADATA,
    TAGS,
    make_database,
    make_era_database,
    make_half_migrated_database,
    make_one_jump_database,
    play,
    version_key,
)

REAL_TAGS = ("v1.2.16", "v2.2.4", "v2.12.5", "v2.17.2")
TABLES = (HISTORY, METADATA, MEDIA_INFO, "users", "library_sections", "version_info")


def query(path, sql):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


def one(path, sql):
    return query(path, sql)[0][0]


def columns(path):
    """Return names, types and defaults of the columns of the six tables, in file order."""
    found = {
        table: [row[1:3] + row[4:5] for row in query(path, f"PRAGMA table_info({table})")]
        for table in TABLES
    }
    return {table: cells for table, cells in found.items() if cells}


def names(path, table):
    return [name for name, _, _ in columns(path).get(table, [])]


def facts_at(tag):
    with Path(schema_facts.__file__).with_name("era_columns.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    known = {}
    for row in rows:
        ended = row["last_tag"] and version_key(row["last_tag"]) < version_key(tag)
        if version_key(row["first_tag"]) <= version_key(tag) and not ended:
            cell = (row["column"], row["declared_type"], row["default"] or None)
            known.setdefault(row["table"], []).append(cell)
    return known


def unordered(tables):
    return {table: set(cells) for table, cells in tables.items()}


def test_tags_are_ordered_by_number_with_betas_first():
    tags = "v1.0 v1.1.7 v1.2.0 v1.2.16 v1.3.0 v1.3.10 v2.0.0-beta v2.2.0-beta v2.2.0 v2.2.2-beta"
    assert sorted({*tags.split()}, key=version_key) == tags.split()
    assert version_key("v1.0") == version_key("v1.0.0")
    with pytest.raises(ValueError, match="not a Tautulli tag"):
        version_key("2.17")


def test_the_tags_include_the_first_the_newest_and_every_schema_change():
    assert (TAGS[0], TAGS[-1]) == ("v1.0", "v2.17.2")
    assert {"v1.2.0", "v1.3.10", "v2.0.0-beta", "v2.2.0", "v2.7.0-beta", "v2.14.0-beta"} < {*TAGS}


@pytest.mark.parametrize("tag", TAGS)
def test_a_fresh_database_has_the_columns_of_its_tag(tmp_path, tag):
    make_era_database(tmp_path / "plexpy.db", tag)
    assert columns(tmp_path / "plexpy.db") == facts_at(tag)
    assert one(tmp_path / "plexpy.db", "PRAGMA integrity_check") == "ok"


@pytest.mark.parametrize(
    ("tag", "counts"),
    [
        ("v1.0", {HISTORY: 15, METADATA: 30, MEDIA_INFO: 22, "users": 10}),
        ("v2.17.2", {HISTORY: 26, METADATA: 42, MEDIA_INFO: 77, "users": 25}),
    ],
)
def test_the_first_and_the_newest_version_have_the_expected_column_counts(tmp_path, tag, counts):
    make_era_database(tmp_path / "plexpy.db", tag)
    assert {table: len(names(tmp_path / "plexpy.db", table)) for table in counts} == counts


@pytest.mark.parametrize("tag", REAL_TAGS)
def test_an_era_has_the_columns_of_the_real_database(tmp_path, tag):
    tautulli_databases.build(tag, tmp_path / "real.db")
    make_era_database(tmp_path / "made.db", tag)
    assert unordered(columns(tmp_path / "made.db")) == unordered(columns(tmp_path / "real.db"))


def test_one_jump_to_the_newest_version_loses_five_metadata_columns(tmp_path):
    make_one_jump_database(tmp_path / "jump.db")
    assert len(names(tmp_path / "jump.db", METADATA)) == 37
    lost = {"marker_credits_first", "marker_credits_final", "channel_id", "channel_vcn"}
    assert not lost & {*names(tmp_path / "jump.db", METADATA)}
    assert one(tmp_path / "jump.db", "SELECT value FROM version_info") == "v2.17.2"


def test_one_jump_gives_the_columns_of_the_real_migrated_database(tmp_path):
    make_one_jump_database(tmp_path / "jump.db")
    tautulli_databases.build("v2.6.10_migrated_to_v2.17.2", tmp_path / "real.db")
    assert unordered(columns(tmp_path / "jump.db")) == unordered(columns(tmp_path / "real.db"))


def test_later_columns_are_appended_as_by_alter_table(tmp_path):
    make_era_database(tmp_path / "a.db", "v2.17.2", migrated_from="v1.1.7")
    history = columns(tmp_path / "a.db")[HISTORY]
    assert history[14:16] == [("view_offset", "INTEGER", "0"), ("reference_id", "INTEGER", "0")]
    assert history[-1] == ("section_id", "INTEGER", None)
    assert columns(tmp_path / "a.db")[MEDIA_INFO][22][0] == "transcode_decision"
    assert ("subtitle_forced", "INTEGER", None) in columns(tmp_path / "a.db")[MEDIA_INFO]
    assert names(tmp_path / "a.db", METADATA)[37:] == [
        *("marker_credits_first", "marker_credits_final"),
        *("channel_id", "channel_title", "channel_vcn"),
    ]


@pytest.mark.parametrize("tag", TAGS[1:])
def test_a_migrated_database_has_the_same_column_names_as_a_fresh_one(tmp_path, tag):
    make_era_database(tmp_path / "fresh.db", tag)
    make_era_database(tmp_path / "migrated.db", tag, migrated_from="v1.0")
    assert {table: {*names(tmp_path / "migrated.db", table)} for table in TABLES} == {
        table: {*names(tmp_path / "fresh.db", table)} for table in TABLES
    }
    assert one(tmp_path / "migrated.db", f"SELECT count(*) FROM {HISTORY}") == 30
    assert one(tmp_path / "migrated.db", "PRAGMA integrity_check") == "ok"


def test_rows_from_before_a_migration_lack_later_columns_unless_backfilled(tmp_path):
    make_era_database(tmp_path / "a.db", "v2.17.2", migrated_from="v1.2.16")
    halves = query(
        tmp_path / "a.db",
        f"""
        SELECT started < 1460000000, count(*), count(reference_id), count(product),
               count(transcode_decision), count(section_id)
        FROM {HISTORY} JOIN {MEDIA_INFO} USING (id) GROUP BY 1 ORDER BY 1
        """,
    )
    assert halves == [(0, 15, 15, 15, 15, 15), (1, 15, 15, 0, 15, 0)]


def test_a_migration_moves_section_id(tmp_path):
    make_era_database(tmp_path / "a.db", "v2.7.7", migrated_from="v2.6.10")
    assert "section_id" not in names(tmp_path / "a.db", METADATA)
    assert one(tmp_path / "a.db", f"SELECT count(section_id) FROM {HISTORY}") == 30


@pytest.mark.parametrize("tag", TAGS)
def test_every_era_has_its_kinds_of_plays_and_realistic_gaps(tmp_path, tag):
    path = tmp_path / "plexpy.db"
    make_era_database(path, tag)
    kinds = {kind for (kind,) in query(path, f"SELECT DISTINCT media_type FROM {HISTORY}")}
    assert kinds == {"movie", "episode", "track"}
    if version_key(tag) >= version_key("v2.2.0-beta"):
        assert one(path, f"SELECT sum(live) FROM {METADATA}") > 0
    assert one(path, f"SELECT count(*) FROM {HISTORY} WHERE user_id = 0") > 0
    assert one(path, f"SELECT count(*) FROM {HISTORY} WHERE ip_address IS NULL") > 0
    assert one(path, f"SELECT count(*) FROM {METADATA} WHERE last_viewed_at = ''") == 30
    assert one(path, f"SELECT count(*) FROM {METADATA} WHERE year = '' AND duration = ''") > 0
    same = f"SELECT count(*) FROM (SELECT DISTINCT rating_key, user_id, started FROM {HISTORY})"
    assert one(path, same) == 30


def test_the_same_seed_produces_the_same_era_database(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        make_era_database(tmp_path / name, "v2.1.44", seed=seed, migrated_from="v1.4.0")
    rows = {name: query(tmp_path / name, f"SELECT * FROM {HISTORY}") for name in "abc"}
    assert rows["a"] == rows["b"]
    assert rows["a"] != rows["c"]


@pytest.mark.parametrize("section_id_in", [(HISTORY, METADATA), (HISTORY,), (METADATA,), ()])
def test_a_half_migrated_database_has_no_version_and_the_given_section_ids(tmp_path, section_id_in):
    path = tmp_path / "plexpy.db"
    make_half_migrated_database(path, section_id_in)
    assert {table for table in (HISTORY, METADATA) if "section_id" in names(path, table)} == {
        *section_id_in
    }
    assert query(path, "SELECT * FROM version_info") == []
    assert query(path, "SELECT * FROM library_sections") == []
    assert "is_active" not in names(path, "users")
    for table in section_id_in:
        assert one(path, f"SELECT count(section_id) FROM {table}") == 15


def test_the_demo_database_has_the_columns_of_the_newest_era(tmp_path):
    make_demo_database(tmp_path / "demo.db", 1)
    make_era_database(tmp_path / "era.db", "v2.17.2")
    assert columns(tmp_path / "demo.db") == columns(tmp_path / "era.db")


def test_a_database_contains_exactly_the_given_plays(tmp_path):
    make_database(tmp_path / "a.db", plays=[play(3), play(7, title="Seven", user_id=0)])
    joined = f"""
        SELECT h.id, h.user_id, m.title, i.transcode_decision, h.stopped - h.started
        FROM {HISTORY} AS h JOIN {METADATA} AS m USING (id) JOIN {MEDIA_INFO} AS i USING (id)
    """
    assert query(tmp_path / "a.db", joined) == [
        (3, 2_000_001, "Film 3", "direct play", 3600),
        (7, 0, "Seven", "direct play", 3600),
    ]
    assert columns(tmp_path / "a.db") == facts_at("v2.17.2")
    assert one(tmp_path / "a.db", "PRAGMA journal_mode") == "wal"


def test_an_override_applies_to_all_tables_or_to_one():
    both = play(1, rating_key=55, duration=9, metadata={"duration": 8})
    assert (both.history["rating_key"], both.metadata["rating_key"]) == (55, 55)
    assert (both.metadata["duration"], both.media_info["duration"]) == (8, 9)
    with pytest.raises(TypeError, match="titel"):
        play(1, titel="a typo")


def test_missing_columns_get_their_defaults(tmp_path):
    make_database(tmp_path / "a.db", history=[{"id": 1}], metadata=[{"id": 2}], users=[])
    history = f"SELECT paused_counter, view_offset, started FROM {HISTORY}"
    assert query(tmp_path / "a.db", history) == [(0, 0, None)]
    assert query(tmp_path / "a.db", f"SELECT id, live FROM {METADATA}") == [(2, 0)]
    assert query(tmp_path / "a.db", "SELECT * FROM users") == []


def test_columns_and_tables_can_be_added_and_dropped(tmp_path):
    make_database(
        tmp_path / "a.db",
        plays=[play(1, history={"session_key": "s1"})],
        extra_columns={HISTORY: [("session_key", "TEXT")]},
        drop_columns={METADATA: ["live", "guid"]},
        drop_tables=["users", "version_info"],
        version=None,
    )
    assert query(tmp_path / "a.db", f"SELECT session_key FROM {HISTORY}") == [("s1",)]
    assert not {"live", "guid"} & {*names(tmp_path / "a.db", METADATA)}
    assert {*columns(tmp_path / "a.db")} == {HISTORY, METADATA, MEDIA_INFO, "library_sections"}


def test_an_unknown_column_is_rejected(tmp_path):
    with pytest.raises(sqlite3.OperationalError, match="session_key"):
        make_database(tmp_path / "a.db", plays=[play(1, history={"session_key": "s1"})])


def test_bytes_are_stored_as_text_even_if_not_utf8(tmp_path):
    make_database(tmp_path / "a.db", plays=[play(1, title=b"bad \xff byte")])
    stored = f"SELECT typeof(title), hex(CAST(title AS BLOB)) FROM {METADATA}"
    assert query(tmp_path / "a.db", stored) == [("text", b"bad \xff byte".hex().upper())]


def test_a_row_can_be_omitted(tmp_path):
    incomplete = play(1)
    incomplete.metadata = None
    make_database(tmp_path / "a.db", plays=[incomplete])
    assert query(tmp_path / "a.db", f"SELECT count(*) FROM {METADATA}") == [(0,)]
    assert query(tmp_path / "a.db", f"SELECT count(*) FROM {MEDIA_INFO}") == [(1,)]
