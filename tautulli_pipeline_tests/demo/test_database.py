from __future__ import annotations

import sqlite3
from contextlib import closing
from itertools import pairwise

import pytest

from tautulli_pipeline.demo.database import make_demo_database

ROWS = 3000


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    path = tmp_path_factory.mktemp("demo") / "tautulli.db"
    make_demo_database(path, ROWS)
    with closing(sqlite3.connect(path)) as connection:
        yield connection


def contents(path):
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


def one(connection, sql):
    return connection.execute(sql).fetchone()[0]


def test_it_is_a_valid_wal_database_of_the_newest_version(demo):
    assert one(demo, "PRAGMA integrity_check") == "ok"
    assert one(demo, "PRAGMA journal_mode") == "wal"
    assert demo.execute("SELECT * FROM version_info").fetchall() == [("version", "v2.17.2")]


def test_every_play_has_a_row_in_all_three_tables(demo):
    joined = """
        SELECT count(*) FROM session_history AS h
        JOIN session_history_metadata AS m ON m.id = h.id AND m.rating_key = h.rating_key
        JOIN session_history_media_info AS i ON i.id = h.id AND i.rating_key = h.rating_key
    """
    assert one(demo, joined) == ROWS
    assert one(demo, "SELECT count(*) FROM session_history") == ROWS
    assert one(demo, "SELECT count(*) FROM session_history_metadata") == ROWS


def test_every_row_is_valid(demo):
    invalid = """
        SELECT count(*) FROM session_history AS h JOIN session_history_metadata AS m USING (id)
        WHERE typeof(started) <> 'integer' OR typeof(stopped) <> 'integer'
           OR typeof(user_id) <> 'integer' OR trim(title) = '' OR title IS NULL
           OR stopped < started OR view_offset < 0
    """
    assert one(demo, invalid) == 0


def test_no_two_plays_are_the_same(demo):
    distinct = "SELECT count(*) FROM (SELECT DISTINCT rating_key, user_id, started FROM {})"
    assert one(demo, distinct.format("session_history")) == ROWS


def test_ids_have_gaps_and_start_times_ascend_over_years(demo):
    order = demo.execute("SELECT id, started FROM session_history ORDER BY id").fetchall()
    gaps = [after[0] - before[0] for before, after in pairwise(order)]
    assert set(gaps) == {1, 2}
    assert 0.003 < gaps.count(2) / ROWS < 0.03
    assert all(before[1] <= after[1] for before, after in pairwise(order))
    assert order[-1][1] - order[0][1] > 365 * 86_400


def test_films_episodes_tracks_and_live_tv_are_played(demo):
    kinds = demo.execute(
        "SELECT DISTINCT h.media_type, m.live FROM session_history AS h"
        " JOIN session_history_metadata AS m USING (id)"
    ).fetchall()
    assert set(kinds) == {("movie", 0), ("episode", 0), ("track", 0), ("movie", 1), ("episode", 1)}


def test_live_tv_is_in_its_section_with_channels_and_sometimes_no_duration(demo):
    live = "FROM session_history AS h JOIN session_history_metadata AS m USING (id) WHERE live = 1"
    assert one(demo, f"SELECT group_concat(DISTINCT section_id) {live}") == "999999"
    assert one(demo, f"SELECT min(length(channel_call_sign)) {live}") > 0
    assert one(demo, f"SELECT count(*) {live} AND duration = 0") > 0


def test_integer_columns_contain_empty_text_like_real_ones(demo):
    empty = "SELECT group_concat(DISTINCT typeof({})) FROM {} WHERE media_type = '{}'"
    history, metadata = "session_history", "session_history_metadata"
    assert one(demo, empty.format("parent_rating_key", history, "movie")) == "text"
    assert one(demo, empty.format("last_viewed_at", metadata, "track")) == "text"
    media_info = "SELECT DISTINCT typeof(i.{}) FROM session_history_media_info AS i"
    tracks = "JOIN session_history AS h USING (id) WHERE h.media_type = 'track'"
    assert one(demo, f"{media_info.format('video_width')} {tracks}") == "text"


@pytest.mark.parametrize("column", ["ip_address", "machine_id", "secure"])
def test_some_player_columns_are_sometimes_null(demo, column):
    assert 0 < one(demo, f"SELECT count(*) FROM session_history WHERE {column} IS NULL") < ROWS / 2


