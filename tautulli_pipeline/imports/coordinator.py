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
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from tautulli_pipeline.data_dir.directory import data_directory, explained_faults
from tautulli_pipeline.data_dir.logs import log_to
from tautulli_pipeline.errors import StreamError
from tautulli_pipeline.imports.connections import check_login, stream_address
from tautulli_pipeline.imports.consumer_client import ConsumerClient
from tautulli_pipeline.imports.messages import PartitionWork
from tautulli_pipeline.imports.plan import Destination, Finished, Plan, make_plan
from tautulli_pipeline.imports.publication import Publication
from tautulli_pipeline.imports.receipts import Receipt, ReceiptFolder
from tautulli_pipeline.imports.record import ImportLog, ImportRecord
from tautulli_pipeline.imports.running import RunningImport
from tautulli_pipeline.imports.stopping import Stop
from tautulli_pipeline.imports.survey_cache import open_with_survey_cache
from tautulli_pipeline.settings import WAREHOUSE_WAIT_SECONDS, Settings
from tautulli_pipeline.source.opening import OpenSource
from tautulli_pipeline.source.partitions import Grid
from tautulli_pipeline.source.private_folder import remove_stale_snapshots
from tautulli_pipeline.source.snapshot import OnCopied
from tautulli_pipeline.source.survey import PartitionContent
from tautulli_pipeline.stream.session import PublishingSession, open_publishing

_log = logging.getLogger(__name__)

# Give up after republishing lost rows this many times in a row without progress.
FRUITLESS_ROUNDS: Final = 3


class PartitionHistory(Protocol):
    """The partitions of a source, as remembered across imports."""

    def grid(self) -> Grid | None:
        """The grid that defines the partitions; None before the first import."""

    def finished(self) -> Mapping[str, Finished]:
        """The latest publication of each partition, by key."""

    def show(self, keys: Iterable[str]) -> None:
        """Show exactly these partitions to users."""

    def record(self, receipt: Receipt, content: PartitionContent, finished: Finished) -> None:
        """Record a published partition."""


def each_once(say: Callable[[str], None]) -> Callable[[str], None]:
    """Wrap `say` to log each message and skip repeats of the last one, which waits cause."""
    last = ""

    def say_if_new(words: str) -> None:
        nonlocal last
        if words != last:
            last = words
            _log.info(words)
            say(words)

    return say_if_new


@dataclass(frozen=True)
class ImportRequest:
    """What to import, and how.

    Attributes:
        source: a database or a zipped backup of one.
        server_id: identifies its Plex server in keys and rows.
        fresh: cover every partition, including finished ones.
        salvage: import what is readable in a damaged file.
        wait_seconds: how long to wait while another program holds the warehouse.
    """

    source: Path
    server_id: str
    fresh: bool = False
    salvage: bool = False
    wait_seconds: float = WAREHOUSE_WAIT_SECONDS


