"""Publishing partitions: read, map, publish, and a receipt for each.

Three stages overlap: a thread reads and maps the next rows while the event loop
publishes these and the caller records the ones before.
"""

from __future__ import annotations

import queue
import threading
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Final

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from tautulli_pipeline.events.batch import CurrentBatch
from tautulli_pipeline.events.mapping import mapping_query, record_query
from tautulli_pipeline.imports.receipts import (
    DUPLICATE,
    PUBLISHED,
    REJECTED,
    ROWS,
    Receipt,
    with_unreadable,
)
from tautulli_pipeline.memory import hand_back_memory
from tautulli_pipeline.source.partitions import Grid
from tautulli_pipeline.source.reader import HistoryReader, IdRange
from tautulli_pipeline.source.schema import SourceSchema
from tautulli_pipeline.stream.publisher import MESSAGE_ID_HEADER, Outgoing, PubAcks
from tautulli_pipeline.stream.session import PublishingSession

IMPORT_HEADER: Final = "Import-Id"
PARTITION_HEADER: Final = "Import-Partition"

# Rows mapped by one query. Several such batches are on their way at once: 3,000 rows of
# 5 KB took the process over 600 MiB.
_ROWS_PER_QUERY: Final = 1500
_QUERIES_PER_CONNECTION: Final = 6
_NO_IDS: Final = IdRange(0, -1)


@dataclass(frozen=True)
class PartitionWork:
    """One partition to publish.

    Attributes:
        rows: how many rows it holds.
        only: ids to publish again after they got lost on the way; None for all.
        attempt: makes the message ids of such rows new to layer 1.
    """

    key: str
    rows: int
    only: frozenset[int] | None = None
    attempt: int = 0


@dataclass(frozen=True)
class Publication:
    """How events of one import are made; `import_id` goes into the message headers.

    Attributes:
        unreadable: ids of plays that are there but that `reader` does not give, ascending.
    """

    import_id: str
    server_id: str
    reader: HistoryReader
    schema: SourceSchema
    session: PublishingSession
    unreadable: Sequence[int] = ()

    def publish(self, work: Sequence[PartitionWork]) -> Iterator[Receipt]:
        """Publish partitions in the order given; each receipt comes when its PubAcks are in.

        Raises:
            SourceError: rows cannot be read.
            StreamError: the stream does not take them.
        """
        with _ahead(self._mapped(work)) as prepared:
            before: tuple[_Mapped, Future[PubAcks]] | None = None
            for mapped in prepared:
                publishing = self.session.publish(mapped.messages)
                if before is not None:
                    yield from self._receipts(*before)
                before = (mapped, publishing)
                publishing.result()
            if before is not None:
                yield from self._receipts(*before)

    def _mapped(self, work: Sequence[PartitionWork]) -> Iterator[_Mapped]:
        groups = _groups(work)
        # A connection keeps memory of every query of this width; closed, it gives up a part.
        while several := list(islice(groups, _QUERIES_PER_CONNECTION)):
            with duckdb.connect(config={"threads": 1}) as connection:
                mapper = self._mapper(connection)
                for group in several:
                    yield self._map(mapper, group)
            hand_back_memory()

    def _map(self, mapper: _Mapper, group: Sequence[PartitionWork]) -> _Mapped:
        batch = pa.concat_tables(self.reader.read(ids) for ids in _adjoined(group))
        rows = mapper.map(batch)
        return _Mapped(self.import_id, group, rows, mapper.records(batch, rows))

    def _mapper(self, connection: duckdb.DuckDBPyConnection) -> _Mapper:
        columns = self.schema.history_columns
        query = mapping_query(
            columns,
            self.server_id,
            max_payload_bytes=self.session.max_payload_bytes - _HEADER_ROOM_BYTES,
        )
        batch = CurrentBatch(self.reader.read(_NO_IDS).schema)
        return _Mapper(connection, batch, query, record_query(columns))

    def _receipts(self, mapped: _Mapped, publishing: Future[PubAcks]) -> Iterator[Receipt]:
        acks = publishing.result()
        now = datetime.now(UTC).replace(tzinfo=None)
        for part, readable, last_sequence in mapped.by_partition(acks):
            rows = with_unreadable(readable, self._unreadable_of(part))
            yield Receipt(self.import_id, part.key, self.server_id, last_sequence, now, rows)

    def _unreadable_of(self, part: PartitionWork) -> list[int]:
        lost: list[int] = []
        for ids in Grid.ranges(part.key):
            first = bisect_left(self.unreadable, ids.first)
            lost += self.unreadable[first : bisect_right(self.unreadable, ids.last)]
        return lost


_HEADER_ROOM_BYTES: Final = 1024


