"""Tables of hand-made histories whose figures are known."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from tautulli_pipeline.analytics.build import build
from tautulli_pipeline.analytics.catalog import TABLES
from tautulli_pipeline.analytics.inputs import Account
from tautulli_pipeline.analytics.soundness import problems_of
from tautulli_pipeline_tests.analytics.warehouses import (
    built,
    opened,
    query,
    request_for,
    store,
)
from tautulli_pipeline_tests.cases import DEFAULT_USERS, Play, make_database, play

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HOUR = 3600
# Wednesday, 2024-05-01, 18:00 in UTC.
EVENING = 1_714_586_400
MIRA, LOCAL = 2_000_001, 0

Build = Callable[..., Path] if TYPE_CHECKING else None


@pytest.fixture
def tables_of(tmp_path: Path) -> Build:
    """Return a function that builds the analytics of plays and returns the data directory."""

    def make(*plays: Play, timezone: str = "UTC", people: tuple[Account, ...] = ()) -> Path:
        make_database(tmp_path / "tautulli.db", plays=plays)
        return built(tmp_path / "tautulli.db", tmp_path / "data", timezone, *people)

    return make


def film(number: int, *, at: float, minutes: float = 60, **cells: Any) -> Play:
    """Return a play that starts `at` hours after the evening."""
    started = int(EVENING + at * HOUR)
    given = {"stopped": started + int(minutes * 60), "rating_key": 100 + number} | cells
    return play(number, started=started, **given)


def episode(number: int, *, at: float, show: str = "Lost", **cells: Any) -> Play:
    """Return a play of the episode with this number; its id is the number too."""
    own = {
        "media_type": "episode",
        "title": f"Episode {number}",
        "full_title": f"{show} - Episode {number}",
        "grandparent_title": show,
        "guid": f"plex://episode/{show}{number}",
        "section_id": 2,
        "media_index": number,
        "parent_media_index": 1,
    }
    return film(number, at=at, **(own | cells))


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_every_table_adds_up_and_has_no_key_twice(tables_of):
    folder = tables_of(
        film(1, at=0),
        film(2, at=0.5, reference_id=1, rating_key=101),
        *(episode(n, at=n) for n in range(3, 8)),
        film(8, at=9, media_type="track", title="Song", guid="plex://track/1"),
        film(9, at=10, live=1, guid="tv.plex.xmltv://movie/9"),
    )
    with opened(folder) as connection:
        assert [(t.name, list(problems_of(connection, t))) for t in TABLES] == [
            (table.name, []) for table in TABLES
        ]
        counts = dict(
            connection.execute("SELECT media, count(*) FROM plays GROUP BY ALL").fetchall()
        )
    assert counts == {"Movies": 2, "TV": 5, "Music": 1, "Live TV": 1}


def test_problems_are_found(tables_of):
    folder = tables_of(film(1, at=0), film(2, at=5))
    file = folder / "analytics.duckdb"
    file.chmod(0o600)
    with duckdb.connect(file) as connection:
        connection.execute("INSERT INTO plays_by_day FROM plays_by_day LIMIT 1")
        connection.execute("UPDATE plays SET watched_seconds = -1 WHERE title = 'Film 1'")
        connection.execute("UPDATE plays SET seconds = -1 WHERE title = 'Film 1'")
        found = {t.name: [p.words for p in problems_of(connection, t)] for t in TABLES}
    assert {name: words for name, words in found.items() if words} == {
        "plays": [
            "1 rows have a negative value in seconds",
            "1 rows have a negative value in watched_seconds",
        ],
        "plays_by_day": [
            '1 keys occur more than once ("day", "media")',
            "it counts 4 plays, and there are 2",
        ],
    }


def test_days_hours_and_weekdays_are_local(tables_of):
    folder = tables_of(film(1, at=0), timezone="Asia/Tokyo")
    found = query(folder, "SELECT started_at, day, hour, weekday, started_at_utc FROM plays")
    evening = moment("2024-05-01 18:00")
    assert found == [(moment("2024-05-02 03:00"), date(2024, 5, 2), 3, 4, evening)]
    assert query(folder, "SELECT day, media, plays, watches, seconds FROM plays_by_day") == [
        (date(2024, 5, 2), "Movies", 1, 1, HOUR)
    ]
    assert query(folder, "SELECT month, plays FROM plays_by_month") == [(date(2024, 5, 1), 1)]
    assert query(folder, "SELECT weekday, hour, plays FROM heatmap") == [(4, 3, 1)]


@pytest.mark.parametrize(
    ("started", "hour", "day"),
    [
        ("2024-03-31T00:59:59+00:00", 1, date(2024, 3, 31)),
        ("2024-03-31T01:00:00+00:00", 3, date(2024, 3, 31)),  # 02:00 does not exist
        ("2024-10-27T00:30:00+00:00", 2, date(2024, 10, 27)),
        ("2024-10-27T01:30:00+00:00", 2, date(2024, 10, 27)),  # 02:00 comes twice
        ("2024-10-27T23:30:00+00:00", 0, date(2024, 10, 28)),
    ],
)
def test_daylight_saving_time_begins_and_ends(tables_of, started, hour, day):
    at = (moment(started).timestamp() - EVENING) / HOUR
    folder = tables_of(film(1, at=at, minutes=90), timezone="Europe/Berlin")
    assert query(folder, "SELECT day, hour, seconds FROM plays") == [(day, hour, 90 * 60)]


def test_paused_and_resumed_plays_are_one_watch(tables_of):
    folder = tables_of(
        film(1, at=0, minutes=30, view_offset=1_800_000),
        film(
            2,
            at=3,
            minutes=90,
            reference_id=1,
            rating_key=101,
            title="Film 1",
            full_title="Film 1",
            guid=f"plex://movie/{1:024x}",
            view_offset=7_000_000,
        ),
        film(3, at=9),
    )
    assert query(
        folder,
        "SELECT full_title, plays, seconds, started_at, stopped_at, watched "
        "FROM watches ORDER BY started_at",
    ) == [
        ("Film 1", 2, 2 * HOUR, moment("2024-05-01 18:00"), moment("2024-05-01 22:30"), True),
        ("Film 3", 1, HOUR, moment("2024-05-02 03:00"), moment("2024-05-02 04:00"), False),
    ]
    assert query(folder, "SELECT plays, watches, seconds FROM top_users") == [(3, 2, 3 * HOUR)]


def test_plays_without_a_group_number_are_one_watch_if_nothing_is_between_them(tables_of):
    """As after Tautulli's own upgrade from before it had numbers; a failed one leaves zeros."""
    film_1 = {"rating_key": 7, "title": "Film 1", "full_title": "Film 1", "guid": "plex://movie/7"}
    folder = tables_of(
        film(1, at=0, reference_id=0, **film_1),
        film(2, at=3, reference_id=None, **film_1),
        film(3, at=6, reference_id=0, user_id=LOCAL, user="Local"),
        film(4, at=9, reference_id=4),
        film(5, at=12, reference_id=0, **film_1),
        film(6, at=15, reference_id=6, **film_1),
        film(7, at=18, reference_id=0, **film_1),
    )
    found = query(folder, "SELECT plays FROM watches ORDER BY started_at")
    assert [plays for (plays,) in found] == [2, 1, 1, 1, 1, 1]


