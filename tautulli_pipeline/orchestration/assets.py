"""The asset graph: tautulli_database -> session_history -> playback_stream -> playback_events.

Each server of the configuration file has the first three of its own, with its id in front.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import dagster as dg

from tautulli_pipeline.errors import ConfigurationError, StoppedError
from tautulli_pipeline.imports.results import headline
from tautulli_pipeline.orchestration import column_schemas
from tautulli_pipeline.orchestration.column_schemas import TABLE_KEY
from tautulli_pipeline.orchestration.history import (
    DATA_VERSION,
    history_of,
    published_before,
)
from tautulli_pipeline.orchestration.inspection import report_inspection
from tautulli_pipeline.orchestration.instance import IMPORT_POOL, WAREHOUSE_POOL
from tautulli_pipeline.orchestration.names import Names
from tautulli_pipeline.orchestration.options import ImportOptions
from tautulli_pipeline.orchestration.resources import Consuming, Importing, Warehouse
from tautulli_pipeline.orchestration.run_tables import import_metadata, source_metadata
from tautulli_pipeline.orchestration.stops import fault_as_failure, stop_as_cancellation
from tautulli_pipeline.settings import Settings, load_standing_settings

GROUP: Final = "tautulli"
OWNERS: Final = ("team:tautulli",)


def _place(of: Callable[[Settings], Path | str | None], otherwise: str) -> str:
    """Return a path from the settings for a description, or other words if there is none."""
    try:
        path = of(load_standing_settings())
    except ConfigurationError:  # the runs report it
        path = None
    return f"`{path}`" if path else otherwise


_FILE: Final = _place(lambda settings: settings.warehouse_path, "that DUCKDB_PATH names")


def assets_of_server(names: Names) -> list[dg.AssetsDefinition | dg.AssetSpec]:
    """Return the assets of one server: its source, its plays and its published events."""
    return [_database(names), _stream(names)]


def _group(names: Names) -> str:
    return names.server or GROUP


def _database(names: Names) -> dg.AssetSpec:
    def source(settings: Settings) -> Path | str | None:
        return settings.of_server(names.server or None)[0].import_db_path

    return dg.AssetSpec(
        names.database_key,
        description=f"Tautulli's own database: {_place(source, '(set IMPORT_DB_PATH)')}. The "
        "pipeline reads a private copy and never writes to it. Each import and each dry run "
        "records here how many plays it has, from when to when, its size and its Tautulli "
        f"version.\n\n**Next:** start `{names.job}` to import what is new, or `dry_run_job` to "
        "see what it would do.",
        group_name=_group(names),
        owners=OWNERS,
        kinds={"sqlite"},
        metadata=column_schemas.source_metadata(),
    )


def _publishing_op(names: Names) -> dg.OpDefinition:
    @dg.op(
        name=names.op,
        ins={"tautulli_database": dg.In(dg.Nothing)},
        out={
            "session_history": dg.Out(dg.Nothing, is_required=False),
            "playback_stream": dg.Out(dg.Nothing, is_required=False),
        },
        pool=IMPORT_POOL if names.server else None,
    )
    def publish_partitions(
        context: dg.OpExecutionContext,
        config: ImportOptions,
        importing: dg.ResourceParam[Importing],
    ) -> Iterator[dg.AssetMaterialization]:
        """Publish each due partition and record it when all of its events are acknowledged.

        The import is complete when its last row is stored. A dry run only reports what an import
        would do.
        """
        with fault_as_failure():
            settings = load_standing_settings(context.log.warning)
            (settings,) = settings.of_server(names.server or settings.import_server_id)
        if config.dry_run or settings.import_dry_run:
            context.log.info("dry run: nothing is published")
            report_inspection(context, settings, config)
        else:
            _import(context, settings, config, importing)
        # A generator without output, because a return value would record every partition again.
        # Events are logged instead of yielded: if a run is terminated while Dagster handles a
        # yielded event, the generator is never closed, and its source, locks and record stay open.
        yield from ()

    return publish_partitions


def _import(
    context: dg.OpExecutionContext,
    settings: Settings,
    config: ImportOptions,
    importing: Importing,
) -> None:
    names = Names(settings.server)
    with ExitStack() as stack:
        stack.enter_context(stop_as_cancellation(context))
        chosen = _chosen_partitions(context, names)
        opened = stack.enter_context(importing(context, settings, config))
        history = history_of(context.instance, settings, context.log_event)
        plan = opened.prepare(history, chosen)
        if not opened.source.may_have_changed:  # to describe it, it would be downloaded
            described = source_metadata(opened.source, plan.contents.values())
            version = {DATA_VERSION: described["fingerprint"]}
            context.log_event(
                dg.AssetObservation(names.database_key, metadata=described, tags=version)
            )
        opened.publish(history)
        summary = headline(opened.record)
        context.log.info(summary)
        metadata = import_metadata(opened.record, len(history.published))
        context.log_event(
            dg.AssetObservation(names.stream_key, metadata=metadata, description=summary)
        )


def _chosen_partitions(context: dg.OpExecutionContext, names: Names) -> list[str] | None:
    """Return the requested partitions that the run still has to publish; None means all due.

    Raises:
        StoppedError: somebody typed a partition that does not exist.
    """
    if not (context.has_partition_key or context.has_partition_key_range):
        return None
    asked = context.partition_key_range
    known = set(context.instance.get_dynamic_partitions(names.partitions))
    unknown = [key for key in (asked.start, asked.end) if key not in known]
    if unknown:
        message = f"there is no partition {unknown[0]!r}"
        hint = "the launchpad suggests the existing partitions; leave it empty to import all due"
        context.log.error(f"{message}; {hint}")
        raise StoppedError(message, hint=hint)
    done = published_before(context.instance, context.run, names)
    return [key for key in context.partition_keys if key not in done]


def _with_attributes(names: Names) -> Callable[[dg.AssetSpec], dg.AssetSpec]:
    """Return what adds the attributes that `AssetsDefinition.from_op` does not accept."""

    def add(spec: dg.AssetSpec) -> dg.AssetSpec:
        is_history = spec.key == names.history_key
        kinds = {"sqlite", "arrow"} if is_history else {"nats", "json"}
        metadata = (
            column_schemas.history_metadata(names.database_key)
            if is_history
            else column_schemas.stream_metadata(names.history_key)
        )
        return spec.replace_attributes(owners=OWNERS, kinds=kinds).merge_attributes(
            metadata=metadata
        )

    return add


def _stream(names: Names) -> dg.AssetsDefinition:
    # One op makes both assets: a run without a partition range fails on a partitioned input.
    return dg.AssetsDefinition.from_op(
        _publishing_op(names),
        keys_by_input_name={"tautulli_database": names.database_key},
        keys_by_output_name={
            "session_history": names.history_key,
            "playback_stream": names.stream_key,
        },
        internal_asset_deps={
            "session_history": {names.database_key},
            "playback_stream": {names.history_key},
        },
        partitions_def=dg.DynamicPartitionsDefinition(name=names.partitions),
        backfill_policy=dg.BackfillPolicy.single_run(),
        group_name=_group(names),
        descriptions_by_output_name={
            "session_history": "The plays in Tautulli's history, in ranges of ids. A range that "
            "is missing has new plays, and one that is unsynced has changed.\n\n**Next:** start "
            f"`{names.job}` to import them all, or materialize some of the ranges.",
            "playback_stream": "One event per play on the JetStream stream, in ranges of ids. A "
            "range is finished when the stream has confirmed all of its events. The latest "
            "observation says what became of every play of the last import.\n\n**Next:** the "
            "plays are in `playback_events`.",
        },
    ).map_asset_specs(_with_attributes(names))


def table_of(servers: Sequence[Names]) -> dg.AssetsDefinition:
    """Return the table that the plays of all servers lead to."""
    streams = [names.stream_key for names in servers]

    @dg.asset(
        key=TABLE_KEY,
        deps=[
            dg.AssetDep(stream, partition_mapping=dg.AllPartitionMapping()) for stream in streams
        ],
        description="Your whole play history: one row per play, in the table `playback_events` of "
        f"the DuckDB file {_FILE}. Below are the number of plays, the first and the last one, and "
        "a chart. Duplicates are in `dedupe_audit_log`, and what could not be imported is in "
        "`dead_letters`.\n\n**Next:** query the file with DuckDB while no import runs. "
        "`tautulli-pipeline duplicates list` and `tautulli-pipeline dead-letters list` show what "
        "is not in the table.",
        group_name=GROUP,
        owners=[*OWNERS],
        kinds={"duckdb"},
        metadata=column_schemas.table_metadata(streams),
        pool=WAREHOUSE_POOL,
    )
    def playback_events(
        context: dg.AssetExecutionContext,
        warehouse: dg.ResourceParam[Warehouse],
        consuming: dg.ResourceParam[Consuming],
    ) -> dg.MaterializeResult[None]:
        """Consume the stream into the table."""
        with stop_as_cancellation(context):
            return dg.MaterializeResult(metadata=consuming(context, warehouse))

    return playback_events
