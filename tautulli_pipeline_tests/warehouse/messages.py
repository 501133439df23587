"""Writes messages with the real writer, and reads the rows of its tables."""

from __future__ import annotations

import json
from datetime import datetime

import pyarrow as pa

from tautulli_pipeline.warehouse.cache import DedupCache
from tautulli_pipeline.warehouse.writer import MESSAGES, Writer

NOW = datetime(2024, 1, 2, 3, 4, 5)  # UTC, as the warehouse stores it
EVENT_ID = "0f8fad5b-d9cb-469f-a165-70867728950e"


def write(warehouse, *messages, first_sequence=1):
    """Write (subject, body) messages as one batch."""
    columns = [
        list(range(first_sequence, first_sequence + len(messages))),
        [subject for subject, _ in messages],
        [None] * len(messages),
        [f"message-{n}" for n in range(len(messages))],
        [None] * len(messages),
        [b if isinstance(b, bytes) else json.dumps(b).encode() for _, b in messages],
    ]
    arrays = [pa.array(column, f.type) for column, f in zip(columns, MESSAGES, strict=True)]
    writer = Writer(warehouse, DedupCache(300, 10_000), "S", lambda: NOW)
    writer.write(pa.Table.from_arrays(arrays, schema=MESSAGES))


def table(warehouse, name, order="stream_sequence"):
    cursor = warehouse.execute(f"SELECT * FROM {name} ORDER BY {order}")
    names = [column[0] for column in cursor.description]
    rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    return [{n: v for n, v in row.items() if v is not None} for row in rows]


def foreign(**fields):
    return {
        "event_id": EVENT_ID,
        "started_at": "2023-11-14T22:13:20Z",
        "user_id": 5,
        "title": "Film",
        **fields,
    }
