"""The jobs: one publishes, one consumes, one only says what an import would do."""

import dagster as dg

from tautulli_pipeline.orchestration.inspection import Inspecting, report_inspection

import_job = dg.define_asset_job(
    "import_job",
    selection=["session_history", "playback_stream"],
    description="Publishes the partitions of the Tautulli history that are missing or stale.",
    executor_def=dg.in_process_executor,
)

consume_job = dg.define_asset_job(
    "consume_job",
    selection=["playback_events"],
    description="Consumes the stream into the warehouse until nothing is left.",
    executor_def=dg.in_process_executor,
)


@dg.op
def judge_plays(context: dg.OpExecutionContext, inspecting: dg.ResourceParam[Inspecting]) -> None:
    """Read every play and say what an import would make of it."""
    report_inspection(context, inspecting)


@dg.job(
    description="Counts what an import would find new, duplicate (by which key) or rejected "
    "against the present table. Publishes nothing.",
    executor_def=dg.in_process_executor,
)
def dry_run_job() -> None:
    """Judge the plays of the database."""
    judge_plays()
