"""The audit over the real writer: listed, shown, confirmed and undone."""

import json
from datetime import datetime
from itertools import pairwise

import pytest

from tautulli_pipeline.errors import ConfigurationError, WarehouseError
from tautulli_pipeline.warehouse import duplicates
from tautulli_pipeline.warehouse.decoder import CONTENT_COLUMNS
from tautulli_pipeline.warehouse.duplicates import (
    AuditFilter,
    confirm,
    list_duplicates,
    show_duplicate,
)
from tautulli_pipeline.warehouse.reading import Page
from tautulli_pipeline_tests.warehouse.meddling import Meddled
from tautulli_pipeline_tests.warehouse.plays import (
    STREAM,
    audit,
    batch,
    event,
    memory_warehouse,
    message,
    rows,
    sequences,
    uuid_of,
    writer,
)

NOW, LATER = datetime(2026, 2, 3, 4, 5, 6), datetime(2026, 3, 3)
CONTENT = ", ".join(f'"{name}"' for name in CONTENT_COLUMNS)
FIRST = event(1)
# The same item, user and second, seen by another producer.
TWIN = event(1, event_id=uuid_of(2), source="jellyfin", session_key="other", machine_id="m-2")
WHOLE = TWIN | {
    "media_type": "episode",
    "stopped_at": "2024-05-01T00:40:00.25Z",
    "percent_complete": 97,
    "secure": True,
    "watch_party": ["a", "b"],
}


def write(warehouse, *events, first=1, entries=0):
    return writer(warehouse, entries=entries).write(
        batch(message(s, e) for s, e in enumerate(events, first))
    )


def audit_ids(warehouse):
    found = rows(warehouse, "SELECT id FROM dedupe_audit_log ORDER BY stream_sequence")
    return [row_id for (row_id,) in found]


def restore(warehouse, given, now=NOW):
    ((_, added),) = duplicates.restore(warehouse, [given], now)
    return added


def statuses(warehouse):
    return rows(
        warehouse, "SELECT status, resolved_at FROM dedupe_audit_log ORDER BY stream_sequence"
    )


def table(warehouse):
    return rows(warehouse, "SELECT * FROM playback_events ORDER BY id")


def test_a_restored_play_is_what_its_event_says_in_every_column(warehouse):
    with memory_warehouse() as alone:
        write(alone, WHOLE)
        expected = rows(alone, f"SELECT id, {CONTENT}, payload_hash FROM playback_events")
    write(warehouse, FIRST, WHOLE)
    before = table(warehouse)
    assert restore(warehouse, audit_ids(warehouse)[0])
    restored = f"SELECT id, {CONTENT}, payload_hash FROM playback_events WHERE restored_at NOT NULL"
    assert rows(warehouse, restored) == expected
    marks = "SELECT stream_id, stream_sequence, created_at, restored_at FROM playback_events"
    assert rows(warehouse, f"{marks} ORDER BY id") == [
        (STREAM, 1, rows(warehouse, "SELECT min(created_at) FROM dedupe_audit_log")[0][0], None),
        (STREAM, 2, NOW, NOW),
    ]
    assert table(warehouse)[:1] == before
    assert statuses(warehouse) == [("user_restored", NOW)]


def test_what_only_the_subject_says_is_restored_too(warehouse):
    bare = {name: value for name, value in TWIN.items() if name != "source"}
    write(warehouse, FIRST)
    sequence, _, *rest = message(2, bare)
    writer(warehouse, entries=0).write(batch([(sequence, "playback.emby.track", *rest)]))
    restore(warehouse, audit_ids(warehouse)[0])
    kinds = "SELECT source, media_type FROM playback_events ORDER BY stream_sequence"
    assert rows(warehouse, kinds) == [("plex", "movie"), ("emby", "track")]


def test_restoring_twice_changes_nothing(warehouse):
    write(warehouse, FIRST, TWIN)
    (row_id,) = audit_ids(warehouse)
    restore(warehouse, row_id)
    before = table(warehouse), rows(warehouse, "FROM dedupe_audit_log")
    assert not restore(warehouse, row_id, LATER)
    assert (table(warehouse), rows(warehouse, "FROM dedupe_audit_log")) == before


