"""The consumer of one import, under the orders of the process that runs it.

When its orders end, whoever gave them is gone: it finishes the batch in hand and ends too.
"""

from __future__ import annotations

import queue
import threading
import traceback
from dataclasses import asdict, dataclass, field
from io import FileIO
from typing import IO

import orjson
from duckdb import DuckDBPyConnection

from tautulli_pipeline.errors import PipelineError, StoppedError
from tautulli_pipeline.imports.consumption import Consumption
from tautulli_pipeline.memory import spare_collector
from tautulli_pipeline.orchestration.consumer_protocol import (
    DRAIN,
    DRAINED,
    FAILED,
    FINISHED,
    PROGRESS,
    READY,
    WAITING,
)
from tautulli_pipeline.orchestration.data_directory import explained_faults
from tautulli_pipeline.orchestration.services import (
    announce_warehouse,
    consumer_lock,
    data_paths,
    deduplicator,
    stream_address,
)
from tautulli_pipeline.settings import Settings, load_settings
from tautulli_pipeline.stream.session import open_consuming
from tautulli_pipeline.warehouse.arrivals import Arrivals, arrivals_since
from tautulli_pipeline.warehouse.ledger import Ledger, Unsettled
from tautulli_pipeline.warehouse.schema import open_warehouse, warehouse_id
from tautulli_pipeline.warehouse.writer import Writer, Written, utc_now


@dataclass
class _Orders:
    """What the parent process wants, read line by line in a thread."""

    lines: FileIO
    stopped: bool = False
    last_sequence: int | None = None
    _others: queue.Queue[bool] = field(default_factory=queue.Queue)

    def await_begin(self) -> str | None:
        """Wait for the id of the import; None where there will be none."""
        line = self.lines.readline()
        return str(orjson.loads(line)["import_id"]) if line else None

    def listen(self) -> None:
        for line in self.lines:
            order = orjson.loads(line)
            if order["kind"] != DRAIN:
                break
            is_another = self.last_sequence is not None
            self.last_sequence = order["last_sequence"]
            if is_another:
                self._others.put(True)
        self.stopped = True
        self._others.put(False)

    def await_another(self) -> bool:
        """Wait for an order to drain after one that is carried out; False when it is over."""
        return self._others.get()


@dataclass
class _Reporting:
    """Passes orders to the consumption and its progress to the parent."""

    orders: _Orders
    replies: IO[bytes]
    ledger: Ledger
    import_id: str
    unsettled: dict[str, list[int]] = field(default_factory=dict)
    totals: dict[str, int] = field(default_factory=dict)

    @property
    def stopped(self) -> bool:
        return self.orders.stopped

    @property
    def last_sequence(self) -> int | None:
        return self.orders.last_sequence

    def report(self, _written: Written, unsettled: Unsettled) -> None:
        # Those of an import left unfinished before are its own to publish again.
        self.unsettled = {key: ids for (of, key), ids in unsettled.items() if of == self.import_id}
        totals = self.ledger.totals(self.import_id)
        if totals != self.totals:
            self.totals = totals
            self.reply(PROGRESS)

    def reply(self, kind: str, **facts: object) -> None:
        message = {"kind": kind, "totals": self.totals, "unsettled": self.unsettled} | facts
        _write_line(self.replies, message)


@dataclass
class CommandedConsuming:
    """The consuming half of an import, under the parent's orders."""

    settings: Settings
    orders: _Orders
    replies: IO[bytes]
    import_id: str

    def run(self) -> Arrivals:
        """Consume and settle until the parent says finish or is gone."""
        began_at = utc_now()
        with (
            explained_faults(self.settings.data_dir),
            consumer_lock(self.settings),
            open_warehouse(self.settings.warehouse_path) as connection,
        ):
            self._consume(connection)
            return arrivals_since(connection, began_at)

    def _consume(self, connection: DuckDBPyConnection) -> None:
        with (
            stream_address(self.settings) as address,
            open_consuming(address, on_wait=self._wait) as session,
        ):
            ledger = Ledger(connection)
            reporting = _Reporting(self.orders, self.replies, ledger, self.import_id)
            writer = Writer(connection, deduplicator(self.settings), str(session.identity))
            consumption = Consumption(session, writer, ledger, data_paths(self.settings).receipts)
            announce_warehouse(self.settings, warehouse_id(connection))
            reporting.reply(
                READY,
                warehouse_id=warehouse_id(connection),
                stream_id=str(session.identity),
            )
            spare_collector()
            while True:
                consumption.run(reporting)
                if self.orders.stopped:
                    return
                reporting.totals = ledger.totals(self.import_id)
                reporting.reply(DRAINED)
                if not self.orders.await_another():
                    return

    def _wait(self, words: str) -> None:
        """Tell the parent what is waited for, unless nobody needs the end of it."""
        if self.orders.stopped:
            raise StoppedError("the consumer was stopped")
        _write_line(self.replies, {"kind": WAITING, "words": words})


def _write_line(stream: IO[bytes], message: object) -> None:
    try:
        stream.write(orjson.dumps(message) + b"\n")
        stream.flush()
    except BrokenPipeError:
        # The parent is gone; the end of standard input tells us so as well.
        pass


def serve(lines: FileIO, replies: IO[bytes]) -> int:
    """Consume for one import.

    Args:
        lines: its orders.
        replies: where its progress goes.

    Returns:
        The exit code.
    """
    orders = _Orders(lines)
    import_id = orders.await_begin()
    if import_id is None:
        return 0
    threading.Thread(target=orders.listen, daemon=True).start()
    try:
        arrivals = CommandedConsuming(load_settings(), orders, replies, import_id).run()
    except Exception as error:  # the last boundary: the parent tells it to people
        _write_line(replies, {"kind": FAILED, "fault": _described(error)})
        return 1
    _write_line(replies, {"kind": FINISHED, "arrivals": asdict(arrivals)})
    return 0


def _described(error: Exception) -> dict[str, object]:
    if isinstance(error, PipelineError):
        known = {"exit_code": error.exit_code, "message": error.message, "hint": error.hint}
    else:
        cause = str(error).partition("\n")[0]
        known = {"exit_code": 1, "message": f"the consumer failed: {type(error).__name__}: {cause}"}
    return {"hint": "", **known, "traceback": traceback.format_exc()}
