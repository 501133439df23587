"""Messages of every producer, written to a file by the real writer."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime

import pytest

from tautulli_pipeline_tests import eras
from tautulli_pipeline_tests.eras import make_database, play
from tautulli_pipeline_tests.events.mapped import mapped_rows
from tautulli_pipeline_tests.warehouse.messages import EVENT_ID, NOW, foreign, table, write

FILM = "113af97940c30181"  # hash of the title, because there is no rating key
STARTED = datetime(2023, 11, 14, 22, 13, 20)


def stored(warehouse, body, subject="playback.plex.movie"):
    """Write a message and return its row with `extra` parsed."""
    write(warehouse, (subject, body))
    assert table(warehouse, "dead_letters") == []
    (row,) = table(warehouse, "playback_events")
    return row | {"extra": json.loads(row["extra"]) if "extra" in row else {}}


def column_value(name, value):
    if name in {"timestamp", "started_at", "stopped_at", "group_started_at"}:
        return datetime.fromisoformat(value).astimezone(UTC).replace(tzinfo=None)
    return (
        json.dumps(value, separators=(",", ":"), ensure_ascii=False) if name == "extra" else value
    )


def test_every_column_of_a_row_equals_its_event_field(tmp_path, warehouse):
    path = tmp_path / "tautulli.db"
    eras.make_era_database(path, "v2.17.2", 60)
    odd = tmp_path / "odd.db"
    made = play(901, year="MMI", secure=2, title='\x00 \u2028 🎬 \\ "', last_viewed_at=2**63 - 1)
    make_database(odd, plays=[made, play(902, user_id=0, stopped=0)])
    mapped = [*mapped_rows(path), *mapped_rows(odd)]
    write(warehouse, *((row["subject"], row["payload"].encode()) for row in mapped))
    expected = []
    for sequence, row in enumerate(mapped, 1):
        event = {n: column_value(n, v) for n, v in row["event"].items() if n != "schema_version"}
        event["id"] = uuid.UUID(event.pop("event_id"))
        event |= {"stream_id": "S", "stream_sequence": sequence, "created_at": NOW}
        expected.append(event)
    stored = table(warehouse, "playback_events")
    assert len({row.pop("payload_hash") for row in stored}) == len(mapped)
    assert stored == expected


@pytest.mark.parametrize("source", ["plex", "tautulli", "jellyfin", "emby"])
def test_a_minimal_event_is_completed_from_its_subject(warehouse, source):
    row = stored(warehouse, foreign(), f"playback.{source}.episode")
    assert isinstance(row.pop("payload_hash"), int)
    assert row == {
        "id": uuid.UUID(EVENT_ID),
        "source": source,
        "server_id": "default",
        "media_type": "episode",
        "started_at": STARTED,
        "user_id": 5,
        "title": "Film",
        "correlation_key": f"{source}:default:5:{FILM}:unknown:2023-11-14T22:13:20:unknown",
        "extra": {},
        "stream_id": "S",
        "stream_sequence": 1,
        "created_at": NOW,
    }


def test_fields_override_the_subject_and_empty_texts_count_as_missing(warehouse):
    given = {"source": "emby", "server_id": "s", "media_type": "track", "correlation_key": "k"}
    empty = dict.fromkeys(("rating_key", "machine_id", "session_key", "player", "mood"), "")
    row = stored(warehouse, foreign(**given, **empty), "playback.plex.movie")
    assert {n: row[n] for n in given} == given
    assert row.keys().isdisjoint(empty)
    assert row["extra"] == {}


@pytest.mark.parametrize("empty", [{}, dict.fromkeys(("session_key", "correlation_key"), "")])
def test_plays_without_keys_are_not_duplicates_of_each_other(warehouse, empty):
    blank = {"rating_key": ""} if empty else {}
    bodies = [foreign(event_id=f"e{n}", title=f"Film {n}", **empty, **blank) for n in range(3)]
    write(warehouse, *(("playback.plex.movie", body) for body in bodies))
    assert [r["title"] for r in table(warehouse, "playback_events")] == [
        "Film 0",
        "Film 1",
        "Film 2",
    ]


@pytest.mark.parametrize(
    ("text", "keeps"),
    [
        ("2023-11-14T22:13:20Z", False),
        ("2023-11-14t22:13:20z", False),
        ("2023-11-14T22:13:20", False),
        ("2023-11-15T03:43:20+05:30", False),
        ("2023-11-15T03:43:20+0530", False),
        ("2023-11-14T18:43:20-03:30", False),
        ("2023-11-14 23:13:20+01", False),
        ("2023-11-14T22:13:20.000Z", False),
        ("2023-11-14T22:13:20.999999999Z", True),
        ("2023-11-15T03:43:20.1+05:30", True),
    ],
)
def test_times_are_stored_in_utc_and_fractions_in_extra(warehouse, text, keeps):
    row = stored(warehouse, foreign(started_at=text, timestamp=text, stopped_at=text))
    names = ("started_at", "timestamp", "stopped_at")
    assert [row[n] for n in names] == [STARTED] * 3
    assert row["extra"] == (dict.fromkeys(names, text) if keeps else {})


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("0001-01-02T00:00:00Z", datetime(1, 1, 2)),
        ("9999-12-31T23:59:59Z", datetime(9999, 12, 31, 23, 59, 59)),
    ],
)
def test_starts_at_the_ends_of_the_calendar_are_stored(warehouse, text, moment):
    row = stored(warehouse, foreign(started_at=text))
    assert row["started_at"] == moment
    assert row["correlation_key"].split(":", 5)[5] == f"{text[:-1]}:unknown"


@pytest.mark.parametrize(
    ("given", "id_"),
    [
        ("0F8FAD5B-D9CB-469F-A165-70867728950E", EVENT_ID),
        ("0f8fad5bd9cb469fa16570867728950e", EVENT_ID),
        ("plex:42:é", str(uuid.uuid5(uuid.NAMESPACE_URL, "plex:42:é"))),
        (42, str(uuid.uuid5(uuid.NAMESPACE_URL, "42"))),
    ],
)
def test_an_event_id_that_is_not_a_uuid_becomes_one_and_is_kept_in_extra(warehouse, given, id_):
    row = stored(warehouse, foreign(event_id=given))
    assert row["id"] == uuid.UUID(id_)
    assert row["extra"] == ({} if id_ == EVENT_ID else {"event_id": given})


def test_unknown_fields_and_unfitting_values_are_kept_in_extra(warehouse):
    kept = {
        "year": "MMI",
        "width": 1919.5,
        "audio_channels": 2**31,
        "secure": "perhaps",
        "bandwidth": {"wan": 1},
        "stopped_at": "later",
        "Title": "other case",
        'odd "key"\\.$*[0] é\x00🎬': [1, {"a": None}],
        "": "nameless",
        "big": 12345678901234567890123,
        "mood": "x\x00",
    }
    fits = {"media_index": 3.0, "rating_key": 17, "live": "1", "watched_status": 1, "relayed": True}
    row = stored(warehouse, foreign(**kept, **fits, tagline=None, never=None))
    assert row["extra"].pop("big") == pytest.approx(kept.pop("big"))
    assert row["extra"] == kept
    assert {n: row[n] for n in fits} == fits | {"rating_key": "17", "live": 1}


@pytest.mark.parametrize(
    ("extra", "kept"),
    [
        ({"a": {"b": 1}}, {"a": {"b": 1}, "mood": "dark"}),
        ({}, {"mood": "dark"}),
        ("text", {"extra": "text", "mood": "dark"}),
        ([1], {"extra": [1], "mood": "dark"}),
        ({"a": None}, {"a": None, "mood": "dark"}),
    ],
)
def test_the_producers_extra_is_merged_with_unknown_fields(warehouse, extra, kept):
    assert stored(warehouse, foreign(extra=extra, mood="dark"))["extra"] == kept


def test_a_repeated_field_loses_neither_value(warehouse):
    body = json.dumps(foreign())[:-1].encode() + b', "year": 1, "year": 2}'
    row = stored(warehouse, body)
    assert {row["year"], row["extra"]["year"]} == {1, 2}


FAULTS = {
    "message is not UTF-8": [b'{"title": "\xff"}', b"\x80", b'{"title": "\xed\xa0\x80"}'],
    "message is not JSON": [
        b"",
        b"{",
        b"hello",
        b'{"a": }',
        b'{"a": "\\ud800"}',
        b"\x00",
        b"{} {}",
    ],
    "message is not a JSON object": [
        b"[]",
        b"5",
        b'"x"',
        b"null",
        b"true",
        b"[" * 500 + b"]" * 500,
    ],
    "missing event_id": [foreign(event_id=None), b"{}"],
    'missing event_id: ""': [foreign(event_id="")],
    "missing started_at": [foreign(started_at=None)],
    "missing user_id": [foreign(user_id=None)],
    "missing title": [foreign(title=None)],
    'missing title: ""': [foreign(title="")],
}
# What producers in Go, .NET, PHP and others send if there is no time.
ABSENT_TIMES = (
    *("", 0, 0.0, "0", "0001-01-01T00:00:00Z", "0001-01-01T00:00:00", "0001-01-01 00:00:00+00"),
    *("0000-00-00 00:00:00", "0001-01-01T00:00:00.000Z", "0001-01-01"),
)
NO_TIMES = (
    *("soon", 1704103200, [], "infinity", "10000-01-01T00:00:00Z", "0000-12-31T23:59:59Z"),
    *("290000-01-01", "2023-02-30", True),
)
NO_USERS = ("mira", 2**31, 1.5, True, [1], {}, 10**400)
FAULTS |= {
    f"missing started_at: {json.dumps(value)}": [foreign(started_at=value)]
    for value in ABSENT_TIMES
}
FAULTS |= {
    f"started_at is not a time in the years 1-9999: {json.dumps(value)}": [
        foreign(started_at=value)
    ]
    for value in NO_TIMES
}
FAULTS |= {
    f"user_id is not a 32-bit integer: {json.dumps(value)[:100]}": [foreign(user_id=value)]
    for value in NO_USERS
}


@pytest.mark.parametrize(
    ("reason", "body"), [(r, b) for r, bodies in FAULTS.items() for b in bodies], ids=repr
)
def test_a_faulty_message_becomes_a_dead_letter_with_its_raw_body(warehouse, reason, body):
    write(warehouse, ("playback.plex.movie", body), ("playback.emby.movie", foreign()))
    (letter,) = table(warehouse, "dead_letters")
    (row,) = table(warehouse, "playback_events")
    assert row["source"] == "emby"
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    record = letter.pop("record")
    assert letter == {
        "id": uuid.uuid5(uuid.NAMESPACE_URL, "S:1"),
        "reason": reason,
        "origin": "playback.plex.movie",
        "event_id": "message-0",
        "stream_id": "S",
        "stream_sequence": 1,
        "created_at": NOW,
    }
    if reason in {"message is not UTF-8", "message is not JSON"}:
        assert json.loads(record) == raw.decode(errors="backslashreplace")
    else:
        assert record == raw.decode()


@pytest.mark.parametrize("field", ["mood", "extra", "title", "year", "event_id", "user_id"])
@pytest.mark.parametrize("opening", ['{"a":', "["])
def test_a_deeply_nested_message_is_an_event_or_a_dead_letter(warehouse, field, opening):
    closing = {"[": "]", '{"a":': "}"}[opening]
    deep = opening * 100_000 + "1" + closing * 100_000
    body = json.dumps(foreign(**{field: "DEEP"})).replace('"DEEP"', deep).encode()
    write(warehouse, ("playback.plex.movie", body))
    assert len(table(warehouse, "playback_events") + table(warehouse, "dead_letters")) == 1


@pytest.mark.parametrize("value", ABSENT_TIMES)
def test_an_absent_time_of_another_language_is_absent(warehouse, value):
    row = stored(warehouse, foreign(stopped_at=value, timestamp=value))
    assert (row.get("stopped_at"), row.get("timestamp"), row["extra"]) == (None, None, {})


def test_our_own_plays_may_start_on_the_first_day_of_the_calendar(warehouse):
    write(warehouse, ("playback.tautulli-import.movie", foreign(started_at="0001-01-01T00:00:00Z")))
    assert table(warehouse, "playback_events")[0]["started_at"] == datetime(1, 1, 1)