@dataclass(kw_only=True)
class Import:
    """An import with its source, stream and consumer open; created by `open_import`.

    Attributes:
        contents: the first survey of the source, if there was one.
        consumer: a consumer that has begun, for this import only.
    """

    settings: Settings
    request: ImportRequest
    source: OpenSource
    contents: list[PartitionContent] | None
    running: RunningImport
    session: PublishingSession
    consumer: ConsumerClient
    stop: Stop
    say: Callable[[str], None]
    _plan: Plan | None = None

    @property
    def record(self) -> ImportRecord:
        """The current record."""
        return self.running.record

    def prepare(self, history: PartitionHistory, chosen: Collection[str] | None = None) -> Plan:
        """Plan what to publish; a second call returns the same plan.

        Args:
            history: the finished partitions.
            chosen: keys of the partitions to publish, finished or not; by default, all
                that are due.

        Raises:
            SourceError: the source cannot be read.
            WarehouseError: the consumer cannot open the warehouse.
            StreamError: the consumer cannot use the stream.
        """
        if self._plan is None:
            grid = history.grid()
            contents = self.contents
            if contents is None or grid is not None:
                with self.stop.interruptible():
                    contents = self.source.survey(grid, self.settings.import_batch_size)
            ready = self.consumer.await_ready()
            record = self.record
            self._plan = make_plan(
                contents,
                history.finished(),
                Destination(self.request.server_id, ready.warehouse_id, self.session.identity),
                record.import_id,
                fresh=record.fresh,
                chosen=chosen,
            )
            self._report_kept_batch_size(grid)
            history.show(self._plan.versions)
            self.running.cover(self._plan)
            self.consumer.cover(self._plan.covered)
        return self._plan

    def _report_kept_batch_size(self, grid: Grid | None) -> None:
        batch_size = self.settings.import_batch_size
        was_set = "import_batch_size" in self.settings.model_fields_set
        if grid is not None and was_set and not self.source.fits(grid, batch_size):
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
        work, rounds, fewest = plan.work, 0, None
        while True:
            if work:
                self._publish(work, plan, history)
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
        self._receipts().remove()

    def _publish(
        self, work: tuple[PartitionWork, ...], plan: Plan, history: PartitionHistory
    ) -> None:
        folder = self._receipts()
        with self.source.naming_damage(), ExitStack() as stack:
            with self.stop.interruptible():
                reader = stack.enter_context(self.source.open_reader())
            publication = Publication(
                self.record.import_id,
                self.request.server_id,
                reader,
                self.source.schema,
                self.session,
                self.source.salvage.unreadable,
            )
            # Errors raised while an unclosed generator is collected would be lost.
            with closing(publication.publish(work)) as receipts:
                for receipt in receipts:
                    folder.write(receipt)
                    key = receipt.partition_key
                    finished = Finished(receipt.import_id, plan.versions[key])
                    history.record(receipt, plan.contents[key], finished)
                    self.running.published(receipt)
                    self.consumer.require_running()

    def _receipts(self) -> ReceiptFolder:
        return ReceiptFolder(self.settings.layout.receipts / self.record.import_id)


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

    Raises:
        PipelineError: the import failed; its progress is kept, and the next import
            resumes it.
    """
    check_login(settings)
    say = each_once(say)
    log, layout = ImportLog(settings.data_dir), settings.layout
    with ExitStack() as stack:
        stack.enter_context(explained_faults(settings.data_dir))
        stack.enter_context(data_directory(settings, say))
        remove_stale_snapshots(layout.snapshots)
        claim = stack.enter_context(log.exclusive(request.source))
        stack.enter_context(stop.shared(log.lock, claim))
        with log.noting_failure(), stop.interruptible():
            source = stack.enter_context(
                open_with_survey_cache(
                    request.source, layout, salvaging=request.salvage, on_copied=on_copied
                )
            )
            # Leave no files behind unless the source is readable.
            first = log.read() is None
            contents = source.survey(None, settings.import_batch_size) if first else None
        stack.enter_context(log_to(layout.log("import")))
        running = RunningImport(
            log,
            log.continue_or_begin(source.path, request.server_id, fresh=request.fresh),
            unreadable=tuple(damage.facts() for damage in source.salvage.damages),
            began_at=began_at,
            observe=show,
        )
        stack.enter_context(running.until_ended())
        consumer = ConsumerClient(
            consumer_process, stop, on_progress=running.progressed, on_wait=say
        )
        stack.callback(consumer.finish, None)
        stack.enter_context(consumer.ended_after_failure())

        def wait(words: str) -> None:
            consumer.require_running()
            say(words)

        with stop.interruptible():
            address = stack.enter_context(stream_address(settings))
        # Before the consumer, so that problems with the stream show within seconds.
        session = stack.enter_context(open_publishing(address, on_wait=wait))
        stop.require_none()
        consumer.begin(running.record.import_id, request.wait_seconds)
        yield Import(
            settings=settings,
            request=request,
            source=source,
            contents=contents,
            running=running,
            session=session,
            consumer=consumer,
            stop=stop,
            say=say,
        )
