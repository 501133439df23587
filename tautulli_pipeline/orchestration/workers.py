"""The worker processes of runs. A run without a live process is dead, whatever its status."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

import dagster as dg
import psutil

# Holds the process id of a run that was not started by a launcher.
PROCESS_TAG: Final = "tautulli_pipeline/process_id"
UNFINISHED: Final = (
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)
# Upper bound for the difference between the clocks of the kernel and of the storage.
_CLOCK_TOLERANCE_SECONDS: Final = 2.0
_EXIT_TIMEOUT_SECONDS: Final = 10.0


def worker_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> psutil.Process | None:
    """Return the live process of a run; None if it no longer exists.

    Raises:
        LookupError: the run has not reported its process id yet.
    """
    process_id, reported_at = _reported_process(instance, run)
    try:
        process = psutil.Process(process_id)
        # A process that started after the report has reused the process id.
        if process.create_time() > reported_at.timestamp() + _CLOCK_TOLERANCE_SECONDS:
            return None
        return None if process.status() == psutil.STATUS_ZOMBIE else process
    except psutil.NoSuchProcess:
        return None


def _reported_process(instance: dg.DagsterInstance, run: dg.DagsterRun) -> tuple[int, datetime]:
    """Return the process id that a run reported last, and when it did."""
    if PROCESS_TAG in run.tags:
        record = instance.get_run_record_by_id(run.run_id)
        created_at = record.create_timestamp if record else datetime.now(UTC)
        return int(run.tags[PROCESS_TAG]), created_at
    for entry in reversed(instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)):
        event = entry.dagster_event
        pid = event.engine_event_data.metadata.get("pid") if event else None
        if pid is not None:
            return int(str(pid.value)), datetime.fromtimestamp(entry.timestamp, UTC)
    raise LookupError(run.run_id)


def fail_orphaned_runs(instance: dg.DagsterInstance, job_name: str | None = None) -> None:
    """Mark runs whose process was killed as failed; otherwise they would count as running."""
    unfinished = dg.RunsFilter(job_name=job_name, statuses=list(UNFINISHED))
    for run in instance.get_runs(unfinished):
        with suppress(LookupError):
            if worker_of(instance, run) is None:
                instance.report_run_failed(run, "The process of this run no longer exists.")


def has_unfinished_runs(instance: dg.DagsterInstance, job_name: str) -> bool:
    """Whether a run of the job is queued or running."""
    statuses = [dg.DagsterRunStatus.QUEUED, *UNFINISHED]
    return bool(instance.get_runs(dg.RunsFilter(job_name=job_name, statuses=statuses), limit=1))


def has_queued_runs(instance: dg.DagsterInstance, job_name: str) -> bool:
    """Whether a run of the job has not begun yet."""
    statuses = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTING]
    return bool(instance.get_runs(dg.RunsFilter(job_name=job_name, statuses=statuses), limit=1))


def end_runs(instance: dg.DagsterInstance) -> None:
    """Cancel the runs that Dagster's daemon started and wait for their processes to exit."""
    ending = []
    for run in instance.get_runs(dg.RunsFilter(statuses=list(UNFINISHED))):
        with suppress(LookupError):
            worker = None if PROCESS_TAG in run.tags else worker_of(instance, run)
            if worker is not None:
                # Otherwise the run would count as failed and be retried.
                instance.report_run_canceling(run)
                with suppress(psutil.NoSuchProcess):
                    worker.terminate()
                    ending.append(worker)
    psutil.wait_procs(ending, timeout=_EXIT_TIMEOUT_SECONDS)
