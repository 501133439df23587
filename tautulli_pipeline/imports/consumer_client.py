"""The import's client for its consumer process."""

from __future__ import annotations

import logging
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Final, TypeVar

from tautulli_pipeline.data_dir.logs import LOGGER
from tautulli_pipeline.errors import PipelineError, WarehouseHeldError
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
    Order,
    Progress,
    Ready,
    Reply,
    Upgrading,
    Waiting,
    parse,
    send,
)
from tautulli_pipeline.imports.record import Outcomes
from tautulli_pipeline.imports.stopping import Stop
from tautulli_pipeline.warehouse.arrivals import Arrivals
from tautulli_pipeline.warehouse.server_list import Names
from tautulli_pipeline.warehouse.upgrade import OnUpgraded

_END_TIMEOUT_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.1
_ENDED: Final = Failed(
    1, "the consumer ended unexpectedly", "import again to resume; use --debug for details"
)
_KINDS: Final = {kind.exit_code: kind for kind in PipelineError.__subclasses__()}

Awaited = TypeVar("Awaited", Ready, Drained)


@contextmanager
def spawned_consumer() -> Iterator[subprocess.Popen[bytes]]:
    """Start a consumer process; it loads its modules and touches nothing until `Begin`."""
    command = [sys.executable, "-m", "tautulli_pipeline.imports.consumer_main"]
    if LOGGER.isEnabledFor(logging.DEBUG):
        command.append("--debug")
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


