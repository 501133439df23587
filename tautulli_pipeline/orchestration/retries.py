"""When a sensor may try a failed job again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import dagster as dg

from tautulli_pipeline.errors import ConfigurationError, SourceError
from tautulli_pipeline.orchestration.instance import COMMAND_LINE_TAGS
from tautulli_pipeline.orchestration.stops import EXIT_CODE
from tautulli_pipeline.printable import time_in_words

_FIRST_PAUSE: Final = timedelta(minutes=1)
_LONGEST_PAUSE: Final = timedelta(hours=1)
# As many failures as it takes to reach the longest pause.
_MOST_FAILURES: Final = 7
# With these exit codes, another try fails for the same reason unless something is changed.
_UNTIL_CHANGED: Final = frozenset({ConfigurationError.exit_code, SourceError.exit_code})


@dataclass(frozen=True)
class Failures:
    """The latest runs of a job, all of which failed.

    Attributes:
        count: how many failed in a row, at most as many as the longest pause takes.
        ended_at: when the last one ended, in UTC.
        exit_code: the exit code that the command line would have had; None if it is not known.
    """

    job_name: str
    count: int
    ended_at: datetime
    exit_code: int | None

    @property
    def retry_at(self) -> datetime:
        """When the job may be tried again: the pause doubles with each failure."""
        return self.ended_at + min(_FIRST_PAUSE * (1 << self.count - 1), _LONGEST_PAUSE)

    def skip_reason(self, now: datetime, *, cause_changed: bool = True) -> str | None:
        """Return why the job must not be tried again yet; None if it may."""
        failed = f"{self.job_name} failed at {time_in_words(self.ended_at)}"
        if self.exit_code in _UNTIL_CHANGED and not cause_changed:
            return f"{failed}; it is tried again when the database or the settings change"
        if now >= self.retry_at:
            return None
        return f"{failed}; it is tried again at {time_in_words(self.retry_at)}"


def latest_failures(instance: dg.DagsterInstance, job_name: str) -> Failures | None:
    """Return the failed runs since the last run that did not fail; None if there are none.

    Runs of the command line do not count.
    """
    failed: list[dg.RunRecord] = []
    for record in instance.get_run_records(dg.RunsFilter(job_name=job_name), 2 * _MOST_FAILURES):
        if COMMAND_LINE_TAGS.keys() <= record.dagster_run.tags.keys():
            continue
        if record.dagster_run.status is not dg.DagsterRunStatus.FAILURE:
            break
        failed.append(record)
    if not failed:
        return None
    latest = failed[0]
    return Failures(
        job_name,
        min(len(failed), _MOST_FAILURES),
        datetime.fromtimestamp(latest.end_time or latest.update_timestamp.timestamp(), UTC),
        _exit_code(instance, latest.dagster_run.run_id),
    )


def _exit_code(instance: dg.DagsterInstance, run_id: str) -> int | None:
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_FAILURE):
        event = entry.dagster_event
        failure = event.step_failure_data.user_failure_data if event else None
        if failure is not None and EXIT_CODE in failure.metadata:
            return int(str(failure.metadata[EXIT_CODE].value))
    return None
