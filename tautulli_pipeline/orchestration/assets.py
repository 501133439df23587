"""The asset graph: tautulli_database -> session_history -> playback_stream -> playback_events."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import dagster as dg

from tautulli_pipeline.errors import ConfigurationError, StoppedError
from tautulli_pipeline.imports.results import headline
from tautulli_pipeline.orchestration import column_schemas
from tautulli_pipeline.orchestration.column_schemas import DATABASE_KEY, HISTORY_KEY, STREAM_KEY
from tautulli_pipeline.orchestration.history import (
    DATA_VERSION,
    PARTITIONS,
    DagsterHistory,
    published_before,
)
from tautulli_pipeline.orchestration.inspection import report_inspection
from tautulli_pipeline.orchestration.options import ImportOptions
from tautulli_pipeline.orchestration.resources import Consuming, Importing, Warehouse
from tautulli_pipeline.orchestration.run_tables import import_metadata, source_metadata
from tautulli_pipeline.orchestration.stops import fault_as_failure, stop_as_cancellation
from tautulli_pipeline.settings import Settings, load_settings

GROUP: Final = "tautulli"
OWNERS: Final = ("team:tautulli",)


def _place(of: Callable[[Settings], Path | str | None], otherwise: str) -> str:
    """Return a path from the settings for a description, or other words if there is none."""
    try:
        path = of(load_settings())
    except ConfigurationError:  # the runs report it
        path = None
    return f"`{path}`" if path else otherwise


_SOURCE: Final = _place(lambda settings: settings.import_db_path, "(set IMPORT_DB_PATH)")
_FILE: Final = _place(lambda settings: settings.warehouse_path, "that DUCKDB_PATH names")


tautulli_database = dg.AssetSpec(
    DATABASE_KEY,
    description=f"Tautulli's own database: {_SOURCE}. The pipeline reads a private copy and never "
    "writes to it. Each import and each dry run records here how many plays it has, from when to "
    "when, its size and its Tautulli version.\n\n**Next:** start `import_job` to import what is "
    "new, or `dry_run_job` to see what it would do.",
    group_name=GROUP,
    owners=OWNERS,
    kinds={"sqlite"},
    metadata=column_schemas.source_metadata(),
)


@dg.op(
    ins={"tautulli_database": dg.In(dg.Nothing)},
    out={
        "session_history": dg.Out(dg.Nothing, is_required=False),
        "playback_stream": dg.Out(dg.Nothing, is_required=False),
    },
)
def publish_partitions(
    context: dg.OpExecutionContext, config: ImportOptions, importing: dg.ResourceParam[Importing]
) -> Iterator[dg.AssetMaterialization]:
    """Publish each due partition and record it as soon as all of its events are acknowledged.

    The import is complete when its last row is stored. A dry run only reports what an import
    would do.
    """
    with fault_as_failure():
        dry_run = config.dry_run or load_settings().import_dry_run
    if dry_run:
        context.log.info("dry run: nothing is published")
        report_inspection(context, config)
    else:
        _import(context, config, importing)
    # A generator without output, because a return value would record every partition again.
    # Events are logged instead of yielded: if a run is terminated while Dagster handles a
    # yielded event, the generator is never closed, and its source, locks and record stay open.
    yield from ()


def _import(context: dg.OpExecutionContext, config: ImportOptions, importing: Importing) -> None:
    with ExitStack() as stack:
        stack.enter_context(stop_as_cancellation(context))
        chosen = _chosen_partitions(context)
        opened = stack.enter_context(importing(context, config))
        history = DagsterHistory(context.instance, context.log_event)
        plan = opened.prepare(history, chosen)
        if not opened.source.may_have_changed:  # to describe it, it would be downloaded
            described = source_metadata(opened.source, plan.contents.values())
            version = {DATA_VERSION: described["fingerprint"]}
            context.log_event(dg.AssetObservation(DATABASE_KEY, metadata=described, tags=version))
        opened.publish(history)
        summary = headline(opened.record)
        context.log.info(summary)
        metadata = import_metadata(opened.record, len(history.published))
        context.log_event(dg.AssetObservation(STREAM_KEY, metadata=metadata, description=summary))


def _chosen_partitions(context: dg.OpExecutionContext) -> list[str] | None:
    """Return the requested partitions that the run still has to publish; None means all due.

    Raises:
        StoppedError: somebody typed a partition that does not exist.
    """
    if not (context.has_partition_key or context.has_partition_key_range):
        return None
    asked = context.partition_key_range
    known = set(PARTITIONS.get_partition_keys(dynamic_partitions_store=context.instance))
    unknown = [key for key in (asked.start, asked.end) if key not in known]
    if unknown:
        message = f"there is no partition {unknown[0]!r}"
        hint = "the launchpad suggests the existing partitions; leave it empty to import all due"
        context.log.error(f"{message}; {hint}")
        raise StoppedError(message, hint=hint)
    done = published_before(context.instance, context.run)
    return [key for key in context.partition_keys if key not in done]


def _with_attributes(spec: dg.AssetSpec) -> dg.AssetSpec:
    """Add the attributes that `AssetsDefinition.from_op` does not accept."""
    if spec.key == HISTORY_KEY:
        return spec.replace_attributes(owners=OWNERS, kinds={"sqlite", "arrow"}).merge_attributes(
            metadata=column_schemas.history_metadata()
        )
    return spec.replace_attributes(owners=OWNERS, kinds={"nats", "json"}).merge_attributes(
        metadata=column_schemas.stream_metadata()
    )


# One op makes both assets: a run without a partition range fails on a partitioned input.
playback_stream = dg.AssetsDefinition.from_op(
    publish_partitions,
    keys_by_input_name={"tautulli_database": DATABASE_KEY},
    keys_by_output_name={"session_history": HISTORY_KEY, "playback_stream": STREAM_KEY},
    internal_asset_deps={"session_history": {DATABASE_KEY}, "playback_stream": {HISTORY_KEY}},
    partitions_def=PARTITIONS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    group_name=GROUP,
    descriptions_by_output_name={
        "session_history": "The plays in Tautulli's history, in ranges of ids. A range that is "
        "missing has new plays, and one that is unsynced has changed.\n\n**Next:** start "
        "`import_job` to import them all, or materialize some of the ranges.",
        "playback_stream": "One event per play on the JetStream stream, in ranges of ids. A range "
        "is finished when the stream has confirmed all of its events. The latest observation says "
        "what became of every play of the last import.\n\n**Next:** the plays are in "
        "`playback_events`.",
    },
).map_asset_specs(_with_attributes)


@dg.asset(
    deps=[dg.AssetDep(STREAM_KEY, partition_mapping=dg.AllPartitionMapping())],
    description="Your whole play history: one row per play, in the table `playback_events` of the "
    f"DuckDB file {_FILE}. Below are the number of plays, the first and the last one, and a chart. "
    "Duplicates are in `dedupe_audit_log`, and what could not be imported is in `dead_letters`."
    "\n\n**Next:** query the file with DuckDB while no import runs. "
    "`tautulli-pipeline duplicates list` and `tautulli-pipeline dead-letters list` show what is "
    "not in the table.",
    group_name=GROUP,
    owners=[*OWNERS],
    kinds={"duckdb"},
    metadata=column_schemas.table_metadata(),
    pool="duckdb",
)
def playback_events(
    context: dg.AssetExecutionContext,
    warehouse: dg.ResourceParam[Warehouse],
    consuming: dg.ResourceParam[Consuming],
) -> dg.MaterializeResult[None]:
    """Consume the stream into the table."""
    with stop_as_cancellation(context):
        return dg.MaterializeResult(metadata=consuming(context, warehouse))
