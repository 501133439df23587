"""Corrections, renumberings and several servers, imported from real files."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing

import pytest

from tautulli_pipeline.events.servers import Servers
from tautulli_pipeline_tests.cases import insert_rows, make_database, play
from tautulli_pipeline_tests.imports.direct import DirectImports
from tautulli_pipeline_tests.warehouse.plays import memory_warehouse

AUDIT = "SELECT dedupe_reason, content_differs, count(*) FROM dedupe_audit_log GROUP BY ALL"
TABLES = ("session_history", "session_history_metadata", "session_history_media_info")
COUNT = "SELECT count(*) FROM playback_events"


@pytest.fixture
def imports(tmp_path):
    with memory_warehouse() as warehouse:
        yield DirectImports(warehouse, tmp_path)


@pytest.fixture
def path(tmp_path):
    database = tmp_path / "tautulli.db"
    make_database(database, plays=[play(n) for n in range(1, 6)])
    return database


def edit(path, *statements):
    with closing(sqlite3.connect(path)) as connection:
        for sql in statements:
            connection.execute(sql)
        connection.commit()


def retitle(path, title, play_id=2):
    edit(path, f"UPDATE session_history_metadata SET title = '{title}' WHERE id = {play_id}")


def test_a_corrected_title_is_a_revision_and_the_first_version_stays(imports, path):
    assert imports.run(path) == {"published": 5, "imported": 5}
    retitle(path, "Right")
    assert imports.run(path) == {"published": 5, "duplicates_database": 5, "revised": 1}
    assert imports.newest("title") == ["Film 1", "Right", "Film 3", "Film 4", "Film 5"]
    assert imports.query("SELECT title FROM playback_events ORDER BY ALL")[1] == ("Film 2",)
    assert imports.query(AUDIT) == []


def test_a_correction_that_is_taken_back_ends_at_the_first_content(imports, path):
    imports.run(path)
    for title in ("B", "Film 2", "B", "Film 2"):
        retitle(path, title)
        assert imports.run(path)["revised"] == 1
        assert imports.newest("title")[1] == title
    revisions = "SELECT title, revision FROM playback_revisions ORDER BY revision"
    assert imports.query(revisions) == [("B", 1), ("Film 2", 2), ("B", 3), ("Film 2", 4)]


@pytest.mark.parametrize("cache_entries", [0, 1000])
def test_an_exact_repeat_leaves_nothing(imports, path, cache_entries):
    imports.cache_entries = cache_entries
    imports.run(path)
    retitle(path, "B")
    imports.run(path)
    for forgets in (False, True):
        if forgets:
            imports.forget_message_ids()
        totals = imports.run(path, fresh=True)
        assert sum(v for name, v in totals.items() if name.startswith("duplicates")) == 5
        assert "revised" not in totals
    assert imports.query(AUDIT) == []
    assert imports.query("SELECT count(*) FROM playback_revisions") == [(1,)]


@pytest.mark.parametrize(
    ("table", "cell", "stored"),
    [
        ("session_history", ("stopped", 1_700_020_900), "stopped_at"),
        ("session_history", ("reference_id", 77), "reference_id"),
        ("session_history", ("player", "'Roku'"), "player"),
        ("session_history_metadata", ("rating_key", 999), "rating_key"),
        ("session_history_metadata", ("summary", "'A film'"), "summary"),
        ("session_history_metadata", ("guid", "'plex://movie/other'"), "guid"),
        ("session_history_media_info", ("video_codec", "'av1'"), "video_codec"),
        ("session_history_media_info", ("stream_bitrate", 17), "stream_bitrate"),
    ],
)
def test_an_edit_of_any_cell_arrives(imports, path, table, cell, stored):
    column, value = cell
    imports.run(path)
    first = imports.newest(stored)
    column_of_play = "rating_key" if column == "rating_key" else column
    edit(path, f"UPDATE {table} SET {column_of_play} = {value} WHERE id = 2")
    if column == "rating_key":
        edit(path, "UPDATE session_history SET rating_key = 999 WHERE id = 2")
    assert imports.run(path)["revised"] == 1
    changed = imports.newest(stored)
    assert changed[1] != first[1]
    assert changed[:1] + changed[2:] == first[:1] + first[2:]
    assert imports.query(COUNT) == [(5,)]


def test_a_name_is_no_content_and_the_newest_is_known(imports, path):
    imports.run(path)
    edit(
        path,
        "UPDATE users SET friendly_name = 'Annika', username = 'annika' WHERE user_id = 2000001",
        "UPDATE library_sections SET section_name = 'Cinema' WHERE section_id = 1",
    )
    assert imports.run(path) == {}
    names = "SELECT username, friendly_name FROM users WHERE user_id > 0"
    assert imports.query(names) == [("annika", "Annika")]
    assert ("Cinema", "movie", True) in imports.query("SELECT name, type, active FROM libraries")
    assert "revised" not in imports.run(path, fresh=True)
    assert imports.query("SELECT count(*) FROM playback_revisions") == [(0,)]
    assert imports.query(AUDIT) == []


def test_an_older_file_overrides_nothing(imports, path, tmp_path):
    backup = tmp_path / "backup.db"
    make_database(backup, plays=[play(n) for n in range(1, 5)])
    edit(backup, "UPDATE session_history_metadata SET title = 'Never seen' WHERE id = 3")
    edit(backup, "UPDATE users SET friendly_name = 'Before' WHERE user_id = 2000001")
    imports.run(path)
    retitle(path, "Right")
    imports.run(path)
    assert "revised" not in imports.run(backup)
    assert imports.newest("title") == ["Film 1", "Right", "Film 3", "Film 4", "Film 5"]
    assert imports.query("SELECT friendly_name FROM users WHERE user_id > 0") == [("Mira",)]
    # Content that no version has is kept for a person to look at, and once.
    once = [("event_id", True, 1)]
    assert imports.query(AUDIT) == once
    imports.forget_message_ids()
    imports.run(backup, fresh=True)
    assert imports.query(AUDIT) == once


def test_a_correction_counts_when_the_file_is_no_longer_older(imports, path, tmp_path):
    """Without its newest play, a file is older than it was, until Tautulli records another one."""
    imports.run(path)
    edit(path, "DELETE FROM session_history WHERE id = 5")
    retitle(path, "Right")
    assert "revised" not in imports.run(path)
    assert imports.run(path) == {}
    assert imports.newest("title")[1] == "Film 2"
    with closing(sqlite3.connect(path)) as connection:
        for table, row in zip(TABLES, vars(play(106)).values(), strict=True):
            insert_rows(connection, table, [row])
        connection.commit()
    assert imports.run(path)["revised"] == 1
    assert imports.newest("title") == ["Film 1", "Right", "Film 3", "Film 4", "Film 5", "Film 106"]
    assert imports.run(path) == {}


def renumbered(path, shift, *edits):
    edit(
        path,
        *(
            f"UPDATE {table} SET id = id + {shift}"
            for table in (
                "session_history",
                "session_history_metadata",
                "session_history_media_info",
            )
        ),
        f"UPDATE session_history SET reference_id = reference_id + {shift}",
        *edits,
    )


def test_a_renumbered_play_is_logged_once(imports, path):
    imports.run(path)
    renumbered(path, 100)
    once = [("rating_key_user_started", False, 5)]
    assert imports.run(path) == {"published": 5, "duplicates_database": 5}
    assert imports.query(AUDIT) == once
    renumbered(path, 100)
    assert imports.run(path) == {"published": 5, "duplicates_database": 5}
    assert imports.query(AUDIT) == once
    assert imports.query(COUNT) == [(5,)]
    assert imports.query("SELECT count(*) FROM playback_revisions") == [(0,)]


def test_a_correction_arrives_that_an_older_file_has_said_before(imports, path, tmp_path):
    imports.run(path)
    right = "UPDATE session_history_metadata SET title = 'Right' WHERE id = 102"
    renumbered(path, 100, right)
    backup = shutil.copy(path, tmp_path / "backup.db")
    edit(backup, "DELETE FROM session_history WHERE id = 105")
    assert "revised" not in imports.run(backup)
    assert imports.run(path)["revised"] == 1
    assert imports.newest("title")[1] == "Right"


def test_a_correction_after_renumberings_finds_its_play(imports, path):
    imports.run(path)
    renumbered(path, 100)
    imports.run(path)
    renumbered(path, 100)
    imports.run(path)
    edits = "rating_key = 4711, title = 'Right', guid = 'plex://movie/4711' WHERE id = 202"
    edit(
        path,
        f"UPDATE session_history_metadata SET {edits}",
        "UPDATE session_history SET rating_key = 4711 WHERE id = 202",
    )
    assert imports.run(path)["revised"] == 1
    renumbered(path, 100)  # now only the corrected keys lead to it
    assert "imported" not in imports.run(path)
    assert imports.query(COUNT) == [(5,)]
    assert imports.newest("title")[1] == "Right"


def test_a_file_speaks_again_after_a_backup_with_other_row_numbers(imports, path, tmp_path):
    imports.run(path)
    backup = shutil.copyfile(path, tmp_path / "backup.db")
    retitle(path, "Right")
    imports.run(path)
    renumbered(path, 10)
    imports.run(path)
    assert imports.run(backup)["revised"] == 1  # its newest play is as new
    assert imports.newest("title")[1] == "Film 2"
    for expected in ({"published": 5, "duplicates_database": 5, "revised": 1}, {}):
        assert imports.run(path) == expected
        assert imports.newest("title")[1] == "Right"


def test_the_row_with_the_highest_id_speaks(imports, tmp_path):
    path = tmp_path / "twice.db"
    same = {"started": 1_700_000_000, "rating_key": 1}
    make_database(path, plays=[play(n, title=f"T{n}", **same) for n in (1, 2, 3)])
    assert imports.run(path)["imported"] == 1
    assert imports.newest("title") == ["T3"]
    for _ in range(2):
        imports.forget_message_ids()
        totals = imports.run(path, fresh=True)
        assert (totals["duplicates_database"], "revised" in totals) == (3, False)
    edit(path, "UPDATE session_history_metadata SET title = 'New 1' WHERE id = 1")
    imports.run(path)
    assert imports.newest("title") == ["T3"]
    edit(path, "UPDATE session_history_metadata SET title = 'New 3' WHERE id = 3")
    imports.run(path)
    assert imports.newest("title") == ["New 3"]


def test_a_rebuilt_server_stores_no_play_twice(imports, path):
    imports.run(path)
    renumbered(
        path,
        40,
        "UPDATE session_history SET rating_key = rating_key + 9000",
        "UPDATE session_history_metadata SET rating_key = rating_key + 9000",
    )
    assert imports.run(path) == {"published": 5, "duplicates_database": 5, "revised": 5}
    assert imports.query(AUDIT) == [("guid_user_started", True, 5)]
    assert imports.query(COUNT) == [(5,)]


@pytest.mark.parametrize(
    ("change", "count"),
    [
        ("guid = guid", 5),
        ("guid = 'local://' || id", 10),
        ("guid = 'com.plexapp.agents.none://' || id", 10),
        ("guid = NULL", 10),
        ("guid = 'com.plexapp.agents.thetvdb://1/2/' || (id % 40)", 5),
        ("live = 1", 10),
    ],
)
def test_only_a_guid_that_is_the_same_everywhere_identifies_a_play(imports, path, change, count):
    edit(path, f"UPDATE session_history_metadata SET {change}")
    imports.run(path)
    renumbered(
        path,
        40,
        "UPDATE session_history SET rating_key = rating_key + 9000",
        "UPDATE session_history_metadata SET rating_key = rating_key + 9000",
        f"UPDATE session_history_metadata SET {change}",
    )
    imports.run(path)
    assert imports.query(COUNT) == [(count,)]


def test_plays_of_two_servers_are_never_one_by_event_id_or_rating_key(imports, path, tmp_path):
    other = tmp_path / "other.db"
    make_database(other, plays=[play(n, title=f"Other {n}", guid="") for n in range(1, 6)])
    assert imports.run(path, "a")["imported"] == 5
    assert imports.run(other, "b") == {"published": 5, "imported": 5}
    assert imports.query(COUNT) == [(10,)]
    imports.forget_message_ids()
    for server, file in (("a", path), ("b", other)):
        assert "imported" not in imports.run(file, server, fresh=True)
    assert imports.query(AUDIT) == []
    retitle(other, "New")
    assert imports.run(other, "b")["revised"] == 1
    assert imports.query("SELECT server_id, title FROM playback_revisions") == [("b", "New")]


@pytest.mark.parametrize(("user", "count"), [(2_000_001, 5), (0, 10), (1, 10)])
def test_a_guid_is_the_same_play_on_two_servers_for_users_of_both(
    imports, path, tmp_path, user, count
):
    other = tmp_path / "other.db"
    make_database(other, plays=[play(n, rating_key=9000 + n) for n in range(1, 6)])
    for file in (path, other):
        edit(file, f"UPDATE session_history SET user_id = {user}")
    imports.run(path, "a")
    renumbered(other, 50)
    imports.run(other, "b")
    assert imports.query(COUNT) == [(count,)]
    assert imports.query("SELECT count(*) FROM playback_revisions") == [(0,)]


def test_content_of_another_server_that_becomes_the_same_is_logged(imports, path, tmp_path):
    """Otherwise its row would count as lost, and every import would publish it again."""
    other = shutil.copyfile(path, tmp_path / "other.db")
    renumbered(other, 50)
    for file in (path, other):
        edit(file, "UPDATE session_history SET user_id = 2000001")
    imports.run(path, "a")
    retitle(other, "Other", 52)
    imports.run(other, "b")
    retitle(other, "Film 2", 52)
    assert imports.run(other, "b") == {"published": 5, "duplicates_database": 5}
    assert ("event_id", False, 1) in imports.query(AUDIT)
    assert imports.newest("title")[1] == "Film 2"
    assert imports.query("SELECT DISTINCT server_id FROM playback_events") == [("a",)]


def test_two_servers_in_turn_publish_nothing_from_the_second_night_on(imports, path, tmp_path):
    other = tmp_path / "other.db"
    make_database(other, plays=[play(n, started=1_600_000_000 + n) for n in range(1, 6)])
    imports.run(path, "a"), imports.run(other, "b")
    imports.forget_message_ids()
    for server, file in (("a", path), ("b", other)) * 2:
        assert imports.run(file, server) == {}
        assert imports.published == 0
    assert imports.query(AUDIT) == []


def test_an_earlier_id_counts_as_the_current_one(imports, path):
    imports.run(path, "old")
    imports.forget_message_ids()
    imports.servers = Servers({"old": "new"})
    retitle(path, "Right")
    assert imports.run(path, "new") == {"published": 5, "duplicates_database": 5, "revised": 1}
    assert imports.query("SELECT DISTINCT server_id FROM playback_events") == [("old",)]
    assert imports.query("SELECT server_id, current_id FROM servers ORDER BY 1") == [
        ("new", "new"),
        ("old", "new"),
    ]
    assert imports.newest("title")[1] == "Right"


def test_a_lost_correction_is_published_again(imports, path):
    imports.run(path)
    retitle(path, "Right")
    imports.lost = {1, 3}
    assert imports.run(path)["revised"] == 1
    assert imports.newest("title")[1] == "Right"


def test_a_correction_that_layer_1_took_for_a_repeat_is_published_again(imports, path):
    imports.run(path)
    retitle(path, "Right")
    imports.finished.clear()  # as after a reset, within the window of the stream
    imports.run(path)
    assert imports.newest("title")[1] == "Right"


def test_a_group_is_the_same_whatever_its_numbers_are(imports, tmp_path):
    old, merged = tmp_path / "old.db", tmp_path / "merged.db"

    def plays(word, shift, start):
        for n in range(1, 21):
            first = (n - 1) // 2 * 2 + 1 + shift
            yield play(
                n + shift,
                title=f"{word} {(n + 1) // 2}",
                started=start + 9000 * n,
                rating_key=f"{start}{(n + 1) // 2}",
                guid="",
                history={"reference_id": first},
            )

    make_database(old, plays=plays("Old", 0, 1_600_000_000))
    make_database(
        merged,
        plays=[*plays("New", 0, 1_700_000_000), *plays("Old", 100, 1_600_000_000)],
    )
    imports.run(old), imports.run(merged)
    assert imports.query(COUNT) == [(40,)]
    groups = "SELECT count(DISTINCT (user_id, group_started_at)) FROM playback_events"
    assert imports.query(groups) == [(20,)]
    assert imports.query("SELECT count(*) FROM playback_revisions") == [(0,)]
