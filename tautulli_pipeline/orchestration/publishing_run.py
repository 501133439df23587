"""One run of `import_job` by this process."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Final

import dagster as dg

from tautulli_pipeline.imports.session import PublishingHalf
from tautulli_pipeline.orchestration.instance import COMMAND_LINE_TAGS, QUIET, unheard
from tautulli_pipeline.orchestration.preparation import PreparedPublishing
from tautulli_pipeline.orchestration.workers import own_process_tag
from tautulli_pipeline.stream.session import PublishingSession

_TICK_SECONDS: Final = 0.1
_NICER: Final = 10
# What waits for a stream server that does not answer is given up after this.
_STOPS_WITHIN_SECONDS: Final = 5.0


def _give_way() -> None:
    """Let the consumer go first: what it is behind waits on the disk and is read again.

    For this thread and those it starts, where the system knows priorities of threads.
    """
    if sys.platform == "linux":
        thread = threading.get_native_id()
        niceness = os.getpriority(os.PRIO_PROCESS, thread)
        os.setpriority(os.PRIO_PROCESS, thread, niceness + _NICER)


class PublishingRun:
    """Runs in a thread: in the main one, Dagster would take over the signals."""

    def __init__(self, half: PublishingHalf, instance: dg.DagsterInstance, import_id: str) -> None:
        self._half = half
        self._outcome: list[BaseException] = []
        self._thread = threading.Thread(
            target=self._execute, args=(instance, import_id), name="import_job", daemon=True
        )
        self._thread.start()

    def wait(self, on_tick: Callable[[], None]) -> None:
        """Wait for its end or, once it is to stop, for a few seconds more."""
        stops_at: float | None = None
        while self._thread.is_alive():
            self._thread.join(_TICK_SECONDS)
            on_tick()
            if self._half.stopping.is_set():
                stops_at = stops_at or time.monotonic() + _STOPS_WITHIN_SECONDS
                if time.monotonic() > stops_at:
                    return

    def raise_fault(self) -> None:
        """Raise what ended it, if that was a fault."""
        if self._outcome:
            raise self._outcome[0]

    def give_up(self, session: PublishingSession) -> None:
        """See that it is over before what it works with is closed."""
        if self._thread.is_alive():
            session.abandon()
            self._thread.join(_STOPS_WITHIN_SECONDS)

    def _execute(self, instance: dg.DagsterInstance, import_id: str) -> None:
        from tautulli_pipeline.definitions import defs

        _give_way()
        job = defs.resolve_job_def("import_job")
        try:
            with unheard():
                job.execute_in_process(
                    instance=instance,
                    resources={**job.resource_defs, "publishing": PreparedPublishing(self._half)},
                    run_config=QUIET,
                    tags={
                        **COMMAND_LINE_TAGS,
                        **own_process_tag(),
                        "tautulli_pipeline/import_id": import_id,
                    },
                )
        except BaseException as error:  # raised again by whoever waits for the thread
            self._outcome.append(error)
