"""Dagster resources of the runs.

Settings are read when a run starts, so the definitions load without any settings.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import dagster as dg
import duckdb
from dagster_duckdb import DuckDBResource

from tautulli_pipeline.data_dir.consumer_lock import is_consumer_awaited
from tautulli_pipeline.data_dir.directory import (
    explained_faults,
    make_data_dir,
    require_warehouse_folder,
)
from tautulli_pipeline.errors import ConfigurationError, WarehouseHeldError
from tautulli_pipeline.imports.connections import open_as_consumer
from tautulli_pipeline.imports.consumer_client import spawned_consumer
from tautulli_pipeline.imports.consuming import consume_backlog, gave_way, reopening
from tautulli_pipeline.imports.coordinator import Import, ImportRequest, each_once, open_import
from tautulli_pipeline.imports.known_warehouse import require_known_version
from tautulli_pipeline.imports.sources import resolve_source
from tautulli_pipeline.imports.stopping import Stop, import_stop
from tautulli_pipeline.orchestration.history import last_materialized_at
from tautulli_pipeline.orchestration.names import Names
from tautulli_pipeline.orchestration.options import ImportOptions
from tautulli_pipeline.orchestration.run_tables import arrival_metadata
from tautulli_pipeline.orchestration.stops import fault_as_failure
from tautulli_pipeline.orchestration.workers import fail_orphaned_runs
from tautulli_pipeline.settings import WAREHOUSE_WAIT_SECONDS, Settings, load_standing_settings
from tautulli_pipeline.source.address import Source
from tautulli_pipeline.warehouse.arrivals import Arrivals, arrivals_since
from tautulli_pipeline.warehouse.caution import Caution
from tautulli_pipeline.warehouse.upgrade import UPGRADING

# Opens the import that the op runs.
Importing = Callable[
    [dg.OpExecutionContext, Settings, ImportOptions], AbstractContextManager[Import]
]


@contextmanager
def import_by_settings(
    context: dg.OpExecutionContext, settings: Settings, options: ImportOptions
) -> Iterator[Import]:
    """Open an import of the database that the run config or the settings specify."""
    began_at = time.monotonic()
    stop = import_stop()
    with ExitStack() as stack:
        stack.enter_context(fault_as_failure())
        require_known_version(settings)
        stack.enter_context(stop.heard())
        fail_orphaned_runs(context.instance, Names(settings.server).job)
        request = ImportRequest(
            source=source_path(settings, options.source),
            server_id=settings.import_server_id,
            # A retry resumes the import of the run that it retries.
            fresh=options.fresh and context.run.root_run_id is None,
            salvage=options.salvage,
            wait_seconds=options.wait,
        )
        consumer = stack.enter_context(spawned_consumer())
        yield stack.enter_context(
            open_import(
                settings, request, consumer, say=context.log.info, stop=stop, began_at=began_at
            )
        )


def source_path(settings: Settings, named: str | None) -> Source:
    """Return the source that a run reads.

    Raises:
        ConfigurationError: neither the run config nor the environment specifies one.
    """
    source = named or settings.import_db_path
    if source is None:
        raise ConfigurationError(
            "no database to read",
            hint="set IMPORT_DB_PATH for the Dagster processes, or `source` in the run's config",
        )
    return resolve_source(settings, source)


class Warehouse(DuckDBResource):
    """The configured warehouse as a dagster-duckdb resource, opened as its only consumer.

    `DuckDBResource` itself retries a locked file silently for 102 seconds.
    """

    database: str = ""

    @contextmanager
    def get_connection(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open the only writing connection and bring the schema up to date.

        Raises:
            dagster.Failure: another process holds the file, or it cannot be written.
        """
        with fault_as_failure():
            settings = load_standing_settings()
            make_data_dir(settings)
            require_warehouse_folder(settings)
            say = each_once(dg.get_dagster_logger().info)

            def wait(held: WarehouseHeldError) -> None:
                if is_consumer_awaited(settings.layout):
                    raise gave_way()
                say(held.waiting)

            with open_as_consumer(
                settings,
                wait_seconds=WAREHOUSE_WAIT_SECONDS,
                on_wait=wait,
                on_upgraded=lambda _done, _total: say(UPGRADING),
                config={"custom_user_agent": "dagster", **self.connection_config},
            ) as connection:
                yield connection


# Consumes the stream and returns the metadata of the table's materialization.
Consuming = Callable[[dg.AssetExecutionContext, Warehouse], dict[str, Any]]


def consume_stream(context: dg.AssetExecutionContext, warehouse: Warehouse) -> dict[str, Any]:
    """Consume the pending events on the stream in the process of the run.

    Raises:
        StoppedError: a stop was requested, or another consumer is waiting to start.
    """
    stop = Stop("consuming was stopped", hint="the next run consumes the remaining events")
    with fault_as_failure(), stop.heard():
        settings = load_standing_settings(context.log.warning)
        since = last_materialized_at(context.instance)
        say = each_once(context.log.info)

        def consume(caution: Caution) -> tuple[int, Arrivals]:
            with ExitStack() as stack:
                stack.enter_context(explained_faults(settings.data_dir))
                with stop.interruptible():  # another program may have it open for minutes
                    connection = stack.enter_context(warehouse.get_connection())
                lost = consume_backlog(settings, connection, caution, stop=stop, on_wait=say)
                return lost, arrivals_since(connection, since)

        lost, arrivals = reopening(consume)
    facts = {"lost_on_the_stream": lost} if lost else {}
    return {**facts, **arrival_metadata(arrivals, settings.warehouse_path)}


# Resources without config: the settings come from the environment, so a launchpad shows none.
@dg.resource(description="Opens the import that `import_job` runs.")
def importing(_context: dg.InitResourceContext) -> Importing:
    """Return the function that opens an import."""
    return import_by_settings


@dg.resource(description="Consumes the events on the stream into the table.")
def consuming(_context: dg.InitResourceContext) -> Consuming:
    """Return the function that consumes the stream."""
    return consume_stream


@dg.resource(description="The DuckDB file of DUCKDB_PATH, opened as its only writer.")
def warehouse(_context: dg.InitResourceContext) -> Warehouse:
    """Return the resource that opens the warehouse."""
    return Warehouse()
