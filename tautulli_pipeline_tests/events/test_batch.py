"""A query that is planned once reads the current batch."""

from __future__ import annotations

import duckdb
import pyarrow as pa
import pytest

from tautulli_pipeline.events import batch
from tautulli_pipeline.events.batch import ROWS_PER_PIECE, CurrentBatch

SCHEMA = pa.schema([("number", pa.int64()), ("text", pa.string())])


def table(numbers):
    return pa.table({"number": numbers, "text": [f"Ærø {n}" for n in numbers]}, SCHEMA)


@pytest.fixture
def current():
    return CurrentBatch(SCHEMA)


@pytest.fixture
def connection(current):
    with duckdb.connect(config={"threads": 1}) as connected:
        connected.register("current", current)
        connected.execute("PREPARE read AS FROM current ORDER BY number")
        yield connected


def read(connection):
    return connection.execute("EXECUTE read").to_arrow_table()


def test_it_is_empty_until_a_batch_is_set(connection):
    assert read(connection).num_rows == 0
    assert read(connection).schema == SCHEMA


def test_each_execution_reads_the_current_batch(connection, current):
    for numbers in ([1, 2, 3], [], [9], list(range(5000))):
        current.table = table(numbers)
        assert read(connection).equals(table(numbers))
        assert read(connection).equals(table(numbers))


@pytest.mark.parametrize("rows", [1, ROWS_PER_PIECE, ROWS_PER_PIECE + 1, 5 * ROWS_PER_PIECE])
def test_a_batch_is_passed_completely_in_small_pieces(current, rows):
    current.table = table(list(range(rows)))
    reader = pa.RecordBatchReader.from_stream(current)
    pieces = list(reader)
    assert pa.Table.from_batches(pieces, SCHEMA).equals(current.table)
    assert max(piece.num_rows for piece in pieces) <= ROWS_PER_PIECE


def test_a_batch_of_chunks_and_slices_is_read_in_order(connection, current, monkeypatch):
    monkeypatch.setattr(batch, "ROWS_PER_PIECE", 2)
    current.table = pa.concat_tables([table([1, 2, 3]), table([]), table([4, 5, 6])[1:]])
    assert read(connection)["number"].to_pylist() == [1, 2, 3, 5, 6]


def test_a_self_join_reads_the_batch_twice(connection, current):
    current.table = table(list(range(3000)))
    joined = "SELECT count(*) FROM current a JOIN current b ON b.number = a.number + 1"
    assert connection.execute(joined).fetchone() == (2999,)
