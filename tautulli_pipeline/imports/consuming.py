"""Consume the stream into the table and settle receipts, for any kind of run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from duckdb import DuckDBPyConnection

from tautulli_pipeline.data_dir.consumer_lock import is_consumer_awaited
from tautulli_pipeline.errors import StoppedError, WarehouseBrokenError
from tautulli_pipeline.imports.connections import dedup_cache, stream_address
from tautulli_pipeline.imports.consumption import Consumption
from tautulli_pipeline.imports.receipts import ReceiptFolder
from tautulli_pipeline.imports.record import Outcomes, log_of
from tautulli_pipeline.imports.stopping import Stop
from tautulli_pipeline.settings import Settings
from tautulli_pipeline.stream.session import open_consuming
from tautulli_pipeline.warehouse.caution import Caution
from tautulli_pipeline.warehouse.ledger import Ledger
from tautulli_pipeline.warehouse.writer import Writer

_log = logging.getLogger(__name__)

Result = TypeVar("Result")


def reopening(consume: Callable[[Caution], Result]) -> Result:
    """Consume, and again with the warehouse reopened whenever a message broke it.

    `consume` opens the warehouse. What it committed is acked or recognized when it comes again.
    """
    caution = Caution()
    while True:
        try:
            return consume(caution)
        except WarehouseBrokenError as error:
            _log.warning("reopening the warehouse: %s", error)


@contextmanager
def open_consumption(
    settings: Settings,
    connection: DuckDBPyConnection,
    caution: Caution,
    *,
    on_wait: Callable[[str], None],
) -> Iterator[Consumption]:
    """Connect to the stream as its only consumer.

    Args:
        settings: the stream and the size of the layer 2 cache.
        connection: the warehouse, open for writing.
        caution: what is known about messages that broke the warehouse.
        on_wait: receives what the consumer is waiting for; may raise to end the wait.

    Raises:
        StreamError: the server is unreachable or refuses the request.
    """
    with (
        stream_address(settings) as address,
        open_consuming(address, on_wait=on_wait) as session,
    ):
        writer = Writer(
            connection,
            dedup_cache(settings),
            session.identity,
            caution=caution,
            servers=settings.servers,
        )
        ledger = Ledger(connection, settings.servers)
        yield Consumption(session, writer, ledger, settings.layout.receipts)


@dataclass
class _Backlog:
    """Consume what is on the stream now, and give way to a consumer that is waiting."""

    settings: Settings
    stop: Stop
    last_sequence: int
    is_awaited: bool = False

    @property
    def stopped(self) -> bool:
        return self.is_awaited or self.stop.is_requested

    def report(self, _consumption: Consumption) -> None:
        self.is_awaited = is_consumer_awaited(self.settings.layout)


def consume_backlog(
    settings: Settings,
    connection: DuckDBPyConnection,
    caution: Caution,
    *,
    stop: Stop,
    on_wait: Callable[[str], None],
) -> int:
    """Consume what is on the stream; complete the import if this settles its last row.

    Returns:
        The number of rows of unfinished imports that were published but never arrived.

    Raises:
        StoppedError: a stop was requested, or another consumer is waiting to begin; what is
            committed is kept.
        StreamError: the server is unreachable or refuses the request.
    """

    def wait(words: str) -> None:
        stop.require_none()
        on_wait(words)

    with open_consumption(settings, connection, caution, on_wait=wait) as consumption:
        backlog = _Backlog(settings, stop, consumption.session.last_sequence())
        consumption.run(backlog)
        for of_server in settings.each_server:
            _settle_last_import(of_server, consumption.ledger)
    stop.require_none()
    if backlog.is_awaited:
        raise gave_way()
    return sum(map(len, consumption.unsettled.values()))


def gave_way() -> StoppedError:
    """Return the error of a consumer that ends because another one is waiting to begin."""
    return StoppedError(
        "stopped because another consumer of this data directory is waiting",
        hint="that consumer, or the next run, consumes what is left on the stream",
    )


def _settle_last_import(settings: Settings, ledger: Ledger) -> None:
    log = log_of(settings)
    record = log.read()
    if record is None or not record.resumable:
        return
    if log.settle(record.import_id, Outcomes(**ledger.totals(record.import_id, record.covered))):
        ReceiptFolder(settings.layout.receipts / record.import_id).remove()
