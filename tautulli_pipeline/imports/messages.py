"""Turn mapped rows into messages and receipts, split at partition boundaries.

The batch size of the mapping is independent of the partitions: a batch may hold several
partitions, and a partition may span several batches.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tautulli_pipeline.imports.receipts import (
    DUPLICATE,
    PUBLISHED,
    REJECTED,
    ROWS,
    UNREADABLE,
    Receipt,
)
from tautulli_pipeline.source.partitions import OTHER, Partition
from tautulli_pipeline.source.reader import IdRange
from tautulli_pipeline.stream.limits import MessageLimit
from tautulli_pipeline.stream.publisher import MESSAGE_ID_HEADER, Outgoing, PubAcks
from tautulli_pipeline.stream.wire import header_block

IMPORT_HEADER: Final = "Import-Id"
PARTITION_HEADER: Final = "Import-Partition"
# The hash of the content of a play, and the newest start in its file in Unix seconds.
CONTENT_HEADER: Final = "Import-Content"

_MAPPED: Final = ("source_row_id", "event_id", "reason", "record", "content_hash")


def no_rows() -> pa.Table:
    """Return an empty table with the columns of mapped rows."""
    texts = ((name, pa.string()) for name in (*_MAPPED[1:-1], "subject", "payload"))
    numbers = (("source_row_id", pa.int64()), ("content_hash", pa.uint64()))
    return pa.schema([*numbers, *texts]).empty_table()


@dataclass(frozen=True)
class PartitionWork:
    """One partition to publish.

    Attributes:
        partition: the ids of its rows.
        only: ids of lost rows to publish again; None for all rows.
        attempt: makes the message ids of such rows new to layer 1.
        has_changed: whether it was published before with other content, so that layer 1 may
            drop only what this import has published itself.
    """

    partition: Partition
    only: frozenset[int] | None = None
    attempt: int = 0
    has_changed: bool = False

    @property
    def key(self) -> str:
        """The key of the partition."""
        return self.partition.key


@dataclass(frozen=True)
class Sender:
    """What the messages of one import have in common.

    Attributes:
        server_id: the server in keys and rows.
        newest_start: the newest start of a play in the file, in Unix seconds.
        shares_ids: whether another server may use the same message ids.
    """

    import_id: str
    server_id: str
    newest_start: int = 0
    shares_ids: bool = False

    def headers(self, event_id: str, content_hash: int, part: PartitionWork) -> dict[str, str]:
        """Return the headers of the message of one event."""
        message_id = f"{event_id}:{self._server_digest}" if self.shares_ids else event_id
        if part.has_changed:
            message_id += f":{content_hash:016x}:{self.import_id}"
        if part.attempt:
            message_id += f":{part.attempt}"
        return {
            MESSAGE_ID_HEADER: message_id,
            IMPORT_HEADER: self.import_id,
            PARTITION_HEADER: part.key,
            CONTENT_HEADER: f"{content_hash} {self.newest_start}",
        }

    @cached_property
    def _server_digest(self) -> str:
        """A short name of the server that fits into a header, whatever its id is."""
        return hashlib.blake2b(self.server_id.encode(), digest_size=6).hexdigest()


_LONGEST_IMPORT_ID: Final = "20260101T000000-00000000"
_LONGEST_EVENT_ID: Final = "00000000-0000-5000-8000-000000000000"
_LONGEST_WORK: Final = PartitionWork(
    Partition.parse("0000000001-0000001000"), attempt=10**13, has_changed=True
)
_LONGEST_START: Final = 10**11


def payload_bytes(limit: MessageLimit) -> int:
    """Return the size of the largest event whose message is within the limit."""
    sender = Sender(_LONGEST_IMPORT_ID, "", _LONGEST_START, shares_ids=True)
    longest = sender.headers(_LONGEST_EVENT_ID, 2**64 - 1, _LONGEST_WORK)
    return max(0, limit.bytes - len(header_block(longest)))


class Cut(NamedTuple):
    """The rows of one partition in a batch: from `first` up to, but not including, `end`."""

    part: PartitionWork
    first: int
    end: int
    is_finished: bool


class Piece:
    """The mapped rows of a batch, and their messages.

    Args:
        rows: rows with the columns of `no_rows`.
        cuts: the partitions of the rows, in order.
    """

    def __init__(self, sender: Sender, rows: pa.Table, cuts: Sequence[Cut]) -> None:
        self.cuts = cuts
        self._accepted = pc.is_null(rows["reason"]).to_pylist()
        # Without the payloads: the messages hold them.
        self._rows = rows.select(_MAPPED)
        self.messages: list[Outgoing] = []
        self._row_of_message: list[int] = []
        ids = rows["source_row_id"].to_pylist()
        subjects = rows["subject"].to_pylist()
        event_ids = rows["event_id"].to_pylist()
        hashes = rows["content_hash"].to_pylist()
        payloads = _payloads(rows["payload"])
        for part, first, end, _ in cuts:
            for row in range(first, end):
                if self._accepted[row] and (part.only is None or ids[row] in part.only):
                    headers = sender.headers(event_ids[row], hashes[row], part)
                    self.messages.append(Outgoing(subjects[row], payloads[row], headers))
                    self._row_of_message.append(row)

    def receipt_rows(self, acks: PubAcks) -> tuple[pa.Table, list[int]]:
        """Return the rows with their outcomes, and the stream sequence of each row."""
        # An accepted row that was not sent this time is already on the stream.
        outcomes = [DUPLICATE if accepted else REJECTED for accepted in self._accepted]
        sequences = [0] * len(outcomes)
        for message, row in enumerate(self._row_of_message):
            sequences[row] = acks.sequences[message]
            if message not in acks.duplicates:
                outcomes[row] = PUBLISHED
        # A column of a batch of DuckDB keeps the whole batch in memory, so these are copied.
        copied = self._rows.take(pa.array(range(len(outcomes)), pa.int64()))
        rows = copied.append_column("outcome", pa.array(outcomes, pa.string()))
        return rows.select(ROWS.names), sequences


def _payloads(column: pa.ChunkedArray) -> list[memoryview]:
    """Return views of the texts in the memory of the column, not copies; empty for NULL."""
    parts: list[memoryview] = []
    for chunk in column.cast(pa.binary()).chunks:
        if not len(chunk):
            continue
        _, offsets, texts = chunk.buffers()
        ends = np.frombuffer(offsets, np.int32)[chunk.offset : chunk.offset + len(chunk) + 1]
        whole = memoryview(texts or b"")
        parts += [whole[begin:end] for begin, end in pairwise(ends.tolist())]
    return parts


@dataclass
class OpenReceipts:
    """Collects the rows of each partition of a `Publication` until all are acknowledged."""

    import_id: str
    server_id: str
    unreadable: Sequence[int] = ()
    _rows: list[pa.Table] = field(default_factory=list)
    _last_sequence: int = 0
    _seconds: float = 0.0

    def add(self, piece: Piece, acks: PubAcks, seconds: float) -> Iterator[Receipt]:
        """Add a piece that was acknowledged `seconds` after the previous one.

        Yields:
            The receipt of each partition that the piece finishes.
        """
        rows, sequences = piece.receipt_rows(acks)
        seconds_a_row = seconds / max(rows.num_rows, 1)
        for part, first, end, is_finished in piece.cuts:
            self._rows.append(rows.slice(first, end - first))
            self._last_sequence = max(self._last_sequence, max(sequences[first:end], default=0))
            self._seconds += (end - first) * seconds_a_row
            if is_finished:
                yield self._close(part)

    def _close(self, part: PartitionWork) -> Receipt:
        now = datetime.now(UTC).replace(tzinfo=None)
        rows = self._with_unreadable(pa.concat_tables(self._rows), part)
        last_sequence, seconds = self._last_sequence, self._seconds
        self._rows, self._last_sequence, self._seconds = [], 0, 0.0
        return Receipt(self.import_id, part.key, self.server_id, now, rows, last_sequence, seconds)

    def _with_unreadable(self, rows: pa.Table, part: PartitionWork) -> pa.Table:
        """Add the unreadable plays of the partition to its rows, in id order."""
        ids: list[int] = []
        for span in part.partition.ranges:
            first = bisect_left(self.unreadable, span.first)
            ids += self.unreadable[first : bisect_right(self.unreadable, span.last)]
        if not ids:
            return rows
        lost = [{"source_row_id": row_id, "outcome": UNREADABLE} for row_id in ids]
        whole = pa.concat_tables([rows, pa.Table.from_pylist(lost, schema=ROWS)])
        return whole.sort_by("source_row_id")


def merged_ranges(work: Sequence[PartitionWork]) -> list[IdRange]:
    """Return the id ranges of the partitions, with adjacent ranges merged."""
    joined: list[IdRange] = []
    for ids in (ids for part in work for ids in part.partition.ranges):
        if joined and joined[-1].last + 1 == ids.first:
            joined.append(IdRange(joined.pop().first, ids.last))
        else:
            joined.append(ids)
    return joined


def cut(parts: list[PartitionWork], rows: pa.Table) -> list[Cut]:
    """Split `rows`, which are in id order, at partition boundaries.

    Args:
        parts: the open and following partitions; the ones that end here are removed.
        rows: mapped rows of these partitions.
    """
    cuts, first = [], 0
    # Only rows of `other` can lack an id.
    ids = rows["source_row_id"].fill_null(0).to_numpy()
    while True:
        partition = parts[0].partition
        end = (
            len(ids)
            if partition == OTHER
            else int(ids.searchsorted(partition.last_id, side="right"))
        )
        is_finished = end < len(ids)
        cuts.append(Cut(parts[0], first, end, is_finished))
        if not is_finished:
            return cuts
        del parts[0]
        first = end
