"""The Dagster definitions of the pipeline."""

from __future__ import annotations

import os
from functools import cache

import dagster as dg

from tautulli_pipeline.orchestration.analytics import (
    analytics,
    analytics_checks,
    analytics_file,
    building,
    charting,
)
from tautulli_pipeline.orchestration.assets import assets_of_server, table_of
from tautulli_pipeline.orchestration.checks import consumer_position_matches, table_checks
from tautulli_pipeline.orchestration.curation_jobs import (
    confirm_duplicates_job,
    replay_dead_letters_job,
    restore_duplicates_job,
)
from tautulli_pipeline.orchestration.jobs import consume_job, dry_run_job, import_job_of
from tautulli_pipeline.orchestration.names import Names, names_of_servers
from tautulli_pipeline.orchestration.report import reporting
from tautulli_pipeline.orchestration.resources import consuming, importing, warehouse
from tautulli_pipeline.orchestration.sensors import (
    dry_run_schedule,
    history_sensor_of,
    import_schedule_of,
    stream_backlog_sensor,
)

# Files of `dagster dev` and its runs are private to their owner too, as those of `up`.
os.umask(0o077)


@cache
def definitions_of(servers: tuple[Names, ...]) -> dg.Definitions:
    """Return the definitions for these servers."""
    return dg.Definitions(
        assets=[
            *(asset for names in servers for asset in assets_of_server(names)),
            table_of(servers),
            analytics,
        ],
        asset_checks=[table_checks, consumer_position_matches, analytics_checks],
        jobs=[
            *map(import_job_of, servers),
            consume_job,
            dry_run_job,
            restore_duplicates_job,
            confirm_duplicates_job,
            replay_dead_letters_job,
        ],
        sensors=[*map(history_sensor_of, servers), stream_backlog_sensor],
        schedules=[*map(import_schedule_of, servers), dry_run_schedule],
        resources={
            "importing": importing,
            "consuming": consuming,
            "warehouse": warehouse,
            "building": building,
            "charting": charting,
            "reporting": reporting,
            "analytics": analytics_file,
        },
        executor=dg.in_process_executor,
    )


# One for each server of the configuration file; one without a name if it lists none.
defs = definitions_of(tuple(names_of_servers()))
