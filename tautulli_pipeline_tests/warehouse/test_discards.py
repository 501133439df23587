"""Each duplicate and each faulty message is kept once, with an id derived from its message."""

from __future__ import annotations

import json
import uuid

import pytest

from tautulli_pipeline_tests.warehouse.plays import (
    STREAM,
    batch,
    event,
    message,
    rows,
    uuid_of,
    writer,
)

OTHER_STREAM = "it's another@2026"


def write(warehouse, *messages, stream_id=STREAM):
    writer(warehouse, stream_id=stream_id).write(batch(messages))


def expected_id(sequence, stream_id=STREAM):
    """Return the expected id of the row of a message, computed independently."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{stream_id}:{sequence}"))


def letters(warehouse):
    return rows(
        warehouse, "SELECT id, stream_sequence, reason FROM dead_letters ORDER BY stream_sequence"
    )


@pytest.mark.parametrize("stream_id", [STREAM, OTHER_STREAM])
def test_ids_derive_from_stream_and_sequence(emptied_warehouse, stream_id):
    again = event(2, event_id=uuid_of(1))
    sent = [message(1, event(1)), message(2, again), message(3, b"no JSON")]
    write(emptied_warehouse, *sent, stream_id=stream_id)
    assert rows(emptied_warehouse, "SELECT id FROM dedupe_audit_log") == [
        (expected_id(2, stream_id),)
    ]
    assert letters(emptied_warehouse) == [(expected_id(3, stream_id), 3, "message is not JSON")]


def test_a_redelivered_faulty_message_is_kept_once(emptied_warehouse):
    write(emptied_warehouse, message(1, b"no JSON"), message(2, event(2, title=None)))
    write(emptied_warehouse, message(1, b"no JSON"), message(3, b"no JSON"))
    assert [sequence for _, sequence, _ in letters(emptied_warehouse)] == [1, 2, 3]
    write(emptied_warehouse, message(1, b"no JSON"), stream_id=OTHER_STREAM)
    assert [sequence for _, sequence, _ in letters(emptied_warehouse)] == [1, 1, 2, 3]


@pytest.mark.parametrize(
    ("body", "record"),
    [
        (b'{"title": "F\xc3\xbcnf"}', {"title": "Fünf"}),
        (b"[1, 2]", [1, 2]),
        (b"half of {", "half of {"),
        (b"F\xfcnf \xff", "F\\xfcnf \\xff"),
        (b"", ""),
    ],
)
def test_the_record_of_a_letter_is_json_with_the_original_content(emptied_warehouse, body, record):
    write(emptied_warehouse, message(1, body))
    ((kept,),) = rows(emptied_warehouse, "SELECT record FROM dead_letters")
    assert json.loads(kept) == record


def test_a_letter_records_the_origin_of_its_message(emptied_warehouse):
    broken = event(1, title=None, source="tautulli-import", source_row_id=77)
    write(emptied_warehouse, message(9, broken, import_id="import-1"))
    assert rows(
        emptied_warehouse,
        "SELECT origin, event_id, source_row_id, import_id, stream_id, closed_at FROM dead_letters",
    ) == [("playback.tautulli-import.movie", "message-9", 77, "import-1", STREAM, None)]


def test_an_audit_row_names_both_plays_and_the_layer(emptied_warehouse):
    write(emptied_warehouse, message(1, event(1)))
    by_cache = event(2, session_key="session-3", source="emby", started_at=event(3)["started_at"])
    write(
        emptied_warehouse,
        message(3, event(3)),
        message(4, by_cache),
        message(5, event(1, title="New", user_id=8)),
    )
    found = rows(
        emptied_warehouse,
        "SELECT stream_sequence, discarded_event_id, discarded_source, matched_event_id, "
        "matched_source, dedupe_layer, dedupe_reason, content_differs, status "
        "FROM dedupe_audit_log ORDER BY ALL",
    )
    assert found == [
        (4, uuid_of(2), "emby", uuid_of(3), "plex", "cache", "session_key", True, "auto_dedupe"),
        (5, uuid_of(1), "plex", uuid_of(1), "plex", "database", "event_id", True, "auto_dedupe"),
    ]


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        ({}, False),
        ({"title": "Another"}, True),
        ({"colour": "red"}, True),
        ({"year": 1999}, True),
        ({"started_at": "2024-05-01T00:00:01.000Z"}, False),
        ({"user_id": "7"}, False),
    ],
    ids=str,
)
def test_content_differs_if_a_column_differs_but_not_if_only_bytes_do(
    emptied_warehouse, change, differs
):
    other = event(1, event_id=uuid_of(2), **change)
    write(emptied_warehouse, message(1, event(1)), message(2, other))
    assert rows(emptied_warehouse, "SELECT content_differs FROM dedupe_audit_log") == [(differs,)]


def sent_as(message_id, sequence, content):
    """Return a message with this message id."""
    sequence, subject, import_id, _, body = message(sequence, content)
    return sequence, subject, import_id, message_id, body


def closed(warehouse):
    """Return (sequence, closed by, event id) of every letter."""
    return rows(
        warehouse,
        "SELECT stream_sequence, closed_by, closed_event_id FROM dead_letters "
        "ORDER BY stream_sequence",
    )


@pytest.mark.parametrize("attempt", ["", ":2"])
def test_a_readable_event_closes_the_letter_of_its_id(emptied_warehouse, attempt):
    broken = event(1, title=None)
    write(emptied_warehouse, sent_as(f"{uuid_of(1)}{attempt}", 1, broken))
    write(emptied_warehouse, sent_as(uuid_of(2), 2, event(2, title=None)))
    write(emptied_warehouse, sent_as(f"{uuid_of(1)}:3", 3, event(1)))
    assert closed(emptied_warehouse) == [(1, "import", uuid_of(1)), (2, None, None)]


def test_a_duplicate_event_also_closes_its_letter(emptied_warehouse):
    write(emptied_warehouse, message(1, event(1)), sent_as(uuid_of(1), 2, event(1, title=None)))
    assert closed(emptied_warehouse) == [(2, "import", uuid_of(1))]


def test_another_fault_does_not_close_a_letter_and_a_closed_letter_does_not_change(
    emptied_warehouse,
):
    write(emptied_warehouse, sent_as(uuid_of(1), 1, event(1, title=None)))
    write(emptied_warehouse, sent_as(uuid_of(1), 2, event(1, title=None)))
    assert closed(emptied_warehouse) == [(1, None, None), (2, None, None)]
    emptied_warehouse.execute(
        "UPDATE dead_letters SET closed_at = now(), closed_by = 'replay' WHERE stream_sequence = 1"
    )
    write(emptied_warehouse, sent_as(uuid_of(1), 3, event(1)))
    assert closed(emptied_warehouse) == [(1, "replay", None), (2, "import", uuid_of(1))]
