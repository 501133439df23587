"""The consumer loop, with a scripted stream and a real warehouse."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tautulli_pipeline.imports import consumption
from tautulli_pipeline.imports.consumption import Consumption
from tautulli_pipeline.imports.receipts import PUBLISHED, ROWS, Receipt, ReceiptFolder
from tautulli_pipeline.stream.consumer import Delivered
from tautulli_pipeline.warehouse.ledger import Ledger
from tautulli_pipeline_tests.imports.rounds import UntilDrained
from tautulli_pipeline_tests.warehouse.plays import (
    event,
    message,
    sequences,
    uuid_of,
    writer,
)


def done(value):
    future = Future()
    future.set_result(value)
    return future


def delivered(number):
    *_, message_id, body = message(number, event(number, source_row_id=number))
    header = f"NATS/1.0\r\nImport-Id: import-1\r\nNats-Msg-Id: {message_id}\r\n\r\n".encode()
    return Delivered(number, "playback.plex.movie", header, body, "reply")


@dataclass
class Stream:
    """Delivers these batches and then nothing; records the acks."""

    batches: list[list[Delivered]]
    narrow: bool = False
    acked: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)

    def pull(self, *_wanted, **_limits):
        self.calls.append("pull")
        return done(self.batches.pop(0) if self.batches else [])

    def ack(self, messages):
        self.calls.append("ack")
        self.sizes.append(len(messages))
        self.acked += [one.sequence for one in messages]
        return done(None)

    def pending(self):
        waiting = sum(map(len, self.batches))
        return waiting, 0, max(self.acked, default=0)


@pytest.fixture(autouse=True)
def _settled_each_time(monkeypatch):
    monkeypatch.setattr(consumption, "_SETTLE_EVERY_SECONDS", 0.0)


def consume(stream, warehouse, receipts, control=None):
    control = control or UntilDrained(last_sequence=sum(map(len, stream.batches)))
    Consumption(stream, writer(warehouse), Ledger(warehouse), receipts).run(control)
    return control


def leave_receipt(folder, key, *numbers):
    """Store the receipt of rows that were published as messages with these numbers."""
    rows = [{"source_row_id": n, "event_id": uuid_of(n), "outcome": PUBLISHED} for n in numbers]
    table = pa.Table.from_pylist(rows, schema=ROWS)
    receipt = Receipt("import-1", key, "default", datetime(2026, 1, 1), table, max(numbers))
    ReceiptFolder(folder / "import-1").write(receipt)


def test_the_whole_stream_is_written_and_acked(warehouse, tmp_path):
    stream = Stream([[delivered(1), delivered(2)], [delivered(3)]])
    consume(stream, warehouse, tmp_path)
    assert sequences(warehouse) == stream.acked == [1, 2, 3]


def test_messages_that_cannot_be_written_are_not_acked(warehouse, tmp_path):
    stream = Stream([[delivered(1)]])
    warehouse.execute("DROP TABLE stream_positions")
    with pytest.raises(duckdb.CatalogException, match="stream_positions"):
        consume(stream, warehouse, tmp_path)
    assert stream.acked == []
    assert sequences(warehouse) == []


def test_an_empty_stream_is_drained_immediately(warehouse, tmp_path):
    control = consume(Stream([]), warehouse, tmp_path / "none")
    assert sequences(warehouse) == []
    assert control.reports == 1


def test_a_consumer_that_is_stopped_before_a_batch_does_not_write_it(warehouse, tmp_path):
    stream = Stream([[delivered(1)]])
    control = consume(stream, warehouse, tmp_path, UntilDrained(5, stopped=True))
    assert (sequences(warehouse), stream.acked, control.reports) == ([], [], 0)


def test_a_stop_takes_effect_after_the_current_batch(warehouse, tmp_path, monkeypatch):
    monkeypatch.setattr(consumption, "ROWS_PER_TRANSACTION", 1)

    class OneBatch(UntilDrained):
        def report(self, consumption):
            super().report(consumption)
            self.stopped = True

    stream = Stream([[delivered(1), delivered(2), delivered(3)]])
    consume(stream, warehouse, tmp_path, OneBatch(last_sequence=3))
    assert sequences(warehouse) == stream.acked == [1]


class Lingering(Stream):
    """A pull of messages that may come ends only when the last one is known to have arrived."""

    def pull(self, *wanted, **limits):
        if self.batches:
            return super().pull(*wanted, **limits)
        self.lingering = Future()
        return self.lingering

    def expect(self, last_sequence):
        self.calls.append(f"expect {last_sequence}")
        self.lingering.set_result([])


@dataclass
class KnownLater(UntilDrained):
    """A control that names the last sequence when it has been asked for it a few times."""

    asked: int = 0

    @property
    def last_sequence(self):
        self.asked += 1
        return 2 if self.asked > 6 else None

    @last_sequence.setter
    def last_sequence(self, _value):
        pass


def test_a_pull_ends_once_the_last_sequence_is_known_and_has_arrived(warehouse, tmp_path):
    stream = Lingering([[delivered(1), delivered(2)]])
    consume(stream, warehouse, tmp_path, KnownLater())
    assert sequences(warehouse) == stream.acked == [1, 2]
    assert stream.calls == ["pull", "expect 2", "ack"]


def test_large_messages_are_split_into_several_transactions(warehouse, tmp_path, monkeypatch):
    size = len(delivered(1).payload)
    monkeypatch.setattr(consumption, "_BATCH_BYTES", 2 * size)
    stream = Stream([[delivered(n) for n in range(1, 6)]])
    consume(stream, warehouse, tmp_path)
    assert sequences(warehouse) == [1, 2, 3, 4, 5]
    assert stream.sizes == [2, 2, 1]


def test_a_partition_is_settled_once_all_its_messages_are_acked(warehouse, tmp_path):
    leave_receipt(tmp_path, "0000000001-0000000010", 1, 2)
    leave_receipt(tmp_path, "0000000011-0000000020", 3, 9)
    stream = Stream([[delivered(1), delivered(2), delivered(3)]])
    stream.pending = lambda: (1, 0, max(stream.acked, default=0))  # one message is still pending
    consume(stream, warehouse, tmp_path)
    settled = "SELECT partition_key, imported FROM import_ledger"
    assert warehouse.execute(settled).fetchall() == [("0000000001-0000000010", 2)]


def test_rows_whose_messages_are_missing_are_reported_until_they_arrive(warehouse, tmp_path):
    leave_receipt(tmp_path, "other", 1, 2, 3)
    control = consume(Stream([[delivered(2)]]), warehouse, tmp_path)
    assert control.unsettled == {("import-1", "other"): [1, 3]}
    later = UntilDrained(last_sequence=2)
    run = Consumption(
        Stream([[delivered(1), delivered(3)]]), writer(warehouse), Ledger(warehouse), tmp_path
    )
    run.run(later)
    assert later.unsettled == {}
    assert Ledger(warehouse).totals("import-1")["imported"] == 3


@settings(max_examples=50)
@given(st.lists(st.binary(max_size=25) | st.binary(min_size=41, max_size=50), max_size=20))
def test_a_transaction_takes_what_fits_and_at_least_one_message(payloads):
    waiting = [Delivered(n, "s", b"", payload, "") for n, payload in enumerate(payloads)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(consumption, "_BATCH_BYTES", 40)
        patched.setattr(consumption, "ROWS_PER_TRANSACTION", 10)
        count = consumption._fitting(waiting)
        full = consumption._is_full(waiting)
    taken, rest = waiting[:count], waiting[count:]
    assert (count == 0) == (not waiting)
    assert count == 1 or sum(len(one.payload) for one in taken) <= 40
    assert count <= 10
    if rest and count < 10:  # one more would be too much
        assert sum(len(one.payload) for one in [*taken, rest[0]]) > 40
    assert full == (bool(rest) or len(waiting) >= 10)


@settings(max_examples=50)
@given(st.lists(st.binary(max_size=20), max_size=8))
def test_joining_payloads_in_one_buffer_keeps_them_unchanged(payloads):
    joined = consumption._joined([memoryview(payload) for payload in payloads])
    joined.validate(full=True)
    assert joined.to_pylist() == payloads
