"""One import from its lock to its last settled row, however it is started.

It holds together what an import needs: the lock and record of the data directory, the
source, the stream, the consumer process and the plan. Whoever starts it says who watches
and how to ask it to stop; Dagster's memory of finished partitions is given as a
`PartitionHistory`.
"""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

from tautulli_pipeline.data_dir.directory import data_directory, explained_faults
from tautulli_pipeline.data_dir.logs import log_to
from tautulli_pipeline.errors import StreamError
from tautulli_pipeline.imports.connections import check_login, stream_address
from tautulli_pipeline.imports.consumer_client import ConsumerClient
from tautulli_pipeline.imports.known_source import open_known_source
from tautulli_pipeline.imports.messages import PartitionWork
from tautulli_pipeline.imports.plan import Destination, Finished, Plan, make_plan
from tautulli_pipeline.imports.publication import Publication
from tautulli_pipeline.imports.receipts import Receipt, ReceiptFolder
from tautulli_pipeline.imports.record import ImportLog, ImportRecord
from tautulli_pipeline.imports.running import RunningImport
from tautulli_pipeline.imports.stopping import Stop
from tautulli_pipeline.settings import WAREHOUSE_WAIT_SECONDS, Settings
from tautulli_pipeline.source.opening import OpenSource
from tautulli_pipeline.source.partitions import Grid
from tautulli_pipeline.source.reader import open_reader
from tautulli_pipeline.source.survey import PartitionContent
from tautulli_pipeline.stream.session import PublishingSession, open_publishing
from tautulli_pipeline.warehouse.arrivals import Arrivals

_log = logging.getLogger(__name__)

# How often lost rows are published again while no more of them arrive.
FRUITLESS_ROUNDS: Final = 3


class PartitionHistory(Protocol):
    """What is remembered of the partitions of a source, from import to import."""

    def grid(self) -> Grid | None:
        """The grid that they are cut on; None before the first import."""

    def finished(self) -> Mapping[str, Finished]:
        """The latest publication of each partition, by key."""

    def show(self, keys: Iterable[str]) -> None:
        """Make exactly these partitions known to people."""

    def record(self, receipt: Receipt, content: PartitionContent, finished: Finished) -> None:
        """Remember a published partition."""


def each_once(say: Callable[[str], None]) -> Callable[[str], None]:
    """`say`, but for what was said last already: who waits says so again and again."""
    last = ""

    def say_news(words: str) -> None:
        nonlocal last
        if words != last:
            last = words
            _log.info(words)
            say(words)

    return say_news


@dataclass(frozen=True)
class ImportRequest:
    """What is imported, and how.

    Attributes:
        source: a database or a zipped backup of one.
        server_id: names its Plex server in keys and rows.
        fresh: cover every partition, also those that are finished.
        salvage: make do with what is readable in a damaged file.
        wait_seconds: how long to wait for a program that holds the warehouse.
    """

    source: Path
    server_id: str
    fresh: bool = False
    salvage: bool = False
    wait_seconds: float = WAREHOUSE_WAIT_SECONDS


class _Control:
    """What an import goes by while it works, in all of its threads."""

    def __init__(self, stop: Stop, consumer: ConsumerClient, say: Callable[[str], None]) -> None:
        self.stop = stop
        self.say = say
        self._consumer = consumer

    def require_going_on(self) -> None:
        """Return if nobody asked to stop and the consumer is alive; else raise."""
        self.stop.require_none()
        self._consumer.require_alive()

    def wait(self, words: str) -> None:
        """Say what the import waits for, unless it is to end."""
        self.require_going_on()
        self.say(words)


