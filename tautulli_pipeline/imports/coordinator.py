"""One import, from its lock to its last settled row, however it is started.

It coordinates the parts of an import: the lock and record of the data directory, the
source, the stream, the consumer process and the plan. The caller supplies the callbacks for
messages and progress, and a `Stop`; Dagster's record of finished partitions comes as a
`PartitionHistory`.
"""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Final, Protocol

from tautulli_pipeline.data_dir.directory import data_directory, explained_faults
from tautulli_pipeline.data_dir.logs import log_to
from tautulli_pipeline.errors import StreamError, WarehouseHeldError
from tautulli_pipeline.imports.connections import check_login, stream_address
from tautulli_pipeline.imports.consumer_client import ConsumerClient
from tautulli_pipeline.imports.import_lock import ImportLock
from tautulli_pipeline.imports.known_warehouse import KnownWarehouse
from tautulli_pipeline.imports.messages import PartitionWork, Sender
from tautulli_pipeline.imports.new_server import require_new_plays, sample_event_ids
from tautulli_pipeline.imports.plan import Destination, Finished, Plan, make_plan
from tautulli_pipeline.imports.publication import Publication
from tautulli_pipeline.imports.receipts import Receipt, ReceiptFolder, remove_receipts
from tautulli_pipeline.imports.record import ImportRecord, Status, log_of, resumable_imports
from tautulli_pipeline.imports.repeats import remembered
from tautulli_pipeline.imports.running import RunningImport
from tautulli_pipeline.imports.stopping import Stop
from tautulli_pipeline.imports.survey_cache import open_with_survey_cache
from tautulli_pipeline.settings import WAREHOUSE_WAIT_SECONDS, Settings
from tautulli_pipeline.source.address import Source, name_of
from tautulli_pipeline.source.opening import OpenSource
from tautulli_pipeline.source.partitions import Grid
from tautulli_pipeline.source.private_folder import remove_stale_snapshots
from tautulli_pipeline.source.snapshot import OnCopied
from tautulli_pipeline.source.survey import PartitionContent
from tautulli_pipeline.stream.session import PublishingSession, open_publishing
from tautulli_pipeline.stream.standstill import FOR_CONSUMER
from tautulli_pipeline.warehouse.server_list import Names
from tautulli_pipeline.warehouse.upgrade import UPGRADING, OnUpgraded

_log = logging.getLogger(__name__)

# Give up after republishing lost rows this many times in a row without progress.
FRUITLESS_ROUNDS: Final = 3


class PartitionHistory(Protocol):
    """The partitions of a source, as remembered across imports."""

    def grid(self) -> Grid | None:
        """The grid that defines the partitions; None before the first import."""

    def finished(self, place: str, earlier: Collection[str]) -> Mapping[str, Finished]:
        """The latest publication of each partition to this place, by key.

        `earlier` are places that count as this one: of the earlier ids of the server.
        """

    def show(self, keys: Iterable[str], place: str) -> None:
        """Show exactly these partitions of this place to users."""

    def record(self, receipt: Receipt, content: PartitionContent, finished: Finished) -> None:
        """Record a published partition."""


def each_once(say: Callable[[str], None], said: list[str] | None = None) -> Callable[[str], None]:
    """Wrap `say` to log each message and skip repeats of the last one, which waits cause.

    Also add each message to `said`.
    """
    last = ""

    def say_if_new(words: str) -> None:
        nonlocal last
        if words != last:
            last = words
            _log.info(words)
            if said is not None:
                said.append(words)
            say(words)

    return say_if_new


@dataclass(frozen=True)
class ImportRequest:
    """What to import, and how.

    Attributes:
        source: a database, a zipped backup of one, or a running Tautulli.
        server_id: identifies its Plex server in keys and rows.
        fresh: cover every partition, including finished ones.
        salvage: import what is readable in a damaged file.
        wait_seconds: how long to wait while another program holds the warehouse.
    """

    source: Source
    server_id: str
    fresh: bool = False
    salvage: bool = False
    wait_seconds: float = WAREHOUSE_WAIT_SECONDS


