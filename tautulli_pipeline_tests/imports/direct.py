"""Imports files into a warehouse in this process, with a list instead of a stream server."""

from __future__ import annotations

from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from tautulli_pipeline.events.servers import ONLY_CURRENT_IDS, Servers
from tautulli_pipeline.imports.messages import CONTENT_HEADER, IMPORT_HEADER, Sender
from tautulli_pipeline.imports.plan import Destination, Finished, make_plan
from tautulli_pipeline.imports.publication import Publication
from tautulli_pipeline.source.opening import open_source
from tautulli_pipeline.source.partitions import Grid
from tautulli_pipeline.stream.limits import DEFAULT_MESSAGE_LIMIT, MessageLimit
from tautulli_pipeline.stream.publisher import MESSAGE_ID_HEADER, PubAcks
from tautulli_pipeline.warehouse.cache import DedupCache
from tautulli_pipeline.warehouse.ledger import Ledger
from tautulli_pipeline.warehouse.server_list import Names
from tautulli_pipeline.warehouse.writer import MESSAGES, Writer
from tautulli_pipeline_tests.warehouse.plays import STREAM, rows

if TYPE_CHECKING:
    from pathlib import Path

    import duckdb

BEGIN = datetime(2026, 1, 1)


@dataclass
class DirectImports:
    """Publishes what is due, drops repeated message ids as layer 1 does, writes and settles."""

    warehouse: duckdb.DuckDBPyConnection
    folder: Path
    servers: Servers = ONLY_CURRENT_IDS
    cache_entries: int = 0
    message_limit: MessageLimit = DEFAULT_MESSAGE_LIMIT
    message_ids: dict[str, int] = field(default_factory=dict)
    finished: dict[tuple[str, str], Finished] = field(default_factory=dict)
    known: list[str] = field(default_factory=list)
    newest_starts: dict[str, int] = field(default_factory=dict)
    published: int = 0
    lost: set[int] = field(default_factory=set)
    _sequence: int = 0
    _imports: int = 0

    def run(self, path: Path, server_id: str = "default", *, fresh: bool = False) -> dict[str, Any]:
        """Import a file, and return the totals of its ledger that are not zero."""
        self._imports += 1
        self.published = 0
        import_id = f"import-{self._imports}"
        self.writer = Writer(
            self.warehouse,
            DedupCache(1e9, self.cache_entries),
            STREAM,
            lambda: BEGIN + timedelta(seconds=self._sequence),
            servers=self.servers,
        )
        ledger = Ledger(self.warehouse, self.servers)
        with ExitStack() as stack:
            source = stack.enter_context(open_source(path, self.folder / "snapshots"))
            contents = source.survey(Grid(100), 100)
            place = Destination(server_id, "warehouse", STREAM)
            last = {key: one for (at, key), one in self.finished.items() if at == place.place}
            newest = max(content.started[1] for content in contents if content.started)
            is_older = newest < self.newest_starts.get(server_id, 0)
            plan = make_plan(contents, last, place, import_id, fresh=fresh, is_older=is_older)
            self.newest_starts[server_id] = max(newest, self.newest_starts.get(server_id, 0))
            first = next(iter(self.known), server_id)
            sender = Sender(import_id, server_id, newest, shares_ids=first != server_id)
            reader = stack.enter_context(source.open_reader())
            publication = Publication(sender, reader, source.schema, self)
            work = plan.work
            rounds = 0
            while work:
                rounds += 1
                assert rounds < 5, "rows count as lost although they arrived"
                receipts = list(publication.publish(work))
                for receipt in receipts:
                    version = plan.versions[receipt.partition_key]
                    done = Finished(import_id, version)
                    self.finished[place.place, receipt.partition_key] = done
                self.lost.clear()
                lost = ledger.settle(receipts, BEGIN)
                work = plan.again({key: ids for (_, key), ids in lost.items()})
            names = source.names
            self.writer.name(Names(server_id, newest, names.users, names.libraries))
        if server_id not in self.known:
            self.known.append(server_id)
        return {
            name: count
            for name, count in ledger.totals(import_id).items()
            if count and name != "logged"
        }

    def publish(self, messages: Any) -> Future[PubAcks]:
        """Accept messages as the stream does, and pass them to the writer unless they are lost."""
        sequences, duplicates, arrived = [], set(), []
        for place, message in enumerate(messages):
            message_id = message.headers[MESSAGE_ID_HEADER]
            if message_id in self.message_ids:
                duplicates.add(place)
            else:
                self._sequence += 1
                self.published += 1
                self.message_ids[message_id] = self._sequence
                if place not in self.lost:
                    arrived.append((self._sequence, message))
            sequences.append(self.message_ids[message_id])
        if arrived:
            self.deliver(arrived)
        answer: Future[PubAcks] = Future()
        answer.set_result(PubAcks(sequences, duplicates))
        return answer

    def deliver(self, arrived: list[tuple[int, Any]]) -> None:
        """Write messages with these sequences."""
        columns = [
            [sequence for sequence, _ in arrived],
            [message.subject for _, message in arrived],
            [message.headers[IMPORT_HEADER] for _, message in arrived],
            [message.headers[MESSAGE_ID_HEADER] for _, message in arrived],
            [message.headers[CONTENT_HEADER] for _, message in arrived],
            [bytes(message.payload) for _, message in arrived],
        ]
        arrays = [pa.array(c, f.type) for c, f in zip(columns, MESSAGES, strict=True)]
        self.writer.write(pa.Table.from_arrays(arrays, schema=MESSAGES))

    def forget_message_ids(self) -> None:
        """Let the window of layer 1 pass."""
        self.message_ids.clear()

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        return rows(self.warehouse, sql)

    def newest(self, column: str) -> list[Any]:
        """Return the newest content of a column, by start of the play."""
        return [
            value
            for (value,) in self.query(
                f"""
                SELECT coalesce(v.value, p.{column}) FROM playback_events p LEFT JOIN (
                    SELECT id, max_by({column}, revision) AS value FROM playback_revisions
                    GROUP BY id
                ) v USING (id) ORDER BY started_at
                """
            )
        ]
