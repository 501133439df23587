"""Runs a command and monitors its processes."""

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

_SAMPLE_INTERVAL_SECONDS: Final = 0.1
# Check each process several times: between fork and exec it has its parent's command line.
_CHECKS_PER_PROCESS: Final = 10
_EXIT_TIMEOUT_SECONDS: Final = 60
# Prefixes of settings that are removed from the environment, so that defaults apply.
_SETTING_PREFIXES: Final = ("IMPORT_", "NATS_", "DUCKDB_", "DEDUP_", "PIPELINE_", "DAGSTER_")


@dataclass(frozen=True)
class MonitoredRun:
    """The result of a command that succeeded."""

    output: str
    seconds: float
    processes: Mapping[str, ProcessUse]


def run_monitored(command: Sequence[str], folder: Path) -> MonitoredRun:
    """Run `command` with the pipeline's default settings and `folder` as data directory.

    Raises:
        CalledProcessError: the command failed.
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith(_SETTING_PREFIXES)}
    environment["PIPELINE_DATA_DIR"] = str(folder)
    begun_at = time.perf_counter()
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        monitor = _Monitor(process.pid, str(folder))
        monitor.thread.start()
        output, _ = process.communicate()
        seconds = time.perf_counter() - begun_at
        monitor.end()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, output)
    return MonitoredRun(output, seconds, monitor.uses)


@dataclass
class _Monitor:
    """Samples memory and CPU time of the processes of one command."""

    root: int
    folder: str
    uses: dict[str, ProcessUse] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._sample_until_ended, daemon=True)
        self._ended = threading.Event()
        self._roles: dict[psutil.Process, str] = {}
        self._checks: dict[int, int] = dict.fromkeys(psutil.pids(), _CHECKS_PER_PROCESS)
        self._checks.pop(self.root, None)

    def end(self) -> None:
        """Stop, and wait until all processes have exited, so that they do not slow the next run."""
        self._ended.set()
        self.thread.join()
        psutil.wait_procs(list(self._roles), timeout=_EXIT_TIMEOUT_SECONDS)

    def _sample_until_ended(self) -> None:
        while not self._ended.wait(_SAMPLE_INTERVAL_SECONDS):
            for pid in psutil.pids():
                if self._checks.get(pid, 0) < _CHECKS_PER_PROCESS:
                    self._checks[pid] = self._checks.get(pid, 0) + 1
                    self._check(pid)
            for process, role in self._roles.items():
                with suppress(psutil.Error):
                    self._sample(process, role)

    def _check(self, pid: int) -> None:
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            role = self._role(process)
            if role is not None:
                self._roles[process] = role

    def _role(self, process: psutil.Process) -> str | None:
        if process.pid == self.root:
            return "publisher"
        arguments = process.cmdline()
        # The guardian starts it outside the process tree.
        if arguments and Path(arguments[0]).name == "nats-server":
            return "nats-server" if self.folder in " ".join(arguments) else None
        is_consumer = any("consumer" in argument for argument in arguments)
        return "consumer" if is_consumer and process.ppid() == self.root else None

    def _sample(self, process: psutil.Process, role: str) -> None:
        with process.oneshot():
            mebibytes = process.memory_info().rss / 2**20
            times = process.cpu_times()
        before = self.uses.get(role, ProcessUse(0, 0))
        cpu_seconds = max(before.cpu_seconds, times.user + times.system)
        self.uses[role] = ProcessUse(max(before.peak_mib, mebibytes), cpu_seconds)
