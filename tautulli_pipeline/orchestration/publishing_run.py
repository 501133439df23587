"""The run of `import_job` that publishes for an import of the command line."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Final

import dagster as dg

from tautulli_pipeline.imports.session import PublishingHalf
from tautulli_pipeline.orchestration.own_run import OwnRun
from tautulli_pipeline.orchestration.preparation import PreparedPublishing
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
    """Publishes what is due, beside the thread that waits for it."""

    def __init__(self, half: PublishingHalf, instance: dg.DagsterInstance, import_id: str) -> None:
        from tautulli_pipeline.definitions import defs

        self._half = half
        self._run = OwnRun(
            defs.resolve_job_def("import_job"),
            {"publishing": PreparedPublishing(half)},
            instance,
            import_id,
            begin=_give_way,
        )

    def wait(self, on_tick: Callable[[], None]) -> None:
        """Wait for its end or, once it is to stop, for a few seconds more."""
        stops_at: float | None = None
        while not self._run.ends_within(_TICK_SECONDS):
            on_tick()
            if self._half.stopping.is_set():
                stops_at = stops_at or time.monotonic() + _STOPS_WITHIN_SECONDS
                if time.monotonic() > stops_at:
                    return

    def raise_fault(self) -> None:
        """Raise what ended it, if that was a fault."""
        self._run.raise_fault()

    def give_up(self, session: PublishingSession) -> None:
        """See that it is over before what it works with is closed."""
        if not self._run.ends_within(0):
            session.abandon()
            self._run.ends_within(_STOPS_WITHIN_SECONDS)
