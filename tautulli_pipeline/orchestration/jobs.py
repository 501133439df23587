"""The jobs: one publishes, one consumes."""

from __future__ import annotations

import dagster as dg

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
