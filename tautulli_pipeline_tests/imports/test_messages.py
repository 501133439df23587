"""Splitting batches at partition boundaries, and collecting their rows into receipts."""

from __future__ import annotations

import duckdb
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from tautulli_pipeline.imports.messages import (
    Cut,
    OpenReceipts,
    PartitionWork,
    Piece,
    Sender,
    cut,
    merged_ranges,
    no_rows,
)
from tautulli_pipeline.source.partitions import OTHER, Grid
from tautulli_pipeline.source.reader import IdRange
from tautulli_pipeline.stream.publisher import PubAcks

WIDTH = 10


def partition_of(row_id):
    return Grid(WIDTH).partition_of(row_id)


def work_on(row_id, **options):
    return PartitionWork(partition_of(row_id), **options)


def content_of(row_id):
    """Return the hash of the content of a row."""
    return 2**64 - 100 + (row_id or 0)


def mapped(*ids, rejected=()):
    """Return mapped rows; the ids in `rejected` are rejected."""
    texts = [None if row_id in rejected else f'{{"play":{row_id}}}' for row_id in ids]
    return pa.table(
        {
            "source_row_id": pa.array(ids, pa.int64()),
            "event_id": pa.array([f"event-{row_id}" for row_id in ids], pa.string()),
            "reason": pa.array([None if t else "missing title" for t in texts], pa.string()),
            "record": pa.array([None if t else "{}" for t in texts], pa.string()),
            "subject": pa.array(["playback.tautulli-import.movie"] * len(ids), pa.string()),
            "payload": pa.array(texts, pa.string()),
            "content_hash": pa.array([content_of(row_id) for row_id in ids], pa.uint64()),
        }
    )


def receipts_of(parts, batches):
    """Return (partition, row ids of its receipt, highest sequence), in the order of completion."""
    open_parts, sequence, finished = list(parts), 0, []
    receipts = OpenReceipts("I", "default")
    pieces = [Piece(Sender("I", "default"), rows, cut(open_parts, rows)) for rows in batches]
    pieces.append(
        Piece(Sender("I", "default"), no_rows(), [Cut(part, 0, 0, True) for part in open_parts])
    )
    for piece in pieces:
        sequences = [sequence := sequence + 1 for _ in piece.messages]
        for receipt in receipts.add(piece, PubAcks(sequences), 1.0):
            ids = receipt.rows["source_row_id"].to_pylist()
            finished.append((receipt.partition_key, ids, receipt.last_sequence))
    return finished


@settings(deadline=None)
@given(st.sets(st.integers(1, 95)), st.lists(st.integers(0, 40)), st.sets(st.integers(1, 95)))
def test_every_row_ends_up_in_the_receipt_of_its_partition_for_any_batch_sizes(
    ids, sizes, rejected
):
    ids = sorted(ids)
    # The partitions of ids 3, 55 and 91 may have no readable rows.
    partitions = {partition_of(row_id) for row_id in (*ids, 3, 55, 91)}
    parts = [PartitionWork(found) for found in sorted(partitions, key=lambda found: found.key)]
    batches, rest = [], ids
    for size in sizes:
        batches.append(mapped(*rest[:size], rejected=rejected))
        rest = rest[size:]
    batches.append(mapped(*rest, rejected=rejected))
    expected, sequence = [], 0
    for part in parts:
        own = [row_id for row_id in ids if partition_of(row_id) == part.partition]
        sent = len(set(own) - rejected)
        sequence += sent
        expected.append((part.key, own, sequence if sent else 0))
    assert receipts_of(parts, batches) == expected


def test_rows_without_an_id_belong_to_the_other_partition():
    part = PartitionWork(OTHER)
    rows = mapped(-7, 0, None, rejected={None})
    assert receipts_of([part], [rows]) == [("other", [-7, 0, None], 2)]


def test_adjacent_ranges_are_read_as_one():
    parts = [work_on(row_id) for row_id in (1, 11, 31, 41)]
    assert merged_ranges(parts) == [IdRange(1, 20), IdRange(31, 50)]


def test_messages_carry_the_payload_and_name_their_import_and_partition():
    rows = pa.concat_tables([mapped(1, 2), mapped(3, 4, rejected={3})])
    part = work_on(1)
    piece = Piece(Sender("import-1", "default", 1_700_000_000), rows, [Cut(part, 0, 4, True)])
    assert [bytes(message.payload) for message in piece.messages] == [
        b'{"play":1}',
        b'{"play":2}',
        b'{"play":4}',
    ]
    assert [message.headers for message in piece.messages] == [
        {
            "Nats-Msg-Id": f"event-{n}",
            "Import-Id": "import-1",
            "Import-Partition": "0000000001-0000000010",
            "Import-Content": f"{content_of(n)} 1700000000",
        }
        for n in (1, 2, 4)
    ]


