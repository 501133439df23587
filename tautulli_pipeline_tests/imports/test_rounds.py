"""Publication and consumption together, interrupted at every step and repeated."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest

from tautulli_pipeline.demo.database import make_demo_database
from tautulli_pipeline.stream.session import ConsumingSession
from tautulli_pipeline.warehouse.writer import Writer
from tautulli_pipeline_tests.eras import make_database, play
from tautulli_pipeline_tests.imports.rounds import Rounds, UntilDrained
from tautulli_pipeline_tests.stream.servers import connect, delete_stream

PLAYS, DAMAGED = 150, 10
REJECTED = 8
ROWS = PLAYS + DAMAGED
IMPORTED = {"published": ROWS - REJECTED, "imported": ROWS - REJECTED, "rejected": REJECTED}


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    path = tmp_path_factory.mktemp("source") / "tautulli.db"
    make_demo_database(path, PLAYS, damaged_rows=DAMAGED)
    return path


@pytest.fixture
def rounds(address, demo, tmp_path):
    return Rounds(demo, tmp_path, address)


def assert_complete(rounds, import_id="import-1", **expected):
    """Assert that every row of the source is in the table once, and that the ledger agrees."""
    events = rounds.mapped()
    assert rounds.table() == events
    assert len(events) == ROWS - REJECTED
    assert rounds.totals(import_id) == (expected or IMPORTED)
    ((total, processed),) = rounds.query(
        f"SELECT sum(total_records), sum(processed) FROM import_ledger "
        f"WHERE import_id = '{import_id}'"
    )
    assert total == processed == ROWS
    assert rounds.query("SELECT count(*) FROM dead_letters") == [(REJECTED,)]


def test_the_table_equals_the_mapped_source_and_the_ledger_adds_up(rounds):
    receipts = rounds.publish("import-1")
    assert {r.partition_key: r.rows.num_rows for r in receipts} == rounds.sizes()
    assert [r.partition_key for r in receipts] == [part.key for part in rounds.work()]
    assert receipts[-1].last_sequence == ROWS - REJECTED
    rounds.consume()
    assert_complete(rounds)
    assert rounds.query("SELECT count(*) FROM dedupe_audit_log") == [(0,)]


def test_partitions_with_odd_ids_are_imported(rounds, tmp_path):
    odd = tmp_path / "odd.db"
    ids = [-3, 0, 1, 100, 101, 9_999_999_999, 10_000_000_000]
    make_database(odd, plays=[play(i, started=1_700_000_000 + n) for n, i in enumerate(ids)])
    rounds = replace(rounds, source=odd)
    receipts = rounds.publish("import-1")
    found = {r.partition_key: r.rows["source_row_id"].to_pylist() for r in receipts}
    assert found == {
        "0000000001-0000000100": [1, 100],
        "0000000101-0000000200": [101],
        "9999999901-9999999999": [9_999_999_999],
        "other": [-3, 0, 10_000_000_000],
    }
    rounds.consume()
    assert rounds.table() == rounds.mapped()
    assert rounds.totals("import-1") == {"published": 7, "imported": 7}


@pytest.mark.parametrize("consumed_between", [False, True])
@pytest.mark.parametrize("window_seconds", [120, 0.1])
@pytest.mark.parametrize("at", [0, 1])
def test_a_crash_between_publish_and_receipt_loses_nothing(
    rounds, at, window_seconds, consumed_between
):
    rounds.address = replace(rounds.address, duplicate_window_seconds=window_seconds)
    finished = []

    def crash(receipt):
        if len(finished) == at:
            raise KeyboardInterrupt
        finished.append(receipt.partition_key)

    with pytest.raises(KeyboardInterrupt):
        rounds.publish("import-1", before_receipt=crash)
    if consumed_between:
        rounds.consume()
    rounds.publish("import-1", [part for part in rounds.work() if part.key not in finished])
    rounds.consume()
    assert_complete(rounds)


def test_a_crash_between_commit_and_ack_duplicates_nothing(rounds):
    rounds.publish("import-1")

    def crash(_batch):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rounds.consume(ack=crash)
    assert len(rounds.table()) == ROWS - REJECTED
    assert rounds.totals("import-1") == {}
    assert rounds.consume().messages == ROWS - REJECTED
    assert_complete(rounds)
    assert rounds.query("SELECT count(*) FROM dedupe_audit_log") == [(0,)]


def test_a_crash_before_commit_loses_nothing(rounds, monkeypatch):
    rounds.publish("import-1")

    def crash(*_args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Writer, "_advance", crash)
        with pytest.raises(KeyboardInterrupt):
            rounds.consume()
    assert rounds.table() == []
    rounds.consume()
    assert_complete(rounds)


def test_a_crash_between_ack_and_settling_loses_nothing(rounds, monkeypatch):
    rounds.publish("import-1")

    def crash(_session):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(ConsumingSession, "pending", crash)
        with pytest.raises(KeyboardInterrupt):
            rounds.consume()
    rounds.consume()
    assert_complete(rounds)


def test_unwritten_messages_are_left_for_the_next_run_after_a_stop(rounds):
    rounds.publish("import-1")
    control = rounds.consume(UntilDrained(stopped=True))
    assert control.reports == 0
    assert rounds.table() == []
    rounds.consume()
    assert_complete(rounds)


@pytest.mark.parametrize(
    ("window_seconds", "layer"), [(120, "duplicates_stream"), (0.1, "duplicates_database")]
)
def test_a_second_import_of_the_same_rows_finds_only_duplicates(rounds, window_seconds, layer):
    rounds.address = replace(rounds.address, duplicate_window_seconds=window_seconds)
    for import_id in ("import-1", "import-2"):
        rounds.publish(import_id)
        rounds.consume()
    assert_complete(rounds)
    expected = {layer: ROWS - REJECTED, "rejected": REJECTED}
    if layer == "duplicates_database":
        expected["published"] = ROWS - REJECTED
    assert rounds.totals("import-2") == expected
    assert rounds.query("SELECT DISTINCT import_id FROM playback_events") == [("import-1",)]


def test_rows_lost_on_the_stream_are_reported_and_published_again(rounds):
    receipts = rounds.publish("import-1")

    async def lose():
        async with connect(rounds.address) as stream:
            for sequence in (5, 6, 130):
                await stream.context.delete_msg(rounds.address.stream, sequence)

    asyncio.run(lose())
    control = rounds.consume()
    first, second = receipts[0].partition_key, receipts[1].partition_key
    ids = {key: set(found) for (_, key), found in control.unsettled.items()}
    assert {key: len(found) for key, found in ids.items()} == {first: 2, second: 1}
    sizes = rounds.sizes()
    lost = [
        replace(part, only=frozenset(ids[part.key]), attempt=1)
        for part in rounds.work()
        if part.key in ids
    ]
    again = rounds.publish("import-1", lost)
    assert [receipt.rows.num_rows for receipt in again] == [sizes[first], sizes[second]]
    assert again[-1].last_sequence == ROWS - REJECTED + 3
    control = rounds.consume()
    assert control.messages == 3
    assert control.unsettled == {}
    ((published,),) = rounds.query("SELECT sum(published) FROM import_ledger")
    assert_complete(rounds, published=published, imported=ROWS - REJECTED, rejected=REJECTED)


def test_unsettled_rows_of_an_earlier_import_are_reported_under_its_id(rounds):
    rounds.publish("import-1")

    async def lose_all():
        async with connect(rounds.address) as stream:
            await stream.context.purge_stream(rounds.address.stream)

    asyncio.run(lose_all())
    rounds.address = replace(rounds.address, stream=f"{rounds.address.stream}_NEW")
    asyncio.run(delete_stream(rounds.address))
    (arrived,) = rounds.publish("import-2", rounds.work()[:1])
    control = rounds.consume()
    assert {import_id for import_id, _ in control.unsettled} == {"import-1"}
    imported = rounds.totals("import-2")["imported"]
    assert sum(map(len, control.unsettled.values())) == ROWS - REJECTED - imported
    # Rows that another import has stored with this content are not lost.
    assert 0 < imported < arrived.rows.num_rows
    assert rounds.totals("import-1") == {
        "published": ROWS - REJECTED,
        "duplicates_database": imported,
        "rejected": REJECTED,
    }


def test_two_rows_with_one_event_id_have_two_outcomes(rounds, tmp_path):
    path = tmp_path / "twins.db"
    same = {"started": 1_700_000_000, "title": "Twin", "rating_key": 7, "guid": "plex://movie/7"}
    make_database(path, plays=[play(i, **same, reference_id=1) for i in (1, 2, 150)])
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("ALTER TABLE session_history ADD COLUMN session_key")
        connection.execute("UPDATE session_history SET session_key = '77'")
        connection.commit()
    rounds = replace(rounds, source=path)
    for _ in range(2):
        rounds.publish("import-1")
        rounds.consume()
        assert rounds.totals("import-1") == {
            "published": 1,
            "imported": 1,
            "duplicates_stream": 2,
        }
        assert [event["source_row_id"] for event in rounds.table()] == [1]