class _Mapper:
    """Maps one batch after the other with a query that is planned once."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, batch: CurrentBatch, query: str, records: str
    ) -> None:
        self._connection = connection
        self._batch = batch
        self._records = records
        connection.register("batch", batch)
        connection.execute(f"PREPARE mapping AS {query}")

    def map(self, batch: pa.Table) -> pa.Table:
        """The rows of `mapping_query`."""
        self._batch.table = batch
        return self._connection.execute("EXECUTE mapping").to_arrow_table()

    def records(self, batch: pa.Table, rows: pa.Table) -> pa.Array:
        """The raw rows that became no event, each in its place."""
        none = pa.nulls(rows.num_rows, pa.string())
        if rows["reason"].null_count == rows.num_rows:
            return none
        rejected = pc.is_valid(rows["reason"]).combine_chunks()
        self._batch.table = batch.filter(rejected)
        records = self._connection.execute(self._records).to_arrow_table()["record"]
        return pc.replace_with_mask(none, rejected, records.combine_chunks())


class _Mapped:
    """Mapped rows of a group of partitions and the messages made of them."""

    def __init__(
        self,
        import_id: str,
        group: Sequence[PartitionWork],
        rows: pa.Table,
        records: pa.Array,
    ) -> None:
        self._group = group
        # Only what became no event can lack an id.
        self._ids = rows["source_row_id"].fill_null(0).to_numpy()
        self._accepted = pc.is_null(rows["reason"]).to_pylist()
        self._row_of_message: list[int] = []
        self.messages = self._make_messages(import_id, rows)
        # Without the payloads, which the messages hold.
        self._rows = rows.select(["source_row_id", "event_id", "reason"]).append_column(
            "record", records
        )

    def _make_messages(self, import_id: str, rows: pa.Table) -> list[Outgoing]:
        subjects = rows["subject"].to_pylist()
        event_ids = rows["event_id"].to_pylist()
        payloads = rows["payload"].cast(pa.binary()).to_pylist()
        messages = []
        for part, first, end in self._slices():
            for row in range(first, end):
                if self._accepted[row] and self._is_wanted(part, row):
                    headers = {
                        MESSAGE_ID_HEADER: _message_id(event_ids[row], part),
                        IMPORT_HEADER: import_id,
                        PARTITION_HEADER: part.key,
                    }
                    messages.append(Outgoing(subjects[row], payloads[row], headers))
                    self._row_of_message.append(row)
        return messages

    def _is_wanted(self, part: PartitionWork, row: int) -> bool:
        return part.only is None or int(self._ids[row]) in part.only

    def _slices(self) -> Iterator[tuple[PartitionWork, int, int]]:
        """Each partition with the first row of it and the row after its last."""
        if len(self._group) == 1:
            yield self._group[0], 0, len(self._ids)
            return
        for part in self._group:
            (ids,) = Grid.ranges(part.key)
            first, end = self._ids.searchsorted([ids.first, ids.last + 1])
            yield part, int(first), int(end)

    def by_partition(self, acks: PubAcks) -> Iterator[tuple[PartitionWork, pa.Table, int]]:
        """Receipt rows and highest sequence of each partition."""
        # A row that was not sent again is on the stream already.
        outcomes = [DUPLICATE if accepted else REJECTED for accepted in self._accepted]
        sequences = [0] * len(outcomes)
        for message, row in enumerate(self._row_of_message):
            sequences[row] = acks.sequences[message]
            if message not in acks.duplicates:
                outcomes[row] = PUBLISHED
        rows = self._rows.append_column("outcome", pa.array(outcomes, pa.string()))
        rows = rows.select(ROWS.names)
        for part, first, end in self._slices():
            yield part, rows.slice(first, end - first), max(sequences[first:end], default=0)


def _message_id(event_id: str, part: PartitionWork) -> str:
    return f"{event_id}:{part.attempt}" if part.attempt else event_id


def _groups(work: Sequence[PartitionWork]) -> Iterator[list[PartitionWork]]:
    """Partitions to map in one query, as many as its planning is worth."""
    group: list[PartitionWork] = []
    for part in work:
        alone = len(Grid.ranges(part.key)) > 1
        if group and (alone or sum(p.rows for p in group) + part.rows > _ROWS_PER_QUERY):
            yield group
            group = []
        group.append(part)
        if alone:
            yield group
            group = []
    if group:
        yield group


def _adjoined(group: Sequence[PartitionWork]) -> list[IdRange]:
    """The id ranges of a group, those that touch read as one."""
    joined: list[IdRange] = []
    for ids in (ids for part in group for ids in Grid.ranges(part.key)):
        if joined and joined[-1].last + 1 == ids.first:
            ids = IdRange(joined.pop().first, ids.last)  # noqa: PLW2901 - it grows backwards
        joined.append(ids)
    return joined


@contextmanager
def _ahead(items: Iterable[_Mapped]) -> Iterator[Iterator[_Mapped]]:
    """Make `items` in a thread, one ahead of who takes them."""
    ready: queue.Queue[_Mapped | BaseException | None] = queue.Queue(maxsize=1)
    stopped = threading.Event()

    def make() -> None:
        last: BaseException | None = None
        try:
            for item in items:
                if not _put(ready, item, stopped):
                    return
        except BaseException as error:  # raised again where it is awaited
            last = error
        _put(ready, last, stopped)

    def take() -> Iterator[_Mapped]:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    thread = threading.Thread(target=make, name="read-and-map", daemon=True)
    thread.start()
    try:
        yield take()
    finally:
        stopped.set()
        thread.join()


def _put(
    ready: queue.Queue[_Mapped | BaseException | None],
    item: _Mapped | BaseException | None,
    stopped: threading.Event,
) -> bool:
    while not stopped.is_set():
        try:
            ready.put(item, timeout=0.1)
        except queue.Full:
            continue
        return True
    return False
