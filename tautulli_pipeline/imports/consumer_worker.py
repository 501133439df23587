"""The consumer of one import, controlled by the process that runs the import.

If its input ends, that process is gone: the consumer finishes its current batch and ends too.
"""

from __future__ import annotations

import threading
import traceback
from dataclasses import dataclass, field
from datetime import datetime
from io import FileIO
from typing import IO

from tautulli_pipeline.data_dir.directory import explained_faults
from tautulli_pipeline.errors import PipelineError, StoppedError
from tautulli_pipeline.imports.connections import open_as_consumer
from tautulli_pipeline.imports.consumer_protocol import (
    Begin,
    Cover,
    Drain,
    Drained,
    Failed,
    Finish,
    Finished,
    Progress,
    Ready,
    Waiting,
    parse,
    send,
)
from tautulli_pipeline.imports.consuming import open_consumption
from tautulli_pipeline.imports.record import Outcomes
from tautulli_pipeline.settings import Settings, load_settings
from tautulli_pipeline.warehouse.arrivals import Arrivals, arrivals_since
from tautulli_pipeline.warehouse.ledger import Ledger, Unsettled
from tautulli_pipeline.warehouse.schema import warehouse_id


@dataclass
class _Orders:
    """The orders of the import, read line by line in a thread.

    Attributes:
        changed: released for each `Drain` after the first one, and for the last order.
    """

    lines: FileIO
    stopped: bool = False
    last_sequence: int | None = None
    covered: list[str] | None = None
    since: datetime | None = None
    changed: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def listen(self) -> None:
        for line in self.lines:
            order = parse(line)
            if isinstance(order, Cover):
                self.covered = order.partitions
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


@dataclass
class _Reporting:
    """Sends the progress of the consumption to the import."""

    orders: _Orders
    replies: IO[bytes]
    ledger: Ledger
    import_id: str
    unsettled: dict[str, list[int]] = field(default_factory=dict)
    outcomes: Outcomes | None = None

    def report(self, unsettled: Unsettled) -> None:
        # An earlier unfinished import has to publish its own rows again.
        self.unsettled = {key: ids for (of, key), ids in unsettled.items() if of == self.import_id}
        outcomes = self.settled()
        if outcomes != self.outcomes:
            self.outcomes = outcomes
            send(self.replies, Progress(outcomes))

    def settled(self) -> Outcomes:
        return Outcomes(**self.ledger.totals(self.import_id, self.orders.covered))

    def drained(self) -> None:
        send(self.replies, Drained(self.settled(), self.unsettled))


def consume(
    settings: Settings, orders: _Orders, replies: IO[bytes], begin: Begin
) -> Arrivals | None:
    """Consume and settle until the import sends `Finish` or is gone.

    Returns:
        What the warehouse received since the time in the last order, if it names one.
    """

    def wait(words: str) -> None:
        """Report what the consumer is waiting for, unless it was stopped."""
        if orders.stopped:
            raise StoppedError("the consumer was stopped")
        send(replies, Waiting(words))

    with (
        explained_faults(settings.data_dir),
        open_as_consumer(settings, wait_seconds=begin.wait_seconds, on_wait=wait) as connection,
    ):
        with open_consumption(settings, connection, on_wait=wait) as consumption:
            send(replies, Ready(warehouse_id(connection)))
            reporting = _Reporting(orders, replies, consumption.ledger, begin.import_id)
            consumption.run(orders, reporting.report)
            while not orders.stopped:
                reporting.drained()
                orders.changed.acquire()
                consumption.run(orders, reporting.report)
        return arrivals_since(connection, orders.since) if orders.since else None


def serve(lines: FileIO, replies: IO[bytes]) -> int:
    """Consume for one import.

    Args:
        lines: the orders.
        replies: receives the replies.

    Returns:
        The exit code.
    """
    first = lines.readline()
    begin = parse(first) if first else None
    if not isinstance(begin, Begin):
        return 0
    orders = _Orders(lines)
    threading.Thread(target=orders.listen, daemon=True).start()
    try:
        arrivals = consume(load_settings(), orders, replies, begin)
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
