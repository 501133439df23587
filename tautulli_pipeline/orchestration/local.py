"""One import by this process, with a consumer process beside it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import dagster as dg

from tautulli_pipeline.errors import StoppedError, StreamError
from tautulli_pipeline.imports.plan import Plan
from tautulli_pipeline.imports.publication import PartitionWork
from tautulli_pipeline.imports.receipts import Receipt
from tautulli_pipeline.imports.record import Fates, ImportLog, ImportRecord, Status
from tautulli_pipeline.imports.session import OpenSource, PublishingHalf, open_source
from tautulli_pipeline.memory import spare_collector
from tautulli_pipeline.orchestration.consumer_handle import ConsumerHandle, start_consumer
from tautulli_pipeline.orchestration.instance import (
    COMMAND_LINE_TAGS,
    QUIET,
    bury_dead_runs,
    open_instance,
)
from tautulli_pipeline.orchestration.partitions import known_grid
from tautulli_pipeline.orchestration.preparation import PreparedPublishing, prepare_publishing
from tautulli_pipeline.orchestration.services import (
    check_login,
    data_paths,
    make_data_dir,
    stream_address,
)
from tautulli_pipeline.settings import Settings
from tautulli_pipeline.stream.session import PublishingSession, open_publishing

# How often rows that were lost on the way are published again while no more of them arrive.
_FRUITLESS_ATTEMPTS: Final = 3
_UNKNOWN: Final = 2**62
_TICK_SECONDS: Final = 0.1

Observer = Callable[[ImportRecord], None]


@dataclass
class LocalImport:
    """Imports one database; `observe` sees the record whenever it changes."""

    settings: Settings
    path: Path
    fresh: bool
    observe: Observer = lambda _record: None
    on_wait: Callable[[str], None] = lambda _reason: None
    stopping: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._log = ImportLog(self.settings.data_dir)
        self._paths = data_paths(self.settings)
        self._changing = threading.Lock()
        self._began_at = time.monotonic()
        self._elapsed_before_seconds = 0.0

    def run(self) -> ImportRecord:
        """Publish what is due, drain the stream, settle the ledger.

        Raises:
            PipelineError: one of its faults; what was done so far is kept, and the
                next import goes on from there.
        """
        check_login(self.settings)
        with ExitStack() as stack:
            if self.settings.data_dir.is_dir():
                stack.enter_context(self._log.exclusive())
                source = stack.enter_context(open_source(self.path, self._paths.snapshots))
            else:
                # Nothing is created before the source has passed for what it should be.
                source = stack.enter_context(open_source(self.path, self._paths.snapshots))
                make_data_dir(self.settings)
                stack.enter_context(self._log.exclusive())
            with self._recorded(source):
                self._import(source, stack)
        return self._record

    @contextmanager
    def _recorded(self, source: OpenSource) -> Iterator[None]:
        """Keep the record in step with how the import ends."""
        last = self._log.read()
        if (
            last
            and last.resumable
            and last.source == str(source.snapshot.source)
            and not self.fresh
        ):
            self._record = last
        else:
            self._record = ImportRecord.begin(source.snapshot.source, fresh=self.fresh)
        self._elapsed_before_seconds = self._record.elapsed_seconds
        self._change(status=Status.RUNNING, process_id=os.getpid())
        try:
            yield
        except (StoppedError, KeyboardInterrupt):
            self._change(status=Status.STOPPED)
            raise
        except BaseException:
            self._change(status=Status.FAILED)
            raise
        self._change(status=Status.COMPLETED)

    def _import(self, source: OpenSource, stack: ExitStack) -> None:
        address = stack.enter_context(stream_address(self.settings))
        # First, for whatever is wrong with the stream shows here within a second.
        session = stack.enter_context(open_publishing(address, on_wait=self._wait))
        consumer = stack.enter_context(
            start_consumer(self._record.import_id, self._progressed, self.on_wait)
        )
        instance = stack.enter_context(open_instance(self.settings.data_dir))
        bury_dead_runs(instance, "import_job")
        grid = known_grid(instance)
        contents = source.survey(grid, self.settings.import_batch_size)
        warehouse_id, _ = consumer.await_ready()
        half = stack.enter_context(
            prepare_publishing(
                self.settings,
                self._record,
                source,
                contents,
                instance=instance,
                session=session,
                warehouse_id=warehouse_id,
            )
        )
        half.on_receipt, half.stopping = self._published, self.stopping
        self._change(total_records=half.plan.total_records, unchanged=half.plan.unchanged)
        spare_collector()
        self._began_at = time.monotonic()
        self._publish_and_drain(half, instance, consumer, session)
        half.folder.remove()

    def _publish_and_drain(
        self,
        half: PublishingHalf,
        instance: dg.DagsterInstance,
        consumer: ConsumerHandle,
        session: PublishingSession,
    ) -> None:
        fruitless, least = 0, _UNKNOWN
        while True:
            if half.work:
                self._run_job(half, instance, consumer)
            drained = consumer.drain(session.last_sequence(), self.stopping)
            self._settled(drained.totals)
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
        self, half: PublishingHalf, instance: dg.DagsterInstance, consumer: ConsumerHandle
    ) -> None:
        """Run `import_job` here; in a thread, or Dagster would take over the signals."""
        from tautulli_pipeline.definitions import defs

        job = defs.resolve_job_def("import_job")
        outcome: list[BaseException] = []

        def execute() -> None:
            try:
                job.execute_in_process(
                    instance=instance,
                    resources={**job.resource_defs, "publishing": PreparedPublishing(half)},
                    run_config=QUIET,
                    tags={
                        **COMMAND_LINE_TAGS,
                        "tautulli_pipeline/import_id": self._record.import_id,
                    },
                )
            except BaseException as error:  # raised again by whoever waits for the thread
                outcome.append(error)

        thread = threading.Thread(target=execute, name="import_job", daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(_TICK_SECONDS)
            if consumer.failed:
                half.stopping.set()
            self.observe(self._current())
        if consumer.failed:
            consumer.raise_fault()
        if outcome:
            raise outcome[0]

    def _wait(self, words: str) -> None:
        """Say what is waited for, unless the import is to stop."""
        if self.stopping.is_set():
            raise _stopped()
        self.on_wait(words)

    def _published(self, receipt: Receipt) -> None:
        ids = receipt.rows["source_row_id"].to_pylist()
        if ids:
            self._change(last_processed_id=ids[-1])

    def _progressed(self, totals: dict[str, int]) -> None:
        self._settled(totals)

    def _settled(self, totals: dict[str, int]) -> None:
        self._change(fates=Fates(**totals))

    def _current(self) -> ImportRecord:
        elapsed = self._elapsed_before_seconds + time.monotonic() - self._began_at
        return replace(self._record, elapsed_seconds=elapsed)

    def _change(self, **changes: Any) -> None:  # noqa: ANN401 - as `replace` takes them
        with self._changing:
            self._record = replace(self._current(), **changes)
            self._log.write(self._record)
        self.observe(self._record)


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
