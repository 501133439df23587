"""The consumer of one import, controlled by the process that runs the import.

If its input ends, that process is gone: the consumer finishes its current batch and ends too.
"""

from __future__ import annotations

import math
import threading
import traceback
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from io import FileIO
from typing import IO

from duckdb import DuckDBPyConnection

from tautulli_pipeline.data_dir.directory import explained_faults
from tautulli_pipeline.errors import PipelineError, StoppedError, WarehouseHeldError
from tautulli_pipeline.events.servers import Servers
from tautulli_pipeline.imports.connections import open_as_consumer
from tautulli_pipeline.imports.consumer_protocol import (
    Begin,
    Cover,
    Drain,
    Drained,
    Failed,
    Finish,
    Finished,
    Held,
    Name,
    Progress,
    Ready,
    Upgrading,
    Waiting,
    parse,
    send,
)
from tautulli_pipeline.imports.consuming import open_consumption, reopening
from tautulli_pipeline.imports.consumption import Consumption
from tautulli_pipeline.imports.record import Outcomes
from tautulli_pipeline.settings import Settings, load_standing_settings
from tautulli_pipeline.warehouse.arrivals import Arrivals, arrivals_since
from tautulli_pipeline.warehouse.caution import Caution
from tautulli_pipeline.warehouse.schema import warehouse_id
from tautulli_pipeline.warehouse.server_list import (
    Names,
    holders_of,
    known_servers,
    newest_starts,
)


@dataclass
class _Import:
    """The import: its orders, which a thread reads, and the replies to it.

    Attributes:
        changed: released for each `Drain` after the first one, and for the last order.
        outcomes: what was reported last.
    """

    begin: Begin
    orders: FileIO
    replies: IO[bytes]
    is_ready: bool = False
    stopped: bool = False
    last_sequence: int | None = None
    covered: list[str] | None = None
    since: datetime | None = None
    changed: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    outcomes: Outcomes | None = None
    names: Names | None = None

    def listen(self) -> None:
        for line in self.orders:
            order = parse(line)
            if isinstance(order, Cover):
                self.covered = order.partitions
                continue
            if isinstance(order, Name):
                self.names = order.names
                continue
            if isinstance(order, Finish):
                self.since = order.since
            if not isinstance(order, Drain):
                break
            is_another = self.last_sequence is not None
            self.last_sequence = order.last_sequence
            if is_another:
                self.changed.release()
        self.stopped = True
        self.changed.release()

    def wait(self, words: str) -> None:
        """Report what the consumer is waiting for, unless it was stopped."""
        self._wait(Waiting(words))

    def wait_for(self, holder: WarehouseHeldError) -> None:
        """Report who holds the warehouse; the import decides how long to wait."""
        self._wait(Held(holder.message, holder.hint))

    def upgraded(self, done: int, total: int) -> None:
        """Report how far the upgrade of the warehouse is, unless it was stopped."""
        self._wait(Upgrading(done, total))

    def _wait(self, reply: Waiting | Held | Upgrading) -> None:
        if self.stopped:
            raise StoppedError("the consumer was stopped")
        send(self.replies, reply)

    def report_ready(self, connection: DuckDBPyConnection, servers: Servers) -> None:
        """Report once that the warehouse and the stream are open."""
        if not self.is_ready:
            self.is_ready = True
            known, sample = known_servers(connection), self.begin.sample
            holders = holders_of(connection, sample, servers) if sample else {}
            newest = newest_starts(connection, servers)
            found = Ready(warehouse_id(connection), known, len(sample), holders, newest)
            send(self.replies, found)

    def report(self, consumption: Consumption) -> None:
        if self.names is not None:
            consumption.writer.name(self.names)
            self.names = None
        outcomes = self._settled(consumption)
        if outcomes != self.outcomes:
            self.outcomes = outcomes
            send(self.replies, Progress(outcomes))

    def report_drained(self, consumption: Consumption) -> None:
        # An earlier unfinished import has to publish its own rows again.
        own = self.begin.import_id
        unsettled = {key: ids for (of, key), ids in consumption.unsettled.items() if of == own}
        send(self.replies, Drained(self._settled(consumption), unsettled))

    def _settled(self, consumption: Consumption) -> Outcomes:
        return Outcomes(**consumption.ledger.totals(self.begin.import_id, self.covered))


def consume(settings: Settings, running: _Import) -> Arrivals | None:
    """Consume and settle until the import sends `Finish` or is gone.

    Returns:
        What the warehouse received since the time in the last order, if it names one.
    """
    with explained_faults(settings.data_dir):
        return reopening(partial(_consume, settings, running))


def _consume(settings: Settings, running: _Import, caution: Caution) -> Arrivals | None:
    with open_as_consumer(
        settings,
        wait_seconds=math.inf,
        on_wait=running.wait_for,
        on_upgraded=running.upgraded,
    ) as connection:
        with open_consumption(settings, connection, caution, on_wait=running.wait) as consumption:
            running.report_ready(connection, settings.servers)
            consumption.run(running)
            while not running.stopped:
                running.report_drained(consumption)
                running.changed.acquire()
                consumption.run(running)
        return arrivals_since(connection, running.since) if running.since else None


def serve(orders: FileIO, replies: IO[bytes]) -> int:
    """Consume for one import; return the exit code."""
    first = orders.readline()
    begin = parse(first) if first else None
    if not isinstance(begin, Begin):
        return 0
    running = _Import(begin, orders, replies)
    threading.Thread(target=running.listen, daemon=True).start()
    try:
        arrivals = consume(load_standing_settings(), running)
    except Exception as error:  # the outermost boundary: the import shows the error to the user
        send(replies, _described(error))
        return 1
    if arrivals is not None:
        send(replies, Finished(arrivals))
    return 0


def _described(error: Exception) -> Failed:
    if isinstance(error, PipelineError):
        return Failed(error.exit_code, error.message, error.hint, traceback.format_exc())
    cause = str(error).partition("\n")[0]
    message = f"the consumer failed: {type(error).__name__}: {cause}"
    return Failed(1, message, "", traceback.format_exc())
