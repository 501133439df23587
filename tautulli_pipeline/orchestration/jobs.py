"""The jobs: `import_job` publishes, `consume_job` consumes, `dry_run_job` only reports.

Each server of the configuration file has an `import_<id>_job` instead of `import_job`.
"""

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from tautulli_pipeline.orchestration.analytics import ANALYTICS_KEYS
from tautulli_pipeline.orchestration.column_schemas import TABLE_KEY
from tautulli_pipeline.orchestration.inspection import report_inspection
from tautulli_pipeline.orchestration.names import Names
from tautulli_pipeline.orchestration.options import DryRunOptions
from tautulli_pipeline.orchestration.report import REPORT_KEY
from tautulli_pipeline.orchestration.stops import fault_as_failure
from tautulli_pipeline.settings import load_standing_settings


def import_job_of(names: Names) -> UnresolvedAssetJobDefinition:
    """Return the job that imports one server."""
    return dg.define_asset_job(
        names.job,
        selection=dg.AssetSelection.assets(names.history_key, names.stream_key),
        description="Imports what is new or changed in the Tautulli history"
        f"{f' of {names.server}' * bool(names.server)}. The run succeeds when the last play is "
        "stored, and records on `playback_stream` what became of every play.\n\nIt needs no "
        "options. The launchpad can name another database, or import everything again:"
        f"\n\n```yaml\nops:\n  {names.op}:\n    config:\n"
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
def judge_plays(context: dg.OpExecutionContext, config: DryRunOptions) -> None:
    """Read every play and report what an import would do with it; every server is tried."""
    with fault_as_failure():
        each = load_standing_settings(context.log.warning).of_server(config.server)
    failures = []
    for settings in each:
        try:
            report_inspection(context, settings, config)
        except dg.Failure as failure:
            failures.append(failure)
    if failures:
        raise failures[0]


@dg.job(
    description="Counts the plays that an import would add, discard as duplicates (by key) or "
    "reject, and marks changed ranges. It changes no play. The result is the latest observation of "
    "`playback_events`.",
    executor_def=dg.in_process_executor,
)
def dry_run_job() -> None:
    """Report what an import would do with each play of the database."""
    judge_plays()