def test_a_group_of_different_items_or_users_is_split(tables_of):
    """Tautulli groups by rating key, and after a merge two items can share one."""
    folder = tables_of(
        film(1, at=0),
        film(2, at=3, reference_id=1, rating_key=101),
        film(3, at=6, reference_id=1, rating_key=101, user_id=LOCAL, user="Local"),
    )
    assert query(folder, "SELECT count(*), count(DISTINCT watch_id) FROM plays") == [(3, 3)]


def renumbered(source: Path, target: Path, by: int, *more: Play) -> None:
    """Write the database that Tautulli makes by merging an old one: numbers go up."""
    make_database(target, plays=more)
    with closing(sqlite3.connect(target)) as connection:
        connection.execute("ATTACH ? AS old", [str(source)])
        for table in ("session_history", "session_history_metadata", "session_history_media_info"):
            connection.execute(f"UPDATE old.{table} SET id = id + {by}")
            if table == "session_history":
                connection.execute(f"UPDATE old.{table} SET reference_id = reference_id + {by}")
            connection.execute(f"INSERT INTO {table} SELECT * FROM old.{table}")
        connection.commit()


def grouped_plays(word: str, at: float) -> list[Play]:
    """Return two groups of two plays each, all of the same film."""
    same = {"title": "Film", "full_title": "Film", "rating_key": 7, "guid": "plex://movie/7"}
    return [
        film(1 + n, at=at + 24 * n, reference_id=1 + n - n % 2, player=word, **same)
        for n in range(4)
    ]


