"""Send 60,000 rows of every shape through reader, mapping, writer and ledger; lose none."""

from __future__ import annotations

import random
import sqlite3
from collections import Counter
from concurrent.futures import Future
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain

import pyarrow as pa
import pytest

from tautulli_pipeline.imports.messages import CONTENT_HEADER, IMPORT_HEADER, PartitionWork, Sender
from tautulli_pipeline.imports.publication import Publication
from tautulli_pipeline.source.opening import open_source
from tautulli_pipeline.source.partitions import Grid
from tautulli_pipeline.source.reader import open_reader
from tautulli_pipeline.stream.limits import DEFAULT_MESSAGE_LIMIT, MessageLimit
from tautulli_pipeline.stream.publisher import MESSAGE_ID_HEADER, PubAcks
from tautulli_pipeline.warehouse.cache import DedupCache
from tautulli_pipeline.warehouse.ledger import Ledger, LedgerEntry
from tautulli_pipeline.warehouse.schema import connect
from tautulli_pipeline.warehouse.writer import MESSAGES, Writer
from tautulli_pipeline_tests.eras import (
    HISTORY,
    METADATA,
    make_database,
    make_era_database,
    make_half_migrated_database,
    make_one_jump_database,
    play,
)
from tautulli_pipeline_tests.fuzzed import TABLES, fuzz

pytestmark = pytest.mark.slow

NOW = datetime(2026, 1, 2)
ROWS = 12_000
ALIKE = 30


@dataclass
class DirectStream:
    """Accepts messages like JetStream and passes them directly to the writer."""

    writer: Writer
    message_limit: MessageLimit = DEFAULT_MESSAGE_LIMIT
    sequence: int = 0
    _ids: set[str] = field(default_factory=set)

    def publish(self, messages):
        first = self.sequence + 1
        self.sequence += len(messages)
        sequences = list(range(first, self.sequence + 1))
        columns = [
            sequences,
            [message.subject for message in messages],
            [message.headers[IMPORT_HEADER] for message in messages],
            [message.headers[MESSAGE_ID_HEADER] for message in messages],
            [message.headers[CONTENT_HEADER] for message in messages],
            [bytes(message.payload) for message in messages],
        ]
        arrays = [pa.array(c, f.type) for c, f in zip(columns, MESSAGES, strict=True)]
        for token in {t for message in messages for t in message.subject.split(".")}:
            assert token
            assert not set(token) & set(" *>\r\n\t\x00")
        self.writer.write(pa.Table.from_arrays(arrays, schema=MESSAGES))
        answer: Future[PubAcks] = Future()
        answer.set_result(PubAcks(sequences))
        return answer


def newest(path):
    make_era_database(path, "v2.17.2", ALIKE)


def oldest(path):
    make_era_database(path, "v1.0", ALIKE)


def migrated(path):
    make_era_database(path, "v2.17.2", ALIKE, migrated_from="v1.4.25")


def one_jump(path):
    make_one_jump_database(path, ALIKE)


def half_migrated(path):
    make_half_migrated_database(path, (HISTORY, METADATA), ALIKE)


# How to create a database; one cell in this many is odd.
SHAPES = {newest: 10, oldest: 4, migrated: 50, one_jump: 3, half_migrated: 2}


