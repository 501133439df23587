import duckdb
import pytest

from tautulli_pipeline.warehouse.cache import DedupCache
from tautulli_pipeline.warehouse.writer import Writer
from tautulli_pipeline_tests.warehouse.hooked_connection import HookedConnection
from tautulli_pipeline_tests.warehouse.plays import (
    STREAM,
    audit,
    batch,
    event,
    message,
    rows,
    sequences,
    uuid_of,
    writer,
)


def position(connection):
    return rows(connection, "SELECT stream_id, last_sequence FROM stream_positions ORDER BY ALL")


def write(under_test, *events, first=1):
    return under_test.write(batch(message(s, e) for s, e in enumerate(events, first)))


@pytest.mark.parametrize("entries", [0, 10_000])
def test_a_play_that_repeats_only_a_duplicate_is_stored(warehouse, entries):
    a = event(1, rating_key="10")
    b = event(2, event_id=a["event_id"], session_key="b", started_at=a["started_at"], user_id=8)
    c = event(3, session_key="b", started_at=a["started_at"], user_id=8)
    under_test = writer(warehouse, entries=entries)
    write(under_test, a, b, c)
    assert sequences(warehouse) == [1, 3]
    layer = "cache" if entries else "database"
    assert audit(warehouse) == [(2, layer, "event_id", uuid_of(1))]


@pytest.mark.parametrize("together", [True, False])
def test_an_event_id_repeated_years_later_is_a_duplicate(warehouse, together):
    old = event(1, started_at="2014-01-01T00:00:00Z")
    late = event(2, event_id=old["event_id"], started_at="2026-01-01T00:00:00Z")
    parts = [[old, late, event(3)]] if together else [[old], [late, event(3)]]
    for number, part in enumerate(parts):
        write(writer(warehouse, entries=0), *part, first=number + 1)
    assert rows(warehouse, "SELECT id, started_at::VARCHAR FROM playback_events ORDER BY ALL") == [
        (uuid_of(1), "2014-01-01 00:00:00"),
        (uuid_of(3), "2024-05-01 00:00:03"),
    ]
    assert [found[1:] for found in audit(warehouse)] == [("database", "event_id", uuid_of(1))]


def test_a_correlation_key_repeated_at_another_time_is_a_duplicate(warehouse):
    write(writer(warehouse), event(1, correlation_key="given", started_at="2014-01-01T00:00:00Z"))
    write(writer(warehouse), event(2, correlation_key="given"), event(3), first=2)
    assert sequences(warehouse) == [1, 3]
    assert audit(warehouse) == [(2, "database", "correlation_key", uuid_of(1))]


def test_plays_of_one_second_without_keys_are_distinct(warehouse):
    moment = {"session_key": None, "rating_key": None, "started_at": "2024-05-01T00:00:00Z"}
    for entries in (10_000, 0):
        write(writer(warehouse, entries=entries), event(1, **moment), event(2, **moment))
        assert sequences(warehouse) == [1, 2]


def test_a_cross_source_duplicate_is_discarded_only_while_cached(warehouse):
    same = {"title": "one", "rating_key": None, "started_at": "2024-05-01T00:00:00Z"}
    under_test = writer(warehouse)
    write(under_test, event(1, source="plex", **same))
    write(under_test, event(2, source="jellyfin", **same), first=2)
    assert audit(warehouse) == [(2, "cache", "cross_source_key", uuid_of(1))]
    write(writer(warehouse), event(3, source="emby", **same), first=3)
    assert sequences(warehouse) == [1, 3]


def test_a_redelivered_duplicate_stays_a_duplicate_after_a_restart(warehouse):
    same = {"title": "one", "rating_key": None, "started_at": "2024-05-01T00:00:00Z"}
    plays = [event(1, source="plex", **same), event(2, source="jellyfin", **same)]
    write(writer(warehouse), *plays)
    before = rows(warehouse, "SELECT * FROM dedupe_audit_log")
    write(writer(warehouse), *plays)
    assert sequences(warehouse) == [1]
    assert rows(warehouse, "SELECT * FROM dedupe_audit_log") == before


def test_the_same_sequence_on_another_stream_is_another_message(warehouse):
    write(writer(warehouse), event(1))
    write(writer(warehouse, stream_id="MEDIA_EVENTS@later"), event(2))
    assert rows(warehouse, "SELECT id FROM playback_events ORDER BY ALL") == [
        (uuid_of(1),),
        (uuid_of(2),),
    ]
    assert position(warehouse) == [(STREAM, 1), ("MEDIA_EVENTS@later", 1)]


