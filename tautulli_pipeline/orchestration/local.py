"""One import by this process, with a consumer process beside it."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import dagster as dg

from tautulli_pipeline.errors import StoppedError, StreamError
from tautulli_pipeline.imports.claim import Claim
from tautulli_pipeline.imports.known_source import open_known_source
from tautulli_pipeline.imports.pieces import PartitionWork
from tautulli_pipeline.imports.plan import Plan
from tautulli_pipeline.imports.record import Fates, ImportLog, ImportRecord, Status
from tautulli_pipeline.imports.running import RunningImport, heeding_requests
from tautulli_pipeline.imports.session import OpenSource, PublishingHalf
from tautulli_pipeline.memory import spare_collector
from tautulli_pipeline.orchestration.consumer_handle import ConsumerHandle
from tautulli_pipeline.orchestration.consuming_run import consuming
from tautulli_pipeline.orchestration.data_directory import data_directory, explained_faults
from tautulli_pipeline.orchestration.instance import open_instance, unheard
from tautulli_pipeline.orchestration.partitions import known_grid
from tautulli_pipeline.orchestration.preparation import prepare_publishing
from tautulli_pipeline.orchestration.publishing_run import PublishingRun
from tautulli_pipeline.orchestration.services import check_login, data_paths, stream_address
from tautulli_pipeline.orchestration.workers import bury_dead_runs
from tautulli_pipeline.settings import Settings
from tautulli_pipeline.source.survey import PartitionContent
from tautulli_pipeline.stream.session import PublishingSession, open_publishing

# How often rows that were lost on the way are published again while no more of them arrive.
_FRUITLESS_ATTEMPTS: Final = 3
_UNKNOWN: Final = 2**62

Observer = Callable[[ImportRecord], None]


@dataclass
class LocalImport:
    """Imports one database.

    Attributes:
        consumer: a consumer process that waits to begin.
        observe: sees the record whenever it changes.
        say: told in words what it waits for and what a person should know.
        stopping: set to have it stop after the batch in hand.
        interruptible: whether nothing is under way that a `StoppedError`, raised
            anywhere in the calling thread, could disturb.
        on_request: called, in another thread, when `tautulli-pipeline stop` asks to stop.
    """

    settings: Settings
    path: Path
    consumer: subprocess.Popen[bytes]
    fresh: bool
    salvaging: bool = False
    observe: Observer = lambda _record: None
    say: Callable[[str], None] = lambda _words: None
    stopping: threading.Event = field(default_factory=threading.Event)
    interruptible: bool = True
    on_request: Callable[[], None] | None = None

    def __post_init__(self) -> None:
        self._log = ImportLog(self.settings.data_dir)
        self._paths = data_paths(self.settings)
        self._running: RunningImport | None = None
        self._run: PublishingRun | None = None

    def run(self) -> ImportRecord:
        """Publish what is due, drain the stream, settle the ledger.

        Raises:
            PipelineError: one of its faults; what was done so far is kept, and the
                next import goes on from there.
        """
        check_login(self.settings)
        with (
            explained_faults(self.settings.data_dir),
            data_directory(self.settings),
            self._log.exclusive(self.path) as claim,
            self._heeding_requests(claim),
            self._open_source() as source,
        ):
            self._require_going_on()
            # Nothing stays before the source has passed for what it should be.
            first = self._log.read() is None
            contents = source.survey(None, self.settings.import_batch_size) if first else None
            last = self._log.continue_or_begin(source.path, fresh=self.fresh)
            self._running = running = RunningImport(self._log, last, self.observe)
            running.start_clock()
            unreadable = tuple(damage.facts() for damage in source.salvage.damages)
            running.change(status=Status.RUNNING, process_id=os.getpid(), unreadable=unreadable)
            with running.until_ended(), self._stopped_as_such(), ExitStack() as stack:
                self._import(source, contents, running, stack)
        return running.record

    @contextmanager
    def _stopped_as_such(self) -> Iterator[None]:
        """A signal in the middle of a query becomes a fault of the query's library."""
        try:
            yield
        except Exception as error:
            if self.stopping.is_set() and self.interruptible:
                raise _stopped() from error
            raise

    @contextmanager
    def _undisturbed(self) -> Iterator[None]:
        """Go on through what cannot be interrupted, and end after it.

        Dagster, for one, tells of what disturbs it in its own words, at length.
        """
        self.interruptible = False
        yield
        self.interruptible = True
        self._require_going_on()

    def _open_source(self) -> AbstractContextManager[OpenSource]:
        return open_known_source(
            self.path, self._paths.snapshots, self._paths.survey, salvaging=self.salvaging
        )

    @contextmanager
    def _heeding_requests(self, claim: Claim) -> Iterator[None]:
        heeding = heeding_requests(
            self._log.lock,
            claim,
            self.stopping,
            on_request=self.on_request or self.stopping.set,
            on_stopping=lambda: self._running.mark_stopping() if self._running else None,
        )
        with ExitStack() as stack:
            # Python cannot take an exception while it starts a thread.
            with self._undisturbed():
                stack.enter_context(heeding)
            yield

    def _require_going_on(self) -> None:
        if self.stopping.is_set():
            raise _stopped()

    def _import(
        self,
        source: OpenSource,
        contents: list[PartitionContent] | None,
        running: RunningImport,
        stack: ExitStack,
    ) -> None:
        address = stack.enter_context(stream_address(self.settings))
        # First, for whatever is wrong with the stream shows here within a second.
        session = stack.enter_context(open_publishing(address, on_wait=self._wait))
        import_id = running.record.import_id
        consumer = ConsumerHandle(self.consumer, running.progressed, self.say)
        consumer.begin(import_id)
        with self._undisturbed():
            instance = stack.enter_context(open_instance(self.settings.data_dir))
            bury_dead_runs(instance)
            grid = known_grid(instance)
            stack.enter_context(unheard())
            stack.enter_context(consuming(consumer, instance, import_id))
        stack.callback(self._give_up_run, session)
        if contents is None or grid is not None:
            contents = source.survey(grid, self.settings.import_batch_size)
        warehouse_id, _ = consumer.await_ready(self.stopping)
        self.interruptible = False
        half = stack.enter_context(
            prepare_publishing(
                self.settings,
                running.record,
                source,
                contents,
                instance=instance,
                session=session,
                warehouse_id=warehouse_id,
            )
        )
        if half.notice:
            self.say(half.notice)
        half.stopping = self.stopping
        half.on_receipt = running.published
        running.change(total_records=half.plan.total_records, unchanged=half.plan.unchanged)
        spare_collector()
        self._require_going_on()
        running.start_clock()
        self._publish_and_drain(half, instance, consumer, session, running)
        running.stop_clock()
        half.folder.remove()

    def _publish_and_drain(
        self,
        half: PublishingHalf,
        instance: dg.DagsterInstance,
        consumer: ConsumerHandle,
        session: PublishingSession,
        running: RunningImport,
    ) -> None:
        fruitless, least = 0, _UNKNOWN
        while True:
            if half.work:
                self._run_job(half, instance, consumer, running)
            drained = consumer.drain(session.last_sequence(), self.stopping)
            running.change(fates=Fates(**drained.totals))
            half.work = _lost(half.plan, drained.unsettled)
            if not half.work:
                return
            lost = sum(len(part.only or ()) for part in half.work)
            fruitless = 0 if lost < least else fruitless + 1
            least = min(lost, least)
            if fruitless == _FRUITLESS_ATTEMPTS:
                raise _never_arrive(lost)
            self._wait(f"{lost:,} events were lost on the stream; publishing them again")

    def _run_job(
        self,
        half: PublishingHalf,
        instance: dg.DagsterInstance,
        consumer: ConsumerHandle,
        running: RunningImport,
    ) -> None:
        def tick() -> None:
            if consumer.failed:
                half.stopping.set()
            self.observe(running.record)

        self._run = run = PublishingRun(half, instance, running.record.import_id)
        run.wait(tick)
        if consumer.failed:
            consumer.raise_fault()
        run.raise_fault()
        self._require_going_on()

    def _wait(self, words: str) -> None:
        """Say what is waited for, unless the import is to stop."""
        self._require_going_on()
        self.say(words)

    def _give_up_run(self, session: PublishingSession) -> None:
        if self._run is not None:
            self._run.give_up(session)


def _stopped() -> StoppedError:
    return StoppedError("the import was stopped", hint="import again to resume it")


def _never_arrive(lost: int) -> StreamError:
    return StreamError(
        f"{lost} events were published again and again and never arrived",
        hint="see whether the stream's limits or another consumer of the same "
        "NATS_DURABLE_NAME take them, then import again",
    )


def _lost(plan: Plan, unsettled: dict[str, list[int]]) -> tuple[PartitionWork, ...]:
    """Published rows that arrived nowhere; those the source has no longer are let go."""
    # New to layer 1, whichever attempts there were before.
    attempt = time.time_ns() // 1_000_000
    return tuple(
        PartitionWork(key, plan.rows[key], frozenset(ids), attempt)
        for key, ids in sorted(unsettled.items())
        if key in plan.rows
    )
