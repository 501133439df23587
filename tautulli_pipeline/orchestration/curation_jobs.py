"""Dagster jobs for curating the audit log and the dead letters.

Run config takes ids of duplicates or dead letters, or unique prefixes of ids.
"""

from pathlib import Path

import dagster as dg
from pydantic import Field

from tautulli_pipeline.imports.curation import replay_letters
from tautulli_pipeline.orchestration.resources import Warehouse
from tautulli_pipeline.settings import load_settings
from tautulli_pipeline.warehouse.duplicates import confirm, restore
from tautulli_pipeline.warehouse.writer import utc_now


class Duplicates(dg.Config):
    """The duplicates to process."""

    ids: list[str] = Field(
        description="Ids from dedupe_audit_log, or unique prefixes of them.", min_length=1
    )


class DeadLetters(dg.Config):
    """The dead letters to replay, and the database with the corrected rows."""

    ids: list[str] = Field(
        default=[],
        description="Ids from dead_letters, or unique prefixes of them. Leave empty to replay all "
        "open dead letters.",
    )
    database: str | None = Field(
        default=None,
        description="Path of the Tautulli database with the corrected rows. Defaults to "
        "IMPORT_DB_PATH.",
    )


@dg.op(pool="duckdb")
def restore_plays(
    context: dg.OpExecutionContext, config: Duplicates, warehouse: dg.ResourceParam[Warehouse]
) -> None:
    """Add discarded duplicates to the table as separate plays."""
    with warehouse.get_connection() as connection:
        resolved = restore(connection, config.ids, utc_now())
    outcome = {True: "restored", False: "already in the table"}
    context.add_output_metadata({row_id: outcome[added] for row_id, added in resolved})


@dg.op(pool="duckdb")
def confirm_decisions(
    context: dg.OpExecutionContext, config: Duplicates, warehouse: dg.ResourceParam[Warehouse]
) -> None:
    """Confirm that these are duplicates."""
    with warehouse.get_connection() as connection:
        resolved = confirm(connection, config.ids, utc_now())
    context.add_output_metadata({"confirmed": [row_id for row_id, _ in resolved]})


@dg.op(pool="duckdb")
def replay_rejected(
    context: dg.OpExecutionContext, config: DeadLetters, warehouse: dg.ResourceParam[Warehouse]
) -> None:
    """Replay dead letters: rows that are now valid are added to the table once."""
    settings = load_settings()
    database = Path(config.database) if config.database else None
    with warehouse.get_connection() as connection:
        tried = replay_letters(connection, settings, config.ids, database)
    outcomes = [one.outcome for one in tried]
    context.add_output_metadata({name: outcomes.count(name) for name in sorted(set(outcomes))})


@dg.job(executor_def=dg.in_process_executor)
def restore_duplicates_job() -> None:
    """Add discarded duplicates to the table as separate plays."""
    restore_plays()


@dg.job(executor_def=dg.in_process_executor)
def confirm_duplicates_job() -> None:
    """Mark duplicates as confirmed in the audit log."""
    confirm_decisions()


@dg.job(executor_def=dg.in_process_executor)
def replay_dead_letters_job() -> None:
    """Replay dead letters after the source or the mapping was fixed."""
    replay_rejected()