def test_local_and_an_unlisted_user_have_plays(demo):
    assert one(demo, "SELECT username FROM users WHERE user_id = 0") == "Local"
    assert one(demo, "SELECT count(*) FROM session_history WHERE user_id = 0") > 0
    unlisted = "SELECT DISTINCT user_id FROM session_history EXCEPT SELECT user_id FROM users"
    assert len(demo.execute(unlisted).fetchall()) == 1


def test_direct_play_streams_the_file_unchanged(demo):
    changed = """
        SELECT count(*) FROM session_history_media_info
        WHERE transcode_decision = 'direct play'
          AND (stream_container <> container OR stream_bitrate <> bitrate
               OR stream_video_codec <> video_codec OR stream_audio_codec <> audio_codec)
    """
    assert one(demo, changed) == 0
    decisions = "SELECT DISTINCT transcode_decision FROM session_history_media_info"
    assert set(demo.execute(decisions).fetchall()) == {("direct play",), ("copy",), ("transcode",)}


def test_resumed_plays_share_a_reference_id(demo):
    groups = "SELECT count(*) FROM session_history WHERE reference_id <> id"
    assert one(demo, groups) > 0
    foreign = """
        SELECT count(*) FROM session_history AS h JOIN session_history AS first
          ON first.id = h.reference_id
        WHERE first.rating_key <> h.rating_key OR first.user_id <> h.user_id
    """
    assert one(demo, foreign) == 0


def test_films_and_episodes_have_about_three_kilobytes_of_text(demo):
    columns = [
        f'coalesce(length("{table}"."{name}"), 0)'
        for table in ("session_history", "session_history_metadata", "session_history_media_info")
        for _, name, *_ in demo.execute(f"PRAGMA table_info({table})")
    ]
    total = f"""
        SELECT avg({" + ".join(columns)}) FROM session_history
        JOIN session_history_metadata USING (id) JOIN session_history_media_info USING (id)
        WHERE session_history_metadata.live = 0 AND session_history.media_type <> 'track'
    """
    assert 2500 < one(demo, total) < 3500


def test_the_same_seed_produces_the_same_database(tmp_path):
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        make_demo_database(tmp_path / name, 200, seed=seed, damaged_rows=7)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert contents(tmp_path / "a") != contents(tmp_path / "c")


def test_the_first_dozen_plays_cover_every_viewer_and_kind(tmp_path):
    make_demo_database(tmp_path / "few.db", 12)
    with closing(sqlite3.connect(tmp_path / "few.db")) as connection:
        assert one(connection, "SELECT count(DISTINCT user_id) FROM session_history") == 12
        kinds = "SELECT count(DISTINCT media_type) FROM session_history"
        assert one(connection, kinds) == 3
        assert one(connection, "SELECT max(live) FROM session_history_metadata") == 1


def test_zero_rows_produce_a_valid_database_without_plays(tmp_path):
    make_demo_database(tmp_path / "empty.db", 0)
    with closing(sqlite3.connect(tmp_path / "empty.db")) as connection:
        assert one(connection, "SELECT count(*) FROM session_history") == 0
        assert one(connection, "SELECT count(*) FROM users") > 1


def test_damaged_rows_are_additional_and_cycle_through_the_kinds(tmp_path):
    make_demo_database(tmp_path / "damaged.db", 100, damaged_rows=10)
    with closing(sqlite3.connect(tmp_path / "damaged.db")) as connection:
        kinds = connection.execute(
            """
            SELECT count(*), sum(started IS NULL), sum(user_id = '' AND user <> ''),
                   sum(m.id IS NULL), sum(m.title = ''), sum(i.id IS NULL)
            FROM session_history AS h LEFT JOIN session_history_metadata AS m USING (id)
            LEFT JOIN session_history_media_info AS i ON i.id = h.id
            """
        ).fetchone()
        assert kinds == (110, 2, 2, 2, 2, 2)


def test_an_existing_file_is_not_changed(tmp_path):
    existing = tmp_path / "mine.db"
    existing.write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        make_demo_database(existing, 10)
    assert existing.read_bytes() == b"precious"


def test_no_other_files_are_left(tmp_path):
    make_demo_database(tmp_path / "tautulli.db", 10)
    assert [path.name for path in tmp_path.iterdir()] == ["tautulli.db"]
    with pytest.raises(OverflowError):
        make_demo_database(tmp_path / "late.db", 10, started_at=2**63)
    assert [path.name for path in tmp_path.iterdir()] == ["tautulli.db"]