def test_groups_stay_right_after_a_merge_that_renumbers_them(tmp_path):
    """The old plays keep their old numbers in the warehouse, and the new ones have the same."""
    folder, first, merged = tmp_path / "data", tmp_path / "old.db", tmp_path / "merged.db"
    folder.mkdir()
    make_database(first, plays=grouped_plays("old", at=0))
    store(first, folder)
    renumbered(first, merged, 100, *grouped_plays("new", at=1000))
    store(merged, folder)
    build(request_for(folder))
    found = query(folder, "SELECT player, plays, day FROM watches ORDER BY started_at")
    assert found == [
        ("old", 2, date(2024, 5, 1)),
        ("old", 2, date(2024, 5, 3)),
        ("new", 2, date(2024, 6, 12)),
        ("new", 2, date(2024, 6, 14)),
    ]


def test_groups_with_the_same_number_are_told_apart_by_their_start(tables_of):
    """After a merge, new plays can have the numbers that old ones had when they were imported."""
    folder = tables_of(*grouped_plays("new", at=0))
    with duckdb.connect(folder / "playback.duckdb") as connection:
        connection.execute("UPDATE playback_events SET reference_id = 1")
        for condition in ("source_row_id <= 2", "source_row_id > 2"):
            connection.execute(
                "UPDATE playback_events SET group_started_at = (SELECT min(started_at) FROM "
                f"playback_events WHERE {condition}) WHERE {condition}"
            )
    build(request_for(folder))
    assert query(folder, "SELECT plays, day FROM watches ORDER BY started_at") == [
        (2, date(2024, 5, 1)),
        (2, date(2024, 5, 3)),
    ]


def test_watches_have_the_same_ids_whatever_the_row_numbers(tmp_path):
    ids = []
    for by in (0, 50):
        folder, file = tmp_path / f"data-{by}", tmp_path / f"{by}.db"
        make_database(tmp_path / f"first-{by}.db", plays=grouped_plays("one", at=0))
        renumbered(tmp_path / f"first-{by}.db", file, by)
        ids.append(query(built(file, folder), "SELECT watch_id FROM watches ORDER BY ALL"))
    assert ids[0] == ids[1]
    assert len(ids[0]) == 2


def test_watched_seconds_are_what_can_be_real(tables_of):
    folder = tables_of(
        film(1, at=0, minutes=600),  # longer than the film
        film(2, at=20, minutes=10, paused_counter=2 * HOUR),  # a longer pause than the play
        film(3, at=40, minutes=30, paused_counter=600),
        film(4, at=60, minutes=600, duration=""),  # unknown length
    )
    assert query(folder, "SELECT seconds, watched_seconds FROM plays ORDER BY started_at") == [
        (36_000, 7_200),
        (-6_600, 0),
        (1_200, 1_200),
        (36_000, 36_000),
    ]


def test_the_percentage_is_unknown_where_the_length_is(tables_of):
    folder = tables_of(
        film(1, at=0, view_offset=1_800_000),
        film(2, at=20, view_offset=9_000_000),  # beyond the end
        film(3, at=40, duration=""),
    )
    found = query(folder, "SELECT percent_watched, watched FROM plays ORDER BY started_at")
    assert found == [(25, False), (100, True), (None, False)]


