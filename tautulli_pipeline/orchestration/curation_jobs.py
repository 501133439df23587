"""Dagster jobs for curating the audit log and the dead letters.

Run config chooses the rows like the command line: by ids, or by the filters of the lists.
"""

from collections.abc import Sequence
from typing import Final

import dagster as dg

from tautulli_pipeline.errors import ConfigurationError
from tautulli_pipeline.imports.curation import replay_letters
from tautulli_pipeline.imports.replay import OUTCOMES_IN_WORDS, Tried
from tautulli_pipeline.imports.sources import resolve_source
from tautulli_pipeline.orchestration.instance import WAREHOUSE_POOL
from tautulli_pipeline.orchestration.options import DeadLetters, Duplicates
from tautulli_pipeline.orchestration.resources import Warehouse
from tautulli_pipeline.orchestration.run_tables import table
from tautulli_pipeline.settings import load_standing_settings
from tautulli_pipeline.warehouse.duplicates import confirm, restore
from tautulli_pipeline.warehouse.writer import utc_now

# More would make the page of a run slow.
_ROWS_LISTED: Final = 100


@dg.op(pool=WAREHOUSE_POOL)
def restore_plays(
    context: dg.OpExecutionContext, config: Duplicates, warehouse: dg.ResourceParam[Warehouse]
) -> None:
    """Add discarded duplicates to the table as separate plays."""
    with warehouse.get_connection() as connection:
        _require_choice(config)
        resolved = restore(connection, config.ids, utc_now(), config.filters())
    _report(context, resolved, "restored and verified", "already in the table")


@dg.op(pool=WAREHOUSE_POOL)
def confirm_decisions(
    context: dg.OpExecutionContext, config: Duplicates, warehouse: dg.ResourceParam[Warehouse]
) -> None:
    """Confirm that these are duplicates."""
    with warehouse.get_connection() as connection:
        _require_choice(config)
        resolved = confirm(connection, config.ids, utc_now(), config.filters())
    _report(context, resolved, "confirmed", "already confirmed")


@dg.op(pool=WAREHOUSE_POOL)
def replay_rejected(
    context: dg.OpExecutionContext, config: DeadLetters, warehouse: dg.ResourceParam[Warehouse]
) -> None:
    """Replay dead letters: records that are valid now are added to the table once."""
    settings = load_standing_settings()
    database = resolve_source(settings, config.database) if config.database else None
    with warehouse.get_connection() as connection:
        _require_one_way(config)
        tried = replay_letters(connection, settings, config.ids, database, **config.filters())
    _report_replay(context, tried)


def _require_choice(config: Duplicates) -> None:
    _require_one_way(config)
    if not config.ids and not config.has_filters:
        raise ConfigurationError(
            "no duplicates are chosen",
            hint="fill in `ids`, or a filter such as `import_id`, in the launchpad",
        )


def _require_one_way(config: Duplicates | DeadLetters) -> None:
    if config.ids and config.has_filters:
        raise ConfigurationError(
            "`ids` cannot be combined with filters", hint="use only one of them"
        )


def _report(
    context: dg.OpExecutionContext,
    resolved: Sequence[tuple[str, bool]],
    changed: str,
    unchanged: str,
) -> None:
    """Record how many duplicates were changed, and the first of them."""
    count = sum(new for _, new in resolved)
    counts = {changed: count, unchanged: len(resolved) - count}
    _record(context, counts, [(row_id, changed if new else unchanged) for row_id, new in resolved])


def _report_replay(context: dg.OpExecutionContext, tried: Sequence[Tried]) -> None:
    """Record how many letters had each outcome, and the first of them."""
    outcomes = [one.outcome for one in tried]
    counts = {words: outcomes.count(name) for name, words in OUTCOMES_IN_WORDS.items()}
    _record(context, counts, [(n.id, n.reason or OUTCOMES_IN_WORDS[n.outcome]) for n in tried])


def _record(
    context: dg.OpExecutionContext, counts: dict[str, int], rows: Sequence[tuple[str, str]]
) -> None:
    context.log.info(", ".join(f"{count:,} {name}" for name, count in counts.items()))
    if len(rows) > _ROWS_LISTED:
        rows = [*rows[:_ROWS_LISTED], (f"and {len(rows) - _ROWS_LISTED:,} more", "")]
    summary = table([*counts.items(), ("together", sum(counts.values()))], ("this run", "rows"))
    context.add_output_metadata(
        {
            "summary": dg.MetadataValue.md(summary),
            **{name.replace(" ", "_"): count for name, count in counts.items()},
            **({"rows": dg.MetadataValue.md(table(rows, ("id", "outcome")))} if rows else {}),
        }
    )


@dg.job(executor_def=dg.in_process_executor)
def restore_duplicates_job() -> None:
    """Adds discarded duplicates to the table as separate plays, like `duplicates restore`.

    `tautulli-pipeline duplicates list` shows what there is. Choose by `ids`, or by filters:

    ```yaml
    ops:
      restore_plays:
        config:
          reason: rating_key_user_started
    ```
    """
    restore_plays()


@dg.job(executor_def=dg.in_process_executor)
def confirm_duplicates_job() -> None:
    """Marks duplicates as confirmed in the audit log, like `duplicates confirm`.

    `tautulli-pipeline duplicates list` shows what there is. Choose by `ids`, or by filters:

    ```yaml
    ops:
      confirm_decisions:
        config:
          ids: [3f2a91bc]
    ```
    """
    confirm_decisions()


@dg.job(executor_def=dg.in_process_executor)
def replay_dead_letters_job() -> None:
    """Tries to import dead letters again, like `dead-letters replay`.

    `tautulli-pipeline dead-letters list` shows what there is. Without options it tries all open
    ones, with the rows that the database has now. Another database may have the corrected rows:

    ```yaml
    ops:
      replay_rejected:
        config:
          database: /var/lib/tautulli/tautulli.db
    ```
    """
    replay_rejected()
