"""Mapping a stream of raw batches with one query."""

from __future__ import annotations

import json
import threading
from contextlib import ExitStack

import pyarrow as pa
import pytest

from tautulli_pipeline.errors import SourceDamagedError
from tautulli_pipeline.imports.mapper import Mapper
from tautulli_pipeline.source.reader import IdRange, open_reader
from tautulli_pipeline.source.schema import read_schema
from tautulli_pipeline_tests.cases import make_database, play
from tautulli_pipeline_tests.events.mapped import mapped_rows

MAPPED = ("source_row_id", "event_id", "subject", "payload", "reason", "correlation_key")


@pytest.fixture(scope="module")
def many_plays(tmp_path_factory):
    """2,500 plays; every hundredth has no title."""
    path = tmp_path_factory.mktemp("mapper") / "tautulli.db"
    plays = [play(i, title="" if i % 100 == 0 else f"Film {i}") for i in range(1, 2501)]
    make_database(path, plays=plays)
    return path


@pytest.fixture
def opened(many_plays):
    """The mapper and the reader of the database."""
    with ExitStack() as stack:
        schema = read_schema(many_plays, named=many_plays)
        reader = stack.enter_context(open_reader(many_plays, schema, named=many_plays))
        yield Mapper(schema.history_columns, "default"), reader


def test_a_stream_of_batches_maps_like_the_whole_table(many_plays, opened):
    mapper, reader = opened
    ranges = [IdRange(1, 700), IdRange(701, 701), IdRange(702, 2500)]
    tables = list(mapper.map(reader.columns, reader.stream(ranges)))
    assert max(len(table) for table in tables) <= 2048
    rows = pa.concat_tables(tables).to_pylist()
    expected = mapped_rows(many_plays)
    assert [[row[name] for name in MAPPED] for row in rows] == [
        [row[name] for name in MAPPED] for row in expected
    ]
    for row, whole in zip(rows, expected, strict=True):
        rejected = row["source_row_id"] % 100 == 0
        assert (row["record"] and json.loads(row["record"])) == (
            whole["record"] if rejected else None
        )


def test_rejected_rows_in_small_batches_get_their_own_records(opened, monkeypatch):
    monkeypatch.setattr("tautulli_pipeline.source.reader.ROWS_PER_PIECE", 7)
    mapper, reader = opened
    batches = reader.stream([IdRange(90, 320)])
    rows = pa.concat_tables(mapper.map(reader.columns, batches))
    records = {
        row["source_row_id"]: json.loads(row["record"])["session_history"]["id"]
        for row in rows.to_pylist()
        if row["record"]
    }
    assert records == {100: "100", 200: "200", 300: "300"}
    assert len(rows) == 231


def test_an_error_of_the_source_is_raised_unchanged(opened):
    mapper, reader = opened

    def breaking():
        yield from reader.stream([IdRange(1, 10)])
        raise SourceDamagedError("cannot read plays 11 to 20 of tautulli.db")

    with pytest.raises(SourceDamagedError, match=r"plays 11 to 20"):
        list(mapper.map(reader.columns, breaking()))


def test_no_rows_map_to_nothing(opened):
    mapper, reader = opened
    assert list(mapper.map(reader.columns, reader.stream([IdRange(5000, 6000)]))) == []
    assert list(mapper.map(reader.columns, reader.stream([]))) == []


def test_closing_the_iterator_leaves_no_thread_or_query_behind(opened):
    mapper, reader = opened
    before = threading.active_count()
    rows = mapper.map(reader.columns, reader.stream([IdRange(1, 2500)]))
    assert len(next(rows)) > 0
    rows.close()
    assert threading.active_count() == before
    assert reader.read(IdRange(1, 3)).num_rows == 3


def test_a_query_maps_few_batches_if_they_are_large(opened, monkeypatch):
    monkeypatch.setattr("tautulli_pipeline.source.reader.ROWS_PER_PIECE", 100)
    mapper, reader = opened
    sizes = {}
    for query_bytes in (2**30, 1):
        monkeypatch.setattr("tautulli_pipeline.imports.mapper._QUERY_BYTES", query_bytes)
        tables = list(mapper.map(reader.columns, reader.stream([IdRange(1, 1000)])))
        sizes[query_bytes] = [len(table) for table in tables]
    assert max(sizes[2**30]) > 100
    assert sizes[1] == [100] * 10