@dataclass(kw_only=True)
class Import:
    """An import that has its source, its stream and its consumer; made by `open_import`.

    Attributes:
        source: the open source.
        contents: what a first survey of it found.
        consumer: begun, for this import alone.
    """

    settings: Settings
    request: ImportRequest
    source: OpenSource
    contents: list[PartitionContent] | None
    running: RunningImport
    session: PublishingSession
    consumer: ConsumerClient
    control: _Control
    _plan: Plan | None = None

    @property
    def record(self) -> ImportRecord:
        """The record as it is at this moment."""
        return self.running.record

    def prepare(self, history: PartitionHistory, chosen: Collection[str] | None = None) -> Plan:
        """Find out what is due; a second call gives the same plan.

        Args:
            history: remembers what is finished.
            chosen: keys of the partitions to publish, finished or not; all that are due
                without it.

        Raises:
            SourceError: the source cannot be read.
            WarehouseError: the consumer cannot open the warehouse.
            StreamError: the consumer cannot use the stream.
        """
        if self._plan is None:
            grid = history.grid()
            contents = self._survey(grid)
            ready = self.consumer.await_ready(self.control.require_going_on)
            record = self.record
            self._plan = make_plan(
                contents,
                history.finished(),
                Destination(self.request.server_id, ready.warehouse_id, str(self.session.identity)),
                record.import_id,
                fresh=record.fresh,
                chosen=chosen,
            )
            self._say_that_batch_size_stays(grid)
            history.show(self._plan.versions)
            self.running.cover(self._plan)
            self.consumer.cover(self._plan.covered)
        return self._plan

    def _survey(self, grid: Grid | None) -> list[PartitionContent]:
        if self.contents is not None and grid is None:
            return self.contents
        with self.control.stop.interruptible():
            return self.source.survey(grid, self.settings.import_batch_size)

    def _say_that_batch_size_stays(self, grid: Grid | None) -> None:
        batch_size = self.settings.import_batch_size
        was_set = "import_batch_size" in self.settings.model_fields_set
        if grid is not None and was_set and not self.source.fits(grid, batch_size):
            self.control.say(
                f"batches stay at {grid.width} records, as the first import of "
                f"{self.settings.data_dir} set them; `tautulli-pipeline reset` lets the next "
                f"one use {batch_size}"
            )

    def publish(self, history: PartitionHistory) -> None:
        """Publish what is due, wait until it is stored, and publish again what got lost.

        Raises:
            StoppedError: somebody asked to stop; what came before is finished.
            PipelineError: one of its faults; likewise.
        """
        plan = self.prepare(history)
        work, rounds, fewest = plan.work, 0, None
        while True:
            if work:
                self._publish(work, plan, history)
            drained = self.consumer.drain(
                self.session.last_sequence(), self.control.require_going_on
            )
            self.running.settled(drained.outcomes)
            work = plan.again(drained.unsettled)
            if not work:
                break
            lost = sum(len(part.only or ()) for part in work)
            rounds = 0 if fewest is None or lost < fewest else rounds + 1
            fewest = lost if fewest is None else min(lost, fewest)
            if rounds == FRUITLESS_ROUNDS:
                raise _undeliverable(lost)
            self.control.wait(f"{lost:,} events were lost on the stream; publishing them again")
        self.running.complete()
        self._receipts().remove()

    def _publish(
        self, work: tuple[PartitionWork, ...], plan: Plan, history: PartitionHistory
    ) -> None:
        folder = self._receipts()
        with (
            self.source.naming_damage(),
            self._publication() as publication,
            # What is raised while a generator is merely dropped would be lost.
            closing(publication.publish(work)) as receipts,
        ):
            for receipt in receipts:
                folder.write(receipt)
                key = receipt.partition_key
                finished = Finished(receipt.import_id, plan.versions[key])
                history.record(receipt, plan.contents[key], finished)
                self.running.published(receipt)
                self.control.require_going_on()

    def _receipts(self) -> ReceiptFolder:
        return ReceiptFolder(self.settings.layout.receipts / self.record.import_id)

    @contextmanager
    def _publication(self) -> Iterator[Publication]:
        with self.control.stop.interruptible():
            copy, schema = self.source.snapshot, self.source.schema
        with open_reader(copy.path, schema, named=copy.source) as reader:
            yield Publication(
                self.record.import_id,
                self.request.server_id,
                reader,
                schema,
                self.session,
                self.source.salvage.unreadable,
            )

    def consumer_ended_after_failure(self) -> AbstractContextManager[None]:
        """See `ConsumerClient.ended_after_failure`."""
        return self.consumer.ended_after_failure()

    def finish(self, since: datetime) -> Arrivals | None:
        """End the consumer; see `ConsumerClient.finish`."""
        return self.consumer.finish(since)


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
) -> Iterator[Import]:
    """Begin or resume an import: its lock, source, record, consumer and stream.

    Args:
        settings: name the data directory, the warehouse and the stream.
        request: what is imported.
        consumer_process: a consumer that waits for its orders.
        say: hears what a person should know, what the import waits for above all.
        stop: heeded from here on.
        began_at: when a person began to wait, by `time.monotonic`.
        show: sees the record whenever it changes; like `say`, called from several threads.

    Raises:
        PipelineError: one of its faults; what was done so far is kept, and the next import
            resumes it.
    """
    check_login(settings)
    say = each_once(say)
    log = ImportLog(settings.data_dir)
    with ExitStack() as stack:
        stack.enter_context(explained_faults(settings.data_dir))
        stack.enter_context(data_directory(settings))
        claim = stack.enter_context(log.exclusive(request.source))
        stack.enter_context(stop.shared(log.lock, claim))
        with stop.interruptible():
            source = stack.enter_context(_opened(settings, request))
            # Nothing stays before the source has proved to be readable.
            first = log.read() is None
            contents = source.survey(None, settings.import_batch_size) if first else None
        stack.enter_context(log_to(settings.layout.log("import")))
        running = RunningImport(
            log,
            log.continue_or_begin(source.path, fresh=request.fresh),
            unreadable=tuple(damage.facts() for damage in source.salvage.damages),
            began_at=began_at,
            observe=show,
        )
        stack.enter_context(running.until_ended())
        consumer = ConsumerClient(consumer_process, on_progress=running.progressed, on_wait=say)
        stack.callback(consumer.finish, None)
        stack.enter_context(consumer.ended_after_failure())
        control = _Control(stop, consumer, say)
        with stop.interruptible():
            address = stack.enter_context(stream_address(settings))
        # Before the consumer: what is wrong with the stream shows here within seconds.
        session = stack.enter_context(open_publishing(address, on_wait=control.wait))
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
            control=control,
        )


def _opened(settings: Settings, request: ImportRequest) -> AbstractContextManager[OpenSource]:
    layout = settings.layout
    return open_known_source(
        request.source, layout.snapshots, layout.survey, salvaging=request.salvage
    )


def _undeliverable(lost: int) -> StreamError:
    return StreamError(
        f"{lost:,} events could not be delivered after {FRUITLESS_ROUNDS} attempts",
        hint="check whether the stream's limits or another consumer with the same "
        "NATS_DURABLE_NAME remove them, then import again",
    )
