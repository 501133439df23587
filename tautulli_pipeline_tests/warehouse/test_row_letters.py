"""A rejected row has one open letter with its current content and an id derived from it."""

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


def row(content, row_id=1, *, day=0, server_id="default", outcome=REJECTED, reason="missing title"):
    return {
        "source_row_id": row_id,
        "outcome": outcome,
        "reason": reason,
        "record": content,
        "server_id": server_id,
        "import_id": f"import-{day}",
        "published_at": BEGIN + day * DAY,
    }


def settle(warehouse, *receipt_rows, day=0):
    """Settle rows one hour after the start of the day."""
    warehouse.register("receipt_rows", pa.Table.from_pylist(list(receipt_rows), schema=SCHEMA))
    ids = [r["source_row_id"] for r in receipt_rows]
    span = {"first": min(ids), "last": max(ids)}
    insert_rejected(warehouse, span, BEGIN + day * DAY + timedelta(hours=1))


def letters(warehouse):
    """Return (row, title, closed by) of each letter, oldest first."""
    return rows(
        warehouse,
        "SELECT source_row_id, record ->> '$.title', closed_by FROM dead_letters "
        "ORDER BY created_at, source_row_id, record::VARCHAR",
    )


def expected_id(content, row_id=1, server_id="default"):
    """Return the expected letter id, computed independently."""
    digest = hashlib.sha256(content.encode()).hexdigest()
    name = f"session_history:{server_id}:{row_id}:{digest}"
    return str(uuid.uuid5(uuid.NAMESPACE_URL, name))


def test_a_letter_id_derives_from_server_row_and_content(emptied_warehouse):
    content = record("Fünf ''; --")
    settle(emptied_warehouse, row(content, 5, server_id="attic"), row(content, -6))
    assert rows(
        emptied_warehouse,
        "SELECT id, origin, reason, server_id, import_id, event_id, stream_id FROM dead_letters "
        "ORDER BY source_row_id DESC",
    ) == [
        (
            expected_id(content, 5, "attic"),
            "session_history",
            "missing title",
            "attic",
            "import-0",
            None,
            None,
        ),
        (
            expected_id(content, -6),
            "session_history",
            "missing title",
            "default",
            "import-0",
            None,
            None,
        ),
    ]


def test_settling_again_adds_nothing(emptied_warehouse):
    for day in (0, 0, 1):
        settle(emptied_warehouse, row(record("a"), day=day), day=day)
    assert letters(emptied_warehouse) == [(1, "a", None)]


def test_the_earlier_of_two_imports_of_a_row_is_recorded(emptied_warehouse):
    settle(emptied_warehouse, row(record("a"), day=1), row(record("a"), day=0), day=1)
    assert rows(emptied_warehouse, "SELECT import_id FROM dead_letters") == [("import-0",)]


def test_only_rejected_rows_have_letters(emptied_warehouse):
    settle(emptied_warehouse, row(record("a"), outcome="published"), row(record("b"), 2))
    assert letters(emptied_warehouse) == [(2, "b", None)]


def test_new_content_supersedes_the_old_letter(emptied_warehouse):
    settle(emptied_warehouse, row(record("a")))
    settle(emptied_warehouse, row(record("b"), day=1), day=1)
    assert letters(emptied_warehouse) == [(1, "a", "superseded"), (1, "b", None)]
    settle(emptied_warehouse, row(record("a"), day=2), day=2)
    assert letters(emptied_warehouse) == [(1, "a", None), (1, "b", "superseded")]


def test_an_earlier_import_neither_supersedes_nor_reopens_a_letter(emptied_warehouse):
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
def test_a_row_of_another_play_does_not_supersede_a_letter(emptied_warehouse, other):
    settle(emptied_warehouse, row(record("a")))
    settle(emptied_warehouse, row(record("z", 9), 9, day=1), other, day=1)
    assert letters(emptied_warehouse)[0] == (1, "a", None)


def test_a_letter_closed_by_a_replay_stays_closed(emptied_warehouse):
    settle(emptied_warehouse, row(record("a")))
    emptied_warehouse.execute(
        "UPDATE dead_letters SET closed_at = TIMESTAMP '2026-01-01 02:00', closed_by = 'replay'"
    )
    settle(emptied_warehouse, row(record("a"), day=1), day=1)
    assert letters(emptied_warehouse) == [(1, "a", "replay")]
