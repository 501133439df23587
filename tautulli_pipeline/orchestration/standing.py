"""What runs started from Dagster's own UI and daemon work with.

Settings are read when a run begins, so that loading the definitions needs none.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

import dagster as dg
from duckdb import DuckDBPyConnection

from tautulli_pipeline.errors import ConfigurationError, StoppedError
from tautulli_pipeline.imports.consumption import Consumption
from tautulli_pipeline.imports.record import Fates, ImportLog, ImportRecord, Status
from tautulli_pipeline.imports.running import RunningImport, heeding_requests
from tautulli_pipeline.imports.session import OpenSource, PublishingHalf, open_source
from tautulli_pipeline.orchestration.data_directory import (
    data_directory,
    explained_faults,
    require_warehouse_folder,
)
from tautulli_pipeline.orchestration.inspection import StandingInspection
from tautulli_pipeline.orchestration.partitions import known_grid
from tautulli_pipeline.orchestration.preparation import prepare_publishing
from tautulli_pipeline.orchestration.resources import Warehouse
from tautulli_pipeline.orchestration.services import (
    consumer_lock,
    data_paths,
    deduplicator,
    make_data_dir,
    stream_address,
)
from tautulli_pipeline.settings import Settings, load_settings
from tautulli_pipeline.stream.session import open_consuming, open_publishing
from tautulli_pipeline.warehouse.ledger import Ledger, Unsettled
from tautulli_pipeline.warehouse.schema import count_events, warehouse_id
from tautulli_pipeline.warehouse.writer import Writer, Written

# A stop on request, Ctrl-C, and what Dagster raises when somebody terminates a run.
_STOPS: Final = (StoppedError, KeyboardInterrupt, dg.DagsterExecutionInterruptedError)


class StandingPublishing:
    """Opens the database of `IMPORT_DB_PATH` and publishes what is due."""

    @contextmanager
    def open(self, instance: dg.DagsterInstance) -> Iterator[PublishingHalf]:
        """The publishing half, holding the lock of imports while it is open."""
        settings = load_settings()
        if settings.import_db_path is None:
            raise ConfigurationError(
                "no database to import", hint="set IMPORT_DB_PATH for the Dagster processes"
            )
        with ExitStack() as stack:
            stack.enter_context(explained_faults(settings.data_dir))
            stack.enter_context(data_directory(settings))
            log = ImportLog(settings.data_dir)
            claim = stack.enter_context(log.exclusive(settings.import_db_path))
            source = stack.enter_context(
                open_source(settings.import_db_path, data_paths(settings).snapshots)
            )
            record = log.continue_or_begin(source.snapshot.source, fresh=False)
            running = RunningImport(log, replace(record, process_id=os.getpid()))
            running.start_clock()
            stack.enter_context(running.until_ended(stops=_STOPS))
            half = self._half(settings, running.record, source, instance, stack)
            stack.enter_context(
                heeding_requests(
                    log.lock,
                    claim,
                    half.stopping,
                    on_request=half.stopping.set,
                    on_stopping=running.mark_stopping,
                )
            )
            running.change(status=Status.RUNNING, **_covered(half))
            yield half
            running.change(**_covered(half))
            if running.record.total_records > running.record.fates.processed:
                running.leave_pending()

    @staticmethod
    def _half(
        settings: Settings,
        record: ImportRecord,
        source: OpenSource,
        instance: dg.DagsterInstance,
        stack: ExitStack,
    ) -> PublishingHalf:
        address = stack.enter_context(stream_address(settings))
        session = stack.enter_context(open_publishing(address))
        return stack.enter_context(
            prepare_publishing(
                settings,
                record,
                source,
                source.survey(known_grid(instance), settings.import_batch_size),
                instance=instance,
                session=session,
                warehouse_id=_warehouse_id(settings),
            )
        )


def _covered(half: PublishingHalf) -> dict[str, int]:
    """What is covered: all that is due, or what a person chose."""
    everything = half.plan.total_records + half.plan.unchanged
    covered = max(half.plan.total_records, sum(part.rows for part in half.work))
    return {"total_records": covered, "unchanged": everything - covered}


@dataclass
class _UntilDrained:
    """Consume what is there and no more."""

    stopped: bool = False
    last_sequence: int | None = None
    inserted: int = 0
    unsettled: Unsettled = field(default_factory=dict)

    def report(self, written: Written, unsettled: Unsettled) -> None:
        self.inserted += written.inserted
        self.unsettled = unsettled


class StandingConsuming:
    """Consumes until the stream is drained, and settles the import it belongs to."""

    def consume(self, connection: DuckDBPyConnection) -> dict[str, Any]:
        """Consume all there is; gives facts for the materialization."""
        settings = load_settings()
        control = _UntilDrained()
        ledger = Ledger(connection)
        with (
            consumer_lock(settings),
            stream_address(settings) as address,
            open_consuming(address) as session,
        ):
            control.last_sequence = session.last_sequence()
            writer = Writer(connection, deduplicator(settings), str(session.identity))
            receipts = data_paths(settings).receipts
            Consumption(session, writer, ledger, receipts).run(control)
        log = ImportLog(settings.data_dir)
        record = log.read()
        if record is not None:
            log.settle(record.import_id, Fates(**ledger.totals(record.import_id)))
        return {"dagster/row_count": count_events(connection), "inserted": control.inserted}


class StandingWarehouse(Warehouse):
    """The warehouse of the settings, looked up when it is opened."""

    database: str = ""

    @contextmanager
    def get_connection(self) -> Iterator[DuckDBPyConnection]:
        """See `Warehouse.get_connection`."""
        settings = load_settings()
        make_data_dir(settings)
        require_warehouse_folder(settings)
        with Warehouse(database=str(settings.warehouse_path)).get_connection() as connection:
            yield connection


def standing_resources() -> dict[str, object]:
    """Resources of the definitions."""
    return {
        "publishing": StandingPublishing(),
        "consuming": StandingConsuming(),
        "inspecting": StandingInspection(),
        "warehouse": StandingWarehouse(),
    }


def _warehouse_id(settings: Settings) -> str:
    warehouse = Warehouse(database=str(settings.warehouse_path))
    with consumer_lock(settings), warehouse.get_connection() as connection:
        return warehouse_id(connection)
