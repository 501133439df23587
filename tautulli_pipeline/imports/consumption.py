"""Consume the stream into the warehouse: pull, write, ack, settle."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import pyarrow as pa

from tautulli_pipeline.imports.messages import CONTENT_HEADER, IMPORT_HEADER
from tautulli_pipeline.imports.receipts import Receipt, ReceiptFolder
from tautulli_pipeline.memory import release_memory
from tautulli_pipeline.stream.consumer import Delivered
from tautulli_pipeline.stream.publisher import MESSAGE_ID_HEADER
from tautulli_pipeline.stream.session import ConsumingSession
from tautulli_pipeline.stream.wire import header_values
from tautulli_pipeline.warehouse.ledger import Ledger, Unsettled
from tautulli_pipeline.warehouse.schema import ROWS_PER_TRANSACTION
from tautulli_pipeline.warehouse.writer import MESSAGES, Writer, utc_now

_BATCH_BYTES: Final = 32 * 2**20
_LINGER_SECONDS: Final = 0.25
# Full transactions are several times faster, so it pays to wait for a full batch.
_PATIENCE_SECONDS: Final = 5.0
# The publisher waits while a narrow stream is full.
_NARROW_PATIENCE_SECONDS: Final = 0.2
_SETTLE_EVERY_SECONDS: Final = 1.5
# How soon a pull hears of the last sequence.
_HEAR_SECONDS: Final = 0.02
_ACK_POLL_SECONDS: Final = 0.01
_ACK_POLLS: Final = 50


class Control(Protocol):
    """Tells a consumer how long to run."""

    @property
    def stopped(self) -> bool:
        """Whether to stop after the current batch."""

    @property
    def last_sequence(self) -> int | None:
        """The last sequence to consume; None while it is unknown."""

    def report(self, consumption: Consumption) -> None:
        """Look at what is settled; called after each batch."""


@dataclass
class Consumption:
    """One run of the consumer; the only writer while it runs.

    Attributes:
        unsettled: ids of rows that were published but never arrived.
    """

    session: ConsumingSession
    writer: Writer
    ledger: Ledger
    receipts_dir: Path
    unsettled: Unsettled = field(default_factory=dict)
    _settled: dict[str, dict[str, int]] = field(default_factory=dict)
    _waiting: list[Delivered] = field(default_factory=list)
    _pulling: Future[list[Delivered]] | None = None
    _settle_at: float = 0.0

    def run(self, control: Control) -> None:
        """Consume until `control` says stop, or everything up to its last sequence is done."""
        while True:
            ending = self._fill(control)
            if control.stopped:
                return
            count = _fitting(self._waiting)
            batch, self._waiting = self._waiting[:count], self._waiting[count:]
            if batch:
                self._consume(batch)
            release_memory()
            drained = ending and not self._waiting and self._is_drained(control.last_sequence)
            if drained or not batch or time.monotonic() >= self._settle_at:
                self._settle()
                self._settle_at = time.monotonic() + _SETTLE_EVERY_SECONDS
            control.report(self)
            if drained:
                return

    def _fill(self, control: Control) -> bool:
        """Wait for enough messages for one transaction, or for what is available.

        The next pull is then already running while these messages are written.

        Returns:
            Whether the last sequence of `control` may have been reached.
        """
        patience = _NARROW_PATIENCE_SECONDS if self.session.narrow else _PATIENCE_SECONDS
        deadline = time.monotonic() + patience
        while not (control.stopped or _is_full(self._waiting) or time.monotonic() >= deadline):
            if self._has_arrived(control.last_sequence):
                return True
            last_sequence = control.last_sequence
            self._pulling = self._pulling or self._pull(last_sequence)
            pulled = self._pulled(self._pulling, control)
            self._waiting += pulled
            self._pulling = self._pull(control.last_sequence)
            if last_sequence is not None and not pulled:
                return True
        return self._has_arrived(control.last_sequence)

    def _has_arrived(self, last_sequence: int | None) -> bool:
        last = self._waiting[-1].sequence if self._waiting else 0
        return last_sequence is not None and last >= last_sequence

    def _pulled(self, pulling: Future[list[Delivered]], control: Control) -> list[Delivered]:
        """Wait for a pull, which ends early once the last sequence is known and arrives."""
        while not wait([pulling], _HEAR_SECONDS).done:
            if control.last_sequence is not None:
                self.session.expect(control.last_sequence)
        return pulling.result()

    def _pull(self, last_sequence: int | None) -> Future[list[Delivered]]:
        return self.session.pull(
            ROWS_PER_TRANSACTION,
            max_bytes=_BATCH_BYTES,
            linger_seconds=_LINGER_SECONDS,
            last_wanted_sequence=last_sequence,
        )

    def _consume(self, batch: list[Delivered]) -> None:
        table = _as_table(batch)
        # The table holds the payloads; the ack needs only the rest.
        batch[:] = [message._replace(payload=b"") for message in batch]
        self.writer.write(table)
        self.session.ack(batch).result()

    def _is_drained(self, last_sequence: int | None) -> bool:
        """Whether everything to consume is acked; acks take a moment to be counted."""
        for _ in range(_ACK_POLLS):
            if self._acked_up_to() >= (math.inf if last_sequence is None else last_sequence):
                return True
            time.sleep(_ACK_POLL_SECONDS)
        return False

    def _acked_up_to(self) -> float:
        """Return the sequence up to which all messages are acked; infinite if all are."""
        undelivered, unacked, floor = self.session.pending()
        return floor if undelivered or unacked else math.inf

    def _settle(self) -> None:
        """Settle every new receipt whose messages are all acked."""
        acked_up_to = self._acked_up_to()
        due: list[Receipt] = []
        for path in sorted(self.receipts_dir.glob("*/")):
            settled = self._settled.setdefault(path.name, {})
            for key, written_at, receipt in ReceiptFolder(path).unseen(settled):
                if receipt.last_sequence <= acked_up_to:
                    due.append(receipt)
                    settled[key] = written_at
        lost = self.ledger.settle(due, utc_now())
        for receipt in due:
            self.unsettled.pop((receipt.import_id, receipt.partition_key), None)
        self.unsettled.update(lost)


def _fitting(waiting: Sequence[Delivered]) -> int:
    """Return how many messages fit in one transaction; at least one if there is one."""
    size_bytes = 0
    for count, message in enumerate(waiting[:ROWS_PER_TRANSACTION]):
        size_bytes += len(message.payload)
        if count and size_bytes > _BATCH_BYTES:
            return count
    return min(len(waiting), ROWS_PER_TRANSACTION)


def _is_full(waiting: Sequence[Delivered]) -> bool:
    return len(waiting) >= ROWS_PER_TRANSACTION or _fitting(waiting) < len(waiting)


def _as_table(batch: Sequence[Delivered]) -> pa.Table:
    headers = [message.header for message in batch]
    columns = [
        pa.array([message.sequence for message in batch], pa.int64()),
        pa.array([message.subject for message in batch], pa.string()),
        pa.array(header_values(headers, IMPORT_HEADER), pa.string()),
        pa.array(header_values(headers, MESSAGE_ID_HEADER), pa.string()),
        pa.array(header_values(headers, CONTENT_HEADER), pa.string()),
        _joined([message.payload for message in batch]),
    ]
    return pa.Table.from_arrays(columns, schema=MESSAGES)


def _joined(payloads: Sequence[bytes]) -> pa.Array:
    """Join the payloads in one buffer, with one copy."""
    ends = np.cumsum([0, *map(len, payloads)], dtype=np.int32)
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(b"".join(payloads))]
    return pa.Array.from_buffers(pa.binary(), len(payloads), buffers)
