"""Publish partitions: read, map and publish the rows, and yield a receipt per partition.

Three stages overlap: a thread reads and maps the next rows while the event loop
publishes the current ones and the caller records the previous ones.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from tautulli_pipeline.imports.mapper import Mapper
from tautulli_pipeline.imports.messages import (
    Cut,
    OpenReceipts,
    PartitionWork,
    Piece,
    Sender,
    cut,
    merged_ranges,
    no_rows,
)
from tautulli_pipeline.imports.receipts import Receipt
from tautulli_pipeline.memory import release_memory
from tautulli_pipeline.source.partitions import OTHER
from tautulli_pipeline.source.reader import HistoryReader
from tautulli_pipeline.source.schema import SourceSchema
from tautulli_pipeline.stream.session import PublishingSession

_PIECES_PER_TRIM: Final = 16
_NICENESS_INCREMENT: Final = 10


@dataclass(frozen=True)
class Publication:
    """Publishes the events of one import.

    Attributes:
        sender: what goes into the headers of every message.
        unreadable: ids of plays that exist but that `reader` cannot read, ascending.
    """

    sender: Sender
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
        sender = self.sender
        receipts = OpenReceipts(sender.import_id, sender.server_id, self.unreadable)
        finished: Iterable[Receipt] = ()
        with _prefetched(self._pieces(work)) as pieces:
            acked_at = time.monotonic()
            for number, piece in enumerate(pieces):
                if number % _PIECES_PER_TRIM == 0:
                    release_memory()
                publishing = self.session.publish(piece.messages)
                yield from finished
                acks, since = publishing.result(), acked_at
                acked_at = time.monotonic()
                finished = receipts.add(piece, acks, acked_at - since)
            yield from finished

    def _pieces(self, work: Sequence[PartitionWork]) -> Iterator[Piece]:
        limit = self.session.message_limit
        mapper = Mapper(self.schema.history_columns, self.sender.server_id, limit)
        columns = self.reader.columns
        # `other` is read on its own: its ids are not in one ascending range.
        for _, parts in groupby(work, lambda part: part.partition == OTHER):
            open_parts = list(parts)
            ranges = merged_ranges(open_parts)
            for rows in mapper.map(columns, self.reader.stream(ranges)):
                yield Piece(self.sender, rows, cut(open_parts, rows))
            # Finish the last partition, and those without a readable row.
            yield Piece(self.sender, no_rows(), [Cut(part, 0, 0, True) for part in open_parts])


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