def test_an_event_that_was_discarded_twice_is_restored_once(warehouse):
    write(warehouse, FIRST, TWIN, TWIN)
    first, second = audit_ids(warehouse)
    assert restore(warehouse, second)
    assert not restore(warehouse, first, LATER)
    assert sequences(warehouse) == [1, 3]
    assert statuses(warehouse) == [("user_restored", LATER), ("user_restored", NOW)]


def test_the_same_event_is_the_same_play_and_is_not_restored(warehouse):
    write(warehouse, FIRST, FIRST | {"title": "Another title"})
    before = table(warehouse), rows(warehouse, "FROM dedupe_audit_log")
    with pytest.raises(ConfigurationError, match="it is the same play"):
        restore(warehouse, audit_ids(warehouse)[0])
    assert (table(warehouse), rows(warehouse, "FROM dedupe_audit_log")) == before


@pytest.mark.parametrize("entries", [0, 10_000])
def test_what_comes_again_after_a_restore_is_told_from_both_rows(warehouse, entries):
    write(warehouse, FIRST, TWIN)
    restore(warehouse, audit_ids(warehouse)[0])
    before = table(warehouse)
    third = TWIN | {"event_id": uuid_of(3)}
    # Redelivered; published again in both orders; and one more producer's view of the play.
    write(warehouse, FIRST, TWIN, entries=entries)
    write(warehouse, TWIN, FIRST, third, first=3, entries=entries)
    assert table(warehouse) == before
    assert audit(warehouse) == [
        (2, "database", "rating_key_user_started", uuid_of(1)),
        (3, "database", "event_id", uuid_of(2)),
        (4, "database", "event_id", uuid_of(1)),
        (5, "database", "rating_key_user_started", uuid_of(1)),
    ]
    assert restore(warehouse, audit_ids(warehouse)[-1])
    assert sequences(warehouse) == [1, 2, 5]


def test_what_does_not_read_back_is_not_restored(warehouse):
    write(warehouse, FIRST, TWIN)
    before = table(warehouse), rows(warehouse, "FROM dedupe_audit_log")
    spoil = "UPDATE playback_events SET year = 1 WHERE restored_at IS NOT NULL"
    spoiled = Meddled(warehouse, "FROM restored r JOIN", lambda: warehouse.execute(spoil))
    with pytest.raises(WarehouseError, match="does not read back as the event"):
        restore(spoiled, audit_ids(warehouse)[0])
    assert (table(warehouse), rows(warehouse, "FROM dedupe_audit_log")) == before


def test_a_confirmed_duplicate_is_one_and_may_still_be_restored(warehouse):
    write(warehouse, FIRST, TWIN)
    (row_id,) = audit_ids(warehouse)
    confirmed = [confirm(warehouse, [row_id], moment) for moment in (NOW, LATER)]
    assert confirmed == [[(row_id, True)], [(row_id, False)]]
    assert statuses(warehouse) == [("user_confirmed", NOW)]
    assert sequences(warehouse) == [1]
    assert restore(warehouse, row_id, LATER)
    assert statuses(warehouse) == [("user_restored", LATER)]
    with pytest.raises(ConfigurationError, match="it was restored and is in the table"):
        confirm(warehouse, [row_id], LATER)


def test_a_duplicate_that_is_given_twice_is_changed_once(warehouse):
    write(warehouse, FIRST, TWIN)
    (row_id,) = audit_ids(warehouse)
    for resolve in (confirm, duplicates.restore):
        assert resolve(warehouse, [row_id, row_id], NOW) == [(row_id, True), (row_id, False)]
    assert sequences(warehouse) == [1, 2]


