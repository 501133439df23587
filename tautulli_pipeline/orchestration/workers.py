"""The processes that runs live in: a run whose process is gone is dead, whatever it says."""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

import dagster as dg
import psutil

# Names the process of a run that no launcher started.
PROCESS_TAG: Final = "tautulli_pipeline/process_id"
UNFINISHED: Final = (
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)
# The clocks of kernel and storage differ by less.
_SLACK_SECONDS: Final = 2.0
_ENDS_WITHIN_SECONDS: Final = 10.0


def own_process_tag() -> dict[str, str]:
    """Tag of a run that this process itself executes."""
    return {PROCESS_TAG: str(os.getpid())}


def worker_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> psutil.Process | None:
    """The live process of a run; None where it is gone.

    Raises:
        LookupError: the run has not told its process yet.
    """
    process_id, told_at = _told(instance, run)
    try:
        process = psutil.Process(process_id)
        # A process that is younger than the run only has the number of the one before it.
        if process.create_time() > told_at.timestamp() + _SLACK_SECONDS:
            return None
        return None if process.status() == psutil.STATUS_ZOMBIE else process
    except psutil.NoSuchProcess:
        return None


def _told(instance: dg.DagsterInstance, run: dg.DagsterRun) -> tuple[int, datetime]:
    if PROCESS_TAG in run.tags:
        record = instance.get_run_record_by_id(run.run_id)
        created_at = record.create_timestamp if record else datetime.now(UTC)
        return int(run.tags[PROCESS_TAG]), created_at
    for entry in reversed(instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)):
        event = entry.dagster_event
        told = event.engine_event_data.metadata.get("pid") if event else None
        if told is not None:
            return int(str(told.value)), datetime.fromtimestamp(entry.timestamp, UTC)
    raise LookupError(run.run_id)


def fail_orphaned_runs(instance: dg.DagsterInstance, job_name: str | None = None) -> None:
    """Report runs that ended without a word as failed; they would count as running for ever."""
    unfinished = dg.RunsFilter(job_name=job_name, statuses=list(UNFINISHED))
    for run in instance.get_runs(unfinished):
        if is_orphaned(instance, run):
            instance.report_run_failed(run, "The process of this run is gone.")


def is_orphaned(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether the process of a run is known and gone."""
    try:
        return worker_of(instance, run) is None
    except LookupError:
        return False


def unended_runs(instance: dg.DagsterInstance, job_name: str) -> bool:
    """Whether a run of the job is queued or at work."""
    statuses = [dg.DagsterRunStatus.QUEUED, *UNFINISHED]
    return bool(instance.get_runs(dg.RunsFilter(job_name=job_name, statuses=statuses), limit=1))


def end_runs(
    instance: dg.DagsterInstance, *, patience_seconds: float = _ENDS_WITHIN_SECONDS
) -> None:
    """Cancel the runs that Dagster's daemon started; each gets some time to end by itself."""
    ending = []
    for run in instance.get_runs(dg.RunsFilter(statuses=list(UNFINISHED))):
        with suppress(LookupError):
            worker = None if PROCESS_TAG in run.tags else worker_of(instance, run)
            if worker is not None:
                # Interrupted without a word, it would count as failed and be tried again.
                instance.report_run_canceling(run)
                with suppress(psutil.NoSuchProcess):
                    worker.terminate()
                    ending.append(worker)
    psutil.wait_procs(ending, timeout=patience_seconds)
