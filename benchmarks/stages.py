"""Measures the CPU time of each stage of an import, one after the other in this process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa

from tautulli_pipeline.imports.connections import dedup_cache, stream_address
from tautulli_pipeline.imports.consumption import _as_table
from tautulli_pipeline.imports.mapper import Mapper
from tautulli_pipeline.imports.messages import Cut, PartitionWork, Piece, Sender
from tautulli_pipeline.settings import Settings
from tautulli_pipeline.source.partitions import Grid
from tautulli_pipeline.source.reader import IdRange, open_reader
from tautulli_pipeline.source.schema import LARGEST_ID, SourceSchema, read_schema
from tautulli_pipeline.stream.consumer import Delivered
from tautulli_pipeline.stream.session import ConsumingSession, open_consuming, open_publishing
from tautulli_pipeline.warehouse.cache import DedupCache, Match
from tautulli_pipeline.warehouse.decoder import content_query
from tautulli_pipeline.warehouse.schema import ROWS_PER_TRANSACTION, connect
from tautulli_pipeline.warehouse.screening import screen
from tautulli_pipeline.warehouse.writer import Writer

_EVERYTHING: Final = IdRange(1, LARGEST_ID)
_PULL_BYTES: Final = 32 * 2**20
_LINGER_SECONDS: Final = 0.25


class Stopwatch:
    """CPU seconds of all threads of this process, by stage."""

    def __init__(self) -> None:
        self.cpu_seconds: dict[str, float] = {}

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Count the time of the block as `stage`."""
        begun_at = time.process_time()
        yield
        self.add(stage, time.process_time() - begun_at)

    def add(self, stage: str, seconds: float) -> None:
        """Count `seconds` as `stage`."""
        self.cpu_seconds[stage] = self.cpu_seconds.get(stage, 0.0) + seconds


class _TimedWriter(Writer):
    """A writer that times decoding and deduplication separately from the rest."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, cache: DedupCache, stream_id: str
    ) -> None:
        self.stopwatch = Stopwatch()
        super().__init__(connection, cache, stream_id)
        sink = f"SELECT bit_xor(hash(*COLUMNS(*))) FROM ({content_query()})"
        connection.execute(f"PREPARE decode_contents AS {sink}")

    def _decode_keys(self) -> pa.Table:
        with self.stopwatch.time("decode"):
            return super()._decode_keys()

    def _judge(self, events: pa.Table, condition: str) -> dict[int, Match | None]:
        with self.stopwatch.time("dedup"):
            return super()._judge(events, condition)

    def decode_contents(self, messages: pa.Table) -> None:
        """Decode the whole `messages` as the INSERT does, but store nothing."""
        self._messages.table = screen(messages)
        self._connection.execute("EXECUTE decode_contents").fetchall()


@dataclass(frozen=True)
class _Profile:
    """Profiles the import of a database."""

    settings: Settings
    database: Path
    stopwatch: Stopwatch

    def run(self) -> int:
        """Run all rows through all stages; return the number of rows."""
        schema = read_schema(self.database, named=self.database)
        mapped = self._read_and_map(schema)
        with stream_address(self.settings) as address:
            with open_publishing(address) as publishing:
                part = PartitionWork(Grid(LARGEST_ID).partition_of(1))
                for rows in mapped:
                    with self.stopwatch.time("publish"):
                        piece = Piece(
                            Sender("import", "default"), rows, [Cut(part, 0, rows.num_rows, False)]
                        )
                        piece.receipt_rows(publishing.publish(piece.messages).result())
                last_sequence = publishing.last_sequence()
            with open_consuming(address) as session:
                self._consume(session, last_sequence)
        return sum(rows.num_rows for rows in mapped)

    def _read_and_map(self, schema: SourceSchema) -> list[pa.Table]:
        with open_reader(self.database, schema, named=self.database) as reader:
            columns = reader.columns
            with self.stopwatch.time("read"):
                batches = list(reader.stream([_EVERYTHING]))
        mapper = Mapper(schema.history_columns, "default")
        with self.stopwatch.time("map"):
            return list(mapper.map(columns, batches))

    def _consume(self, session: ConsumingSession, last_sequence: int) -> None:
        connection = connect(self.settings.warehouse_path, {})
        writer = _TimedWriter(connection, dedup_cache(self.settings), session.identity)
        sequence = 0
        while sequence < last_sequence:
            with self.stopwatch.time("fetch"):
                batch: list[Delivered] = []
                while len(batch) < ROWS_PER_TRANSACTION and sequence < last_sequence:
                    batch += session.pull(
                        ROWS_PER_TRANSACTION - len(batch),
                        max_bytes=_PULL_BYTES,
                        linger_seconds=_LINGER_SECONDS,
                        last_wanted_sequence=last_sequence,
                    ).result()
                    sequence = batch[-1].sequence if batch else sequence
                messages = _as_table(batch)
            self._write(writer, messages)
            with self.stopwatch.time("ack"):
                session.ack([message._replace(payload=b"") for message in batch]).result()
        with self.stopwatch.time("write"):
            connection.close()

    def _write(self, writer: _TimedWriter, messages: pa.Table) -> None:
        """Write a batch; count everything but decoding and deduplication as writing."""
        contents = Stopwatch()
        with contents.time("decode"):
            writer.decode_contents(messages)
        writer.stopwatch = parts = Stopwatch()
        with parts.time("whole"):
            writer.write(messages)
        decoding = parts.cpu_seconds["decode"] + contents.cpu_seconds["decode"]
        judging = parts.cpu_seconds["dedup"]
        self.stopwatch.add("decode", decoding)
        self.stopwatch.add("dedup", judging)
        self.stopwatch.add("write", parts.cpu_seconds["whole"] - decoding - judging)


def measure(database: Path, folder: Path) -> dict[str, Any]:
    """Return the number of rows and the CPU seconds of each stage."""
    settings = Settings(pipeline_data_dir=folder)
    stopwatch = Stopwatch()
    rows = _Profile(settings, database, stopwatch).run()
    return {"rows": rows, "cpu_seconds": stopwatch.cpu_seconds}
