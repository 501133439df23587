"""Run imports step by step, from a source file to a warehouse, without Dagster."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import duckdb
import orjson

from tautulli_pipeline.events.mapping import mapping_query
from tautulli_pipeline.imports.consumption import Consumption
from tautulli_pipeline.imports.messages import PartitionWork, Sender
from tautulli_pipeline.imports.publication import Publication
from tautulli_pipeline.imports.receipts import Receipt, ReceiptFolder
from tautulli_pipeline.source.opening import open_source
from tautulli_pipeline.source.partitions import Grid
from tautulli_pipeline.source.reader import IdRange, open_reader
from tautulli_pipeline.stream.session import ConsumingSession, open_consuming, open_publishing
from tautulli_pipeline.warehouse.cache import DedupCache
from tautulli_pipeline.warehouse.ledger import Ledger
from tautulli_pipeline.warehouse.schema import connect
from tautulli_pipeline.warehouse.writer import Writer
from tautulli_pipeline_tests.warehouse.plays import empty_warehouse

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from tautulli_pipeline.source.survey import PartitionContent
    from tautulli_pipeline.stream.address import StreamAddress
    from tautulli_pipeline.stream.consumer import Delivered


@dataclass
class UntilDrained:
    """Consumes what is on the stream now, and counts the reports and the messages."""

    last_sequence: int | None = None
    stopped: bool = False
    reports: int = 0
    messages: int = 0
    unsettled: dict[tuple[str, str], list[int]] = field(default_factory=dict)

    def report(self, consumption: Consumption) -> None:
        self.reports += 1
        self.unsettled = dict(consumption.unsettled)


@dataclass
class Rounds:
    """The steps of an import; each can be run, interrupted and repeated."""

    source: Path
    folder: Path
    address: StreamAddress
    width: int = 100
    cache_entries: int = 10_000

    @property
    def receipts(self) -> Path:
        return self.folder / "receipts"

    @property
    def warehouse(self) -> Path:
        return self.folder / "playback.duckdb"

    def sizes(self) -> dict[str, int]:
        """Return the number of rows of each partition, by key."""
        return {content.key: content.rows for content in self._survey()}

    def work(self) -> list[PartitionWork]:
        """Return every partition that has rows."""
        return [PartitionWork(content.partition) for content in self._survey()]

    def _survey(self) -> list[PartitionContent]:
        with open_source(self.source, self.folder / "snapshots") as source:
            return source.survey(Grid(self.width), self.width)

    def publish(
        self,
        import_id: str,
        work: Sequence[PartitionWork] | None = None,
        *,
        before_receipt: Callable[[Receipt], None] = lambda _receipt: None,
    ) -> list[Receipt]:
        """Publish partitions, by default all; store and return their receipts."""
        work = self.work() if work is None else work
        folder = ReceiptFolder(self.receipts / import_id)
        receipts = []
        with ExitStack() as stack:
            source = stack.enter_context(open_source(self.source, self.folder / "snapshots"))
            copy = source.snapshot
            reader = stack.enter_context(open_reader(copy.path, source.schema, named=copy.source))
            session = stack.enter_context(open_publishing(self.address))
            publication = Publication(Sender(import_id, "default"), reader, source.schema, session)
            for receipt in publication.publish(work):
                before_receipt(receipt)
                folder.write(receipt)
                receipts.append(receipt)
        return receipts

    def consume(self, control: UntilDrained | None = None, **faults: Any) -> UntilDrained:
        """Drain the stream into the warehouse; `faults` replace methods of the session."""
        control = control or UntilDrained()

        def counted(batch: Sequence[Delivered]) -> Future[None]:
            control.messages += len(batch)
            return ConsumingSession.ack(session, batch)

        if not self.warehouse.exists():
            shutil.copyfile(empty_warehouse(), self.warehouse)
        # Nothing else uses this stream, which takes a second to find out.
        alone = replace(self.address, private=True)
        with connect(self.warehouse, {}) as connection, open_consuming(alone) as session:
            for name, fault in ({"ack": counted} | faults).items():
                setattr(session, name, fault)
            control.last_sequence = session.last_sequence()
            cache = DedupCache(300, self.cache_entries)
            writer = Writer(connection, cache, session.identity)
            Consumption(session, writer, Ledger(connection), self.receipts).run(control)
        return control

    @contextmanager
    def opened(self) -> Iterator[Any]:
        with connect(self.warehouse, {}) as connection:
            yield connection

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with self.opened() as connection:
            return connection.execute(sql).fetchall()

    def totals(self, import_id: str) -> dict[str, int]:
        """Return the nonzero outcomes in the ledger."""
        with self.opened() as connection:
            totals = Ledger(connection).totals(import_id)
        return {name: count for name, count in totals.items() if count and name != "logged"}

    def mapped(self) -> list[dict[str, Any]]:
        """Return the event of each valid row, mapped directly from the source."""
        with ExitStack() as stack:
            source = stack.enter_context(open_source(self.source, self.folder / "snapshots"))
            copy = source.snapshot
            reader = stack.enter_context(open_reader(copy.path, source.schema, named=copy.source))
            connection = stack.enter_context(duckdb.connect())
            connection.register("batch", reader.read(IdRange(-(2**63), 2**63 - 1)))
            query = mapping_query(source.schema.history_columns, "default", max_payload_bytes=2**20)
            found = connection.execute(f"SELECT payload FROM ({query}) WHERE reason IS NULL")
            return [orjson.loads(payload) for (payload,) in found.fetchall()]

    def table(self) -> list[dict[str, Any]]:
        """Return every row of the table as its original event, by source row."""
        with self.opened() as connection:
            cursor = connection.execute(
                "SELECT * EXCLUDE (import_id, stream_id, stream_sequence, payload_hash, "
                "content_hash, "
                "created_at) FROM playback_events ORDER BY source_row_id"
            )
            names = [column[0] for column in cursor.description]
            return [_as_event(dict(zip(names, row, strict=True))) for row in cursor.fetchall()]


def _as_event(row: dict[str, Any]) -> dict[str, Any]:
    event = {"schema_version": 1, "event_id": str(row.pop("id"))}
    for name, value in row.items():
        if isinstance(value, datetime):
            event[name] = f"{value.isoformat()}Z"
        elif name == "extra" and value is not None:
            event[name] = orjson.loads(value)
        elif value is not None:
            event[name] = value
    return event
