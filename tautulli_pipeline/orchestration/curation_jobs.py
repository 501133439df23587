"""What a person does to the audit and the dead letters, as Dagster jobs.

A run's config takes ids of duplicates or dead letters, or their beginnings.
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
    """Which duplicates."""

    ids: list[str] = Field(description="Ids in dedupe_audit_log.", min_length=1)


class DeadLetters(dg.Config):
    """Which dead letters, and where their rows were set right."""

    ids: list[str] = Field(default=[], description="Ids in dead_letters; none for all open ones.")
    database: str | None = Field(
        default=None, description="A Tautulli database; without it, that of IMPORT_DB_PATH."
    )


@dg.op(pool="duckdb")
def restore_plays(context: dg.OpExecutionContext, config: Duplicates, warehouse: Warehouse) -> None:
    """Bring discarded events into the table, as plays of their own."""
    with warehouse.get_connection() as connection:
        resolved = restore(connection, config.ids, utc_now())
    told = {True: "restored", False: "in the table already"}
    context.add_output_metadata({row_id: told[added] for row_id, added in resolved})


@dg.op(pool="duckdb")
def confirm_decisions(
    context: dg.OpExecutionContext, config: Duplicates, warehouse: Warehouse
) -> None:
    """Note that these are duplicates indeed."""
    with warehouse.get_connection() as connection:
        resolved = confirm(connection, config.ids, utc_now())
    context.add_output_metadata({"confirmed": [row_id for row_id, _ in resolved]})


@dg.op(pool="duckdb")
def replay_rejected(
    context: dg.OpExecutionContext, config: DeadLetters, warehouse: Warehouse
) -> None:
    """Try dead letters again; what becomes an event is brought into the table, once."""
    settings = load_settings()
    database = Path(config.database) if config.database else None
    with warehouse.get_connection() as connection:
        tried = replay_letters(connection, settings, config.ids, database)
    outcomes = [one.outcome for one in tried]
    context.add_output_metadata({name: outcomes.count(name) for name in sorted(set(outcomes))})


@dg.job(executor_def=dg.in_process_executor)
def restore_duplicates_job() -> None:
    """Bring discarded duplicates into the table and read them back."""
    restore_plays()


@dg.job(executor_def=dg.in_process_executor)
def confirm_duplicates_job() -> None:
    """Note that a person finds these duplicates to be some."""
    confirm_decisions()


@dg.job(executor_def=dg.in_process_executor)
def replay_dead_letters_job() -> None:
    """Try dead letters again after a fix in the source or in the mapping."""
    replay_rejected()
