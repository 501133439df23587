"""Matching of events with stored rows: by key, by time span, and for restored rows."""

from __future__ import annotations

from datetime import datetime, timedelta

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tautulli_pipeline.warehouse.matching import match_query, started_near
from tautulli_pipeline_tests.warehouse.plays import (
    STREAM,
    batch,
    event,
    message,
    rows,
    uuid_of,
    writer,
)

START = datetime(2024, 5, 1, 0, 0, 1)
SECOND = timedelta(seconds=1)
ODD_STREAM = 'it\'s "odd"; --@2026'


@pytest.fixture(scope="module")
def matching_warehouse(shared_warehouse):
    """Return a warehouse with event 1, a discarded duplicate of it and an incoming event."""
    sent = [message(5, event(1)), message(7, event(3, event_id=uuid_of(1)))]
    writer(shared_warehouse, stream_id=ODD_STREAM).write(batch(sent))
    shared_warehouse.execute("DROP VIEW incoming")
    shared_warehouse.execute(
        "CREATE TEMP TABLE incoming AS SELECT 0 AS position, 99::BIGINT AS sequence, "
        "id::VARCHAR AS id, server_id AS server, correlation_key, rating_key, guid, user_id, "
        "started_at, "
        "NULL::VARCHAR AS fault FROM playback_events"
    )
    return shared_warehouse


@pytest.fixture
def matching(matching_warehouse):
    """Yield `matching_warehouse`, and roll back changes after the test."""
    matching_warehouse.begin()
    yield matching_warehouse
    matching_warehouse.rollback()


def matches(warehouse, condition="true", stream_id=ODD_STREAM):
    """Return (reason, event id, source, same message) of every match."""
    return [row[1:] for row in sorted(rows(warehouse, match_query(stream_id, condition)))]


def set_incoming(warehouse, **cells):
    changes = ", ".join(f"{name} = ${name}" for name in cells)
    warehouse.execute(f"UPDATE incoming SET {changes}", cells)


def starting(*starts):
    """Return events that start at these times."""
    return pa.table({"started_at": pa.array(starts, pa.timestamp("us"))})


OTHER = {
    "id": uuid_of(2),
    "correlation_key": "other",
    "rating_key": "other",
}


@pytest.mark.parametrize(
    ("kept", "reason"),
    [
        ("id", "event_id"),
        ("correlation_key", "correlation_key"),
        ("rating_key", "rating_key_user_started"),
    ],
)
def test_each_key_matches_by_itself(matching, kept, reason):
    set_incoming(matching, **{name: value for name, value in OTHER.items() if name != kept})
    assert matches(matching) == [(reason, uuid_of(1), "plex", False)]


@pytest.mark.parametrize(
    "cells",
    [{"user_id": 8}, {"started_at": START + SECOND}, {"rating_key": None}, {"user_id": None}],
    ids=str,
)
def test_a_rating_key_matches_only_with_the_same_user_and_start(matching, cells):
    set_incoming(matching, **(OTHER | {"rating_key": "1"} | cells))
    assert matches(matching) == []


def test_every_matching_key_is_returned(matching):
    assert [reason for reason, *_ in matches(matching)] == [
        *("correlation_key", "event_id", "rating_key_user_started"),
    ]


def test_a_restored_play_matches_only_by_its_id(matching):
    matching.execute("UPDATE playback_events SET restored_at = created_at")
    assert [reason for reason, *_ in matches(matching)] == ["event_id"]
    set_incoming(matching, id=uuid_of(2))
    assert matches(matching) == []


def test_the_message_of_a_row_is_recognized_by_stream_and_sequence(matching):
    set_incoming(matching, sequence=5)
    assert {same for *_, same in matches(matching)} == {True}
    assert {same for *_, same in matches(matching, stream_id=STREAM)} == {False}


def test_a_message_discarded_before_is_recognized_by_the_audit(matching):
    set_incoming(matching, **OTHER, sequence=8)
    assert matches(matching) == []
    set_incoming(matching, sequence=7)
    assert matches(matching) == [("event_id", uuid_of(1), "plex", True)]
    assert matches(matching, stream_id=STREAM) == []
    set_incoming(matching, fault="not JSON")
    assert matches(matching) == []


def test_a_faulty_message_matches_nothing(matching):
    set_incoming(matching, fault="missing title")
    assert matches(matching) == []


@pytest.mark.parametrize(
    ("first", "last", "found"),
    [(-1, -1, 0), (-1, 0, 3), (0, 0, 3), (0, 9, 3), (1, 9, 0)],
)
def test_only_rows_within_the_span_match_including_both_ends(matching, first, last, found):
    near = started_near(starting(START + first * SECOND, START + last * SECOND))
    assert len(matches(matching, near)) == found


def test_nothing_is_near_a_batch_without_events(matching):
    assert matches(matching, started_near(starting())) == []


STARTS = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31))


@settings(max_examples=50, deadline=None)
@given(starts=st.lists(STARTS, min_size=1, max_size=5), another=STARTS)
def test_a_span_covers_every_start_of_its_batch_to_the_microsecond(duck, starts, another):
    near = started_near(starting(*starts))
    moments = [*starts, another]
    found = duck.execute(
        f"SELECT {near} FROM (SELECT unnest($moments::TIMESTAMP[]) AS started_at) t",
        {"moments": moments},
    ).fetchall()
    assert [inside for (inside,) in found] == [min(starts) <= m <= max(starts) for m in moments]