@dataclass(kw_only=True)
class Import:
    """An import with its source and stream open; created by `open_import`.

    Attributes:
        contents: the first survey of the source, if there was one.
        warehouse: what is remembered about the warehouse.
        consumer: a consumer for this import only; it begins when it is needed.
        has_backlog: whether events or receipts of earlier imports wait for a consumer.
    """

    settings: Settings
    request: ImportRequest
    source: OpenSource
    contents: list[PartitionContent] | None
    running: RunningImport
    session: PublishingSession
    warehouse: KnownWarehouse
    consumer: ConsumerClient
    stop: Stop
    say: Callable[[str], None]
    has_backlog: bool = False
    _plan: Plan | None = None
    _planned_for: str = ""
    _chosen: Collection[str] | None = None
    _has_begun: bool = False
    _is_confirmed: bool = False

    @property
    def record(self) -> ImportRecord:
        """The current record."""
        return self.running.record

    def begin_consumer(self) -> None:
        """Let the consumer begin, unless it has."""
        if not self._has_begun:
            self.consumer.begin(self.record.import_id, self._sample())
            self._has_begun = True

    @property
    def _is_new_server(self) -> bool:
        """Whether plays of another server may be in the warehouse, and none of this one."""
        current = self.settings.servers.current
        known = {current(server_id) for server_id in self.warehouse.servers}
        return self.warehouse.exists and self.request.server_id not in known

    def _sample(self) -> list[str]:
        """Return some event ids of a new server, which may be a known one under another id."""
        return sample_event_ids(self.source, self.request.server_id) if self._is_new_server else []

    def prepare(self, history: PartitionHistory, chosen: Collection[str] | None = None) -> Plan:
        """Plan what to publish; a second call returns the same plan.

        If the id of the warehouse is remembered, it is planned with, and the consumer confirms
        it later. Otherwise the consumer has to open the warehouse first.

        Args:
            history: the finished partitions.
            chosen: keys of the partitions to publish, finished or not; by default, all
                that are due.

        Raises:
            SourceError: the source cannot be read.
            WarehouseError: the consumer cannot open the warehouse.
            StreamError: the consumer cannot use the stream.
        """
        if self._plan is not None:
            return self._plan
        grid = history.grid()
        if self.contents is None or grid is not None:
            with self.stop.interruptible():
                self.contents = self.source.survey(grid, self.settings.import_batch_size)
        self._chosen = chosen
        self._report_kept_batch_size(grid)
        if self.warehouse.warehouse_id is None or self._is_new_server:
            return self._confirmed(history, self.request.wait_seconds)
        plan = self._make_plan(history, self.warehouse.warehouse_id)
        if plan.work or not self._has_begun:
            return plan
        if not self._has_nothing_to_do(plan):
            return self._confirmed(history, self.request.wait_seconds)
        with suppress(WarehouseHeldError):
            return self._confirmed(history, 0)
        return plan

    def _make_plan(self, history: PartitionHistory, warehouse_id: str) -> Plan:
        assert self.contents is not None
        record = self.record
        self._planned_for = warehouse_id
        stream_id = self.session.identity
        place, *earlier = (
            Destination(server_id, warehouse_id, stream_id)
            for server_id in dict.fromkeys((self.request.server_id, *self.settings.own_ids))
        )
        finished = history.finished(place.place, [one.place for one in earlier])
        self._plan = make_plan(
            self.contents,
            finished,
            place,
            record.import_id,
            fresh=record.fresh,
            chosen=self._chosen,
            begun=self.running.half_published(finished),
            is_older=self._newest_start < self.warehouse.newest.get(self._current_id, 0),
        )
        if self._plan.work and self.source.may_have_changed:
            # What is published must be what was planned.
            with self.stop.interruptible():
                self.source.look_again()
                self.contents = self.source.survey(history.grid(), self.settings.import_batch_size)
            return self._make_plan(history, warehouse_id)
        history.show(self._plan.versions, place.place)
        self.running.cover(self._plan)
        if self._plan.covered:
            self.begin_consumer()
        if self._has_begun:
            self.consumer.cover(self._plan.covered)
        return self._plan

    def _confirmed(self, history: PartitionHistory, wait_seconds: float) -> Plan:
        """Return the plan for the warehouse that the consumer has opened."""
        if not self._is_confirmed:
            self.begin_consumer()
            ready = self.consumer.await_ready(wait_seconds)
            warehouse_id = ready.warehouse_id
            listed = [server.id for server in self.settings.configuration.servers]
            require_new_plays(ready, self.request.server_id, self.settings.servers, listed)
            self.warehouse.opened(warehouse_id, ready.servers, ready.newest)
            self._is_confirmed = True
            if warehouse_id != self._planned_for:
                return self._make_plan(history, warehouse_id)
        assert self._plan is not None
        return self._plan

    def _has_nothing_to_do(self, plan: Plan) -> bool:
        return not (plan.covered or self.has_backlog)

    @property
    def leaves_events(self) -> bool:
        """Whether events wait on the stream."""
        with suppress(StreamError):  # it may have gone away since
            return bool(self.session.count_pending())
        return True

    @property
    def leaves_nothing(self) -> bool:
        """Whether the next import has nothing to do unless something changes."""
        record = self.record
        is_complete = record.status is Status.COMPLETED and not record.pending
        return is_complete and not (self._has_new_names or self.source.salvage.damages)

    @property
    def needs_warehouse(self) -> bool:
        """Whether it waits, or will have to wait, for a program that holds the warehouse."""
        plan = self._plan
        if plan is None:
            is_needed = self.has_backlog or self.request.fresh or not self.warehouse.warehouse_id
        else:
            is_needed = not self._has_nothing_to_do(plan)
        return is_needed and self.request.wait_seconds > 0

    def _report_kept_batch_size(self, grid: Grid | None) -> None:
        batch_size = self.settings.import_batch_size
        was_set = "import_batch_size" in self.settings.model_fields_set
        if grid is None or not was_set or self.source.may_have_changed:
            return
        if not self.source.fits(grid, batch_size):
            self.say(
                f"the batch size stays at {grid.width} records, as set by the first import of "
                f"{self.settings.data_dir}; run `tautulli-pipeline reset` to use {batch_size}"
            )

    def publish(self, history: PartitionHistory) -> None:
        """Publish what is due, wait until it is stored, and republish lost rows.

        Raises:
            StoppedError: a stop was requested; earlier partitions are finished.
            PipelineError: the import failed; earlier partitions are finished.
        """
        plan = self.prepare(history)
        if self._has_nothing_to_do(plan) and not self._is_confirmed:
            self._name_only(history)
            self.running.complete()
            return
        work, rounds, fewest = plan.work, 0, None
        while True:
            if work:
                self._publish(work, plan, history)
            confirmed = self._confirmed(history, self.request.wait_seconds)
            if confirmed is not plan:  # it is another warehouse than the remembered one
                plan, work = confirmed, confirmed.work
                continue
            self._name()
            drained = self.consumer.drain(self.session.last_sequence())
            self.running.settled(drained.outcomes)
            work = plan.again(drained.unsettled)
            if not work:
                break
            lost = sum(len(part.only or ()) for part in work)
            rounds = 0 if fewest is None or lost < fewest else rounds + 1
            fewest = lost if fewest is None else min(lost, fewest)
            if rounds == FRUITLESS_ROUNDS:
                cause = self.session.cause_of_loss()
                raise StreamError(
                    f"{lost:,} events could not be delivered after {FRUITLESS_ROUNDS} attempts"
                    f"{': ' * bool(cause)}{cause}",
                    hint="check whether the stream's limits or another consumer with the same "
                    "NATS_DURABLE_NAME remove them, then import again",
                )
            self.consumer.require_running()
            self.say(f"{lost:,} events were lost on the stream; publishing them again")
        self.running.complete()
        # Those of other imports are settled as well, but the last of each server may be resumed.
        remove_receipts(self.settings.layout, keep=resumable_imports(self.settings))

    def _name_only(self, history: PartitionHistory) -> None:
        """Store new names, if no other program holds the warehouse."""
        if self._has_new_names:
            with suppress(WarehouseHeldError):
                self._confirmed(history, 0)
                self._name()
                self.running.settled(self.consumer.drain(self.session.last_sequence()).outcomes)

    @property
    def _has_new_names(self) -> bool:
        known = self.warehouse.names.get(self.request.server_id)
        return known != f"{self.source.names_digest}:{self._newest_start}"

    @property
    def _current_id(self) -> str:
        return self.settings.servers.current(self.request.server_id)

    @property
    def _newest_start(self) -> int:
        starts = [content.started[1] for content in self.contents or () if content.started]
        return max(starts, default=0)

    def _name(self) -> None:
        """Let the consumer store the names of the source, unless they are stored."""
        if not self._has_new_names:
            return
        server_id, newest, names = self.request.server_id, self._newest_start, self.source.names
        self.consumer.name(Names(server_id, newest, names.users, names.libraries))
        self.warehouse.named(server_id, f"{names.digest}:{newest}")

    def _publish(
        self, work: tuple[PartitionWork, ...], plan: Plan, history: PartitionHistory
    ) -> None:
        folder = ReceiptFolder(self.settings.layout.receipts / self.record.import_id)
        self.warehouse.speaks(self._current_id, self._newest_start)
        with self.source.naming_damage(), ExitStack() as stack:
            with self.stop.interruptible():
                reader = stack.enter_context(self.source.open_reader())
            first = next(iter(self.warehouse.servers), self.request.server_id)
            sender = Sender(
                self.record.import_id,
                self.request.server_id,
                self._newest_start,
                shares_ids=first != self.request.server_id,
            )
            publication = Publication(
                sender,
                reader,
                self.source.schema,
                self.session,
                self.source.salvage.unreadable,
            )
            # Errors raised while an unclosed generator is collected would be lost.
            with self._naming_holder(), closing(publication.publish(work)) as receipts:
                for receipt in receipts:
                    folder.write(receipt)
                    key = receipt.partition_key
                    finished = Finished(receipt.import_id, plan.versions[key])
                    history.record(receipt, plan.contents[key], finished)
                    self.running.published(receipt)
                    self.consumer.require_running()

    @contextmanager
    def _naming_holder(self) -> Iterator[None]:
        """Replace the error for a full stream if the consumer cannot make room."""
        try:
            yield
        except StreamError:
            self.consumer.require_not_held(0)
            raise


