"""The schedule: an import of all that is due, once a night."""

from __future__ import annotations

import dagster as dg

from tautulli_pipeline.errors import PipelineError
from tautulli_pipeline.orchestration.jobs import import_job
from tautulli_pipeline.orchestration.sensors import in_words, why_not
from tautulli_pipeline.orchestration.workers import unended_runs
from tautulli_pipeline.settings import load_settings


@dg.schedule(
    job=import_job,
    cron_schedule="0 4 * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="With IMPORT_ENABLED=true, imports what is new or changed, daily at 4:00 UTC.",
)
def import_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Ask for an import, which itself finds out what is due: also what was edited or deleted."""
    try:
        reason = why_not(load_settings())
    except PipelineError as error:
        reason = in_words(error)
    if reason is None and unended_runs(context.instance, import_job.name):
        reason = "an import is about to start"
    return dg.SkipReason(reason) if reason else dg.RunRequest()
