"""Mapped rows on their way to the stream, cut where partitions end.

Rows are mapped in batches of their own size, so a batch may hold several partitions
and a partition may take several batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tautulli_pipeline.imports.receipts import DUPLICATE, PUBLISHED, REJECTED, ROWS
from tautulli_pipeline.source.partitions import OTHER, Partition
from tautulli_pipeline.source.reader import IdRange
from tautulli_pipeline.stream.publisher import MESSAGE_ID_HEADER, Outgoing, PubAcks

IMPORT_HEADER: Final = "Import-Id"
PARTITION_HEADER: Final = "Import-Partition"

_MAPPED: Final = ("source_row_id", "event_id", "reason", "record")
_ADDRESSED: Final = ("subject", "payload")


def no_rows() -> pa.Table:
    """The columns of mapped rows, without any."""
    texts = ((name, pa.string()) for name in (*_MAPPED[1:], *_ADDRESSED))
    return pa.schema([("source_row_id", pa.int64()), *texts]).empty_table()


@dataclass(frozen=True)
class PartitionWork:
    """One partition to publish.

    Attributes:
        partition: its ids.
        rows: how many rows it holds.
        only: ids to publish again after they got lost on the way; None for all.
        attempt: makes the message ids of such rows new to layer 1.
    """

    partition: Partition
    rows: int
    only: frozenset[int] | None = None
    attempt: int = 0

    @property
    def key(self) -> str:
        """Names the partition."""
        return self.partition.key


class Cut(NamedTuple):
    """Rows of one partition in a batch: the first, the one after the last."""

    part: PartitionWork
    first: int
    end: int
    is_finished: bool


class Piece:
    """The mapped rows of a batch, and the messages made of them.

    Args:
        rows: the columns of `no_rows`.
        cuts: the partitions they belong to, in their order.
    """

    def __init__(self, import_id: str, rows: pa.Table, cuts: Sequence[Cut]) -> None:
        self.cuts = cuts
        self._accepted = pc.is_null(rows["reason"]).to_pylist()
        self._row_of_message: list[int] = []
        self.messages = self._make_messages(import_id, rows)
        # Without the payloads, which the messages hold.
        self._rows = rows.select(_MAPPED)

    def _make_messages(self, import_id: str, rows: pa.Table) -> list[Outgoing]:
        ids = rows["source_row_id"].to_pylist()
        subjects = rows["subject"].to_pylist()
        event_ids = rows["event_id"].to_pylist()
        payloads = _payloads(rows["payload"])
        messages = []
        for part, first, end, _ in self.cuts:
            for row in range(first, end):
                if self._accepted[row] and (part.only is None or ids[row] in part.only):
                    headers = {
                        MESSAGE_ID_HEADER: _message_id(event_ids[row], part),
                        IMPORT_HEADER: import_id,
                        PARTITION_HEADER: part.key,
                    }
                    messages.append(Outgoing(subjects[row], payloads[row], headers))
                    self._row_of_message.append(row)
        return messages

    def receipt_rows(self, acks: PubAcks) -> tuple[pa.Table, list[int]]:
        """The rows with what became of them, and the stream sequence of each."""
        # A row that was not sent again is on the stream already.
        outcomes = [DUPLICATE if accepted else REJECTED for accepted in self._accepted]
        sequences = [0] * len(outcomes)
        for message, row in enumerate(self._row_of_message):
            sequences[row] = acks.sequences[message]
            if message not in acks.duplicates:
                outcomes[row] = PUBLISHED
        rows = self._rows.append_column("outcome", pa.array(outcomes, pa.string()))
        return rows.select(ROWS.names), sequences


def _payloads(column: pa.ChunkedArray) -> list[memoryview]:
    """The texts as parts of the column's own memory, not copied; empty where NULL."""
    parts: list[memoryview] = []
    for chunk in column.cast(pa.binary()).chunks:
        if not len(chunk):
            continue
        _, offsets, texts = chunk.buffers()
        ends = np.frombuffer(offsets, np.int32)[chunk.offset : chunk.offset + len(chunk) + 1]
        whole = memoryview(texts or b"")
        parts += [whole[begin:end] for begin, end in pairwise(ends.tolist())]
    return parts


class OpenReceipts:
    """Gathers the rows of partitions until all of one is acknowledged."""

    def __init__(self) -> None:
        self._rows: list[pa.Table] = []
        self._last_sequence = 0
        self._seconds = 0.0

    def add(
        self, piece: Piece, acks: PubAcks, seconds: float
    ) -> Iterator[tuple[PartitionWork, pa.Table, int, float]]:
        """Take in a piece that was acknowledged `seconds` after the one before.

        Yields:
            Each partition that it finishes, with its rows (`ROWS`), the highest
            sequence of them and its share of the time.
        """
        rows, sequences = piece.receipt_rows(acks)
        seconds_a_row = seconds / max(rows.num_rows, 1)
        for part, first, end, is_finished in piece.cuts:
            self._rows.append(rows.slice(first, end - first))
            self._last_sequence = max(self._last_sequence, max(sequences[first:end], default=0))
            self._seconds += (end - first) * seconds_a_row
            if is_finished:
                finished = (pa.concat_tables(self._rows), self._last_sequence, self._seconds)
                self._rows, self._last_sequence, self._seconds = [], 0, 0.0
                yield part, *finished


def _message_id(event_id: str, part: PartitionWork) -> str:
    return f"{event_id}:{part.attempt}" if part.attempt else event_id


def stretches(work: Sequence[PartitionWork]) -> Iterator[list[PartitionWork]]:
    """Partitions whose rows are told apart by where their ids end; `other` stands alone."""
    for _, parts in groupby(work, lambda part: part.partition == OTHER):
        yield list(parts)


def adjoined(work: Sequence[PartitionWork]) -> list[IdRange]:
    """The id ranges of partitions, those that touch as one."""
    joined: list[IdRange] = []
    for ids in (ids for part in work for ids in part.partition.ranges):
        if joined and joined[-1].last + 1 == ids.first:
            joined.append(IdRange(joined.pop().first, ids.last))
        else:
            joined.append(ids)
    return joined


def cut(parts: list[PartitionWork], rows: pa.Table) -> list[Cut]:
    """Cut `rows`, in id order, where partitions end.

    Args:
        parts: the partitions that are open or to come; those that end here are removed.
        rows: mapped rows of theirs.
    """
    cuts, first = [], 0
    # Only what belongs to `other` can lack an id.
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
