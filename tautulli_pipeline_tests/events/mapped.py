"""Maps the rows of a database file to events."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import duckdb

from tautulli_pipeline.events.mapping import mapping_query, record_query
from tautulli_pipeline.source.reader import IdRange, open_reader
from tautulli_pipeline.source.schema import read_schema

if TYPE_CHECKING:
    from pathlib import Path

TABLES = ("session_history", "session_history_metadata", "session_history_media_info")
ALL_IDS = IdRange(-(2**63), 2**63 - 1)


def mapped_rows(
    path: Path, *, server_id: str = "default", max_payload_bytes: int = 1 << 20
) -> list[dict[str, Any]]:
    """Return each mapped row, with the parsed payload as `event` and the raw `record`."""
    schema = read_schema(path, named=path)
    with (
        open_reader(path, schema, named=path) as reader,
        duckdb.connect(config={"threads": 1}) as connection,
    ):
        connection.register("batch", reader.read(ALL_IDS))
        query = mapping_query(
            schema.history_columns, server_id, max_payload_bytes=max_payload_bytes
        )
        rows = connection.execute(query).to_arrow_table().to_pylist()
        records = dict(connection.execute(record_query(schema.history_columns)).fetchall())
    for row in rows:
        row["record"] = json.loads(records[row["source_row_id"]])
        row["event"] = row["payload"] and json.loads(row["payload"], parse_constant=_refuse)
    return rows


def events(path: Path) -> list[dict[str, Any]]:
    """Return the events of a file; fail if a row is rejected."""
    rows = mapped_rows(path)
    assert [row["reason"] for row in rows] == [None] * len(rows)
    return [row["event"] for row in rows]


def cells(path: Path) -> dict[int, dict[str, dict[str, Any]]]:
    """Return the cells by id, table and column, read without the package."""
    found: dict[int, dict[str, dict[str, Any]]] = {}
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        for table in TABLES:
            for row in connection.execute(f"SELECT * FROM {table}"):
                found.setdefault(row["id"], {})[table] = dict(row)
    return {row_id: rows for row_id, rows in found.items() if "session_history" in rows}


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")
