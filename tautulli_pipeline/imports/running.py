"""An import while a process runs it: its record and its clock."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from tautulli_pipeline.errors import StoppedError
from tautulli_pipeline.imports.plan import Plan
from tautulli_pipeline.imports.receipts import Receipt
from tautulli_pipeline.imports.record import ImportLog, ImportRecord, Outcomes, Status

_log = logging.getLogger(__name__)


class RunningImport:
    """Keeps the record in step with the work.

    Args:
        log: where the record is stored.
        record: the import that begins or is resumed; it is stored at once.
        unreadable: what of the source could not be read.
        began_at: when a person began to wait, by `time.monotonic`.
        observe: sees the record whenever it changes.
    """

    def __init__(
        self,
        log: ImportLog,
        record: ImportRecord,
        *,
        unreadable: tuple[dict[str, Any], ...],
        began_at: float,
        observe: Callable[[ImportRecord], None],
    ) -> None:
        self._log = log
        self._observe = observe
        self._changing = threading.Lock()
        self._elapsed_before_seconds = record.elapsed_seconds
        self._began_at = began_at
        self._record = replace(record, process_id=os.getpid(), unreadable=unreadable, ended_at=None)
        self._store(replace(self.record, status=Status.RUNNING))
        begun = "resumes" if record.covered else "begins"
        _log.info("import %s of %s %s", record.import_id, record.source, begun)

    @property
    def record(self) -> ImportRecord:
        """The record as it is at this moment."""
        if self._record.ended_at is not None:
            return self._record
        elapsed = self._elapsed_before_seconds + time.monotonic() - self._began_at
        return replace(self._record, elapsed_seconds=elapsed)

    def cover(self, plan: Plan) -> None:
        """Note what the import covers."""
        with self._changing:
            self._store(
                replace(
                    self.record,
                    total_records=plan.total_records,
                    unchanged=plan.unchanged,
                    pending=plan.pending,
                    covered=tuple(sorted(plan.covered)),
                )
            )

    def settled(self, outcomes: Outcomes) -> None:
        """Note what is settled."""
        with self._changing:
            self._store(replace(self.record, outcomes=outcomes))

    def progressed(self, outcomes: Outcomes) -> None:
        """Note what is settled so far; a full disk shows where something depends on it."""
        with suppress(OSError):
            self.settled(outcomes)

    def published(self, receipt: Receipt) -> None:
        """Note how far the source is published."""
        ids = receipt.rows["source_row_id"].drop_null()
        if len(ids):
            with self._changing:
                self._store(replace(self.record, last_processed_id=ids[-1].as_py()))

    def complete(self) -> None:
        """Note that every row is settled."""
        with self._changing:
            self._store(self._ended(Status.COMPLETED))
        _log.info("import %s is complete: %s", self._record.import_id, self._record.outcomes)

    @contextmanager
    def until_ended(self) -> Iterator[None]:
        """See that the record says how it ended where it was not completed."""
        try:
            yield
        except BaseException as error:
            if self._record.status is not Status.COMPLETED:
                stopped = isinstance(error, StoppedError | KeyboardInterrupt)
                status = Status.STOPPED if stopped else Status.FAILED
                # Without room to note it, it counts as failed.
                with suppress(OSError), self._changing:
                    self._store(self._ended(status))
                _log.warning("import %s %s: %r", self._record.import_id, status, error)
            raise

    def _ended(self, status: Status) -> ImportRecord:
        return replace(self.record, status=status, ended_at=datetime.now(UTC))

    def _store(self, record: ImportRecord) -> None:
        self._record = record
        self._log.write(record)
        self._observe(record)
