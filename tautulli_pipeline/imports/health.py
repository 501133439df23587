"""Whether the last import completed, and recently enough."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from tautulli_pipeline.errors import ConfigurationError, PipelineError
from tautulli_pipeline.imports.record import RUNNING, ImportRecord, Status, log_of
from tautulli_pipeline.printable import time_in_words
from tautulli_pipeline.settings import Settings

_ENDED: Final[dict[Status | None, str]] = {
    Status.FAILED: "failed",
    Status.STOPPED: "was stopped",
}


def last_completed_at(settings: Settings, max_age_hours: float | None = None) -> datetime:
    """Return when the last import completed; while one runs, the one before it counts.

    With several servers, it is the earliest of their times.

    Raises:
        PipelineError: it did not complete, or longer ago than `max_age_hours`; with several
            servers, that of the first one, and how many others are not healthy.
    """
    completed, failures = [], []
    for of_server in settings.each_server:
        try:
            completed.append(_completed_at(of_server, max_age_hours))
        except PipelineError as error:
            failures.append((of_server.server, error))
    if not failures:
        return min(completed)
    server, failure = failures[0]
    others = ", ".join(other for other, _ in failures[1:])
    more = f" (not healthy either: {others})" if others else ""
    prefix = f"{server}: " if server else ""
    raise PipelineError(f"{prefix}{failure.message}{more}", hint=failure.hint) from failure


def _completed_at(settings: Settings, max_age_hours: float | None) -> datetime:
    try:
        record = log_of(settings).last()
    except ConfigurationError as error:
        raise PipelineError(error.message, hint=error.hint) from error
    if record and (problem := _problem(record)):
        raise PipelineError(
            problem, hint="`tautulli-pipeline status` shows its progress; import again to resume it"
        )
    completed_at = record.completed_at if record else None
    if completed_at is None:
        first = "; the first one is running" if record else ""
        which = "no import" if settings.server else f"no import into {settings.data_dir}"
        raise PipelineError(
            f"{which} has completed yet{first}",
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
