"""Replaying dead letters, with real databases and the real writer."""

from __future__ import annotations

import json
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from tautulli_pipeline.events.mapping import mapping_query, record_query
from tautulli_pipeline.imports.receipts import REJECTED, ROWS
from tautulli_pipeline.imports.replay import Tried, replay
from tautulli_pipeline.source.opening import open_source
from tautulli_pipeline.source.reader import IdRange, open_reader
from tautulli_pipeline.warehouse.dead_letters import open_origins
from tautulli_pipeline.warehouse.ledger import Ledger, LedgerEntry
from tautulli_pipeline.warehouse.schema import connect
from tautulli_pipeline_tests.cases import Play, make_database, play
from tautulli_pipeline_tests.warehouse.plays import (
    batch,
    event,
    memory_warehouse,
    message,
    rows,
    uuid_of,
    writer,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pyarrow as pa

CONTENT = (
    "SELECT * EXCLUDE (import_id, stream_id, stream_sequence, created_at) "
    "FROM playback_events ORDER BY source_row_id, id"
)
# Three invalid rows, each with a different reason.
BROKEN = [play(1, title=""), play(2, history={"user_id": ""}), play(3, started=0)]
FIXED = [play(1), play(2), play(3)]


class Databases:
    """Creates sources, rejects their rows like an import, and replays the letters."""

    def __init__(self, folder: Path, warehouse: duckdb.DuckDBPyConnection) -> None:
        self.folder, self.warehouse, self.made = folder, warehouse, 0

    def make(self, *plays: Play, **options: Any) -> Path:
        self.made += 1
        path = self.folder / f"{self.made}.db"
        make_database(path, plays=plays, **options)
        return path

    def map(self, path: Path) -> tuple[list[dict[str, Any]], list[str]]:
        """Return the mapped rows and raw records of all plays."""
        with ExitStack() as stack:
            source = stack.enter_context(open_source(path, self.folder / "snapshots"))
            copy, columns = source.snapshot.path, source.schema.history_columns
            reader = stack.enter_context(open_reader(copy, source.schema, named=path))
            connection = stack.enter_context(duckdb.connect())
            connection.register("batch", reader.read(IdRange(1, 1000)))
            query = mapping_query(columns, "default", max_payload_bytes=10**6)
            mapped: pa.Table = connection.execute(query).to_arrow_table()
            records = connection.execute(record_query(columns)).fetchall()
        return mapped.to_pylist(), [record for _, record in records]

    def reject(self, path: Path, server_id: str = "default") -> None:
        """Create the dead letters of an import of `path`."""
        import pyarrow as pa

        mapped, records = self.map(path)
        lines = [
            {
                "source_row_id": row["source_row_id"],
                "outcome": REJECTED,
                "reason": row["reason"],
                "record": record,
            }
            for row, record in zip(mapped, records, strict=True)
            if row["reason"]
        ]
        table = pa.Table.from_pylist(lines, schema=ROWS)
        now = datetime.now(UTC).replace(tzinfo=None)
        entry = LedgerEntry("import-1", "0000000001-0000001000", server_id, now, table)
        Ledger(self.warehouse).settle([entry], now)

    def expected(self, path: Path) -> list[tuple[Any, ...]]:
        """Return the table after an import of only `path`."""
        mapped, _ = self.map(path)
        sent = [(row["subject"], row["payload"].encode()) for row in mapped if row["payload"]]
        with memory_warehouse() as alone:
            writer(alone).write(
                batch((s, subject, None, None, body) for s, (subject, body) in enumerate(sent, 1))
            )
            return rows(alone, CONTENT)

    def replay(
        self, path: Path | None = None, *ids: str, server_id: str = "default"
    ) -> list[Tried]:
        with ExitStack() as stack:
            source = None
            if path is not None:
                source = stack.enter_context(open_source(path, self.folder / "snapshots"))
            chosen = ids or list(open_origins(self.warehouse))
            return list(replay(self.warehouse, chosen, source, server_id))


@pytest.fixture
def databases(tmp_path: Path, warehouse: duckdb.DuckDBPyConnection) -> Databases:
    return Databases(tmp_path, warehouse)


def outcomes(tried: list[Tried]) -> list[tuple[str, str | None]]:
    return sorted(((one.outcome, one.reason) for one in tried), key=str)


def letters(warehouse: duckdb.DuckDBPyConnection) -> list[tuple[Any, ...]]:
    sql = "SELECT source_row_id, reason, closed_by FROM dead_letters ORDER BY source_row_id"
    return rows(warehouse, sql)


def test_rows_corrected_in_the_source_are_stored_once_as_by_an_import(
    warehouse: duckdb.DuckDBPyConnection, databases: Databases
) -> None:
    databases.reject(databases.make(*BROKEN))
    fixed = databases.make(*FIXED)
    assert outcomes(databases.replay(fixed)) == [("imported", None)] * 3
    assert rows(warehouse, CONTENT) == databases.expected(fixed)
    reasons = ["missing title", "missing user_id", "missing start"]
    assert letters(warehouse) == [(n, reason, "replay") for n, reason in enumerate(reasons, 1)]
    held = rows(warehouse, "SELECT id FROM playback_events ORDER BY id")
    closed = "SELECT closed_event_id FROM dead_letters ORDER BY closed_event_id"
    assert rows(warehouse, closed) == held
    assert databases.replay(fixed) == []
    everything = [name for (name,) in rows(warehouse, "SELECT id FROM dead_letters")]
    assert databases.replay(fixed, *everything) == []
    assert len(rows(warehouse, CONTENT)) == 3


def test_a_letter_that_still_fails_stays_open_with_its_current_reason(
    warehouse: duckdb.DuckDBPyConnection, databases: Databases
) -> None:
    databases.reject(databases.make(*BROKEN))
    half = databases.make(play(1), play(2, title=""), BROKEN[2])
    assert outcomes(databases.replay(half)) == [
        ("imported", None),
        ("rejected", "missing start"),
        ("rejected", "missing title"),
    ]
    assert letters(warehouse) == [
        (1, "missing title", "replay"),
        (2, "missing title", None),
        (3, "missing start", None),
    ]
    records = rows(warehouse, "SELECT record FROM dead_letters ORDER BY source_row_id")
    assert json.loads(records[1][0])["session_history"]["user_id"] == "2000001"
    databases.reject(half)  # the next import rejects the same rows
    still_open = "SELECT source_row_id, reason FROM dead_letters WHERE closed_at IS NULL ORDER BY 1"
    assert rows(warehouse, still_open) == [(2, "missing title"), (3, "missing start")]
    assert outcomes(databases.replay(databases.make(*FIXED))) == [("imported", None)] * 2


def test_a_fix_in_the_mapping_is_applied_to_the_stored_record(
    warehouse: duckdb.DuckDBPyConnection, databases: Databases
) -> None:
    sound = databases.make(*FIXED)
    _, records = databases.map(sound)
    databases.reject(databases.make(*BROKEN))
    for row_id, record in enumerate(records, 1):  # as if an older mapping had rejected them
        sql = "UPDATE dead_letters SET record = ? WHERE source_row_id = ?"
        warehouse.execute(sql, [record, row_id])
    assert outcomes(databases.replay()) == [("imported", None)] * 3
    assert rows(warehouse, CONTENT) == databases.expected(sound)


def test_rows_of_other_eras_and_servers_are_replayed_with_their_own_columns(
    warehouse: duckdb.DuckDBPyConnection, databases: Databases
) -> None:
    old = databases.make(*BROKEN[:2], drop_columns={"session_history": ["section_id", "secure"]})
    databases.reject(old)
    databases.reject(databases.make(BROKEN[0]), server_id="attic")
    fixed = databases.make(*FIXED[:2])
    assert outcomes(databases.replay(fixed)) == [
        ("imported", None),
        ("imported", None),
        ("rejected", "missing title"),
    ]
    assert rows(warehouse, CONTENT) == databases.expected(fixed)
    tried = outcomes(databases.replay(databases.make(play(1)), server_id="attic"))
    assert tried == [("duplicate", None)]
    servers = "SELECT server_id, correlation_key FROM playback_events WHERE source_row_id = 1"
    assert [name for name, _ in rows(warehouse, servers)] == ["default"]


def test_a_row_that_now_holds_another_play_is_not_used(
    warehouse: duckdb.DuckDBPyConnection, databases: Databases
) -> None:
    databases.reject(databases.make(BROKEN[0]))
    overwritten = databases.make(play(1, started=1_600_000_000))
    for path in (overwritten, databases.make()):
        assert outcomes(databases.replay(path)) == [("rejected", "missing title")]
    assert rows(warehouse, CONTENT) == []
    (record,) = rows(warehouse, "SELECT record ->> '$.session_history.started' FROM dead_letters")
    assert record == ("1700010000",)


def test_a_play_that_is_already_stored_closes_its_letter_without_a_write(
    warehouse: duckdb.DuckDBPyConnection, databases: Databases
) -> None:
    databases.reject(databases.make(BROKEN[0], BROKEN[1]))
    fixed = databases.make(*FIXED)
    mapped, _ = databases.map(fixed)
    twin = json.loads(mapped[1]["payload"]) | {
        "event_id": uuid_of(9),
        "source": "plex",
        "correlation_key": "p",
    }
    sent = [json.loads(mapped[0]["payload"]), twin]
    writer(warehouse).write(batch(message(s, e) for s, e in enumerate(sent, 1)))
    before = rows(warehouse, CONTENT)
    tried = databases.replay(fixed)
    assert outcomes(tried) == [("duplicate", None)] * 2
    assert {one.event_id for one in tried} == {mapped[0]["event_id"], uuid_of(9)}
    assert rows(warehouse, CONTENT) == before
    reasons = "SELECT dedupe_reason, matched_event_id FROM dedupe_audit_log"
    assert rows(warehouse, reasons) == [("rating_key_user_started", uuid_of(9))]


def test_messages_are_decoded_again_in_their_original_form(
    warehouse: duckdb.DuckDBPyConnection, databases: Databases
) -> None:
    odd = (b"\xff\xfe", b"{not json", b'"text"', b"[1]")
    contents = [event(1, title=None), event(2, user_id="x"), *odd]
    writer(warehouse).write(batch(message(s, c) for s, c in enumerate(contents, 1)))
    before = rows(warehouse, "SELECT * EXCLUDE (replayed_at) FROM dead_letters ORDER BY id")
    assert {one.outcome for one in databases.replay()} == {"rejected"}
    after = rows(warehouse, "SELECT * EXCLUDE (replayed_at) FROM dead_letters ORDER BY id")
    assert after == before
    assert rows(warehouse, "SELECT count(replayed_at) FROM dead_letters") == [(6,)]
    # As if an older decoder had rejected messages that are valid now.
    sql = "UPDATE dead_letters SET record = ? WHERE stream_sequence = ?"
    warehouse.execute(sql, [json.dumps(event(1)), 1])
    warehouse.execute(sql, [json.dumps(json.dumps(event(2))), 4])
    tried = [one for one in databases.replay() if one.outcome != "rejected"]
    assert {one.event_id for one in tried} == {uuid_of(1), uuid_of(2)}
    stored = "SELECT id, stream_sequence, source, media_type, title FROM playback_events ORDER BY 1"
    assert rows(warehouse, stored) == [
        (uuid_of(1), 1, "plex", "movie", "Film 1"),
        (uuid_of(2), 4, "plex", "movie", "Film 2"),
    ]
    # A redelivery from the stream is the same message.
    writer(warehouse).write(batch([message(1, event(1))]))
    assert len(rows(warehouse, stored)) == 2
    assert rows(warehouse, "FROM dedupe_audit_log") == []


def test_many_letters_are_replayed_in_portions(
    warehouse: duckdb.DuckDBPyConnection, databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tautulli_pipeline.imports.replay._LETTERS_AT_A_TIME", 2)
    monkeypatch.setattr("tautulli_pipeline.imports.rejected_rows._IDS_PER_QUERY", 3)
    ids = (1, 2, 3, 50, 51, 900)
    databases.reject(databases.make(*(play(n, title="") for n in ids)))
    fixed = databases.make(*(play(n) for n in sorted({*range(1, 899, 7), *ids[:5]})))
    assert outcomes(databases.replay(fixed)) == [("imported", None)] * 5 + [
        ("rejected", "missing title")
    ]
    found = rows(warehouse, "SELECT source_row_id FROM playback_events ORDER BY 1")
    assert [row_id for (row_id,) in found] == [1, 2, 3, 50, 51]


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[Databases]:
    """The same with a warehouse in a file, which large plays need."""
    with connect(tmp_path / "playback.duckdb", {}) as warehouse:
        yield Databases(tmp_path, warehouse)


def test_a_record_with_cut_cells_is_replayed_only_from_the_source(stored: Databases) -> None:
    databases, summary = stored, "x" * 100_000
    databases.reject(databases.make(play(1, title="", summary=summary)))
    fixed = databases.make(play(1, summary=summary))
    (unchanged,) = databases.replay()
    assert (unchanged.outcome, unchanged.reason) == (REJECTED, "missing title")
    (imported,) = databases.replay(fixed)
    assert imported.outcome == "imported"
    assert rows(databases.warehouse, "SELECT length(summary) FROM playback_events") == [(100_000,)]
