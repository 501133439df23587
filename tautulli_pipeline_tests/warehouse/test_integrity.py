"""Consistency checks pass on correct tables and report each violation."""

from datetime import datetime

import pyarrow as pa
import pytest

from tautulli_pipeline.imports.receipts import PUBLISHED, REJECTED, ROWS
from tautulli_pipeline.warehouse.integrity import (
    BACKWARD_PLAYS,
    MISNAMED_EVENTS,
    REPEATED_KEYS,
    UNBALANCED_PARTITIONS,
    position_on,
)
from tautulli_pipeline.warehouse.ledger import Ledger, LedgerEntry
from tautulli_pipeline.warehouse.reading import Listing, Page, list_found
from tautulli_pipeline_tests.warehouse.plays import (
    STREAM,
    batch,
    event,
    message,
    rows,
    uuid_of,
    writer,
)

DAY = datetime(2026, 1, 1)
FIRST, SECOND, LAST, OTHER = (
    *("0000000001-0000000010", "0000000011-0000000020"),
    *("9999999991-9999999999", "other"),
)
NOTHING = Listing(0, [])


def violations(warehouse, rule):
    return list_found(warehouse, rule, Page(20))


def import_rows(warehouse, partitions, import_id="import-1"):
    """Import these rows by partition; negative row ids are rejected, except in `OTHER`."""
    entries, messages = [], []
    for key, row_ids in partitions.items():
        lines = []
        for row_id in row_ids:
            line = {"source_row_id": abs(row_id), "event_id": uuid_of(abs(row_id))}
            if row_id < 0 and key != OTHER:
                line = {"source_row_id": -row_id, "reason": "missing title", "record": "{}"}
            elif row_id < 0:
                line["source_row_id"] = row_id
            outcome = REJECTED if "reason" in line else PUBLISHED
            lines.append(line | {"outcome": outcome})
            if outcome == PUBLISHED:
                number = abs(row_id)
                content = event(
                    number % 3000,
                    event_id=uuid_of(number),
                    source="tautulli-import",
                    source_row_id=line["source_row_id"],
                )
                messages.append(message(len(messages) + 1, content, import_id=import_id))
        table = pa.Table.from_pylist(lines, schema=ROWS)
        entries.append(LedgerEntry(import_id, key, "default", DAY, table))
    writer(warehouse, entries=0).write(batch(messages))
    assert Ledger(warehouse).settle(entries, DAY) == {}


def test_a_correct_ledger_balances(warehouse):
    import_rows(
        warehouse, {FIRST: [1, 2, -3], SECOND: [11], LAST: [9999999991], OTHER: [-7, 10**10]}
    )
    import_rows(warehouse, {FIRST: [4], SECOND: []}, "import-2")
    import_rows(warehouse, {LAST: [9999999992]}, "import-3")
    assert violations(warehouse, UNBALANCED_PARTITIONS) == NOTHING
    assert position_on(warehouse, STREAM) == 6
    assert position_on(warehouse, "another stream") == 0


@pytest.mark.parametrize(
    ("damage", "differs"),
    [
        ("DELETE FROM playback_events WHERE source_row_id = 2", {"imported_in_table": 1}),
        ("DELETE FROM dead_letters", {"with_dead_letter": 0}),
        (
            "UPDATE import_ledger SET total_records = 4 WHERE total_records = 3",
            {"total_records": 4},
        ),
        ("UPDATE import_ledger SET processed = 2 WHERE total_records = 3", {"processed": 2}),
        (
            "UPDATE import_ledger SET errors = 1 WHERE total_records = 3",
            {"settled": 4},
        ),
    ],
)
def test_a_partition_that_does_not_add_up_is_reported(warehouse, damage, differs):
    import_rows(warehouse, {FIRST: [1, 2, -3], SECOND: [11], OTHER: [-7]})
    warehouse.execute(damage)
    line = {
        "import_id": "import-1",
        "partition_key": FIRST,
        "total_records": 3,
        "processed": 3,
        "settled": 3,
        "imported": 2,
        "imported_in_table": 2,
        "rejected": 1,
        "with_dead_letter": 1,
    }
    assert violations(warehouse, UNBALANCED_PARTITIONS) == Listing(1, [line | differs])


