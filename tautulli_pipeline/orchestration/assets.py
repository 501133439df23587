"""The asset graph: tautulli_database -> session_history -> playback_stream -> playback_events."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Final

import dagster as dg

from tautulli_pipeline.errors import StoppedError
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
from tautulli_pipeline.settings import load_settings

GROUP: Final = "tautulli"
OWNERS: Final = ("team:tautulli",)


tautulli_database = dg.AssetSpec(
    DATABASE_KEY,
    description="The Tautulli database file. The pipeline reads a private copy and never writes "
    "to the file. Each import and dry run records an observation of it: its path, size, version, "
    "number of plays, and which ranges are due.\n\nNext: start `import_job` to import what is due, "
    "or `dry_run_job` to look without importing.",
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
        "session_history": "Plays from Tautulli's history with their metadata and media info, "
        "read in ranges of ids as Arrow tables.",
        "playback_stream": "One event per play on the JetStream stream, published in ranges of "
        "ids. A range is finished when all of its events are acknowledged.",
    },
).map_asset_specs(_with_attributes)


@dg.asset(
    deps=[dg.AssetDep(STREAM_KEY, partition_mapping=dg.AllPartitionMapping())],
    description="One row per distinct play, in the DuckDB file that the latest materialization "
    "names as `path`. Duplicates are kept in `dedupe_audit_log`; rows that could not become events "
    "are kept in `dead_letters`.\n\nNext: query the file with DuckDB while no import runs, or list "
    "what was dropped with `tautulli-pipeline duplicates list` and `dead-letters list`.",
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
