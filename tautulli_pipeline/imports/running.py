"""An import while a process works at it: its record, its clock and requests to stop it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, Final

from tautulli_pipeline.errors import StoppedError
from tautulli_pipeline.imports.claim import Claim, ImportLock
from tautulli_pipeline.imports.receipts import Receipt
from tautulli_pipeline.imports.record import Fates, ImportLog, ImportRecord, Status

_LOOK_EVERY_SECONDS: Final = 0.2


class RunningImport:
    """Keeps the record in step with the work; `observe` sees each change."""

    def __init__(
        self,
        log: ImportLog,
        record: ImportRecord,
        observe: Callable[[ImportRecord], None] = lambda _record: None,
    ) -> None:
        self._log = log
        self._record = record
        self._observe = observe
        self._changing = threading.Lock()
        self._elapsed_before_seconds = record.elapsed_seconds
        self._began_at: float | None = None
        self._ended = Status.COMPLETED

    @property
    def record(self) -> ImportRecord:
        """The record as it is at this moment."""
        if self._began_at is None:
            return self._record
        elapsed = self._elapsed_before_seconds + time.monotonic() - self._began_at
        return replace(self._record, elapsed_seconds=elapsed)

    def start_clock(self) -> None:
        """Count time from now on."""
        self._began_at = time.monotonic()

    def stop_clock(self) -> None:
        """Count no more time."""
        with self._changing:
            self._record = self.record
            self._began_at = None

    def change(self, **changes: Any) -> None:  # noqa: ANN401 - as `replace` takes them
        """Change the record and store it."""
        with self._changing:
            self._store(changes)
        self._observe(self._record)

    def _store(self, changes: dict[str, Any]) -> None:
        self._record = replace(self.record, **changes)
        self._log.write(self._record)

    def progressed(self, totals: dict[str, int]) -> None:
        """Take what is settled so far; a disk that is full shows where something depends on it."""
        with suppress(OSError):
            self.change(fates=Fates(**totals))

    def published(self, receipt: Receipt) -> None:
        """Note how far the source is published."""
        ids = receipt.rows["source_row_id"].drop_null().to_pylist()
        if ids:
            self.change(last_processed_id=ids[-1])

    def mark_stopping(self) -> None:
        """Show that it ends after the batch in hand."""
        with self._changing, suppress(OSError):
            if self._record.status is Status.RUNNING:
                self._store({"status": Status.STOPPING})
        self._observe(self._record)

    @contextmanager
    def until_ended(
        self, *, stops: tuple[type[BaseException], ...] = (StoppedError, KeyboardInterrupt)
    ) -> Iterator[None]:
        """Running from enter to exit; then completed, stopped by one of `stops`, or failed."""
        try:
            yield
        except stops:
            self._end(Status.STOPPED)
            raise
        except BaseException:
            self._end(Status.FAILED)
            raise
        self.change(status=self._ended)

    def leave_pending(self) -> None:
        """Leave the rest, what consumes the stream, to somebody else."""
        self._ended = Status.PENDING

    def _end(self, status: Status) -> None:
        # What ended it is told, be there room to note it or not: unended, it counts as failed.
        with suppress(OSError):
            self.change(status=status)


@contextmanager
def heeding_requests(
    lock: ImportLock,
    claim: Claim,
    stopping: threading.Event,
    *,
    on_request: Callable[[], None],
    on_stopping: Callable[[], None],
) -> Iterator[None]:
    """Call `on_request` once when somebody asks to stop, `on_stopping` once it stops at all."""
    ended = threading.Event()

    def look() -> None:
        asked = False
        while not stopping.is_set() and not ended.wait(_LOOK_EVERY_SECONDS):
            if not asked and lock.is_stop_requested(claim):
                asked = True
                on_request()
        if stopping.is_set():
            on_stopping()

    thread = threading.Thread(target=look, name="stop-requests", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
