"""The jobs: `import_job` publishes, `consume_job` consumes, `dry_run_job` only reports."""

import dagster as dg

from tautulli_pipeline.orchestration.analytics import ANALYTICS_KEYS
from tautulli_pipeline.orchestration.column_schemas import TABLE_KEY
from tautulli_pipeline.orchestration.inspection import report_inspection
from tautulli_pipeline.orchestration.options import SourceOptions
from tautulli_pipeline.orchestration.report import REPORT_KEY

import_job = dg.define_asset_job(
    "import_job",
    selection=["session_history", "playback_stream"],
    description="Imports what is new or changed in the Tautulli history. The run succeeds when the "
    "last play is stored, and records on `playback_stream` what became of every play.\n\nIt needs "
    "no options. The launchpad can name another database, or import everything again:"
    "\n\n```yaml\nops:\n  publish_partitions:\n    config:\n"
    "      source: /var/lib/tautulli/tautulli.db\n      fresh: true\n```",
    executor_def=dg.in_process_executor,
)

consume_job = dg.define_asset_job(
    "consume_job",
    selection=dg.AssetSelection.assets(TABLE_KEY, *ANALYTICS_KEYS, REPORT_KEY),
    description="Stores events of other producers, records on `playback_events` how many plays the "
    "table has and how many were added, builds the statistics and writes the report. A sensor "
    "starts it when it is needed.",
    executor_def=dg.in_process_executor,
)


@dg.op
def judge_plays(context: dg.OpExecutionContext, config: SourceOptions) -> None:
    """Read every play and report what an import would do with it."""
    report_inspection(context, config)


@dg.job(
    description="Counts the plays that an import would add, discard as duplicates (by key) or "
    "reject, and marks changed ranges. It changes no play. The result is the latest observation of "
    "`playback_events`.",
    executor_def=dg.in_process_executor,
)
def dry_run_job() -> None:
    """Report what an import would do with each play of the database."""
    judge_plays()
