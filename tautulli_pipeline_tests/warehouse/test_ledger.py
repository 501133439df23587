from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tautulli_pipeline.imports.receipts import (
    DUPLICATE,
    PUBLISHED,
    REJECTED,
    ROWS,
    UNREADABLE,
)
from tautulli_pipeline.warehouse import ledger as ledger_module
from tautulli_pipeline.warehouse.duplicates import restore
from tautulli_pipeline.warehouse.ledger import Ledger, LedgerEntry
from tautulli_pipeline.warehouse.schema import connect
from tautulli_pipeline_tests.warehouse.plays import (
    batch,
    event,
    message,
    rows,
    uuid_of,
    writer,
)

PUBLISHED_AT, SETTLED_AT = datetime(2026, 1, 1), datetime(2026, 1, 2)
PARTITION = "0000000001-0000001000"
NO_COUNTS = dict.fromkeys(
    (
        *("published", "imported", "rejected", "errors", "revised", "logged"),
        *("duplicates_stream", "duplicates_cache", "duplicates_database"),
    ),
    0,
)


@dataclass(frozen=True)
class Row:
    """One row of a receipt; its event is number `number`, by default the row id.

    Rows of version 0.1.0 have no hash of their content.
    """

    row_id: int
    outcome: str = PUBLISHED
    number: int | None = None
    record: str | None = None
    content_hash: int | None = None

    def as_receipt(self):
        broken = self.outcome in {REJECTED, UNREADABLE}
        event_id = None if broken else uuid_of(self.number or self.row_id)
        reason = "missing title" if self.outcome == REJECTED else None
        record = self.record or (f'{{"id":"{self.row_id}"}}' if reason else None)
        values = (self.row_id, event_id, self.outcome, reason, record, self.content_hash)
        return dict(zip(ROWS.names, values, strict=True))


def entry(*receipt_rows, import_id="import-1", key=PARTITION):
    table = pa.Table.from_pylist([row.as_receipt() for row in receipt_rows], schema=ROWS)
    return LedgerEntry(import_id, key, "default", PUBLISHED_AT, table)


@pytest.fixture
def ledger(warehouse):
    return Ledger(warehouse)


def consume(warehouse, *plays, first=1, entries=10_000, import_id="import-1"):
    """Write plays as our own events: (source row, event number, other fields, content hash)."""
    messages = []
    for sequence, (row_id, number, fields, *hashes) in enumerate(plays, first):
        content = event(number, source="tautulli-import", source_row_id=row_id, **fields)
        origin = f"{uuid_of(number)}"
        s, subject, _, _, body = message(sequence, content)
        header = {"content": f"{hashes[0]} 0"} if hashes else {}
        messages.append((s, subject, import_id, origin, body, *header.items()))
    writer(warehouse, entries=entries).write(batch(messages))


def same_play(number):
    """Return the fields that make another event the same play, with the same content."""
    names = ("session_key", "title", "rating_key", "started_at")
    return {name: event(number)[name] for name in names}


def lines(warehouse):
    """Return every ledger line without its zero columns."""
    cursor = warehouse.execute(
        "SELECT * EXCLUDE (published_at, settled_at) FROM import_ledger ORDER BY ALL"
    )
    names = [column[0] for column in cursor.description]
    return [
        {name: value for name, value in zip(names, line, strict=True) if value}
        for line in cursor.fetchall()
    ]


def totals(ledger, import_id="import-1"):
    found = ledger.totals(import_id)
    return {name: count for name, count in found.items() if count and name != "logged"}


def test_every_kind_of_outcome_is_derived_from_the_tables(warehouse, ledger):
    other_title = {"rating_key": "1", "started_at": event(1)["started_at"]}
    consume(warehouse, (1, 1, {}), (2, 2, {}), (3, 3, same_play(1)), (8, 2, {}))
    consume(warehouse, (4, 4, other_title), first=5, entries=0)
    given = entry(
        Row(1),
        Row(2),
        Row(3),
        Row(4),
        Row(5, DUPLICATE, number=2),
        Row(6, REJECTED),
        Row(7, UNREADABLE),
        Row(8, number=2),
    )
    assert ledger.settle([given], SETTLED_AT) == {}
    expected = {
        "import_id": "import-1",
        "partition_key": PARTITION,
        "server_id": "default",
        "total_records": 8,
        "processed": 8,
        "published": 5,
        "imported": 2,
        "duplicates_stream": 1,
        "duplicates_cache": 1,
        "duplicates_database": 2,
        "rejected": 1,
        "errors": 1,
        "revised": 1,
        "logged": 2,
    }
    assert lines(warehouse) == [expected]
    assert ledger.totals("import-1") == {name: expected[name] for name in NO_COUNTS}
    assert ledger.totals("another") == NO_COUNTS
    assert rows(
        warehouse,
        "SELECT reason, origin, record, source_row_id, import_id, created_at FROM dead_letters",
    ) == [("missing title", "session_history", '{"id":"6"}', 6, "import-1", SETTLED_AT)]


