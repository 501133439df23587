"""Warehouses with the plays of a database, made without a stream, and their analytics."""

from __future__ import annotations

import shutil
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from tautulli_pipeline.analytics.build import build
from tautulli_pipeline.analytics.inputs import Account, Request
from tautulli_pipeline.events.mapping import mapping_query
from tautulli_pipeline.source.opening import open_source
from tautulli_pipeline.source.reader import IdRange, open_reader
from tautulli_pipeline.warehouse.cache import DedupCache
from tautulli_pipeline.warehouse.schema import connect
from tautulli_pipeline.warehouse.writer import MESSAGES, Writer
from tautulli_pipeline_tests.warehouse.plays import empty_warehouse

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STREAM = "MEDIA_EVENTS@2026-01-01T00:00:00+00:00"


def store(database: Path, data_dir: Path, server_id: str = "default") -> None:
    """Map the plays of a database and write them to the warehouse of a data directory."""
    with ExitStack() as stack:
        source = stack.enter_context(open_source(database, data_dir / "snapshots"))
        copy = source.snapshot
        reader = stack.enter_context(open_reader(copy.path, source.schema, named=copy.source))
        mapper = stack.enter_context(duckdb.connect())
        mapper.register("batch", reader.read(IdRange(-(2**63), 2**63 - 1)))
        query = mapping_query(source.schema.history_columns, server_id, max_payload_bytes=2**20)
        found = mapper.execute(
            f"SELECT subject, payload FROM ({query}) WHERE reason IS NULL"
        ).fetchall()
    write(data_dir, found)


def write(data_dir: Path, events: list[tuple[str, Any]]) -> None:
    """Write events, each a subject and a payload, to the warehouse of a data directory."""
    warehouse = data_dir / "playback.duckdb"
    if not warehouse.exists():
        shutil.copyfile(empty_warehouse(), warehouse)
    with connect(warehouse, {}) as connection:
        sql = "SELECT coalesce(max(stream_sequence), 0) FROM playback_events"
        last = connection.execute(sql).fetchall()[0][0]
        rows = [
            {"sequence": last + n, "subject": subject, "message_id": f"{last + n}", "body": body}
            for n, (subject, body) in enumerate(events, 1)
        ]
        messages = pa.Table.from_pylist(rows, schema=MESSAGES)
        writer = Writer(connection, DedupCache(300, 10_000), STREAM)
        for begin in range(0, len(rows), 1000):
            writer.write(messages[begin : begin + 1000])


def request_for(data_dir: Path, timezone: str = "UTC", *people: Account) -> Request:
    return Request(data_dir, data_dir / "playback.duckdb", timezone, people)


@contextmanager
def opened(data_dir: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open the analytics as people do."""
    with duckdb.connect(data_dir / "analytics.duckdb", read_only=True) as connection:
        yield connection


def query(data_dir: Path, sql: str) -> list[tuple[Any, ...]]:
    with opened(data_dir) as connection:
        return connection.execute(sql).fetchall()


def built(database: Path, data_dir: Path, timezone: str = "UTC", *people: Account) -> Path:
    """Store the plays of a database and build the analytics; return the data directory."""
    data_dir.mkdir(exist_ok=True)
    store(database, data_dir)
    build(request_for(data_dir, timezone, *people))
    return data_dir
