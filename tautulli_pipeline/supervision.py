"""Restarting child processes and terminating process trees."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil


@dataclass
class Restarts:
    """Limits the consecutive restarts of a child process that keeps exiting.

    A run longer than `steady_seconds` resets their count.
    """

    at_most: int
    steady_seconds: float = 60.0
    in_a_row: int = 0
    started_at: float = field(default_factory=time.monotonic)

    def allow_another(self) -> bool:
        """Count a restart that happens now; return False if it exceeds the limit."""
        now = time.monotonic()
        was_steady = now - self.started_at > self.steady_seconds
        self.in_a_row = 0 if was_steady else self.in_a_row + 1
        self.started_at = now
        return self.in_a_row <= self.at_most


def end_processes(process_ids: Iterable[int], patience_seconds: float) -> None:
    """Terminate processes and their children; kill those left after `patience_seconds`."""
    import psutil  # takes 30 ms, and every start of a stream server would wait for it

    family: list[psutil.Process] = []
    for process_id in process_ids:
        with suppress(psutil.NoSuchProcess):
            root = psutil.Process(process_id)
            family += [root, *root.children(recursive=True)]
            root.terminate()
    _, alive = psutil.wait_procs(family, timeout=patience_seconds)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=patience_seconds)