def test_settling_again_changes_only_the_time(warehouse, ledger):
    consume(warehouse, (1, 1, {}), (2, 1, {}))
    given = entry(Row(1), Row(2, number=1), Row(3, REJECTED), Row(4))
    first = ledger.settle([given], SETTLED_AT)
    before, dead = lines(warehouse), rows(warehouse, "FROM dead_letters")
    assert ledger.settle([given], datetime(2027, 1, 1)) == first == {("import-1", PARTITION): [4]}
    assert lines(warehouse) == before
    assert rows(warehouse, "FROM dead_letters") == dead


def test_two_rows_of_one_event_have_two_outcomes(warehouse, ledger):
    consume(warehouse, (1, 1, {}))
    given = entry(Row(1), Row(2, DUPLICATE, number=1))
    assert ledger.settle([given], SETTLED_AT) == {}
    assert totals(ledger) == {"published": 1, "imported": 1, "duplicates_stream": 1}


@pytest.mark.parametrize("second", [DUPLICATE, PUBLISHED])
def test_a_row_that_a_table_holds_twice_is_imported_once(warehouse, ledger, second):
    again = [(1, 1, {})] if second == PUBLISHED else []
    consume(warehouse, (1, 1, {}), *again)
    assert ledger.settle([entry(Row(1, second), Row(1))], SETTLED_AT) == {}
    layer = "stream" if second == DUPLICATE else "database"
    published = 1 if second == DUPLICATE else 2
    assert totals(ledger) == {"published": published, "imported": 1, f"duplicates_{layer}": 1}


def test_two_rows_with_one_id_and_different_events_are_told_apart(warehouse, ledger):
    consume(warehouse, (1, 1, {}), (2, 2, {}), (1, 2, {}))
    assert ledger.settle([entry(Row(1), Row(1, number=2), Row(1, number=3))], SETTLED_AT) == {
        ("import-1", PARTITION): [1]
    }
    assert totals(ledger) == {"published": 3, "imported": 1, "duplicates_database": 1}


def test_an_event_is_found_under_a_row_outside_the_partition(warehouse, ledger):
    consume(warehouse, (5000, 1, {}))
    assert ledger.settle([entry(Row(2, DUPLICATE, number=1))], SETTLED_AT) == {}
    assert totals(ledger) == {"duplicates_stream": 1}


def test_a_stream_duplicate_settles_only_if_its_event_has_arrived(warehouse, ledger):
    consume(warehouse, (1, 1, {}), (2, 1, {"event_id": uuid_of(2)}), (3, 3, {"title": None}))
    duplicates = [Row(n, DUPLICATE, number=n - 10) for n in (11, 12, 13, 14)]
    unsettled = ledger.settle([entry(*duplicates, import_id="import-2")], SETTLED_AT)
    assert unsettled == {("import-2", PARTITION): [14]}
    assert totals(ledger, "import-2") == {"duplicates_stream": 2, "rejected": 1}
    (line,) = lines(warehouse)
    assert (line["total_records"], line["processed"]) == (4, 3)


def test_an_unreadable_event_that_was_published_again_is_rejected(warehouse, ledger):
    s, subject, _, _, body = message(1, event(1, title=None))
    again = (s, subject, "import-1", f"{uuid_of(1)}:3", body)
    writer(warehouse).write(batch([again]))
    assert ledger.settle([entry(Row(1))], SETTLED_AT) == {}
    assert totals(ledger) == {"published": 1, "rejected": 1}


