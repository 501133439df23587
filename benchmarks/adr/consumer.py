"""The consumer of the algorithm: a cache of keys, and one INSERT per batch."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import duckdb
import nats
import orjson
import pyarrow as pa
from nats.aio.msg import Msg

from benchmarks.adr.publisher import STREAM, SUBJECTS
from benchmarks.adr.records import BATCH_ROWS, COLUMNS, table_ddl
from tautulli_pipeline.stream.server import embedded_server

_CACHED_EVENTS: Final = 10_000
_WINDOW_SECONDS: Final = 300.0
_FETCH_SECONDS: Final = 0.5
_KEYS: Final = ("id", "session_key", "correlation_key")
_EVENTS: Final = pa.schema(
    [(name, pa.int64() if name == "user_id" else pa.string()) for name in COLUMNS]
)


class Cache:
    """The keys of recent events; an event is a duplicate if any of its three keys is known."""

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[str, str], float] = OrderedDict()

    def is_new(self, event: dict[str, Any]) -> bool:
        """Return whether none of its keys is known, and remember them."""
        now = time.monotonic()
        keys = [(name, event[name]) for name in _KEYS]
        known = any(now - self._seen.get(key, -_WINDOW_SECONDS) < _WINDOW_SECONDS for key in keys)
        self._seen.update(dict.fromkeys(keys, now))
        while len(self._seen) > _CACHED_EVENTS * len(_KEYS):
            self._seen.popitem(last=False)
        return not known


class Table:
    """The table in DuckDB."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._cache = Cache()
        connection.execute(table_ddl())

    def insert(self, bodies: list[bytes]) -> int:
        """Insert the new events of a batch; return the number of inserted rows."""
        events = [event for event in map(orjson.loads, bodies) if self._cache.is_new(event)]
        self._connection.register("batch", pa.Table.from_pylist(events, schema=_EVENTS))
        inserted = self._connection.execute(
            f"INSERT INTO playback_events SELECT {', '.join(COLUMNS)} FROM batch "
            "ON CONFLICT DO NOTHING"
        ).fetchone()
        assert inserted is not None
        return int(inserted[0])


async def consume(folder: Path) -> None:
    """Print "ready", consume up to the sequence from standard input, print the stored rows."""
    with (
        embedded_server(folder) as server,
        duckdb.connect(str(folder / "adr.duckdb")) as connection,
    ):
        client = await nats.connect(server.url, user=server.user, password=server.password)
        stream = client.jetstream()
        pull = await stream.pull_subscribe(SUBJECTS, durable="consumer", stream=STREAM)
        table = Table(connection)
        _say("ready")
        end = asyncio.create_task(asyncio.to_thread(sys.stdin.readline))
        stored = sequence = 0
        waiting: list[Msg] = []
        while not (end.done() and sequence >= int(end.result())):
            with suppress(TimeoutError):
                waiting += await pull.fetch(BATCH_ROWS - len(waiting), timeout=_FETCH_SECONDS)
            newest = waiting[-1].metadata.sequence.stream if waiting else sequence
            is_last = end.done() and newest >= int(end.result())
            if waiting and (len(waiting) == BATCH_ROWS or is_last):
                stored += table.insert([message.data for message in waiting])
                for message in waiting:
                    await message.ack()
                sequence, waiting = newest, []
        _say(str(stored))
        await client.close()


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(consume(Path(sys.argv[1])))