@contextmanager
def open_import(
    settings: Settings,
    request: ImportRequest,
    consumer_process: subprocess.Popen[bytes],
    *,
    say: Callable[[str], None],
    stop: Stop,
    began_at: float,
    show: Callable[[ImportRecord], None] = lambda _record: None,
    on_copied: OnCopied = lambda _done, _total: None,
    on_upgraded: OnUpgraded = lambda _done, _total: None,
    on_readable: Callable[[], object] = lambda: None,
    lock: ImportLock | None = None,
) -> Iterator[Import]:
    """Begin or resume an import: its lock, source, record, consumer and stream.

    Args:
        settings: the data directory, the warehouse and the stream.
        request: what to import.
        consumer_process: a consumer that is waiting for its orders.
        say: receives messages for the user, mainly what the import is waiting for.
        stop: checked from here on.
        began_at: when the user began to wait, by `time.monotonic`.
        show: receives the record whenever it changes; like `say`, called from several threads.
        on_copied: receives the bytes of the source that are copied and in total.
        on_upgraded: receives how many rows of the warehouse are upgraded, and all; like `show`.
        on_readable: called once it is known that the source can be read.
        lock: the lock of the data directory, if it is held for several imports in turn.

    Raises:
        PipelineError: the import failed; its progress is kept, and the next import
            resumes it.
    """
    check_login(settings)
    said: list[str] = []
    name, say = each_once(say, said), each_once(say, said)
    log, layout = log_of(settings, lock), settings.layout
    with ExitStack() as stack:
        stack.enter_context(explained_faults(settings.data_dir))
        stack.enter_context(data_directory(settings, say))
        remove_stale_snapshots(layout.snapshots)
        claim = stack.enter_context(log.exclusive(name_of(request.source)))
        stack.enter_context(stop.shared(log.lock, claim))
        completion = stack.enter_context(remembered(settings, request.source, request.server_id))
        with log.noting_failure(name_of(request.source), request.server_id), stop.interruptible():
            source = stack.enter_context(
                open_with_survey_cache(
                    request.source,
                    layout,
                    salvaging=request.salvage,
                    fresh=request.fresh,
                    max_age_hours=settings.tautulli_max_age_hours,
                    on_copied=on_copied,
                )
            )
            # Leave no files behind unless the source is readable.
            last = log.read()
            is_first = last is None or not last.has_begun
            contents = source.survey(None, settings.import_batch_size) if is_first else None
        on_readable()
        stack.enter_context(log_to(layout.log("import")))
        running = RunningImport(
            log,
            log.continue_or_begin(source.path, request.server_id, fresh=request.fresh),
            unreadable=tuple(damage.facts() for damage in source.salvage.damages),
            began_at=began_at,
            observe=show,
        )
        stack.enter_context(running.until_ended())
        warehouse = KnownWarehouse(settings)
        stack.enter_context(warehouse.left_complete())

        def name_holder(words: str) -> None:
            if opened.needs_warehouse:
                name(words)

        def upgraded(done: int, total: int) -> None:
            running.upgrading()
            say(UPGRADING)
            on_upgraded(done, total)

        consumer = ConsumerClient(
            consumer_process,
            stop,
            on_progress=running.progressed,
            on_wait=say,
            on_held=name_holder,
            on_upgraded=upgraded,
            on_ready=running.ready,
        )
        stack.callback(consumer.finish, None)
        stack.enter_context(consumer.ended_after_failure())

        def wait(words: str) -> None:
            consumer.require_running()
            if FOR_CONSUMER in words:
                consumer.require_not_held(request.wait_seconds)
            say(words)

        with stop.interruptible():
            address = stack.enter_context(stream_address(settings))
        # Before the consumer, so that problems with the stream show within seconds.
        session = stack.enter_context(open_publishing(address, on_wait=wait))
        stop.require_none()
        opened = Import(
            settings=settings,
            request=request,
            source=source,
            contents=contents,
            running=running,
            session=session,
            warehouse=warehouse,
            consumer=consumer,
            stop=stop,
            say=say,
            has_backlog=bool(session.count_pending()) or any(layout.receipts.glob("*/*")),
        )
        # Early if it is certainly needed: it opens the warehouse while Dagster loads.
        if opened.has_backlog or request.fresh or not warehouse.is_untouched:
            opened.begin_consumer()
        yield opened
        if not opened.leaves_events:
            completion.stream_id = session.identity
            # What was said has to be said again.
            if not said and opened.leaves_nothing:
                completion.fill(opened.record)
