"""What runs started from Dagster's own UI and daemon work with.

Settings are read when a run begins, so that loading the definitions needs none.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Final

import dagster as dg
from duckdb import DuckDBPyConnection

from tautulli_pipeline.errors import (
    ConfigurationError,
    PipelineError,
    StoppedError,
    WarehouseError,
)
from tautulli_pipeline.imports.consumption import Consumption
from tautulli_pipeline.imports.known_source import open_known_source
from tautulli_pipeline.imports.receipts import ReceiptFolder
from tautulli_pipeline.imports.record import Fates, ImportLog, ImportRecord, Status
from tautulli_pipeline.imports.running import RunningImport, heeding_requests
from tautulli_pipeline.imports.session import OpenSource, PublishingHalf
from tautulli_pipeline.orchestration.assets import Consumed
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
    announce_warehouse,
    announced_warehouse,
    consumer_lock,
    data_paths,
    deduplicator,
    is_consumer_at_work,
    is_consumer_awaited,
    make_data_dir,
    stream_address,
)
from tautulli_pipeline.orchestration.workers import bury_dead_runs, is_own_run_canceled
from tautulli_pipeline.settings import Settings, load_settings
from tautulli_pipeline.stream.session import open_consuming, open_publishing
from tautulli_pipeline.warehouse.arrivals import arrivals_since
from tautulli_pipeline.warehouse.ledger import Ledger, Unsettled
from tautulli_pipeline.warehouse.schema import warehouse_id
from tautulli_pipeline.warehouse.writer import Writer, Written, utc_now

# A stop on request, Ctrl-C, and what Dagster raises when somebody terminates a run.
_STOPS: Final = (StoppedError, KeyboardInterrupt, dg.DagsterExecutionInterruptedError)
_CONSUMER_OPENS_WITHIN_SECONDS: Final = 20.0
_POLL_SECONDS: Final = 0.1


class StandingPublishing:
    """Opens the database of `IMPORT_DB_PATH` and publishes what is due."""

    @contextmanager
    def open(self, instance: dg.DagsterInstance) -> Iterator[PublishingHalf]:
        """The publishing half, holding the lock of imports while it is open."""
        with ExitStack() as stack:
            stack.enter_context(_as_failure())
            settings = load_settings()
            if settings.import_db_path is None:
                raise ConfigurationError(
                    "no database to import", hint="set IMPORT_DB_PATH for the Dagster processes"
                )
            stack.enter_context(explained_faults(settings.data_dir))
            stack.enter_context(data_directory(settings))
            log = ImportLog(settings.data_dir)
            claim = stack.enter_context(log.exclusive(settings.import_db_path))
            bury_dead_runs(instance, "import_job")
            paths = data_paths(settings)
            source = stack.enter_context(
                open_known_source(settings.import_db_path, paths.snapshots, paths.survey)
            )
            record = log.continue_or_begin(source.path, fresh=False)
            running = RunningImport(log, replace(record, process_id=os.getpid()))
            running.start_clock()
            stack.enter_context(running.until_ended(stops=_STOPS))
            stack.enter_context(_terminated_as_such(instance))
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
            half.on_receipt = running.published
            running.change(status=Status.RUNNING, **half.coverage())
            yield half
            # What the half was told to cover is known by now, and a consumer may be ahead.
            stored = log.read()
            fates = stored.fates if stored else running.record.fates
            running.change(fates=fates, **half.coverage())
            if running.record.total_records > fates.processed:
                running.leave_pending()
            else:
                half.folder.remove()

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


@contextmanager
def _terminated_as_such(instance: dg.DagsterInstance) -> Iterator[None]:
    """A termination in the middle of a query becomes a fault of the query's library."""
    try:
        yield
    except _STOPS:
        raise
    except Exception as error:
        if is_own_run_canceled(instance):
            raise StoppedError(
                "the import was stopped", hint="import again to resume it"
            ) from error
        raise


