"""Runs the command as a user would: in a separate process with its own data directory."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import duckdb
import psutil

from tautulli_pipeline.cli.app import application
from tautulli_pipeline.cli.faults import run_reporting_faults

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_OURS = ("IMPORT_", "NATS_", "DEDUP_", "DUCKDB_", "PIPELINE_", "DAGSTER_")
_LIMIT_SECONDS = 120


@dataclass(frozen=True)
class Outcome:
    """The exit code and output of a command."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """The JSON object on standard output, which must contain nothing else."""
        facts = json.loads(self.stdout)
        assert isinstance(facts, dict)
        return facts


def environment(data_dir: Path, **variables: object) -> dict[str, str]:
    """Return the environment with only `variables` set of the pipeline's variables."""
    inherited = {n: v for n, v in os.environ.items() if not n.startswith(_OURS)}
    given = {name: str(value) for name, value in variables.items()}
    return inherited | {"PIPELINE_DATA_DIR": str(data_dir)} | given


def start(*arguments: object, data_dir: Path, **variables: object) -> subprocess.Popen[str]:
    """Start the command as the leader of its own process group, as a shell does."""
    return subprocess.Popen(
        [sys.executable, "-m", "tautulli_pipeline", *map(str, arguments)],
        env=environment(data_dir, **variables),
        cwd=data_dir.parent,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run(*arguments: object, data_dir: Path, **variables: object) -> Outcome:
    """Run the command in this process, which saves loading the modules again.

    The consumer of an import still runs in a separate process.
    """
    with (
        patch.dict(os.environ, environment(data_dir, **variables), clear=True),
        chdir(data_dir.parent),
        redirect_stdout(io.StringIO()) as stdout,
        redirect_stderr(io.StringIO()) as stderr,
        patch.object(sys, "__stderr__", stderr),
    ):
        exit_code = run_reporting_faults(application, [*map(str, arguments)])
    return Outcome(exit_code, stdout.getvalue(), stderr.getvalue())


def run_process(*arguments: object, data_dir: Path, **variables: object) -> Outcome:
    """Run the command in a separate process."""
    return ended(start(*arguments, data_dir=data_dir, **variables))


def ended(process: subprocess.Popen[str]) -> Outcome:
    """Wait for a started command to exit."""
    stdout, stderr = process.communicate(timeout=_LIMIT_SECONDS)
    return Outcome(process.returncode, stdout, stderr)


def imported(*arguments: object, data_dir: Path, **variables: object) -> dict[str, Any]:
    """Run a successful `import --json` and return its summary."""
    outcome = run("import", *arguments, "--json", data_dir=data_dir, **variables)
    assert outcome.exit_code == 0, outcome
    return outcome.json


def outcomes(summary: dict[str, Any]) -> dict[str, int]:
    """Return the nonzero counts of an import's summary in a flat dict."""
    names = ("total_records", "unchanged", "processed", "imported", "rejected", "errors")
    flat = {name: summary[name] for name in names} | summary["duplicates"]
    return {name: count for name, count in flat.items() if count}


def short_run(*arguments: object, data_dir: Path) -> tuple[set[str], float]:
    """Run a command in a process; return which large libraries it loaded, and its CPU seconds."""
    program = (
        "import json, sys, time\n"
        "from tautulli_pipeline.cli.app import application\n"
        "from tautulli_pipeline.cli.faults import run_reporting_faults\n"
        "assert run_reporting_faults(application, sys.argv[1:]) == 0\n"
        "print(json.dumps([[*sys.modules], time.process_time()]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        env=environment(data_dir),
        cwd=data_dir.parent,
        check=True,
        capture_output=True,
        text=True,
    )
    modules, seconds = json.loads(done.stdout.splitlines()[-1])
    large = {"dagster", "duckdb", "nats", "pyarrow", "pandas", "numpy", "sqlalchemy"}
    return large.intersection(modules), seconds


def query(data_dir: Path, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
    """Query the warehouse and return the rows."""
    with duckdb.connect(data_dir / "playback.duckdb", read_only=True) as connection:
        return connection.execute(sql, list(parameters)).fetchall()


def wait_until(true: Callable[[], Any], seconds: float = 60, pause_seconds: float = 0.01) -> Any:
    """Return the first true answer, which must come in time."""
    deadline = time.monotonic() + seconds
    while not (answer := true()):
        assert time.monotonic() < deadline, "the condition did not become true in time"
        time.sleep(pause_seconds)
    return answer


def processes_of(data_dir: Path) -> Iterator[psutil.Process]:
    """Yield every other running process that uses this data directory."""
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), process.environ().get("PIPELINE_DATA_DIR", "")]
            alive = process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            continue
        if alive and process.pid != os.getpid() and any(str(data_dir) in word for word in words):
            yield process


def nothing_runs(data_dir: Path) -> bool:
    """Whether all processes of the data directory exit within a minute."""
    deadline = time.monotonic() + 60
    while left := list(processes_of(data_dir)):
        if time.monotonic() > deadline:
            for process in left:
                sys.stderr.write(f"still running: {process.pid} {process.cmdline()}\n")
                process.kill()
            return False
        time.sleep(0.05)
    return True


@contextmanager
def held_up(process: psutil.Process) -> Iterator[None]:
    """Suspend a process while the context is open."""
    process.suspend()
    try:
        yield
    finally:
        process.resume()
