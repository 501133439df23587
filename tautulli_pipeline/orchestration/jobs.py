"""The jobs: `import_job` publishes, `consume_job` consumes, `dry_run_job` only reports."""

import dagster as dg

from tautulli_pipeline.orchestration.inspection import report_inspection
from tautulli_pipeline.orchestration.options import SourceOptions

import_job = dg.define_asset_job(
    "import_job",
    selection=["session_history", "playback_stream"],
    description="Imports the partitions of the Tautulli history that are missing or stale. The "
    "run succeeds when the last of their plays is stored.",
    executor_def=dg.in_process_executor,
)

consume_job = dg.define_asset_job(
    "consume_job",
    selection=["playback_events"],
    description="Consumes the pending events on the stream and records the rows that were added "
    "to the table.",
    executor_def=dg.in_process_executor,
)


@dg.op
def judge_plays(context: dg.OpExecutionContext, config: SourceOptions) -> None:
    """Read every play and report what an import would do with it."""
    report_inspection(context, config)


@dg.job(
    description="Compares the database with the table and counts the plays that an import would "
    "add, discard as duplicates (by key) or reject. Publishes nothing.",
    executor_def=dg.in_process_executor,
)
def dry_run_job() -> None:
    """Report what an import would do with each play of the database."""
    judge_plays()