def test_users_and_libraries_have_their_newest_names(tables_of):
    folder = tables_of(film(1, at=0))
    with duckdb.connect(folder / "playback.duckdb") as connection:
        connection.execute(
            f"INSERT OR REPLACE INTO users VALUES ('default', {MIRA}, 'mira', 'Mira Renamed')"
        )
        connection.execute(
            "INSERT OR REPLACE INTO libraries VALUES ('default', 1, 'Cinema', 'movie', true)"
        )
    build(request_for(folder))
    found = query(folder, "SELECT user_name, person, library FROM plays")
    assert found == [("Mira Renamed", "Mira Renamed", "Cinema")]
    assert query(folder, "SELECT user_name FROM top_users") == [("Mira Renamed",)]
    assert query(folder, "SELECT library FROM top_libraries") == [("Cinema",)]


def test_a_name_keeps_its_spaces_as_in_tautulli_and_a_person_does_not(tables_of):
    folder = tables_of(film(1, at=0), film(2, at=1, user_id=LOCAL, user="Local"))
    with duckdb.connect(folder / "playback.duckdb") as connection:
        connection.execute(
            f"INSERT OR REPLACE INTO users VALUES ('default', {MIRA}, 'mira', ' Mira '), "
            f"('default', {LOCAL}, 'Local', '  ')"
        )
    build(request_for(folder))
    found = query(folder, "SELECT user_name, person FROM plays ORDER BY started_at")
    assert found == [(" Mira ", "Mira"), ("Local", "Local")]


def test_the_newest_revision_of_a_play_counts(tables_of):
    folder = tables_of(film(1, at=0), film(2, at=5))
    for revision, title in ((1, "Second"), (2, "Third")):
        with duckdb.connect(folder / "playback.duckdb") as connection:
            connection.execute(
                "INSERT INTO playback_revisions BY NAME SELECT * EXCLUDE (created_at) "
                f"REPLACE ('{title}' AS full_title, 30 AS play_duration), "
                f"{revision} AS revision, id AS event_id, now() AS revised_at "
                "FROM playback_events WHERE title = 'Film 1'"
            )
    build(request_for(folder))
    assert query(folder, "SELECT full_title, seconds FROM plays ORDER BY started_at") == [
        ("Third", 30),
        ("Film 2", HOUR),
    ]


def test_an_old_server_id_counts_as_the_current_one(tables_of):
    folder = tables_of(film(1, at=0))
    with duckdb.connect(folder / "playback.duckdb") as connection:
        connection.execute("INSERT OR REPLACE INTO servers VALUES ('default', 'home', NULL, now())")
    build(request_for(folder))
    assert query(folder, "SELECT server_id, user_name FROM plays") == [("home", "Mira")]


