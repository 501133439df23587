"""Runs commands in forks of a process that has loaded the program, and measures each of them.

Loading takes longer than most commands. `Worker` is the side of the tests; the other side is this
module as a program, which reads one job per line and writes one result per line.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from tautulli_pipeline_tests.command import environment

if TYPE_CHECKING:
    from collections.abc import Iterator

# Wall time on a busy machine; `Ended.cpu_seconds` is what counts.
HANGS_AFTER_SECONDS = 120
_POLL_SECONDS = 0.01


@dataclass(frozen=True)
class Ended:
    """How a command ended, with its consumer process if it had one.

    Attributes:
        exit_code: negative if a signal ended it, -9 if it hung.
        peak_mib: the memory of its largest process.
    """

    exit_code: int
    stdout: str
    stderr: str
    cpu_seconds: float
    peak_mib: int


class Worker:
    """A process that runs commands, one after the other."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self._process = process
        self._folder = folder

    def run(self, *arguments: object, data_dir: Path) -> Ended:
        """Run the command with `arguments`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        job = {
            "arguments": [*map(str, arguments)],
            "environment": environment(data_dir),
            "output": str(self._folder),
        }
        self._process.stdin.write(f"{json.dumps(job)}\n")
        self._process.stdin.flush()
        return Ended(**json.loads(self._process.stdout.readline()))


@contextmanager
def open_worker(folder: Path) -> Iterator[Worker]:
    """Start a worker; `folder` receives the output of the current command."""
    command = [sys.executable, "-m", __spec__.name]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Worker(process, folder)
        finally:
            process.kill()


def _preload() -> None:
    from tautulli_pipeline.memory import block_pandas, keep_memory_bounded

    block_pandas()
    keep_memory_bounded()
    from tautulli_pipeline import definitions
    from tautulli_pipeline.cli import app, importing, validating
    from tautulli_pipeline.imports import coordinator
    from tautulli_pipeline.orchestration import command_line

    assert all((definitions, app, importing, validating, coordinator, command_line))


def _execute(job: dict[str, list[str]], streams: list[Path]) -> NoReturn:
    """Turn this fork into the command."""
    os.setsid()
    for number, path in enumerate(streams, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdout = sys.__stdout__
    os.environ.clear()
    os.environ.update(job["environment"])
    sys.argv = ["tautulli-pipeline", *job["arguments"]]
    from tautulli_pipeline.cli import main

    exit_code = 1
    try:
        main()
    except SystemExit as ended:
        exit_code = int(ended.code or 0)
    except BaseException:  # as Python itself would
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(exit_code)


def _wait(child: int) -> tuple[int, resource.struct_rusage]:
    """Wait for a fork; kill it and its children if it hangs."""
    deadline = time.monotonic() + HANGS_AFTER_SECONDS
    while True:
        ended, status, usage = os.wait4(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status), usage
        if time.monotonic() > deadline:
            os.killpg(child, signal.SIGKILL)
            _, status, usage = os.wait4(child, 0)
            return -signal.SIGKILL, usage
        time.sleep(_POLL_SECONDS)


def _serve() -> None:
    _preload()
    replies, sys.stdout = sys.stdout, sys.stderr  # only replies go there
    for line in sys.stdin:
        job = json.loads(line)
        streams = [Path(job["output"], name) for name in ("stdout", "stderr")]
        child = os.fork()
        if not child:
            _execute(job, streams)
        exit_code, usage = _wait(child)
        out, err = (path.read_text(errors="replace") for path in streams)
        cpu_seconds, peak_mib = usage.ru_utime + usage.ru_stime, usage.ru_maxrss // 1024
        if sys.platform == "darwin":  # in bytes there
            peak_mib //= 1024
        replies.write(f"{json.dumps(asdict(Ended(exit_code, out, err, cpu_seconds, peak_mib)))}\n")
        replies.flush()


if __name__ == "__main__":
    _serve()
