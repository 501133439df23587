"""Consuming the stream into the warehouse: pull, write, ack, settle."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import pyarrow as pa

from tautulli_pipeline.imports.publication import IMPORT_HEADER
from tautulli_pipeline.imports.receipts import Receipt, ReceiptFolder
from tautulli_pipeline.stream.consumer import Delivered
from tautulli_pipeline.stream.publisher import MESSAGE_ID_HEADER
from tautulli_pipeline.stream.session import ConsumingSession
from tautulli_pipeline.warehouse.ledger import Ledger, LedgerEntry
from tautulli_pipeline.warehouse.writer import MESSAGES, Writer, Written, utc_now

_BATCH_MESSAGES: Final = 5000
_BATCH_BYTES: Final = 32 * 2**20
_LINGER_SECONDS: Final = 0.5
_ACK_POLL_SECONDS: Final = 0.01
_ACK_POLLS: Final = 50


class Control(Protocol):
    """Who runs the consumer says how long, and hears how it goes."""

    @property
    def stopped(self) -> bool:
        """Whether to end after the batch in hand."""

    @property
    def last_sequence(self) -> int | None:
        """Where the stream ends for this consumer; None while that is open."""

    def report(self, written: Written, unsettled: dict[str, list[int]]) -> None:
        """A batch is committed; `unsettled` names rows without a fate by partition."""


@dataclass
class Consumption:
    """One run of the consumer; the only writer while it lasts."""

    session: ConsumingSession
    writer: Writer
    ledger: Ledger
    receipts_dir: Path
    _settled: dict[tuple[str, str], int] = field(default_factory=dict)
    _unsettled: dict[str, list[int]] = field(default_factory=dict)

    def run(self, control: Control) -> None:
        """Consume until `control` says stop, or all up to its last sequence is done."""
        pulling = self._pull(control)
        while True:
            batch = pulling.result()
            if control.stopped:
                return
            ending = _reaches_end(batch, control.last_sequence)
            if not ending:
                pulling = self._pull(control)
            written = self._consume(batch)
            drained = ending and self._is_drained(control.last_sequence)
            self._settle()
            control.report(written, self._unsettled)
            if drained:
                return
            if ending:
                pulling = self._pull(control)

    def _pull(self, control: Control) -> Future[list[Delivered]]:
        return self.session.pull(
            _BATCH_MESSAGES,
            max_bytes=_BATCH_BYTES,
            linger_seconds=_LINGER_SECONDS,
            last_wanted_sequence=control.last_sequence,
        )

    def _consume(self, batch: Sequence[Delivered]) -> Written:
        if not batch:
            return Written()
        written = self.writer.write(_as_table(batch))
        self.session.ack(batch).result()
        return written

    def _is_drained(self, last_sequence: int | None) -> bool:
        """Whether everything to consume is acked; acks take a moment to count."""
        for _ in range(_ACK_POLLS):
            undelivered, unacked, floor = self.session.pending()
            if undelivered == 0 and unacked == 0:
                return True
            if last_sequence is not None and floor >= last_sequence:
                return True
            time.sleep(_ACK_POLL_SECONDS)
        return False

    def _settle(self) -> None:
        """Settle every new receipt whose messages are all acked."""
        undelivered, unacked, floor = self.session.pending()
        everything = undelivered == 0 and unacked == 0
        for folder in _receipt_folders(self.receipts_dir):
            for key, version in folder.versions():
                name = (folder.path.name, key)
                if self._settled.get(name) == version:
                    continue
                receipt = folder.read(key)
                if everything or receipt.last_sequence <= floor:
                    self._settle_partition(receipt)
                    self._settled[name] = version

    def _settle_partition(self, receipt: Receipt) -> None:
        entry = LedgerEntry(
            receipt.import_id, receipt.partition_key, receipt.server_id, receipt.published_at
        )
        lost = self.ledger.settle(entry, receipt.rows, utc_now())
        if lost:
            self._unsettled[receipt.partition_key] = lost
        else:
            self._unsettled.pop(receipt.partition_key, None)


def _reaches_end(batch: Sequence[Delivered], last_sequence: int | None) -> bool:
    if last_sequence is None:
        return False
    return not batch or batch[-1].sequence >= last_sequence


def _as_table(batch: Sequence[Delivered]) -> pa.Table:
    columns = [
        [message.sequence for message in batch],
        [message.subject for message in batch],
        [message.headers.get(IMPORT_HEADER) for message in batch],
        [message.headers.get(MESSAGE_ID_HEADER) for message in batch],
        [message.payload for message in batch],
    ]
    arrays = [pa.array(column, f.type) for column, f in zip(columns, MESSAGES, strict=True)]
    return pa.Table.from_arrays(arrays, schema=MESSAGES)


def _receipt_folders(receipts_dir: Path) -> list[ReceiptFolder]:
    if not receipts_dir.exists():
        return []
    return [ReceiptFolder(path) for path in sorted(receipts_dir.iterdir()) if path.is_dir()]
