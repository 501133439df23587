"""The record and clock of an import while it runs."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tautulli_pipeline.errors import StoppedError, in_one_line
from tautulli_pipeline.imports.record import ImportLog, ImportRecord, Outcomes, Status

if TYPE_CHECKING:
    from tautulli_pipeline.imports.plan import Finished, Plan
    from tautulli_pipeline.imports.receipts import Receipt

_log = logging.getLogger(__name__)


class RunningImport:
    """Keeps the record up to date while an import runs.

    Args:
        log: stores the record.
        record: the import that begins or is resumed; it is stored immediately.
        unreadable: the unreadable parts of the source.
        began_at: when the user began to wait, by `time.monotonic`.
        observe: receives the record whenever it changes.
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
        # As if all attempts had followed each other without a break.
        self._began_at = began_at - record.elapsed_seconds
        self._upgrading_since: float | None = None
        self._last = log.read()
        self._record = replace(
            record,
            process_id=os.getpid(),
            unreadable=unreadable,
            sent_records=record.outcomes.processed,
            ended_at=None,
            error=None,
        )
        self._change(lambda now: replace(now, status=Status.RUNNING))
        verb = "resuming" if record.covered else "beginning"
        _log.info("%s import %s of %s", verb, record.import_id, record.source)

    @property
    def record(self) -> ImportRecord:
        """The current record."""
        if self._record.ended_at is not None:
            return self._record
        now = time.monotonic()
        upgraded = now - self._upgrading_since if self._upgrading_since is not None else 0.0
        return replace(
            self._record,
            elapsed_seconds=now - self._began_at,
            upgrade_seconds=self._record.upgrade_seconds + upgraded,
        )

    def upgrading(self) -> None:
        """Count the time from now on as that of an upgrade of the warehouse."""
        if self._upgrading_since is None:
            self._upgrading_since = time.monotonic()

    def ready(self) -> None:
        """Count the time from now on as that of the import again: the warehouse is open."""
        with self._changing:
            self._record, self._upgrading_since = self.record, None

    def half_published(self, finished: Mapping[str, Finished]) -> set[str]:
        """Return the finished partitions that a later import began again and did not finish."""
        record = self._record
        begun = record.begun.get(record.server_id, {})
        return {
            key
            for key in finished.keys() & begun.keys()
            if finished[key].import_id not in {begun[key], record.import_id}
        }

    def cover(self, plan: Plan) -> None:
        """Record what the import covers."""
        self._change(
            lambda now: replace(
                now,
                total_records=plan.total_records,
                unchanged=plan.unchanged,
                pending=plan.pending,
                covered=tuple(sorted(plan.covered)),
            )
        )

    def cover_nothing(self, unchanged: int) -> None:
        """Record that all plays of the source, that many, are as an earlier import left them."""
        self._change(lambda now: replace(now, unchanged=unchanged))

    def settled(self, outcomes: Outcomes) -> None:
        """Record the settled rows."""
        self._change(lambda now: replace(now, outcomes=outcomes))

    def progressed(self, outcomes: Outcomes) -> None:
        """Record the rows settled so far; ignore a full disk, as the next write reports it."""
        with suppress(OSError):
            self.settled(outcomes)

    def published(self, receipt: Receipt) -> None:
        """Record the published rows of a partition."""
        ids = receipt.rows["source_row_id"].drop_null()
        last = ids[-1].as_py() if len(ids) else self._record.last_processed_id
        sent = self._record.sent_records + receipt.rows.num_rows
        self._change(
            lambda now: replace(
                now.finishing(receipt.partition_key), last_processed_id=last, sent_records=sent
            )
        )

    def complete(self) -> None:
        """Record that every row is settled; if there was nothing to do, keep the last import."""
        self._end(Status.COMPLETED)
        last, record = self._last, self._record
        is_same = last is not None and last.is_of(record.source, record.server_id)
        if not record.total_records and last and is_same and last.status is Status.COMPLETED:
            checked_at = record.ended_at
            last = last.after(record)
            self._log.write(replace(last, checked_at=checked_at, pending=record.pending))
        _log.info("import %s is complete: %s", self._record.import_id, self._record.outcomes)

    @contextmanager
    def until_ended(self) -> Iterator[None]:
        """Record an import that did not complete as stopped or failed."""
        try:
            yield
        except BaseException as error:
            if self._record.status is not Status.COMPLETED:
                stopped = isinstance(error, StoppedError | KeyboardInterrupt)
                status = Status.STOPPED if stopped else Status.FAILED
                # If the disk is too full to record this, the import counts as failed.
                with suppress(OSError):
                    self._end(status, None if stopped else in_one_line(error))
                _log.warning("import %s %s: %r", self._record.import_id, status, error)
            raise

    def _end(self, status: Status, error: str | None = None) -> None:
        self._change(lambda now: now.ended(status, error))

    def _change(self, change: Callable[[ImportRecord], ImportRecord]) -> None:
        with self._changing:
            self._record = change(self.record)
            self._log.write(self._record)
            self._observe(self._record)
