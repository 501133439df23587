"""The consuming half: the stream into the table, and receipts settled, for whoever runs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from duckdb import DuckDBPyConnection

from tautulli_pipeline.data_dir.consumer_lock import is_consumer_awaited
from tautulli_pipeline.errors import StoppedError
from tautulli_pipeline.imports.connections import deduplicator, stream_address
from tautulli_pipeline.imports.consumption import Consumption
from tautulli_pipeline.imports.receipts import ReceiptFolder
from tautulli_pipeline.imports.record import ImportLog, Outcomes
from tautulli_pipeline.imports.stopping import Stop
from tautulli_pipeline.settings import Settings
from tautulli_pipeline.stream.session import open_consuming
from tautulli_pipeline.warehouse.ledger import Ledger, Unsettled
from tautulli_pipeline.warehouse.writer import Writer, Written


@contextmanager
def open_consumption(
    settings: Settings, connection: DuckDBPyConnection, *, on_wait: Callable[[str], None]
) -> Iterator[Consumption]:
    """Connect to the stream as the one consumer.

    Args:
        settings: name the stream and size the cache of layer 2.
        connection: the warehouse, open for writing.
        on_wait: hears what is waited for, and may raise to end that.

    Raises:
        StreamError: the server cannot be reached or does not take the work.
    """
    with (
        stream_address(settings) as address,
        open_consuming(address, on_wait=on_wait) as session,
    ):
        writer = Writer(connection, deduplicator(settings), str(session.identity))
        yield Consumption(session, writer, Ledger(connection), settings.layout.receipts)


@dataclass
class _WhatIsThere:
    """Consume what is on the stream now, and make room for whoever waits to consume."""

    settings: Settings
    stop: Stop
    last_sequence: int
    lost: int = 0
    is_awaited: bool = False

    @property
    def stopped(self) -> bool:
        return self.is_awaited or self.stop.is_requested

    def report(self, _written: Written, unsettled: Unsettled) -> None:
        self.lost = sum(map(len, unsettled.values()))
        self.is_awaited = is_consumer_awaited(self.settings.layout)


def consume_backlog(
    settings: Settings,
    connection: DuckDBPyConnection,
    *,
    stop: Stop,
    on_wait: Callable[[str], None],
) -> int:
    """Consume what is on the stream, and complete the import that it settles the last row of.

    Returns:
        How many rows of unfinished imports were published but arrived nowhere.

    Raises:
        StoppedError: somebody asked to stop, or another consumer waits to begin; what is
            committed is kept.
        StreamError: the server cannot be reached or does not take the work.
    """

    def wait(words: str) -> None:
        stop.require_none()
        on_wait(words)

    with open_consumption(settings, connection, on_wait=wait) as consumption:
        backlog = _WhatIsThere(settings, stop, consumption.session.last_sequence())
        consumption.run(backlog, backlog.report)
        _settle_last_import(settings, consumption.ledger)
    stop.require_none()
    if backlog.is_awaited:
        raise StoppedError(
            "made room for another consumer of this data directory",
            hint="what is left on the stream is consumed by it, or by the next run",
        )
    return backlog.lost


def _settle_last_import(settings: Settings, ledger: Ledger) -> None:
    log = ImportLog(settings.data_dir)
    record = log.read()
    if record is None or not record.resumable:
        return
    if log.settle(record.import_id, Outcomes(**ledger.totals(record.import_id, record.covered))):
        ReceiptFolder(settings.layout.receipts / record.import_id).remove()