@contextmanager
def _as_failure() -> Iterator[None]:
    """Show a fault of ours as the failure it is: what, why and what to do."""
    try:
        yield
    except StoppedError:
        raise
    except PipelineError as error:
        progress = error.facts.get("progress") or {}
        raise dg.Failure(
            f"{error.message}. {error.hint}" if error.hint else error.message,
            metadata={"progress": dg.MetadataValue.json(progress)} if progress else {},
            allow_retries=False,
        ) from error


@dataclass
class _UntilDrained:
    """Consume what is there and no more, and make room for whoever waits to consume."""

    settings: Settings
    ledger: Ledger
    stopped: bool = False
    last_sequence: int | None = None
    lost: int = 0
    _totals: dict[str, int] = field(default_factory=dict)

    def report(self, _written: Written, unsettled: Unsettled) -> None:
        self.lost = sum(map(len, unsettled.values()))
        self.stopped = is_consumer_awaited(self.settings)
        self.settle()

    def settle(self) -> None:
        """Bring what is settled into the record of the import."""
        log = ImportLog(self.settings.data_dir)
        record = log.read()
        if record is None:
            return
        totals = self.ledger.totals(record.import_id)
        if totals != self._totals or record.status is Status.PENDING:
            self._totals = totals
            log.settle(record.import_id, Fates(**totals))


class StandingConsuming:
    """Consumes until the stream is drained, and settles the import it belongs to."""

    def consume(self, warehouse: Warehouse) -> Consumed:
        """Consume all there is."""
        began_at = utc_now()
        with warehouse.get_connection() as connection:
            lost = self._drain(connection)
            arrivals = arrivals_since(connection, began_at)
        return Consumed(arrivals, {"lost_on_the_stream": lost} if lost else {})

    @staticmethod
    def _drain(connection: DuckDBPyConnection) -> int:
        """Consume all there is; gives how many rows were lost on the way."""
        settings = load_settings()
        control = _UntilDrained(settings, Ledger(connection))
        receipts = data_paths(settings).receipts
        with (
            _as_failure(),
            explained_faults(settings.data_dir),
            stream_address(settings) as address,
            open_consuming(address) as session,
        ):
            control.last_sequence = session.last_sequence()
            writer = Writer(connection, deduplicator(settings), str(session.identity))
            Consumption(session, writer, control.ledger, receipts).run(control)
            control.settle()
        _forget_receipts(settings)
        if control.stopped:
            raise StoppedError(
                "made room for another consumer of this data directory",
                hint="what is left on the stream is consumed by it, or by the next run",
            )
        return control.lost


def _forget_receipts(settings: Settings) -> None:
    """Remove what an import needs no more that is settled to the last row."""
    record = ImportLog(settings.data_dir).read()
    if record is not None and record.status is Status.COMPLETED:
        ReceiptFolder(data_paths(settings).receipts / record.import_id).remove()


class StandingWarehouse(Warehouse):
    """The warehouse of the settings, looked up when it is opened."""

    database: str = ""

    @contextmanager
    def get_connection(self) -> Iterator[DuckDBPyConnection]:
        """See `Warehouse.get_connection`."""
        with _as_failure():
            settings = load_settings()
            make_data_dir(settings)
            require_warehouse_folder(settings)
            warehouse = Warehouse(database=str(settings.warehouse_path))
            with consumer_lock(settings), warehouse.get_connection() as connection:
                announce_warehouse(settings, warehouse_id(connection))
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
    """Ask the warehouse, or the consumer that has it open."""
    deadline = time.monotonic() + _CONSUMER_OPENS_WITHIN_SECONDS
    while True:
        try:
            return _own_look(settings)
        except WarehouseError:
            if not is_consumer_at_work(settings) or time.monotonic() > deadline:
                raise
        announced = announced_warehouse(settings)
        if announced is not None:
            return announced
        time.sleep(_POLL_SECONDS)


def _own_look(settings: Settings) -> str:
    warehouse = Warehouse(database=str(settings.warehouse_path))
    with consumer_lock(settings, patience_seconds=0), warehouse.get_connection() as connection:
        return warehouse_id(connection)