@pytest.mark.parametrize("resolve", [duplicates.restore, confirm])
def test_nothing_is_changed_where_one_of_the_duplicates_does_not_exist(warehouse, resolve):
    write(warehouse, FIRST, TWIN)
    before = table(warehouse), rows(warehouse, "FROM dedupe_audit_log")
    with pytest.raises(ConfigurationError, match="there is no duplicate with the id 'none'"):
        resolve(warehouse, [*audit_ids(warehouse), "none"], NOW)
    assert (table(warehouse), rows(warehouse, "FROM dedupe_audit_log")) == before


def test_the_beginning_of_an_id_is_enough_where_it_is_of_one(warehouse):
    write(warehouse, FIRST, *[TWIN | {"event_id": uuid_of(n)} for n in range(2, 40)])
    ids = sorted(audit_ids(warehouse))
    assert show_duplicate(warehouse, ids[0][:12].upper())["id"] == ids[0]
    shared = next(a[:1] for a, b in pairwise(ids) if a[0] == b[0])
    with pytest.raises(ConfigurationError, match="is the beginning of several ids: ") as caught:
        show_duplicate(warehouse, shared)
    assert min(name for name in ids if name.startswith(shared)) in caught.value.message
    for nonsense in ("ffffffff-0000-0000", "%", "no id", ""):
        with pytest.raises(ConfigurationError, match="there is no duplicate with the id"):
            show_duplicate(warehouse, nonsense)


def test_a_duplicate_is_shown_whole_and_with_its_differences(warehouse):
    write(warehouse, FIRST, WHOLE)
    (row_id,) = audit_ids(warehouse)
    shown = show_duplicate(warehouse, row_id)
    assert shown.pop("payload") == json.loads(json.dumps(WHOLE))
    differences = shown.pop("differences")
    assert differences.pop("extra")["stored"] is None
    assert {name: list(both.values()) for name, both in differences.items()} == {
        "source": ["jellyfin", "plex"],
        "media_type": ["episode", "movie"],
        "stopped_at": [datetime(2024, 5, 1, 0, 40), None],
        "percent_complete": [97, None],
        "secure": [True, None],
        "machine_id": ["m-2", "machine-1"],
    }
    assert shown == {
        "id": row_id,
        "discarded_event_id": uuid_of(2),
        "discarded_source": "jellyfin",
        "discarded_subject": "playback.jellyfin.movie",
        "matched_event_id": uuid_of(1),
        "matched_source": "plex",
        "dedupe_layer": "database",
        "dedupe_reason": "rating_key_user_started",
        "content_differs": True,
        "status": "auto_dedupe",
        "source_row_id": None,
        "import_id": None,
        "stream_id": STREAM,
        "stream_sequence": 2,
        "created_at": shown["created_at"],
        "resolved_at": None,
        "in_table": False,
    }
    warehouse.execute("DELETE FROM playback_events")
    assert show_duplicate(warehouse, row_id)["differences"] is None


def test_lists_are_filtered_and_paged_from_the_newest(warehouse):
    twins = [TWIN | {"event_id": uuid_of(n)} for n in range(2, 7)]
    write(warehouse, FIRST, *twins)
    write(warehouse, FIRST | {"title": "Again"}, first=7, entries=10)
    restore(warehouse, audit_ids(warehouse)[0])

    def listed(limit=10, offset=0, **wanted):
        found = list_duplicates(warehouse, AuditFilter(**wanted), Page(limit, offset))
        return found.total, [row["stream_sequence"] for row in found.rows]

    assert listed() == (6, [7, 6, 5, 4, 3, 2])
    assert listed(limit=2, offset=3) == (6, [4, 3])
    assert listed(offset=6) == (6, [])
    assert listed(reason="event_id") == (1, [7])
    assert listed(status="user_restored") == (1, [2])
    assert listed(layer="cache") == (0, [])
    assert listed(reason="rating_key_user_started", status="auto_dedupe", limit=1) == (4, [6])
    assert listed(import_id="no such import") == (0, [])
    (newest,) = list_duplicates(warehouse, AuditFilter(), Page(1)).rows
    assert (newest["title"], newest["user"]) == ("Again", "7")
