"""Messages that exceed every bound: the others are stored, and these are kept as dead letters."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from tautulli_pipeline.errors import WarehouseBrokenError
from tautulli_pipeline.imports.consuming import reopening
from tautulli_pipeline.warehouse import screening
from tautulli_pipeline.warehouse.cache import DedupCache
from tautulli_pipeline.warehouse.schema import connect, open_warehouse
from tautulli_pipeline.warehouse.writer import Writer
from tautulli_pipeline_tests.warehouse.hostile import hostile_messages
from tautulli_pipeline_tests.warehouse.plays import (
    STREAM,
    batch,
    event,
    message,
    rows,
    sequences,
    writer,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tautulli_pipeline.warehouse.caution import Caution

MIB = 2**20


@contextmanager
def warehouse_file(folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with connect(folder / "playback.duckdb", {}) as connection:
        yield connection


def letters(connection: duckdb.DuckDBPyConnection) -> dict[int, tuple[str, Any]]:
    found = rows(
        connection, "SELECT stream_sequence, reason, record::VARCHAR FROM dead_letters ORDER BY ALL"
    )
    return {sequence: (reason, json.loads(record)) for sequence, reason, record in found}


OVER_THE_BOUNDS = {
    "3 MB that are not UTF-8": (
        b"\xff" * 3_000_000,
        f"message of 3000000 bytes exceeds the limit of {MIB}",
        "\\xff" * screening.BEGINNING_BYTES,
    ),
    "2 MB of brackets": (
        b"[" * 2_000_000,
        f"message of 2000000 bytes exceeds the limit of {MIB}",
        "[" * screening.BEGINNING_BYTES,
    ),
    "1 MB that is not UTF-8": (
        b"\xff" * MIB,
        "message is not UTF-8",
        "\\xff" * screening.BEGINNING_BYTES,
    ),
    "brackets nested too deeply": (
        b'["[[", ' * 600 + b"1" + b"]" * 600 + b" " * 20_000,
        "message is nested deeper than 512 levels",
        '["[[", ' * 600 + "1" + "]" * 600 + " " * 11_583,
    ),
}


@pytest.mark.parametrize("name", OVER_THE_BOUNDS)
def test_a_message_over_a_bound_is_kept_with_its_beginning_and_blocks_nothing(
    tmp_path: Path, name: str
) -> None:
    body, reason, beginning = OVER_THE_BOUNDS[name]
    with warehouse_file(tmp_path) as connection:
        writer(connection).write(
            batch([message(1, event(1)), message(2, body), message(3, event(3))])
        )
        assert sequences(connection) == [1, 3]
        kept = {"beginning": beginning, "size_bytes": len(body)}
        assert letters(connection) == {2: (reason, kept)}


@pytest.mark.parametrize(
    "fields",
    [
        {"summary": "x" * (MIB - 1000)},
        {"mood": "\x00" * (MIB // 6 - 1000)},
        {"mood": [1] * (MIB // 3 - 1000)},
        {f"field {n}": n for n in range(40_000)},
        {"mood": "[" * (MIB - 1000)},
    ],
    ids=["text", "escapes", "list", "fields", "brackets in text"],
)
def test_a_play_up_to_the_bound_is_stored_with_all_its_fields(
    tmp_path: Path, fields: dict[str, Any]
) -> None:
    play = message(1, event(1, **fields))
    assert 0.5 * MIB < len(play[4]) <= MIB
    with warehouse_file(tmp_path) as connection:
        writer(connection).write(batch([play, *(message(n, event(n)) for n in range(2, 9))]))
        assert letters(connection) == {}
        assert sequences(connection) == [*range(1, 9)]
        ((summary, extra),) = rows(
            connection, "SELECT summary, extra::VARCHAR FROM playback_events WHERE title = 'Film 1'"
        )
    assert ({"summary": summary} if summary else json.loads(extra)) == fields


def test_our_own_large_events_are_stored(tmp_path: Path) -> None:
    own = [
        json.dumps(
            {"schema_version": 1} | event(n, source="tautulli-import", summary="x" * 7 * MIB),
            separators=(",", ":"),
        ).encode()
        for n in range(1, 5)
    ]
    messages = [(n, "playback.tautulli-import.movie", "I", f"m{n}", b) for n, b in enumerate(own)]
    with warehouse_file(tmp_path) as connection:
        writer(connection).write(batch(messages))
        assert sequences(connection) == [0, 1, 2, 3]


@pytest.mark.parametrize("seed", [1, 4])
def test_every_good_message_among_hostile_ones_is_stored(tmp_path: Path, seed: int) -> None:
    messages, good = hostile_messages(seed, 1400, share=0.05)
    with warehouse_file(tmp_path) as connection:
        writer(connection).write(batch(messages))
        stored = sequences(connection)
        ended = [*stored, *letters(connection)]
    assert set(good) <= set(stored)
    assert sorted(ended) == [*range(1, 1401)]


FAULTS = [
    duckdb.InternalException("INTERNAL Error: one message was too much"),
    duckdb.OutOfMemoryException("Out of Memory Error: failed to allocate"),
    ValueError("odd value"),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_a_batch_that_fails_is_halved_down_to_the_message_to_blame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    monkeypatch.setattr(Writer, "_insert_events", failing_at(5, fault, breaks=False))
    with warehouse_file(tmp_path) as connection:
        writer(connection).write(batch(message(n, event(n)) for n in range(1, 10)))
        assert sequences(connection) == [1, 2, 3, 4, 6, 7, 8, 9]
        ((reason, record),) = letters(connection).values()
    assert reason.startswith("message ")
    assert record == json.dumps(event(5))


def test_a_message_that_breaks_the_warehouse_is_found_by_reopening_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = duckdb.FatalException("FATAL Error: Failed to rollback transaction")
    monkeypatch.setattr(Writer, "_insert_events", failing_at(5, fault, breaks=True))
    path, opened = tmp_path / "playback.duckdb", []

    def consume(caution: Caution) -> None:
        opened.append(caution.most_rows)
        with open_warehouse(path) as connection:
            own = Writer(connection, DedupCache(300, 100), STREAM, caution=caution)
            own.write(batch(message(n, event(n)) for n in range(1, 10)))

    reopening(consume)
    with open_warehouse(path) as connection:
        assert sequences(connection) == [1, 2, 3, 4, 6, 7, 8, 9]
        assert [*letters(connection)] == [5]
    assert 2 <= len(opened) <= 6


def test_a_full_disk_is_not_the_fault_of_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = duckdb.IOException("IO Error: Could not write file: No space left on device")
    monkeypatch.setattr(Writer, "_insert_events", failing_at(5, fault, breaks=False))
    with warehouse_file(tmp_path) as connection:
        with pytest.raises(duckdb.IOException, match="No space left"):
            writer(connection).write(batch(message(n, event(n)) for n in range(1, 10)))
        assert letters(connection) == {}


def test_a_warehouse_that_cannot_even_keep_a_dead_letter_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = duckdb.FatalException("FATAL Error: nothing works")
    monkeypatch.setattr(Writer, "_advance", failing_at(5, fault, breaks=True))

    def consume(caution: Caution) -> None:
        with open_warehouse(tmp_path / "playback.duckdb") as connection:
            own = Writer(connection, DedupCache(300, 100), STREAM, caution=caution)
            own.write(batch(message(n, event(n)) for n in range(5, 6)))

    with pytest.raises(Exception, match="nothing works") as raised:
        reopening(consume)
    assert not isinstance(raised.value, WarehouseBrokenError)


def failing_at(sequence: int, fault: Exception, *, breaks: bool) -> Any:
    """Return a method of the writer that fails for batches that hold this message."""
    originals = {name: getattr(Writer, name) for name in ("_insert_events", "_advance")}

    def method(self: Any, first: Any, *others: Any) -> None:
        parsed = first.filter(pc.is_valid(first["body"])) if others[1:] else first
        if sequence in parsed["sequence"].to_pylist():
            if breaks:
                self._connection.close()
            raise fault
        original = originals["_insert_events" if others[1:] else "_advance"]
        original(self, first, *others)

    return method


@pytest.mark.parametrize(
    "header", ["", "x", "1", "1 -5", f"{2**64} {2**64}", f"1 {10**12}", "1 2 3"]
)
def test_an_odd_content_header_does_not_stop_a_play(tmp_path: Path, header: str) -> None:
    with warehouse_file(tmp_path) as connection:
        messages = batch([message(1, event(1))])
        index = messages.schema.get_field_index("content")
        odd = messages.set_column(index, "content", pa.array([header], pa.string()))
        writer(connection).write(odd)
        assert (letters(connection), sequences(connection)) == ({}, [1])
