"""A rejected row has one open letter with what it says now, and its name comes of its content."""

from __future__ import annotations

import hashlib
import json
import uuid
from datetime import datetime, timedelta

import pyarrow as pa
import pytest

from tautulli_pipeline.imports.receipts import REJECTED, ROWS
from tautulli_pipeline.warehouse.row_letters import insert_rejected
from tautulli_pipeline_tests.warehouse.plays import rows

DAY = timedelta(days=1)
BEGIN = datetime(2026, 1, 1)
LABELS = {
    "server_id": pa.string(),
    "import_id": pa.string(),
    "published_at": pa.timestamp("us"),
}
SCHEMA = pa.schema([*ROWS, *LABELS.items()])


def record(title, row_id=1, **history):
    play = {"id": str(row_id), "started": "1700000000", "user_id": "7"}
    return json.dumps({"session_history": play | history, "title": title})


def row(said, row_id=1, *, day=0, server_id="default", outcome=REJECTED, reason="missing title"):
    return {
        "source_row_id": row_id,
        "outcome": outcome,
        "reason": reason,
        "record": said,
        "server_id": server_id,
        "import_id": f"import-{day}",
        "published_at": BEGIN + day * DAY,
    }


def settle(warehouse, *receipt_rows, day=0):
    """Settle rows one hour after their day began."""
    warehouse.register("receipt_rows", pa.Table.from_pylist(list(receipt_rows), schema=SCHEMA))
    ids = [r["source_row_id"] for r in receipt_rows]
    span = {"first": min(ids), "last": max(ids)}
    insert_rejected(warehouse, span, BEGIN + day * DAY + timedelta(hours=1))


def letters(warehouse):
    """(row, title, closed by) of each letter, the oldest first."""
    return rows(
        warehouse,
        "SELECT source_row_id, record ->> '$.title', closed_by FROM dead_letters "
        "ORDER BY created_at, source_row_id, record::VARCHAR",
    )


def name_of(said, row_id=1, server_id="default"):
    """Worked out apart from the code."""
    digest = hashlib.sha256(said.encode()).hexdigest()
    name = f"session_history:{server_id}:{row_id}:{digest}"
    return str(uuid.uuid5(uuid.NAMESPACE_URL, name))


def test_a_letter_is_named_after_its_server_row_and_content(emptied_warehouse):
    said = record("Fünf ''; --")
    settle(emptied_warehouse, row(said, 5, server_id="attic"), row(said, -6))
    assert rows(
        emptied_warehouse,
        "SELECT id, origin, reason, server_id, import_id, event_id, stream_id FROM dead_letters "
        "ORDER BY source_row_id DESC",
    ) == [
        (
            name_of(said, 5, "attic"),
            "session_history",
            "missing title",
            "attic",
            "import-0",
            None,
            None,
        ),
        (name_of(said, -6), "session_history", "missing title", "default", "import-0", None, None),
    ]


def test_settling_again_adds_nothing(emptied_warehouse):
    for day in (0, 0, 1):
        settle(emptied_warehouse, row(record("a"), day=day), day=day)
    assert letters(emptied_warehouse) == [(1, "a", None)]


def test_of_one_row_in_two_imports_at_once_the_earlier_one_is_named(emptied_warehouse):
    settle(emptied_warehouse, row(record("a"), day=1), row(record("a"), day=0), day=1)
    assert rows(emptied_warehouse, "SELECT import_id FROM dead_letters") == [("import-0",)]


def test_only_rejected_rows_have_letters(emptied_warehouse):
    settle(emptied_warehouse, row(record("a"), outcome="published"), row(record("b"), 2))
    assert letters(emptied_warehouse) == [(2, "b", None)]


def test_what_a_row_says_now_takes_the_place_of_what_it_said(emptied_warehouse):
    settle(emptied_warehouse, row(record("a")))
    settle(emptied_warehouse, row(record("b"), day=1), day=1)
    assert letters(emptied_warehouse) == [(1, "a", "superseded"), (1, "b", None)]
    settle(emptied_warehouse, row(record("a"), day=2), day=2)
    assert letters(emptied_warehouse) == [(1, "a", None), (1, "b", "superseded")]


def test_an_import_of_before_the_letter_neither_replaces_nor_reopens_it(emptied_warehouse):
    settle(emptied_warehouse, row(record("a"), day=1), day=1)
    settle(emptied_warehouse, row(record("b"), day=0), day=2)
    assert letters(emptied_warehouse) == [(1, "a", None), (1, "b", None)]
    settle(emptied_warehouse, row(record("c"), day=3), day=3)
    settle(emptied_warehouse, row(record("a"), day=2), day=4)
    assert letters(emptied_warehouse)[0] == (1, "a", "superseded")


@pytest.mark.parametrize(
    "other",
    [
        row(record("b", 2), 2, day=1),
        row(record("b"), day=1, server_id="attic"),
        row(record("b", started="1600000000"), day=1),
        row(record("b", user_id="8"), day=1),
    ],
    ids=["another id", "another server", "another start", "another user"],
)
def test_a_row_that_is_another_play_replaces_no_letter(emptied_warehouse, other):
    settle(emptied_warehouse, row(record("a")))
    settle(emptied_warehouse, row(record("z", 9), 9, day=1), other, day=1)
    assert letters(emptied_warehouse)[0] == (1, "a", None)


def test_a_letter_that_a_person_closed_stays_closed(emptied_warehouse):
    settle(emptied_warehouse, row(record("a")))
    emptied_warehouse.execute(
        "UPDATE dead_letters SET closed_at = TIMESTAMP '2026-01-01 02:00', closed_by = 'replay'"
    )
    settle(emptied_warehouse, row(record("a"), day=1), day=1)
    assert letters(emptied_warehouse) == [(1, "a", "replay")]