def import_all(path, folder):
    """Return the row ids in the table, the dead letters and the audit, and the ledger totals."""
    with ExitStack() as stack:
        warehouse = stack.enter_context(closing(connect(folder / "playback.duckdb", {})))
        source = stack.enter_context(open_source(path, folder / "snapshots"))
        copy = source.snapshot
        reader = stack.enter_context(open_reader(copy.path, source.schema, named=path))
        writer = Writer(warehouse, DedupCache(300, 10_000), "S", lambda: NOW)
        publication = Publication(
            Sender("I", "default"), reader, source.schema, DirectStream(writer)
        )
        contents = source.survey(Grid(3000), 3000)
        work = [PartitionWork(content.partition) for content in contents]
        entries = [
            LedgerEntry("I", r.partition_key, r.server_id, r.published_at, r.rows)
            for r in publication.publish(work)
        ]
        ledger = Ledger(warehouse)
        assert ledger.settle(entries, NOW) == {}
        where = {
            name: warehouse.execute(f"SELECT source_row_id FROM {name} ORDER BY ALL").fetchall()
            for name in ("playback_events", "dead_letters", "dedupe_audit_log")
        }
        totals = ledger.totals("I")
        total = warehouse.execute("SELECT sum(total_records)::BIGINT FROM import_ledger")
        assert total.fetchall() == [(sum(content.rows for content in contents),)]
    return {name: [row_id for (row_id,) in rows] for name, rows in where.items()}, totals


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
def test_each_fuzzed_row_ends_up_in_exactly_one_place(tmp_path, shape):
    path = tmp_path / "tautulli.db"
    shape(path)
    fuzz(path, ROWS, seed=20_231_114, one_in=SHAPES[shape])
    with closing(sqlite3.connect(path)) as connection:
        ids = [row_id for (row_id,) in connection.execute(f"SELECT id FROM {HISTORY} ORDER BY id")]
    assert len(ids) == ROWS + ALIKE
    where, totals = import_all(path, tmp_path)
    assert sorted(chain(*where.values())) == ids
    assert totals == {
        "imported": len(where["playback_events"]),
        "published": len(where["playback_events"]) + len(where["dedupe_audit_log"]),
        "duplicates_stream": 0,
        "duplicates_cache": totals["duplicates_cache"],
        "duplicates_database": len(where["dedupe_audit_log"]) - totals["duplicates_cache"],
        "rejected": len(where["dead_letters"]),
        "errors": 0,
        "revised": totals["revised"],
        "logged": len(where["dedupe_audit_log"]),
    }
    assert totals["imported"] > 1000
    assert totals["rejected"] > 100


def rebuilt_without_keys(path, dice):
    """Rebuild every table without keys; return odd ids for its rows."""
    newest(path)
    odd = [None, "", "abc", "7", "07", 1.5, 8.0, -3, 2**63 - 1, "9" * 30, b"12", b"\xff", "a\x00"]
    with closing(sqlite3.connect(path)) as connection, connection:
        for table in TABLES:
            names = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            connection.execute(f"CREATE TABLE rebuilt ({', '.join(names)})")
            connection.execute(f"INSERT INTO rebuilt SELECT * FROM {table}")
            connection.execute(f"DROP TABLE {table}")
            connection.execute(f"ALTER TABLE rebuilt RENAME TO {table}")
    return [(dice.choice(odd), row_id) for row_id in range(1001, 1401)]


def spelled(value):
    """Return an id as an integer if its text is one."""
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    number = int(text) if text.lstrip("-").isdigit() else None
    return (
        number
        if number is not None and str(number) == text and -(2**63) <= number < 2**63
        else None
    )


def test_odd_ids_reject_only_their_own_rows(tmp_path):
    """Only tables without a primary key have such ids; each row still has one outcome."""
    path = tmp_path / "tautulli.db"
    changes = rebuilt_without_keys(path, random.Random(7))
    fuzz(path, 3000, seed=7, one_in=20)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany(f"UPDATE {HISTORY} SET id = ? WHERE id = ?", changes)
        ids = [row_id for (row_id,) in connection.execute(f"SELECT id FROM {HISTORY}")]
    where, totals = import_all(path, tmp_path)
    assert Counter(chain(*where.values())) == Counter(map(spelled, ids))
    outcomes = totals.keys() - {"published", "revised", "logged"}
    assert sum(totals[name] for name in outcomes) == len(ids)
    assert where["dead_letters"].count(None) > 200
    assert None not in where["playback_events"] + where["dedupe_audit_log"]


def test_megabytes_of_text_reject_at_most_their_own_row(tmp_path):
    path = tmp_path / "tautulli.db"
    sizes = dict.fromkeys(range(1, 101), 2**20) | {150: 9 * 2**20, 151: 5 * 2**20}
    plays = [play(i, summary="é" * (sizes.get(i, 0) // 2)) for i in range(1, 201)]
    make_database(path, plays=plays)
    where, totals = import_all(path, tmp_path)
    assert where["dead_letters"] == [150]
    assert (totals["imported"], totals["rejected"]) == (199, 1)
