"""Publish partitions: read, map and publish the rows, and yield a receipt per partition.

Three stages overlap: a thread reads and maps the next rows while the event loop
publishes the current ones and the caller records the previous ones.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from tautulli_pipeline.imports.mapper import Mapper
from tautulli_pipeline.imports.messages import (
    Cut,
    OpenReceipts,
    PartitionWork,
    Piece,
    cut,
    merged_ranges,
    no_rows,
    split_off_other,
)
from tautulli_pipeline.imports.receipts import Receipt, with_unreadable
from tautulli_pipeline.memory import release_memory
from tautulli_pipeline.source.reader import HistoryReader
from tautulli_pipeline.source.schema import SourceSchema
from tautulli_pipeline.stream.publisher import PubAcks
from tautulli_pipeline.stream.session import PublishingSession

_HEADER_ROOM_BYTES: Final = 1024
_PIECES_PER_TRIM: Final = 16
_NICENESS_INCREMENT: Final = 10


@dataclass(frozen=True)
class Publication:
    """Publishes the events of one import; `import_id` goes into the message headers.

    Attributes:
        unreadable: ids of plays that exist but that `reader` cannot read, ascending.
    """

    import_id: str
    server_id: str
    reader: HistoryReader
    schema: SourceSchema
    session: PublishingSession
    unreadable: Sequence[int] = ()

    def publish(self, work: Sequence[PartitionWork]) -> Generator[Receipt, None, None]:
        """Publish partitions in the given order; yield each receipt after its last PubAck.

        Raises:
            SourceError: rows cannot be read.
            StreamError: the stream does not accept them.
        """
        receipts = OpenReceipts()
        with _prefetched(self._pieces(work)) as pieces:
            before: tuple[Piece, PubAcks, float] | None = None
            acked_at = time.monotonic()
            for number, piece in enumerate(pieces):
                if number % _PIECES_PER_TRIM == 0:
                    release_memory()
                publishing = self.session.publish(piece.messages)
                if before is not None:
                    yield from self._receipts(receipts, *before)
                acks, since = publishing.result(), acked_at
                acked_at = time.monotonic()
                before = (piece, acks, acked_at - since)
            if before is not None:
                yield from self._receipts(receipts, *before)

    def _pieces(self, work: Sequence[PartitionWork]) -> Iterator[Piece]:
        mapper = Mapper(
            self.schema.history_columns,
            self.server_id,
            max_payload_bytes=self.session.max_payload_bytes - _HEADER_ROOM_BYTES,
        )
        columns = self.reader.columns
        for group in split_off_other(work):
            open_parts = list(group)
            for rows in mapper.map(columns, self.reader.stream(merged_ranges(group))):
                yield Piece(self.import_id, rows, cut(open_parts, rows))
            # Finish the last partition, and those without a readable row.
            yield Piece(self.import_id, no_rows(), [Cut(part, 0, 0, True) for part in open_parts])

    def _receipts(
        self, open_receipts: OpenReceipts, piece: Piece, acks: PubAcks, seconds: float
    ) -> Iterator[Receipt]:
        for part, readable, last_sequence, share in open_receipts.add(piece, acks, seconds):
            now = datetime.now(UTC).replace(tzinfo=None)
            rows = with_unreadable(readable, self._unreadable_of(part))
            yield Receipt(self.import_id, part.key, self.server_id, now, rows, last_sequence, share)

    def _unreadable_of(self, part: PartitionWork) -> list[int]:
        lost: list[int] = []
        for ids in part.partition.ranges:
            first = bisect_left(self.unreadable, ids.first)
            lost += self.unreadable[first : bisect_right(self.unreadable, ids.last)]
        return lost


@contextmanager
def _prefetched(items: Iterator[Piece]) -> Iterator[Iterator[Piece]]:
    """Compute `items` in a thread, two ahead of the consumer."""
    thread = ThreadPoolExecutor(1, "read-and-map", _lower_priority)

    def make() -> Future[Piece | None]:
        return thread.submit(next, items, None)

    def take() -> Iterator[Piece]:
        made = deque([make(), make()])
        while (item := made.popleft().result()) is not None:
            made.append(make())
            yield item

    try:
        yield take()
    finally:
        thread.shutdown(cancel_futures=True)


def _lower_priority() -> None:
    """Give the consumer priority: its backlog goes to disk and has to be read back.

    This lowers the priority of the current thread only, on systems that support it.
    """
    if sys.platform == "linux":
        thread = threading.get_native_id()
        niceness = os.getpriority(os.PRIO_PROCESS, thread)
        os.setpriority(os.PRIO_PROCESS, thread, niceness + _NICENESS_INCREMENT)