def test_plays_of_rows_that_were_deleted_while_their_import_was_interrupted_are_no_fault(warehouse):
    import_rows(warehouse, {FIRST: [1, 2, -3], SECOND: [11]})
    warehouse.execute(
        "UPDATE import_ledger SET total_records = 2, processed = 2, imported = 1 "
        "WHERE total_records = 3"
    )
    assert violations(warehouse, UNBALANCED_PARTITIONS) == NOTHING


def test_a_repeated_key_is_reported_with_its_plays(warehouse):
    plays = [event(n) for n in range(1, 5)]
    writer(warehouse).write(batch(message(s, e) for s, e in enumerate(plays, 1)))
    assert violations(warehouse, REPEATED_KEYS) == NOTHING
    for index in ("idx_playback_correlation_key", "idx_playback_dedup"):
        warehouse.execute(f"DROP INDEX {index}")
    warehouse.execute(
        "UPDATE playback_events SET correlation_key = 'c' WHERE stream_sequence IN (1, 2)"
    )
    warehouse.execute(
        "UPDATE playback_events SET rating_key = 'r', started_at = TIMESTAMP '2024-05-01' "
        "WHERE stream_sequence > 2"
    )
    assert violations(warehouse, REPEATED_KEYS) == Listing(
        2,
        [
            {
                "key": "correlation_key",
                "value": "default|c",
                "plays": 2,
                "event_ids": [uuid_of(1), uuid_of(2)],
            },
            {
                "key": "rating_key_user_started",
                "value": "default|r|7|2024-05-01 00:00:00",
                "plays": 2,
                "event_ids": [uuid_of(3), uuid_of(4)],
            },
        ],
    )
    warehouse.execute(
        "UPDATE playback_events SET restored_at = created_at WHERE stream_sequence IN (1, 4)"
    )
    assert violations(warehouse, REPEATED_KEYS) == NOTHING


def test_an_imported_play_with_a_wrong_id_is_reported(warehouse):
    # The id of `tautulli-import:5:1700000000:7`, computed independently.
    own = "1f9e00f0-e933-5f32-8d33-9ffc91ef2828"
    fields = {"session_key": "5", "started_at": "2023-11-14T22:13:20Z", "source_row_id": 5}
    sound = event(5, event_id=own, source="tautulli-import", **fields)
    wrong = event(6, source="tautulli-import", source_row_id=6)
    writer(warehouse).write(batch([message(1, sound), message(2, wrong), message(3, event(7))]))
    found = violations(warehouse, MISNAMED_EVENTS)
    assert [(row["event_id"], row["source_row_id"]) for row in found.rows] == [(uuid_of(6), 6)]
    assert found.total == 1


def test_a_play_that_ends_before_it_starts_is_reported(warehouse):
    ends = ["2024-05-01T00:00:00Z", "2024-05-01T00:00:02Z", None]
    plays = [event(n, stopped_at=end) for n, end in enumerate(ends, 1)]
    writer(warehouse).write(batch(message(s, e) for s, e in enumerate(plays, 1)))
    (row,) = violations(warehouse, BACKWARD_PLAYS).rows
    assert (row["event_id"], row["title"]) == (uuid_of(1), "Film 1")


def test_all_violations_are_counted_and_the_first_are_listed(warehouse):
    plays = [event(n, stopped_at="2020-01-01T00:00:00Z") for n in range(1, 31)]
    writer(warehouse).write(batch(message(s, e) for s, e in enumerate(plays, 1)))
    found = violations(warehouse, BACKWARD_PLAYS)
    assert found.total == 30
    assert [row["event_id"] for row in found.rows] == [uuid_of(n) for n in range(1, 21)]
    assert rows(warehouse, "SELECT count(*) FROM playback_events") == [(30,)]
