"""The jobs: one publishes, one consumes, one only says what an import would do."""

import dagster as dg

from tautulli_pipeline.orchestration.inspection import report_inspection
from tautulli_pipeline.orchestration.options import SourceOptions

import_job = dg.define_asset_job(
    "import_job",
    selection=["session_history", "playback_stream"],
    description="Imports the partitions of the Tautulli history that are missing or stale: "
    "publishes them, and is done when the last of their plays is stored.",
    executor_def=dg.in_process_executor,
)

consume_job = dg.define_asset_job(
    "consume_job",
    selection=["playback_events"],
    description="Consumes what waits on the stream and records what came into the table.",
    executor_def=dg.in_process_executor,
)


@dg.op
def judge_plays(context: dg.OpExecutionContext, config: SourceOptions) -> None:
    """Read every play and say what an import would make of it."""
    report_inspection(context, config)


@dg.job(
    description="Counts what an import would find new, duplicate (by which key) or rejected "
    "against the present table. Publishes nothing.",
    executor_def=dg.in_process_executor,
)
def dry_run_job() -> None:
    """Judge the plays of the database."""
    judge_plays()
