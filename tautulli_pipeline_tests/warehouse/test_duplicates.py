"""Duplicates written by the real writer are listed, shown, confirmed and restored."""

import json
import time
from datetime import datetime
from itertools import pairwise

import pytest

from tautulli_pipeline.errors import ConfigurationError, WarehouseError
from tautulli_pipeline.warehouse import duplicates
from tautulli_pipeline.warehouse.decoder import CONTENT_COLUMNS
from tautulli_pipeline.warehouse.duplicates import (
    confirm,
    list_duplicates,
    show_duplicate,
)
from tautulli_pipeline.warehouse.reading import Page
from tautulli_pipeline.warehouse.schema import open_warehouse
from tautulli_pipeline_tests.warehouse.hooked_connection import HookedConnection
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
# The same item, user and second, reported by another producer.
TWIN = event(1, event_id=uuid_of(2), source="jellyfin", session_key="other", machine_id="m-2")
WHOLE = TWIN | {
    "media_type": "episode",
    "stopped_at": "2024-05-01T00:40:00.25Z",
    "percent_complete": 97,
    "secure": True,
    "watch_party": ["a", "b"],
}


def write(warehouse, *events, first=1, entries=0):
    writer(warehouse, entries=entries).write(
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


def test_every_column_of_a_restored_play_equals_its_event(warehouse):
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


def test_values_from_the_subject_are_restored_too(warehouse):
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


def test_an_event_discarded_twice_is_restored_once(warehouse):
    write(warehouse, FIRST, TWIN, TWIN | {"platform": "Roku"})
    first, second = audit_ids(warehouse)
    assert restore(warehouse, second)
    assert not restore(warehouse, first, LATER)
    assert sequences(warehouse) == [1, 3]
    assert statuses(warehouse) == [("user_restored", LATER), ("user_restored", NOW)]


def test_a_duplicate_with_the_same_event_id_cannot_be_restored(warehouse):
    write(warehouse, FIRST, FIRST | {"user_id": 8})
    before = table(warehouse), rows(warehouse, "FROM dedupe_audit_log")
    with pytest.raises(ConfigurationError, match="it is the same play"):
        restore(warehouse, audit_ids(warehouse)[0])
    assert (table(warehouse), rows(warehouse, "FROM dedupe_audit_log")) == before


@pytest.mark.parametrize("entries", [0, 10_000])
def test_events_that_arrive_again_after_a_restore_match_the_right_row(warehouse, entries):
    write(warehouse, FIRST, TWIN)
    restore(warehouse, audit_ids(warehouse)[0])
    before = table(warehouse)
    third = TWIN | {"event_id": uuid_of(3)}
    # Redelivered, then published again in the other order, then a third producer's event.
    write(warehouse, FIRST, TWIN, entries=entries)
    write(warehouse, TWIN, FIRST, third, first=3, entries=entries)
    assert table(warehouse) == before
    assert audit(warehouse) == [
        (2, "database", "rating_key_user_started", uuid_of(1)),
        (5, "database", "rating_key_user_started", uuid_of(1)),
    ]
    assert restore(warehouse, audit_ids(warehouse)[-1])
    assert sequences(warehouse) == [1, 2, 5]


def test_a_row_that_does_not_match_its_event_is_not_restored(warehouse):
    write(warehouse, FIRST, TWIN)
    before = table(warehouse), rows(warehouse, "FROM dedupe_audit_log")
    spoil = "UPDATE playback_events SET year = 1 WHERE restored_at IS NOT NULL"
    spoiled = HookedConnection(warehouse, "FROM restored r JOIN", lambda: warehouse.execute(spoil))
    with pytest.raises(WarehouseError, match="the written row does not match the event"):
        restore(spoiled, audit_ids(warehouse)[0])
    assert (table(warehouse), rows(warehouse, "FROM dedupe_audit_log")) == before


def test_a_confirmed_duplicate_can_still_be_restored(warehouse):
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


def test_thousands_of_large_duplicates_are_confirmed_without_reading_them(tmp_path):
    path = tmp_path / "playback.duckdb"
    with open_warehouse(path) as warehouse:
        write(warehouse, FIRST, TWIN)
        warehouse.execute(
            """
            INSERT INTO dedupe_audit_log
            SELECT a.* REPLACE (gen_random_uuid() AS id,
                json_object('text', repeat(md5(n::VARCHAR), 150)) AS discarded_payload)
            FROM dedupe_audit_log a, range(4000) numbers(n)
            """
        )
    with open_warehouse(path) as warehouse:  # its rows are compressed now
        ids = audit_ids(warehouse)
        began_at = time.process_time()
        assert confirm(warehouse, ids, NOW) == [(row_id, True) for row_id in ids]
        assert time.process_time() - began_at < 1.5
        assert set(statuses(warehouse)) == {("user_confirmed", NOW)}


def test_a_duplicate_named_twice_is_changed_once(warehouse):
    write(warehouse, FIRST, TWIN)
    (row_id,) = audit_ids(warehouse)
    for resolve in (confirm, duplicates.restore):
        assert resolve(warehouse, [row_id, row_id], NOW) == [(row_id, True), (row_id, False)]
    assert sequences(warehouse) == [1, 2]


@pytest.mark.parametrize("resolve", [duplicates.restore, confirm])
def test_nothing_changes_if_one_of_the_duplicates_does_not_exist(warehouse, resolve):
    write(warehouse, FIRST, TWIN)
    before = table(warehouse), rows(warehouse, "FROM dedupe_audit_log")
    with pytest.raises(ConfigurationError, match="there is no duplicate with the id 'none'"):
        resolve(warehouse, [*audit_ids(warehouse), "none"], NOW)
    assert (table(warehouse), rows(warehouse, "FROM dedupe_audit_log")) == before


def test_a_unique_id_prefix_is_enough(warehouse):
    write(warehouse, FIRST, *[TWIN | {"event_id": uuid_of(n)} for n in range(2, 40)])
    ids = sorted(audit_ids(warehouse))
    assert show_duplicate(warehouse, ids[0][:12].upper())["id"] == ids[0]
    shared = next(a[:1] for a, b in pairwise(ids) if a[0] == b[0])
    with pytest.raises(ConfigurationError, match="matches several ids: ") as caught:
        show_duplicate(warehouse, shared)
    assert min(name for name in ids if name.startswith(shared)) in caught.value.message
    for nonsense in ("ffffffff-0000-0000", "%", "no id", ""):
        with pytest.raises(ConfigurationError, match="there is no duplicate with the id"):
            show_duplicate(warehouse, nonsense)


def test_show_returns_all_details_and_differences(warehouse):
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
        "title": "Film 1",
        "show": None,
        "user": "7",
        "started_at": datetime(2024, 5, 1, 0, 0, 1),
        "player": None,
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
    assert list_duplicates(warehouse, {}, Page(1)).rows[0]["differs_in"] is None


def test_a_list_names_the_plays_and_in_what_they_differ(warehouse):
    named = {"grandparent_title": "Severance", "friendly_name": "Mira", "player": "Living Room"}
    offset = {"started_at": "2024-05-01T02:00:01+02:00", "username": "m"}
    write(warehouse, FIRST, FIRST | {"event_id": uuid_of(9)}, TWIN | named | offset)
    other, same = list_duplicates(warehouse, {}, Page(9)).rows
    names = ("title", "show", "user", "started_at", "player", "differs_in")
    started_at = datetime(2024, 5, 1, 0, 0, 1)
    assert [same[name] for name in names] == ["Film 1", None, "7", started_at, None, []]
    differs_in = other.pop("differs_in")
    assert [other[name] for name in names[:-1]] == [
        *("Film 1", "Severance", "Mira"),
        *(started_at, "Living Room"),
    ]
    shown = show_duplicate(warehouse, other["id"])["differences"]
    assert differs_in == list(shown)
    assert {"source", "username", "grandparent_title", "player", "machine_id"} <= set(differs_in)


def test_lists_are_filtered_and_paged_newest_first(warehouse):
    twins = [TWIN | {"event_id": uuid_of(n)} for n in range(2, 7)]
    write(warehouse, FIRST, *twins)
    write(
        warehouse,
        FIRST | {"title": "Again", "started_at": "2024-05-02T00:00:00Z"},
        first=7,
        entries=10,
    )
    restore(warehouse, audit_ids(warehouse)[0])

    def listed(limit=10, offset=0, **wanted):
        found = list_duplicates(warehouse, wanted, Page(limit, offset))
        return found.total, [row["stream_sequence"] for row in found.rows]

    assert listed() == (6, [7, 6, 5, 4, 3, 2])
    assert listed(limit=2, offset=3) == (6, [4, 3])
    assert listed(offset=6) == (6, [])
    assert listed(dedupe_reason="event_id") == (1, [7])
    assert listed(status="user_restored") == (1, [2])
    assert listed(dedupe_layer="cache") == (0, [])
    assert listed(dedupe_reason="rating_key_user_started", status="auto_dedupe", limit=1) == (
        4,
        [6],
    )
    assert listed(import_id="no such import") == (0, [])
    (newest,) = list_duplicates(warehouse, {}, Page(1)).rows
    assert (newest["title"], newest["user"]) == ("Again", "7")