def test_a_slice_of_rows_has_the_payloads_of_that_slice():
    rows = mapped(1, 2, 3, 4).slice(1, 2)
    piece = Piece(Sender("I", "default"), rows, [Cut(work_on(1), 0, 2, True)])
    assert [bytes(message.payload) for message in piece.messages] == [
        b'{"play":2}',
        b'{"play":3}',
    ]


def test_only_the_lost_rows_are_published_again_under_new_message_ids():
    part = work_on(1, only=frozenset({2}), attempt=7)
    piece = Piece(Sender("I", "default"), mapped(1, 2, 3), [Cut(part, 0, 3, True)])
    assert [message.headers["Nats-Msg-Id"] for message in piece.messages] == ["event-2:7"]
    rows, sequences = piece.receipt_rows(PubAcks([41]))
    assert rows["outcome"].to_pylist() == ["duplicate", "published", "duplicate"]
    assert sequences == [0, 41, 0]


def message_ids(sender, **options):
    piece = Piece(sender, mapped(1), [Cut(work_on(1, **options), 0, 1, True)])
    return [message.headers["Nats-Msg-Id"] for message in piece.messages]


def test_changed_rows_are_published_again_under_an_id_with_their_content_and_import():
    first, second = (
        message_ids(Sender(name, "default"), has_changed=True) for name in ("first", "second")
    )
    assert first == [f"event-1:{content_of(1):016x}:first"]
    assert second == [f"event-1:{content_of(1):016x}:second"]


def test_message_ids_of_different_servers_differ():
    (plain,) = message_ids(Sender("I", "a"))
    (other,) = message_ids(Sender("I", "b", shares_ids=True))
    (third,) = message_ids(Sender("I", "c", shares_ids=True))
    assert plain == "event-1"
    assert len({plain, other, third}) == 3


def test_layer_1_duplicates_are_distinguished_from_rejected_rows():
    piece = Piece(
        Sender("I", "default"), mapped(1, 2, 3, rejected={2}), [Cut(work_on(1), 0, 3, True)]
    )
    rows, sequences = piece.receipt_rows(PubAcks([5, 2], duplicates={1}))
    assert rows.select(["source_row_id", "outcome", "reason", "record"]).to_pylist() == [
        {"source_row_id": 1, "outcome": "published", "reason": None, "record": None},
        {"source_row_id": 2, "outcome": "rejected", "reason": "missing title", "record": "{}"},
        {"source_row_id": 3, "outcome": "duplicate", "reason": None, "record": None},
    ]
    assert sequences == [5, 0, 2]


def test_the_rows_of_a_receipt_do_not_keep_the_payloads_in_memory():
    """All columns of a batch of DuckDB are freed together."""
    piece = Piece(Sender("I", "default"), mapped(1, 2), [Cut(work_on(1), 0, 2, True)])
    rows, _ = piece.receipt_rows(PubAcks([1, 2]))
    batch = duckdb.connect().from_arrow(mapped(1, 2)).to_arrow_table()
    piece = Piece(Sender("I", "default"), batch, [Cut(work_on(1), 0, 2, True)])
    copied, _ = piece.receipt_rows(PubAcks([1, 2]))
    assert copied == rows
    shared = {buffer.address for column in batch.columns for buffer in buffers_of(column)}
    assert not shared & {buffer.address for c in copied.columns for buffer in buffers_of(c)}


def buffers_of(column):
    return [buffer for chunk in column.chunks for buffer in chunk.buffers() if buffer]


partitions = st.one_of(st.just(OTHER), st.integers(0, 5).map(lambda n: partition_of(WIDTH * n + 1)))
unreadable_ids = st.sets(st.integers(-5, 70) | st.integers(10**10 - 2, 10**10 + 5))


@settings(max_examples=100)
@given(partitions, unreadable_ids)
def test_an_unreadable_play_is_in_the_receipt_of_the_partition_of_its_id(partition, unreadable):
    receipts = OpenReceipts("I", "default", sorted(unreadable))
    piece = Piece(Sender("I", "default"), no_rows(), [Cut(PartitionWork(partition), 0, 0, True)])
    (receipt,) = receipts.add(piece, PubAcks([]), 1.0)
    found = receipt.rows["source_row_id"].to_pylist()
    assert found == sorted(n for n in unreadable if partition_of(n) == partition)
    assert set(receipt.rows["outcome"].to_pylist()) <= {"unreadable"}