def test_the_audit_keeps_the_exact_payload(warehouse):
    body = (
        b'{"event_id":"%s", "source" : "plex","user_id":7,"title":"\xc3\x86r\xc3\xb8",'
        b'"started_at":"2024-05-01T00:00:00+02:00","unknown":{"a":[1,2.50]},"year":"x"}'
    ) % uuid_of(1).encode()
    write(writer(warehouse), event(1), body)
    ((payload, matched, source, status),) = rows(
        warehouse,
        "SELECT discarded_payload::VARCHAR, matched_event_id, matched_source, status "
        "FROM dedupe_audit_log",
    )
    assert (payload.encode(), matched, source, status) == (body, uuid_of(1), "plex", "auto_dedupe")


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        ({}, False),
        ({"title": "Another"}, True),
        ({"platform": "Roku"}, True),
        ({"unknown": 1}, True),
        ({"platform": ""}, False),
    ],
)
def test_the_audit_records_whether_the_content_differs(warehouse, change, differs):
    write(writer(warehouse), event(1), event(1, event_id=uuid_of(2)) | change)
    assert rows(warehouse, "SELECT content_differs FROM dedupe_audit_log") == [(differs,)]


def test_a_restored_play_matches_by_its_id_but_not_by_other_keys(warehouse):
    play = event(1)
    twin = play | {"event_id": uuid_of(2)}
    third = play | {"event_id": uuid_of(3)}
    write(writer(warehouse), play)
    warehouse.execute("UPDATE playback_events SET restored_at = TIMESTAMP '2026-01-01'")
    write(writer(warehouse), twin, first=2)
    write(writer(warehouse), play, third, first=3)
    assert sequences(warehouse) == [1, 2]
    assert audit(warehouse) == [(4, "database", "correlation_key", uuid_of(2))]
    warehouse.execute(
        "UPDATE playback_events SET restored_at = now()::TIMESTAMP WHERE stream_sequence = 2"
    )
    write(writer(warehouse), third, first=5)
    assert sequences(warehouse) == [1, 2, 5]


@pytest.mark.parametrize(
    "fault", [duckdb.IOException("No space left on device"), KeyboardInterrupt()], ids=repr
)
@pytest.mark.parametrize(
    "statement",
    [
        "EXECUTE insert_",
        "INSERT INTO dedupe_audit_log",
        "INSERT INTO dead_letters",
        "INSERT INTO stream_positions",
    ],
)
def test_a_failed_statement_rolls_back_the_whole_batch(warehouse, statement, fault):
    faults = []

    def fail():
        if faults:
            raise faults.pop()

    under_test = writer(HookedConnection(warehouse, statement, fail))
    write(under_test, event(1))
    part = [event(2), event(1, event_id=uuid_of(3)), b"not json"]
    faults.append(fault)
    with pytest.raises(type(fault)):
        write(under_test, *part, first=2)
    assert faults == []
    assert sequences(warehouse) == [1]
    assert audit(warehouse) == rows(warehouse, "FROM dead_letters") == []
    assert position(warehouse) == [(STREAM, 1)]

    write(under_test, *part, first=2)
    assert sequences(warehouse) == [1, 2]
    assert rows(warehouse, "SELECT stream_sequence FROM dead_letters") == [(4,)]
    assert audit(warehouse) == [(3, "database", "correlation_key", uuid_of(1))]
    assert position(warehouse) == [(STREAM, 4)]


def test_the_position_never_decreases(warehouse):
    write(writer(warehouse), event(1), event(2), first=8)
    write(writer(warehouse), event(3), first=3)
    assert position(warehouse) == [(STREAM, 9)]


def test_a_message_twice_in_a_batch_counts_once(warehouse):
    twin = event(1, event_id=uuid_of(2))
    twice = [message(1, event(1)), message(2, twin), message(3, b"{")] * 2
    under_test = Writer(warehouse, DedupCache(300, 0), STREAM)
    under_test.write(batch(twice))
    assert sequences(warehouse) == [1]
    assert audit(warehouse) == [(2, "database", "correlation_key", uuid_of(1))]
    assert rows(warehouse, "SELECT stream_sequence FROM dead_letters") == [(3,)]


def test_an_empty_batch_writes_nothing(warehouse):
    write(writer(warehouse))
    assert sequences(warehouse) == audit(warehouse) == rows(warehouse, "FROM dead_letters") == []


def test_content_that_returns_within_a_batch_is_the_newest_again(emptied_warehouse):
    first, *later = (event(1, title=title) for title in ("A", "B", "A"))
    under_test = writer(emptied_warehouse)
    write(under_test, first)
    write(under_test, *later, first=2)
    revisions = "SELECT title, stream_sequence FROM playback_revisions ORDER BY revision"
    assert rows(emptied_warehouse, revisions) == [("B", 2), ("A", 3)]


def test_the_newest_start_of_each_server_is_noted_whoever_named_it_first(emptied_warehouse):
    def imported(sequence, number, server_id, newest_start):
        content = event(number, source="tautulli-import", server_id=server_id)
        row = message(sequence, content, import_id=f"import-{sequence}")
        return batch([(*row, ("content", f"{number} {newest_start}"))])

    under_test = writer(emptied_warehouse)
    under_test.write(imported(1, 1, "other", 1_700_000_000))
    under_test.write(batch([message(2, event(2, server_id="default"))]))
    under_test.write(imported(3, 3, "default", 1_600_000_000))
    newest = "SELECT server_id, epoch(newest_started_at)::BIGINT FROM servers ORDER BY ALL"
    assert rows(emptied_warehouse, newest) == [
        ("default", 1_600_000_000),
        ("other", 1_700_000_000),
    ]