def test_a_row_stored_by_this_import_counts_as_imported_despite_later_duplicates(warehouse, ledger):
    consume(warehouse, (1, 1, {}))
    consume(warehouse, (1, 1, {}), first=2)
    consume(warehouse, (1, 1, {}), first=3, entries=0)
    for outcome in (PUBLISHED, DUPLICATE):
        assert ledger.settle([entry(Row(1, outcome))], SETTLED_AT) == {}
        assert totals(ledger) == {"published": 1, "imported": 1}


def test_a_row_discarded_by_both_layers_always_has_the_same_outcome(warehouse, ledger):
    consume(warehouse, (9, 1, {}), import_id="before")
    consume(warehouse, (1, 1, same_play(9)), first=2, entries=0)
    consume(warehouse, (2, 2, {}), (1, 1, same_play(2)), first=3)
    assert rows(warehouse, "SELECT dedupe_layer FROM dedupe_audit_log ORDER BY ALL") == [
        ("cache",),
        ("database",),
    ]
    found = set()
    for order in ("ASC", "DESC"):
        warehouse.execute(
            "CREATE OR REPLACE TEMP TABLE shuffled AS "
            f"FROM dedupe_audit_log ORDER BY stream_sequence {order}"
        )
        warehouse.execute("DELETE FROM dedupe_audit_log")
        warehouse.execute("INSERT INTO dedupe_audit_log FROM shuffled")
        ledger.settle([entry(Row(1))], SETTLED_AT)
        found.add(tuple(totals(ledger)))
    assert len(found) == 1


def test_a_restored_play_still_counts_as_a_duplicate(warehouse, ledger):
    consume(warehouse, (1, 1, {}), (2, 2, same_play(1)), entries=0)
    before = ledger.settle([entry(Row(1), Row(2))], SETTLED_AT), lines(warehouse)
    ((row_id,),) = rows(warehouse, "SELECT id FROM dedupe_audit_log")
    assert restore(warehouse, [row_id], SETTLED_AT) == [(row_id, True)]
    assert (ledger.settle([entry(Row(1), Row(2))], SETTLED_AT), lines(warehouse)) == before
    assert totals(ledger) == {"published": 2, "imported": 1, "duplicates_database": 1}


def test_an_import_counts_only_its_own_rows(warehouse, ledger):
    consume(warehouse, (1, 1, {}))
    consume(warehouse, (1, 1, {}), first=2, import_id="import-2")
    ledger.settle([entry(Row(1))], SETTLED_AT)
    ledger.settle([entry(Row(1), import_id="import-2")], SETTLED_AT)
    assert totals(ledger) == {"published": 1, "imported": 1}
    assert totals(ledger, "import-2") == {"published": 1, "duplicates_database": 1}


def test_a_row_is_settled_once_its_own_content_is_stored(warehouse, ledger):
    consume(warehouse, (2, 2, {}, 21), import_id="before")
    consume(warehouse, (1, 1, {}, 11), first=2)
    receipt = [Row(1, content_hash=11), Row(2, DUPLICATE, content_hash=22)]
    unsettled = ledger.settle([entry(*receipt)], SETTLED_AT)
    assert unsettled == {("import-1", PARTITION): [2]}
    consume(warehouse, (2, 2, {"title": "Right"}, 22), first=3)
    assert ledger.settle([entry(*receipt)], SETTLED_AT) == {}
    assert totals(ledger) == {
        "published": 2,
        "imported": 1,
        "duplicates_database": 1,
        "revised": 1,
    }


def test_content_of_another_server_settles_nothing(warehouse, ledger):
    consume(warehouse, (1, 1, {"server_id": "another"}, 11))
    unsettled = ledger.settle([entry(Row(1, content_hash=11))], SETTLED_AT)
    assert unsettled == {("import-1", PARTITION): [1]}


def test_two_imports_settle_together(warehouse, ledger):
    consume(warehouse, (1, 1, {}))
    consume(warehouse, (2, 2, {}), first=2, import_id="import-2")
    unsettled = ledger.settle(
        [
            entry(Row(1), Row(2), Row(3, REJECTED), Row(5)),
            entry(Row(1, DUPLICATE), Row(2), Row(4), import_id="import-2"),
            entry(Row(1500), import_id="import-2", key="0000001001-0000002000"),
        ],
        SETTLED_AT,
    )
    assert unsettled == {
        ("import-1", PARTITION): [5],
        ("import-2", PARTITION): [4],
        ("import-2", "0000001001-0000002000"): [1500],
    }
    assert totals(ledger) == {
        "published": 3,
        "imported": 1,
        "duplicates_database": 1,
        "rejected": 1,
    }
    assert totals(ledger, "import-2") == {"published": 3, "imported": 1, "duplicates_stream": 1}


