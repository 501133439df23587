"""Salvage copies every row that is readable by id and reports the others."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tautulli_pipeline.errors import ConfigurationError, SourceDamagedError, SourceError
from tautulli_pipeline.events.columns import HISTORY, HISTORY_TABLES, MEDIA_INFO, METADATA
from tautulli_pipeline.source import salvage as salvage_module
from tautulli_pipeline.source.damage import in_words
from tautulli_pipeline.source.salvage import NOTHING_LOST, open_target, salvage
from tautulli_pipeline.source.schema import read_schema
from tautulli_pipeline_tests.eras import make_database, make_era_database, play
from tautulli_pipeline_tests.pages import overwrite, settle, swap, tree_of

GIVEN = Path("/home/me/tautulli.db")
MALFORMED = "database disk image is malformed"
INDEXES = (
    f"CREATE INDEX by_user ON {HISTORY} (user_id)",
    f"CREATE INDEX by_guid ON {METADATA} (guid)",
    f"CREATE INDEX by_decision ON {MEDIA_INFO} (transcode_decision)",
)
IDS = [*range(1, 190), *range(195, 460), *range(900, 920), 5_000, 5_001, 9_000_000_000]


@pytest.fixture(scope="module", params=["indexed", "bare"])
def sound(request, tmp_path_factory):
    """Plays with gaps between their ids; some have no metadata or media info."""
    path = tmp_path_factory.mktemp("sound") / "tautulli.db"
    plays = [play(i, started=1_700_000_000 + i) for i in IDS]
    for incomplete in plays[3:60:19]:
        incomplete.metadata = None
    for incomplete in plays[5:60:17]:
        incomplete.media_info = None
    make_database(path, plays=plays)
    if request.param == "indexed":
        with closing(sqlite3.connect(path)) as connection:
            for statement in INDEXES:
                connection.execute(statement)
            connection.commit()
    settle(path, page_bytes=512)
    return path.read_bytes()


@pytest.fixture
def sound_database(sound, tmp_path):
    path = tmp_path / "tautulli.db"
    path.write_bytes(sound)
    return path


def names_in(path):
    with closing(sqlite3.connect(path)) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}


def row_by_row(path, table, ids):
    """Look up rows one by one; return them by id, and the ids that fail."""
    found, failed = {}, []
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        for row_id in ids:
            try:
                row = connection.execute(
                    f"SELECT * FROM {table} NOT INDEXED WHERE id = ?", (row_id,)
                ).fetchone()
            except sqlite3.DatabaseError:
                failed.append(row_id)
            else:
                if row is not None:
                    found[row_id] = row
    return found, failed


def ids_in(path, table):
    with closing(sqlite3.connect(path)) as connection:
        return [row_id for (row_id,) in connection.execute(f"SELECT id FROM {table} ORDER BY id")]


def salvaged(path, **changes):
    schema = changes.get("schema") or read_schema(path, named=GIVEN)
    copy = path.with_name("salvaged.db")
    return copy, salvage(path, schema, copy, named=GIVEN)


def check(path, ids_before):
    """Compare with reading row by row; `ids_before` contains the ids by table before the damage.

    Without an index, it is unknown which plays had metadata on a lost page.
    """
    copy, result = salvaged(path)
    damages = {damage.table: set(damage.ids) for damage in result.damages}
    with_metadata = ids_before[METADATA] if "by_guid" in names_in(path) else ids_before[HISTORY]
    readable, lost = row_by_row(path, HISTORY, ids_before[HISTORY])
    without = set(row_by_row(path, METADATA, with_metadata)[1]) & readable.keys()
    for table in HISTORY_TABLES:
        rows, failed = row_by_row(path, table, ids_before[table])
        if table == HISTORY:
            rows = {row_id: row for row_id, row in rows.items() if row_id not in without}
        assert row_by_row(copy, table, ids_before[table]) == (rows, [])
        assert damages.get(table, set()) >= set(failed) & known(path, ids_before)
    assert set(result.unreadable) >= without | (set(lost) & known(path, ids_before))
    return result


def known(path, ids_before):
    """Return the ids that can still be found in the file."""
    if "by_user" in names_in(path):
        return {*ids_before[HISTORY], *ids_before[METADATA], *ids_before[MEDIA_INFO]}
    return set().union(*(row_by_row(path, table, ids_before[table])[0] for table in HISTORY_TABLES))


def ids_by_table(path):
    return {table: ids_in(path, table) for table in HISTORY_TABLES}


@pytest.mark.parametrize("table", HISTORY_TABLES)
@pytest.mark.parametrize("filling", [b"\xff", b"\x00"])
@pytest.mark.parametrize("which", ["first", "middle", "last", "some", "inner", "root"])
def test_every_row_that_is_readable_by_id_is_salvaged(sound_database, table, filling, which):
    ids_before = ids_by_table(sound_database)
    tree = tree_of(sound_database, table)
    assert len(tree.leaves) > 20
    assert len(tree.inner) > 2
    pages = {
        "first": tree.leaves[:1],
        "middle": tree.leaves[9:10],
        "last": tree.leaves[-1:],
        "some": tree.leaves[5:20:4],
        "inner": tree.inner[2:3],
        "root": [tree.root],
    }[which]
    overwrite(sound_database, pages, filling)
    result = check(sound_database, ids_before)
    assert [damage.table for damage in result.damages] == [table]
    assert result.damages[0].cause == MALFORMED
    assert result.damages[0].ids


def test_an_index_identifies_exactly_the_lost_rows(sound_database):
    """Without an index, only the other tables identify lost rows."""
    ids_before = ids_by_table(sound_database)
    indexed = "by_user" in names_in(sound_database)
    overwrite(sound_database, tree_of(sound_database, METADATA).leaves[9:12])
    _, failed = row_by_row(sound_database, METADATA, ids_before[METADATA])
    _, failed_or_absent = row_by_row(sound_database, METADATA, ids_before[HISTORY])
    _, result = salvaged(sound_database)
    assert list(result.damages[0].ids) == (failed if indexed else failed_or_absent)
    assert result.unreadable == result.damages[0].ids


def test_a_play_without_media_info_is_kept_and_the_loss_is_reported(sound_database):
    ids_before = ids_by_table(sound_database)
    overwrite(sound_database, tree_of(sound_database, MEDIA_INFO).leaves[4:6])
    copy, result = salvaged(sound_database)
    assert result.unreadable == ()
    assert ids_in(copy, HISTORY) == ids_before[HISTORY]
    (damage,) = result.damages
    assert set(damage.ids) & set(ids_in(copy, MEDIA_INFO)) == set()
    assert set(ids_before[MEDIA_INFO]) - set(ids_in(copy, MEDIA_INFO)) <= set(damage.ids)


@pytest.mark.parametrize("seed", range(12))
def test_randomly_damaged_pages_lose_only_their_own_rows(sound_database, seed):
    ids_before = ids_by_table(sound_database)
    dice = random.Random(seed)
    trees = [tree_of(sound_database, table) for table in HISTORY_TABLES]
    pages = [page for tree in trees for page in (*tree.inner[1:], *tree.leaves)]
    overwrite(
        sound_database, dice.sample(pages, dice.randrange(1, 25)), dice.choice([b"\0", b"\xff"])
    )
    result = check(sound_database, ids_before)
    assert set(result.unreadable) <= set(ids_before[HISTORY]) | set(ids_before[METADATA]) | set(
        ids_before[MEDIA_INFO]
    )


def test_an_undamaged_file_keeps_every_cell(tmp_path):
    path = tmp_path / "tautulli.db"
    make_era_database(path, "v2.17.2", 40, migrated_from="v1.4.25")
    settle(path)
    copy, result = salvaged(path)
    assert result == NOTHING_LOST
    for table in HISTORY_TABLES:
        ids = ids_in(path, table)
        assert row_by_row(copy, table, ids) == row_by_row(path, table, ids)


def test_only_the_needed_columns_of_users_are_salvaged(tmp_path):
    path = tmp_path / "tautulli.db"
    users = [
        {"user_id": i, "username": f"user {i}", "friendly_name": "x" * 90, "email": "me@here"}
        for i in range(200)
    ]
    make_database(path, plays=[play(1)], users=users)
    settle(path)
    overwrite(path, tree_of(path, "users").leaves[3:4])
    copy, result = salvaged(path)
    (damage,) = result.damages
    assert (damage.table, result.unreadable) == ("users", ())
    with closing(sqlite3.connect(copy)) as connection:
        names = [row[1] for row in connection.execute("PRAGMA table_info(users)")]
        saved = connection.execute("SELECT count(*) FROM users").fetchone()[0]
    assert sorted(names) == ["friendly_name", "user_id", "username"]
    assert saved + len(damage.ids) == 200


@pytest.mark.parametrize("index", ["sqlite_autoindex_users_1", "by_user", "by_guid"])
def test_a_damaged_index_loses_no_rows(tmp_path, index):
    path = tmp_path / "tautulli.db"
    make_database(path, plays=[play(i) for i in IDS[:-3]])
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in INDEXES:
            connection.execute(statement)
    settle(path)
    overwrite(path, tree_of(path, index).leaves)
    copy, result = salvaged(path)
    assert result == NOTHING_LOST
    assert ids_in(copy, HISTORY) == IDS[:-3]


def test_rows_without_a_key_are_salvaged_although_losses_cannot_be_identified(tmp_path):
    path = tmp_path / "tautulli.db"
    make_database(path, plays=[play(i) for i in range(1, 200)])
    with closing(sqlite3.connect(path)) as connection, connection:
        for table in HISTORY_TABLES:
            connection.execute(f"CREATE TABLE rebuilt AS SELECT * FROM {table}")
            connection.execute(f"DROP TABLE {table}")
            connection.execute(f"ALTER TABLE rebuilt RENAME TO {table}")
    settle(path)
    overwrite(path, tree_of(path, HISTORY).leaves[4:5])
    copy, result = salvaged(path)
    (damage,) = result.damages
    assert (damage.ids, result.unreadable) == ((), ())
    assert 180 < len(ids_in(copy, HISTORY)) < 199
    assert in_words(damage.facts()) == (f"an unknown number of rows of {HISTORY} ({MALFORMED})")


def test_rows_that_are_out_of_order_are_salvaged(tmp_path):
    """A damaged key misdirects searches, which SQLite does not detect."""
    path = tmp_path / "tautulli.db"
    make_database(path, plays=[play(i) for i in range(1, 2200)])
    settle(path)
    leaves = tree_of(path, HISTORY).leaves
    swap(path, leaves[0], leaves[-2])
    copy, result = salvaged(path)
    assert set(ids_in(copy, HISTORY)) | set(result.unreadable) == set(range(1, 2200))


def test_a_file_without_readable_plays_is_reported(tmp_path):
    path = tmp_path / "tautulli.db"
    make_database(path, plays=[play(i) for i in range(1, 100)])
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"DELETE FROM {METADATA}")
        connection.execute(f"DELETE FROM {MEDIA_INFO}")
    settle(path)
    overwrite(path, [tree_of(path, HISTORY).root])
    with pytest.raises(SourceDamagedError) as caught:
        salvaged(path)
    assert caught.value.message == (
        f"cannot salvage {GIVEN}: no row of {HISTORY} is readable: {MALFORMED}"
    )


def test_a_few_damaged_pages_do_not_cause_reading_row_by_row(tmp_path, monkeypatch):
    path = tmp_path / "tautulli.db"
    make_database(path, plays=[play(i) for i in range(1, 6001)])
    settle(path, page_bytes=4096)
    leaves = tree_of(path, HISTORY).leaves
    overwrite(path, [leaves[3], leaves[len(leaves) // 2]])
    copies = []

    def watched(database, target):
        connection = open_target(database, target)
        connection.set_trace_callback(
            lambda sql: copies.append(sql) if sql.startswith("INSERT") else None
        )
        return connection

    monkeypatch.setattr(salvage_module, "open_target", watched)
    _, result = salvaged(path)
    assert 20 < len(result.unreadable) < 200
    assert len(copies) < 3 * len(result.unreadable) + 200


def test_a_full_disk_is_a_configuration_error(tmp_path, monkeypatch):
    path = tmp_path / "tautulli.db"
    make_database(path, plays=[play(i) for i in range(1, 300)])
    settle(path)

    def small(database, target):
        connection = open_target(database, target)
        connection.execute("PRAGMA main.max_page_count = 20")
        return connection

    monkeypatch.setattr(salvage_module, "open_target", small)
    with pytest.raises(ConfigurationError, match="database or disk is full") as caught:
        salvaged(path)
    assert "PIPELINE_DATA_DIR" in caught.value.hint


def test_a_file_in_another_text_encoding_is_refused_as_a_source(tmp_path):
    path = tmp_path / "tautulli.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA encoding = 'UTF-16le'")
        connection.execute(f"CREATE TABLE {HISTORY} (id INTEGER PRIMARY KEY, started, user_id)")
        connection.execute(f"CREATE TABLE {METADATA} (id INTEGER PRIMARY KEY, title)")
    with pytest.raises(SourceError, match=r"cannot salvage .*: .*text encoding"):
        salvaged(path)
