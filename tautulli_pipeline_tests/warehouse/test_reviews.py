"""Views for review: likely duplicates and plays with impossible figures."""

import pytest

from tautulli_pipeline.warehouse.duplicates import list_near_matches
from tautulli_pipeline.warehouse.reading import Page
from tautulli_pipeline_tests.warehouse.plays import (
    batch,
    event,
    message,
    rows,
    uuid_of,
    writer,
)

HOUR = 3600


def moment(seconds):
    return f"2024-05-01T{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}Z"


def play(number, at, lasting=2 * HOUR, **fields):
    """Return a play of one film by one user; `at` and `lasting` are in seconds."""
    standard = {
        "rating_key": "film",
        "title": "The Film",
        "media_duration": 2 * HOUR,
        "started_at": moment(at),
        "stopped_at": None if lasting is None else moment(at + lasting),
        "play_duration": lasting,
    }
    return event(number, **(standard | fields))


def write(warehouse, *plays):
    writer(warehouse, entries=0).write(batch(message(s, p) for s, p in enumerate(plays, 1)))
    assert rows(warehouse, "SELECT count(*) FROM playback_events") == [(len(plays),)]


def pairs(warehouse):
    found = rows(warehouse, "SELECT first_event_id, second_event_id FROM near_matches ORDER BY ALL")
    numbers = {uuid_of(n): n for n in range(10)}
    return [(numbers[first], numbers[second]) for first, second in found]


@pytest.mark.parametrize(
    ("second", "near"),
    [
        pytest.param(play(2, 45, source="jellyfin"), True, id="another producer, a bit later"),
        pytest.param(play(2, 599, source="jellyfin"), True, id="minutes later, of two hours"),
        pytest.param(play(2, 601, source="jellyfin"), False, id="too late to be the same"),
        pytest.param(play(2, 3, session_key="x"), True, id="twice by one producer"),
        pytest.param(play(2, 3, machine_id="m-2"), False, id="one user with two players"),
        pytest.param(
            play(2, 3, source="emby", machine_id="m-2"), True, id="another producer and player id"
        ),
        pytest.param(play(2, 0, rating_key="new", source="plex"), True, id="item got a new key"),
        pytest.param(play(2, 0, rating_key=None), True, id="item has no key"),
        pytest.param(play(2, 30, rating_key="new", title="The film"), True, id="other case"),
        pytest.param(play(2, 30, rating_key="x", title="Other"), False, id="another item"),
        pytest.param(play(2, 30, user_id=8), False, id="another user"),
        pytest.param(play(2, 30, server_id="attic"), True, id="another name of the server"),
        pytest.param(play(2, 30, grandparent_title="Show", rating_key="x"), False, id="a show"),
        pytest.param(play(2, 30, lasting=None, source="emby"), True, id="no stop"),
        pytest.param(play(2, 30, lasting=-90, source="emby"), True, id="stops before its start"),
    ],
)
def test_a_near_match_has_the_same_item_and_user_at_the_same_time(warehouse, second, near):
    write(warehouse, play(1, 0), second)
    assert pairs(warehouse) == ([(1, 2)] if near else [])


def test_a_rewatch_is_not_a_near_match(warehouse):
    song = {"rating_key": "song", "title": "Song", "media_duration": 200}
    write(
        warehouse,
        play(1, 0, 15, **song),  # skipped back to its start
        play(2, 15, 200, **song),
        play(3, 215, 200, **song),
        play(4, 222, 190, source="jellyfin", **song),
        play(5, 240, 10, source="emby", **song),
    )
    assert pairs(warehouse) == [(3, 4), (3, 5), (4, 5)]


def test_each_pair_is_listed_once_and_restored_plays_are_excluded(warehouse):
    write(warehouse, play(1, 595), play(2, 640, 60, source="emby", friendly_name="Mira"))
    listing = list_near_matches(warehouse, Page(5))
    assert listing.rows == [
        {
            "first_event_id": uuid_of(1),
            "second_event_id": uuid_of(2),
            "server_id": "default",
            "second_server_id": "default",
            "same_server": True,
            "user_id": 7,
            "user": "Mira",
            "title": "The Film",
            "grandparent_title": None,
            "first_source": "plex",
            "second_source": "emby",
            "first_started_at": listing.rows[0]["first_started_at"],
            "second_started_at": listing.rows[0]["second_started_at"],
            "seconds_apart": 45,
            "overlap_seconds": 60,
            "same_rating_key": True,
            "first_player": None,
            "second_player": None,
            "differs_in": ["source", "started_at", "stopped_at", "play_duration"],
        }
    ]
    assert list_near_matches(warehouse, Page(5, 1)).total == 1
    warehouse.execute("UPDATE playback_events SET restored_at = created_at WHERE source = 'emby'")
    assert list_near_matches(warehouse, Page(5)).total == 0


def test_impossible_figures_are_flagged(warehouse):
    write(
        warehouse,
        play(1, 0),
        play(2, 4 * HOUR, 3 * HOUR),
        play(3, 8 * HOUR, 3 * HOUR, live=1, rating_key="live"),
        play(4, 12 * HOUR, -60),
        play(5, 16 * HOUR, 600, paused_counter=601, play_duration=-1),
        play(6, 20 * HOUR),
        play(7, 20 * HOUR + 8, machine_id="machine-1"),
        play(8, 20 * HOUR + 8, machine_id="m-2", user_id=8),
        play(9, 20 * HOUR + 8, lasting=2 * HOUR + 30, rating_key="long"),
    )
    flags = rows(warehouse, "SELECT event_id, flags FROM suspicious_plays ORDER BY event_id")
    assert flags == [
        (uuid_of(2), ["duration_beyond_runtime"]),
        (uuid_of(4), ["stop_before_start"]),
        (uuid_of(5), ["pause_beyond_duration"]),
        (uuid_of(6), ["repeated_within_seconds"]),
        (uuid_of(7), ["repeated_within_seconds"]),
    ]
