"""The Dagster definitions of the pipeline."""

from __future__ import annotations

import os

import dagster as dg

from tautulli_pipeline.orchestration.analytics import (
    analytics,
    analytics_checks,
    analytics_file,
    building,
    charting,
)
from tautulli_pipeline.orchestration.assets import (
    playback_events,
    playback_stream,
    tautulli_database,
)
from tautulli_pipeline.orchestration.checks import consumer_position_matches, table_checks
from tautulli_pipeline.orchestration.curation_jobs import (
    confirm_duplicates_job,
    replay_dead_letters_job,
    restore_duplicates_job,
)
from tautulli_pipeline.orchestration.jobs import consume_job, dry_run_job, import_job
from tautulli_pipeline.orchestration.report import report, reporting
from tautulli_pipeline.orchestration.resources import consuming, importing, warehouse
from tautulli_pipeline.orchestration.sensors import (
    dry_run_schedule,
    import_schedule,
    new_history_sensor,
    stream_backlog_sensor,
)

# Files of `dagster dev` and its runs are private to their owner too, as those of `up`.
os.umask(0o077)

defs = dg.Definitions(
    assets=[tautulli_database, playback_stream, playback_events, analytics, report],
    asset_checks=[table_checks, consumer_position_matches, analytics_checks],
    jobs=[
        import_job,
        consume_job,
        dry_run_job,
        restore_duplicates_job,
        confirm_duplicates_job,
        replay_dead_letters_job,
    ],
    sensors=[new_history_sensor, stream_backlog_sensor],
    schedules=[import_schedule, dry_run_schedule],
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
