"""Running a command while its processes are watched."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

from benchmarks.measurements import ProcessUse

_SAMPLE_EVERY_SECONDS: Final = 0.1
# Between fork and exec a process has its parent's command line.
_LOOKS_AT_A_PROCESS: Final = 10
_ENDS_WITHIN_SECONDS: Final = 60
# Whose settings are the defaults, whatever the shell says.
_SETTINGS: Final = ("IMPORT_", "NATS_", "DUCKDB_", "DEDUP_", "PIPELINE_", "DAGSTER_")


@dataclass(frozen=True)
class Watched:
    """A command that has ended well."""

    output: str
    seconds: float
    processes: Mapping[str, ProcessUse]


def watched(command: Sequence[str], folder: Path) -> Watched:
    """Run `command`, which keeps its files in `folder`, with the pipeline's default settings.

    Raises:
        CalledProcessError: it failed.
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith(_SETTINGS)}
    environment["PIPELINE_DATA_DIR"] = str(folder)
    begun_at = time.perf_counter()
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        watch = _Watch(process.pid, str(folder))
        watch.thread.start()
        output, _ = process.communicate()
        seconds = time.perf_counter() - begun_at
        watch.end()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, output)
    return Watched(output, seconds, watch.uses)


@dataclass
class _Watch:
    """Samples memory and processor time of the processes of one command."""

    root: int
    folder: str
    uses: dict[str, ProcessUse] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._sample_on, daemon=True)
        self._ended = threading.Event()
        self._roles: dict[psutil.Process, str] = {}
        self._looks: dict[int, int] = dict.fromkeys(psutil.pids(), _LOOKS_AT_A_PROCESS)
        self._looks.pop(self.root, None)

    def end(self) -> None:
        """Wait until all of them are gone: the next run is not to share the machine."""
        self._ended.set()
        self.thread.join()
        psutil.wait_procs(list(self._roles), timeout=_ENDS_WITHIN_SECONDS)

    def _sample_on(self) -> None:
        while not self._ended.wait(_SAMPLE_EVERY_SECONDS):
            for pid in psutil.pids():
                if self._looks.get(pid, 0) < _LOOKS_AT_A_PROCESS:
                    self._looks[pid] = self._looks.get(pid, 0) + 1
                    self._look_at(pid)
            for process, role in self._roles.items():
                with suppress(psutil.Error):
                    self._sample(process, role)

    def _look_at(self, pid: int) -> None:
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            role = self._role(process)
            if role is not None:
                self._roles[process] = role

    def _role(self, process: psutil.Process) -> str | None:
        if process.pid == self.root:
            return "publisher"
        words = process.cmdline()
        # Its guardian starts it apart from the process tree.
        if words and Path(words[0]).name == "nats-server":
            return "nats-server" if self.folder in " ".join(words) else None
        is_consumer = any("consumer" in word for word in words)
        return "consumer" if is_consumer and process.ppid() == self.root else None

    def _sample(self, process: psutil.Process, role: str) -> None:
        with process.oneshot():
            mebibytes = process.memory_info().rss / 2**20
            times = process.cpu_times()
        before = self.uses.get(role, ProcessUse(0, 0))
        cpu_seconds = max(before.cpu_seconds, times.user + times.system)
        self.uses[role] = ProcessUse(max(before.peak_mib, mebibytes), cpu_seconds)