def test_a_plex_account_is_one_person_on_every_server_and_local_users_are_not(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for server in ("cabin", "home"):
        file = tmp_path / f"{server}.db"
        at = 10 * len(server)
        make_database(file, plays=[film(1, at=at), film(2, at=at + 5, user_id=LOCAL, user="Local")])
        store(file, folder, server)
    build(request_for(folder))
    assert query(folder, "SELECT DISTINCT server_id, user_id, person FROM plays ORDER BY ALL") == [
        ("cabin", LOCAL, "Local (cabin/0)"),
        ("cabin", MIRA, "Mira"),
        ("home", LOCAL, "Local (home/0)"),
        ("home", MIRA, "Mira"),
    ]


def test_people_can_be_given_their_names(tables_of):
    people = (Account("default", MIRA, "Anna"), Account("default", LOCAL, "Anna"))
    folder = tables_of(film(1, at=0), film(2, at=5, user_id=LOCAL, user="Local"), people=people)
    assert query(folder, "SELECT person, user_name FROM plays ORDER BY started_at") == [
        ("Anna", "Mira"),
        ("Anna", "Local"),
    ]
    assert query(folder, "SELECT person, plays FROM year_in_review") == [("Anna", 2)]


def test_an_item_is_the_same_under_the_guids_of_the_old_and_the_new_agent(tables_of):
    old = "com.plexapp.agents.imdb://tt0133093?lang=en"
    same = {"rating_key": 7, "title": "The Matrix", "full_title": "The Matrix"}
    folder = tables_of(
        film(1, at=0, guid=old, **same),
        film(2, at=50, guid="plex://movie/matrix", **same),
        film(3, at=100, guid=old.replace("=en", "=de"), rating_key=8, full_title="Die Matrix"),
        film(4, at=150, guid="local://9", rating_key=9),
        film(5, at=200, guid="local://9", rating_key=9),
    )
    assert query(folder, "SELECT item_id FROM plays ORDER BY started_at") == [
        *[("plex://movie/matrix",)] * 3,
        ("default/9/Film 4",),
        ("default/9/Film 5",),
    ]


def test_streams_at_the_same_time_are_counted_as_in_tautulli(tables_of):
    transcode = {"transcode_decision": "transcode"}
    folder = tables_of(
        film(1, at=0, minutes=60),
        film(2, at=0.5, minutes=60, user_id=LOCAL, user="Local"),
        film(3, at=0.75, minutes=15, **transcode),
        film(4, at=1, minutes=60, **transcode),  # starts when two others stop
        film(5, at=48, minutes=60),
    )
    assert query(
        folder, "SELECT day, stream_type, plays, peak_concurrent FROM streams_by_day ORDER BY ALL"
    ) == [
        (date(2024, 5, 1), "All", 4, 3),
        (date(2024, 5, 1), "Direct Play", 2, 2),
        (date(2024, 5, 1), "Transcode", 2, 1),
        (date(2024, 5, 3), "All", 1, 1),
        (date(2024, 5, 3), "Direct Play", 1, 1),
    ]
    assert query(folder, "FROM concurrency WHERE stream_type = 'All'") == [
        ("All", 3, moment("2024-05-01 18:45"), moment("2024-05-01 19:00"))
    ]


def test_completion_tells_how_far_people_got(tables_of):
    same = {"rating_key": 7, "title": "Film", "full_title": "Film", "guid": "plex://movie/7"}
    local = {"user_id": LOCAL, "user": "Local"}
    folder = tables_of(
        film(1, at=0, view_offset=1_800_000, **same),
        film(2, at=5, view_offset=3_600_000, **same),
        film(3, at=10, view_offset=7_200_000, **same, **local),
    )
    assert query(
        folder, "SELECT person, plays, furthest_percent, watched FROM completion ORDER BY ALL"
    ) == [("Local", 1, 100, True), ("Mira", 2, 50, False)]
    assert query(
        folder, "SELECT full_title, starts, finishes, median_percent FROM completion_by_item"
    ) == [("Film", 2, 1, 75.0)]


def test_a_binge_is_three_episodes_with_short_gaps(tables_of):
    folder = tables_of(
        episode(1, at=0, minutes=40),
        episode(2, at=1, minutes=40),
        episode(3, at=2 + 1 / 6, minutes=40),  # exactly 30 minutes later
        episode(4, at=3.5, minutes=40),  # 40 minutes later
        episode(5, at=4.5, minutes=40),
        # Two episodes and the first one again are no binge.
        episode(6, at=100, minutes=20, show="Other"),
        episode(7, at=100.5, minutes=20, show="Other"),
        episode(8, at=101, minutes=20, show="Other", guid="plex://episode/Other6"),
    )
    assert query(
        folder, "SELECT person, show_id, started_at, stopped_at, episodes, seconds FROM binges"
    ) == [("Mira", "lost", moment("2024-05-01 18:00"), moment("2024-05-01 20:50"), 3, 2 * HOUR)]


def test_a_rewatch_is_a_watched_play_a_day_after_an_earlier_one(tables_of):
    same = {"rating_key": 7, "full_title": "Film", "guid": "plex://movie/7"}
    seen, partly = {"view_offset": 7_200_000}, {"view_offset": 100_000}
    folder = tables_of(
        film(1, at=0, **same, **seen),
        film(2, at=24, **same, **seen),  # not more than 24 hours
        film(3, at=30, **same, **partly),
        film(4, at=48.5, **same, **seen),
        film(5, at=100, **same, **seen, user_id=LOCAL, user="Local"),
        film(6, at=200, full_title="Film", rating_key=8, **seen),
    )
    assert query(
        folder, "SELECT person, started_at, first_watched_at, previous_watched_at FROM rewatches"
    ) == [
        (
            "Mira",
            moment("2024-05-03 18:30"),
            moment("2024-05-01 18:00"),
            moment("2024-05-02 18:00"),
        )
    ]


def test_reasons_to_transcode_are_counted_by_platform(tables_of):
    transcode = {"transcode_decision": "transcode", "platform": "Roku"}
    folder = tables_of(
        film(1, at=0),
        film(2, at=5, video_decision="transcode", stream_subtitle_decision="burn", **transcode),
        film(3, at=10, audio_decision="transcode", stream_container="mp4", **transcode),
    )
    assert query(
        folder,
        "SELECT platform, video_changed, audio_changed, container_changed, subtitle_changed, plays "
        "FROM transcode_reasons ORDER BY ALL",
    ) == [("Roku", False, True, True, False, 1), ("Roku", True, False, False, True, 1)]


def test_bandwidth_is_summed_over_running_plays(tables_of):
    folder = tables_of(
        film(1, at=0, minutes=90, bandwidth=1000),
        film(2, at=0.5, minutes=30, bandwidth=3000, user_id=LOCAL, user="Local"),
        film(3, at=1, minutes=15, bandwidth=2000, user_id=LOCAL, user="Local"),
    )
    assert query(folder, "FROM bandwidth_by_hour ORDER BY ALL") == [
        (date(2024, 5, 1), 18, 2500, 4000),
        (date(2024, 5, 1), 19, 1000, 3000),
    ]


def test_an_hour_that_comes_twice_is_two_hours_long(tables_of):
    at = (moment("2024-10-27T00:00:00+00:00").timestamp() - EVENING) / HOUR
    folder = tables_of(film(1, at=at, minutes=60, bandwidth=1000), timezone="Europe/Berlin")
    assert query(folder, "FROM bandwidth_by_hour") == [(date(2024, 10, 27), 2, 500, 1000)]


def test_people_are_counted_by_month(tables_of):
    month = 31 * 24
    folder = tables_of(
        film(1, at=0),
        film(2, at=month),
        film(3, at=month + 5, user_id=LOCAL, user="Local"),
    )
    assert query(folder, "SELECT month, people, new_people, plays FROM people_by_month") == [
        (date(2024, 5, 1), 1, 1, 1),
        (date(2024, 6, 1), 2, 1, 2),
    ]


def test_the_year_of_a_person_is_summed_up(tables_of):
    folder = tables_of(
        *(episode(n, at=n * 1.0, minutes=60) for n in range(1, 5)),
        film(10, at=100, minutes=90, title="Short", full_title="Short"),
        film(11, at=9000, minutes=30),
    )
    assert query(folder, "FROM year_in_review ORDER BY year") == [
        (2024, "Mira", 5, 5, 5.5, ["Lost", "Short"], date(2024, 5, 1), 4.0, "Lost", 4),
        (2025, "Mira", 1, 1, 0.5, ["Film 11"], date(2025, 5, 11), 0.5, None, None),
    ]


def test_an_empty_warehouse_makes_empty_tables(tables_of):
    folder = tables_of()
    with opened(folder) as connection:
        counts = {
            table.name: connection.execute(f"SELECT count(*) FROM {table.name}").fetchall()[0][0]
            for table in TABLES
        }
    assert {name: rows for name, rows in counts.items() if rows} == {"about": 1}


def test_default_users_are_those_of_the_tests_above():
    assert {user["user_id"] for user in DEFAULT_USERS} == {LOCAL, MIRA}
    assert timedelta(seconds=EVENING).days == 19_844
