"""The schedule that imports every due partition once a night."""

from __future__ import annotations

import dagster as dg

from tautulli_pipeline.errors import PipelineError
from tautulli_pipeline.orchestration.jobs import import_job
from tautulli_pipeline.orchestration.sensors import error_line, import_skip_reason
from tautulli_pipeline.orchestration.workers import has_unfinished_runs
from tautulli_pipeline.settings import load_settings


@dg.schedule(
    job=import_job,
    cron_schedule="0 4 * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Imports new and changed plays daily at 04:00 UTC if IMPORT_ENABLED=true.",
)
def import_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Request an import. The import itself determines what is due, including edits and deletes."""
    try:
        reason = import_skip_reason(load_settings())
    except PipelineError as error:
        reason = error_line(error)
    if reason is None and has_unfinished_runs(context.instance, import_job.name):
        reason = "an import is queued or running"
    return dg.SkipReason(reason) if reason else dg.RunRequest()
