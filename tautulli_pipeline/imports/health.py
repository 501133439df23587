"""Whether the last import completed, and recently enough."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from tautulli_pipeline.errors import ConfigurationError, PipelineError
from tautulli_pipeline.imports.record import RUNNING, ImportLog, ImportRecord, Status
from tautulli_pipeline.printable import time_in_words

_ENDED: Final[dict[Status | None, str]] = {
    Status.FAILED: "failed",
    Status.STOPPED: "was stopped",
}


def last_completed_at(data_dir: Path, max_age_hours: float | None = None) -> datetime:
    """Return when the last import completed; while one runs, the one before it counts.

    Raises:
        PipelineError: it did not complete, or longer ago than `max_age_hours`.
    """
    try:
        record = ImportLog(data_dir).last()
    except ConfigurationError as error:
        raise PipelineError(error.message, hint=error.hint) from error
    if record and (problem := _problem(record)):
        raise PipelineError(
            problem, hint="`tautulli-pipeline status` shows its progress; import again to resume it"
        )
    completed_at = record.completed_at if record else None
    if completed_at is None:
        first = "; the first one is running" if record else ""
        raise PipelineError(
            f"no import into {data_dir} has completed yet{first}",
            hint="start one with `tautulli-pipeline import`, or wait for it",
        )
    age = datetime.now(UTC) - completed_at
    if max_age_hours is not None and age > timedelta(hours=max_age_hours):
        raise PipelineError(
            f"the last import completed {age / timedelta(hours=1):,.1f} hours ago, "
            f"at {time_in_words(completed_at)}, which is more than {max_age_hours:g}",
            hint="check what starts the imports; the schedule needs `up` and IMPORT_ENABLED=true",
        )
    return completed_at


def in_utc(moment: datetime) -> str:
    """Return a UTC time in RFC 3339, for JSON."""
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def _problem(record: ImportRecord) -> str:
    """Return what kept the last import from completing; '' if nothing did."""
    if record.status in RUNNING:
        ended = _ENDED.get(record.status_before)
        return f"the import before the running one {ended}" if ended else ""
    if record.refused:
        return f"the last import failed: {record.refused}"
    ended = _ENDED.get(record.status)
    cause = f": {record.error}" if record.error else ""
    return f"the last import {ended}{cause}" if ended else ""