def test_a_failure_leaves_no_line_and_no_dead_letter(warehouse, ledger):
    warehouse.execute("ALTER TABLE import_ledger RENAME TO away")
    with pytest.raises(Exception, match="import_ledger"):
        ledger.settle([entry(Row(1, REJECTED))], SETTLED_AT)
    assert rows(warehouse, "FROM dead_letters") == []
    warehouse.execute("ALTER TABLE away RENAME TO import_ledger")
    assert ledger.settle([entry(Row(1, REJECTED))], SETTLED_AT) == {}
    assert totals(ledger) == {"rejected": 1}


@pytest.mark.slow
def test_rejected_rows_that_exceed_memory_are_settled(tmp_path):
    """Settle 90 MB of raw records; the warehouse has 136 MiB of memory."""
    record = '{"summary":"%s"}' % ("x" * 6000)
    entries = [
        entry(
            *(Row(row_id, REJECTED, record=record) for row_id in range(first, first + 1000)),
            key=f"{first:010d}-{first + 999:010d}",
        )
        for first in range(1, 15_001, 1000)
    ]
    with closing(connect(tmp_path / "playback.duckdb", {})) as warehouse:
        assert Ledger(warehouse).settle(entries, SETTLED_AT) == {}
        assert totals(Ledger(warehouse)) == {"rejected": 15_000}
        assert rows(warehouse, "SELECT count(*) FROM dead_letters") == [(15_000,)]


@settings(max_examples=50)
@given(st.lists(st.integers(0, 40), max_size=12))
def test_a_portion_holds_as_many_tables_as_fit_and_at_least_one(sizes):
    tables = [pa.table({"record": pa.array(["x" * size], pa.large_string())}) for size in sizes]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ledger_module, "_PORTION_BYTES", 64)
        portions = list(ledger_module._in_portions(tables))
    records = [record for portion in portions for record in portion["record"].to_pylist()]
    assert [len(record) for record in records] == sizes
    for portion in portions:
        assert portion.num_rows == 1 or portion.nbytes <= 64
    for one, following in pairwise(portions):
        assert one.nbytes + following[:1].nbytes > 64


def test_a_rejected_row_has_one_dead_letter_per_content(warehouse, ledger):
    for record in ('{"id":"1"}', '{"id":"1"}', '{"id":"1","title":""}'):
        for import_id in ("import-1", "import-2"):
            ledger.settle([entry(Row(1, REJECTED, record=record), import_id=import_id)], SETTLED_AT)
    assert rows(warehouse, "SELECT record FROM dead_letters ORDER BY ALL") == [
        ('{"id":"1","title":""}',),
        ('{"id":"1"}',),
    ]


def test_totals_cover_only_the_given_partitions(ledger):
    rejected = [entry(Row(n, REJECTED), key=key) for n, key in ((1, "a"), (2, "b"), (3, "c"))]
    ledger.settle(rejected, SETTLED_AT)
    assert ledger.totals("import-1")["rejected"] == 3
    assert ledger.totals("import-1", ("a", "c"))["rejected"] == 2
    assert ledger.totals("import-1", ()) == NO_COUNTS


@pytest.mark.slow  # 10 s
def test_thousands_of_rejected_rows_with_the_largest_records_are_settled(tmp_path):
    """A raw record has at most 2**15 bytes of cells, or 2**14 characters if it is cut."""
    record = '{"session_history": {"user": "%s"}, "id": "%d"}'
    texts = [chr(0x4E00 + n) * 2**14 for n in range(26)]
    many = [Row(n, REJECTED, record=record % (texts[n % 26], n)) for n in range(1, 3001)]
    with closing(connect(tmp_path / "playback.duckdb", {})) as warehouse:
        assert Ledger(warehouse).settle([entry(*many)], SETTLED_AT) == {}
        assert totals(Ledger(warehouse)) == {"rejected": 3000}
        letters = warehouse.execute("SELECT count(*), count(closed_at) FROM dead_letters")
        assert letters.fetchall() == [(3000, 0)]