class ConsumerClient:
    """Sends orders to a consumer process and receives its replies.

    Args:
        process: a consumer that has not begun.
        stop: a request ends every wait for a reply.
        on_progress: receives what is settled so far; called from another thread.
        on_wait: receives what the consumer is waiting for; called from another thread.
        on_held: receives who holds the warehouse, at each attempt to open it; like `on_wait`.
        on_upgraded: receives how many rows of the warehouse are upgraded, and all; like `on_wait`.
        on_ready: called once the warehouse and the stream are open; like `on_wait`.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        stop: Stop,
        *,
        on_progress: Callable[[Outcomes], None],
        on_wait: Callable[[str], None],
        on_held: Callable[[str], None],
        on_upgraded: OnUpgraded = lambda _done, _total: None,
        on_ready: Callable[[], None] = lambda: None,
    ) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._stop = stop
        self._orders = process.stdin
        self._lines = process.stdout
        self._on_progress = on_progress
        self._on_wait = on_wait
        self._on_held = on_held
        self._on_upgraded = on_upgraded
        self._on_ready = on_ready
        self._replies: queue.Queue[Order | Reply] = queue.Queue()
        self._failed: Failed | None = None
        self._held: WarehouseHeldError | None = None
        self._held_since = 0.0
        self._times_held = 0
        self._ready: Ready | None = None
        self._listener = threading.Thread(target=self._listen, name="consumer", daemon=True)
        self._listener.start()

    def begin(self, import_id: str, sample: Iterable[str] = ()) -> None:
        """Tell it to consume for that import; see `Begin`."""
        self._order(Begin(import_id, list(sample)))

    def name(self, names: Names) -> None:
        """Tell it to store the names of users and libraries; done when `drain` returns."""
        self._order(Name(names))

    def await_ready(self, wait_seconds: float) -> Ready:
        """Wait until the consumer has opened the warehouse and the stream.

        Raises:
            WarehouseHeldError: another program still has it open after `wait_seconds`.
            PipelineError: see `require_running`.
        """
        deadline, seen = time.monotonic() + wait_seconds, self._times_held
        while self._ready is None:
            is_news, seen = seen != self._times_held, self._times_held
            if is_news and self._held and time.monotonic() >= deadline:
                raise self._held
            with suppress(queue.Empty):
                self._ready = self._next(Ready)
        return self._ready

    def require_not_held(self, wait_seconds: float) -> None:
        """Raise an error if the consumer has been waiting for that long for the warehouse.

        Raises:
            WarehouseHeldError: another program has it open.
        """
        if self._held and time.monotonic() - self._held_since >= wait_seconds:
            raise self._held

    def cover(self, partitions: Iterable[str]) -> None:
        """Tell it to count the settled rows of these partitions only."""
        self._order(Cover(sorted(partitions)))

    def drain(self, last_sequence: int) -> Drained:
        """Wait until everything up to `last_sequence` is consumed and settled.

        Raises:
            PipelineError: see `require_running`.
        """
        self._order(Drain(last_sequence))
        while True:
            with suppress(queue.Empty):
                return self._next(Drained)

    def finish(self, since: datetime | None) -> Arrivals | None:
        """End the consumer after its current batch and wait for it.

        Returns:
            What the warehouse received since then, if the consumer lived to report it.
        """
        if self._ready is None:  # it may be waiting for a lock, and has no batch
            self.kill()
            return None
        self._order(Finish(since))
        self._close_orders()
        try:
            self._await_end()
        finally:
            self.kill()
        last = [reply for reply in self._replies.queue if isinstance(reply, Finished)]
        return last[0].arrivals if last else None

    def _await_end(self) -> None:
        """Wait for its last batch, unless a second signal asks to end immediately."""
        deadline = time.monotonic() + _END_TIMEOUT_SECONDS
        while not self._stop.is_urgent and time.monotonic() < deadline:
            self._listener.join(_POLL_SECONDS)  # its output ends a moment before it does
            if not self._listener.is_alive():
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(_POLL_SECONDS)
                    return

    @contextmanager
    def ended_after_failure(self) -> Iterator[None]:
        """End the consumer if the context fails: after its current batch, or immediately."""
        try:
            yield
        except KeyboardInterrupt:  # the user does not want to wait for the batch
            self.kill()
            raise
        except BaseException:
            self.finish(None)
            raise

    def kill(self) -> None:
        """End it immediately if it is still running; what it committed is kept."""
        self._process.kill()
        self._process.wait()
        self._listener.join()
        self._close_orders()

    def _close_orders(self) -> None:
        with suppress(BrokenPipeError):  # it died before it read the last order
            self._orders.close()

    def require_running(self) -> None:
        """Raise an error if a stop was requested or the consumer has ended.

        Raises:
            StoppedError: a stop was requested.
            PipelineError: the error that ended the consumer.
        """
        self._stop.require_none()
        if self._failed is not None:
            failed = self._failed
            kind = _KINDS.get(failed.exit_code, PipelineError)
            error = kind(failed.message, hint=failed.hint)
            error.add_note(failed.traceback)
            raise error

    def _order(self, order: Order) -> None:
        if not self._orders.closed:
            send(self._orders, order)

    def _next(self, kind: type[Awaited]) -> Awaited:
        """Return the next reply.

        Raises:
            queue.Empty: there is none yet, and the consumer is running.
        """
        try:
            reply = self._replies.get(timeout=_POLL_SECONDS)
        except queue.Empty:
            self.require_running()
            raise
        assert isinstance(reply, kind), reply
        return reply

    def _listen(self) -> None:
        failed = _ENDED
        for line in self._lines:
            if not line.endswith(b"\n"):
                break  # it was killed in the middle of a reply
            reply = parse(line)
            if not isinstance(reply, Held):
                self._held = None
            if isinstance(reply, Progress):
                self._on_progress(reply.outcomes)
            elif isinstance(reply, Waiting):
                self._on_wait(reply.words)
            elif isinstance(reply, Upgrading):
                self._on_upgraded(reply.done, reply.total)
            elif isinstance(reply, Held):
                self._note_holder(reply)
            elif isinstance(reply, Failed):
                failed = reply
            else:
                if isinstance(reply, Ready):
                    self._on_ready()
                self._replies.put(reply)
        self._failed = failed

    def _note_holder(self, reply: Held) -> None:
        if self._held is None:
            self._held_since = time.monotonic()
        self._held = held = WarehouseHeldError(reply.message, hint=reply.hint)
        self._times_held += 1
        self._on_held(held.waiting)
