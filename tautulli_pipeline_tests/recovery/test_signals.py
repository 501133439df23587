"""Ctrl-C, SIGTERM and a closed terminal in every phase of an import."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from filelock import FileLock

from tautulli_pipeline.imports.record import ImportLog, ImportRecord, Status
from tautulli_pipeline_tests.command import (
    Outcome,
    ended,
    environment,
    nothing_runs,
    processes_of,
    run,
    start,
    wait_until,
)
from tautulli_pipeline_tests.recovery.conftest import published

ROWS = 6000
PARTITIONS = 31
RESUMABLE = {"error": "the import was stopped", "hint": "import again to resume it"}
SOON_SECONDS = 60
IN_A_TERMINAL = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "tautulli_pipeline", *sys.argv[1:]])
"""


@pytest.fixture
def importing(database: Path, data_dir: Path) -> subprocess.Popen[str]:
    return start("import", database, "--json", "--batch-size", 200, data_dir=data_dir)


IN_THE_SURVEY = """
import signal
from tautulli_pipeline.cli import main
from tautulli_pipeline.source.records import RecordReader
leaves = RecordReader._leaves
def interrupted(self, root):
    RecordReader._leaves = leaves
    signal.raise_signal(signal.SIGINT)
    return leaves(self, root)
RecordReader._leaves = interrupted
main()
"""


def consumer(data_dir: Path) -> psutil.Process | None:
    found = [p for p in processes_of(data_dir) if "consumer_main" in " ".join(p.cmdline())]
    return found[0] if found else None


def assert_stopped(importing: subprocess.Popen[str], data_dir: Path, asked_at: float) -> None:
    """Assert that it ends soon, is resumable, and leaves no process or copy behind."""
    outcome = ended(importing)
    assert time.monotonic() - asked_at < SOON_SECONDS
    assert outcome.exit_code == 130, outcome.stderr
    assert outcome.json == RESUMABLE
    assert "Traceback" not in outcome.stderr
    assert nothing_runs(data_dir)
    assert not list(data_dir.glob("snapshots/*"))
    assert not list(data_dir.glob("import.claim"))


def test_a_signal_while_loading_and_copying(
    importing: subprocess.Popen[str], data_dir: Path
) -> None:
    wait_until(lambda: list(data_dir.glob("snapshots/snapshot-*/*")), pause_seconds=0.001)
    os.killpg(importing.pid, signal.SIGINT)
    assert_stopped(importing, data_dir, time.monotonic())


@pytest.mark.parametrize("attempt", ["first", "second"])
def test_a_signal_while_surveying(attempt: str, database: Path, data_dir: Path) -> None:
    if attempt == "second":
        data_dir.mkdir()
        ImportLog(data_dir).write(ImportRecord.begin(database, "default", fresh=False))
    done = subprocess.run(
        [sys.executable, "-c", IN_THE_SURVEY, "import", database, "--json"],
        env=environment(data_dir),
        check=False,
        capture_output=True,
        text=True,
    )
    outcome = Outcome(done.returncode, done.stdout, done.stderr)
    assert (outcome.exit_code, outcome.json) == (130, RESUMABLE), outcome
    assert nothing_runs(data_dir)
    if attempt == "second":
        assert ImportLog(data_dir).read().status is Status.STOPPED


@pytest.mark.slow
def test_a_signal_while_the_consumer_starts(
    importing: subprocess.Popen[str], data_dir: Path
) -> None:
    wait_until(data_dir.is_dir, pause_seconds=0.001)
    with FileLock(data_dir / "consumer.lock"):  # like a consumer that is writing a batch
        wait_until(lambda: consumer(data_dir))
        wait_until((data_dir / "history" / "runs.db").exists)
        assert run("status", "--json", data_dir=data_dir).json["status"] == "running"
        importing.terminate()
        assert_stopped(importing, data_dir, time.monotonic())
    assert run("status", "--json", data_dir=data_dir).json["status"] == "stopped"


@pytest.mark.slow
def test_a_signal_while_the_stream_server_does_not_answer(
    importing: subprocess.Popen[str], data_dir: Path
) -> None:
    wait_until(lambda: published(data_dir), pause_seconds=0.001)
    (server,) = [p for p in processes_of(data_dir) if p.name() == "nats-server"]
    server.suspend()
    time.sleep(0.5)
    os.killpg(importing.pid, signal.SIGINT)
    outcome = ended(importing)
    assert outcome.exit_code == 130, outcome.stderr
    assert outcome.json == RESUMABLE
    assert nothing_runs(data_dir)


def test_a_signal_while_publishing(importing: subprocess.Popen[str], data_dir: Path) -> None:
    wait_until(lambda: published(data_dir), pause_seconds=0.001)
    os.killpg(importing.pid, signal.SIGTERM)  # as a service manager does
    assert_stopped(importing, data_dir, time.monotonic())
    left = run("status", "--json", data_dir=data_dir).json
    assert left["status"] == "stopped"
    assert left["processed"] < left["total_records"] == ROWS


@pytest.mark.slow
def test_a_signal_while_draining(importing: subprocess.Popen[str], data_dir: Path) -> None:
    wait_until(lambda: published(data_dir), pause_seconds=0.001)
    running = consumer(data_dir)
    assert running is not None
    running.suspend()
    wait_until(lambda: published(data_dir) == PARTITIONS)
    time.sleep(0.3)
    os.killpg(importing.pid, signal.SIGINT)
    wait_until(lambda: list(data_dir.glob("import.*.stop")))
    running.resume()
    assert_stopped(importing, data_dir, time.monotonic())


def test_a_second_signal_ends_it_at_once(importing: subprocess.Popen[str], data_dir: Path) -> None:
    wait_until(lambda: published(data_dir), pause_seconds=0.001)
    running = consumer(data_dir)
    assert running is not None
    running.suspend()  # like a batch that takes forever
    asked_at = time.monotonic()
    os.killpg(importing.pid, signal.SIGINT)
    wait_until(lambda: list(data_dir.glob("import.*.stop")))
    assert importing.poll() is None
    os.killpg(importing.pid, signal.SIGINT)
    outcome = ended(importing)
    assert outcome.exit_code == 130
    assert outcome.json == RESUMABLE
    assert time.monotonic() - asked_at < SOON_SECONDS
    assert nothing_runs(data_dir)
    assert not list(data_dir.glob("snapshots/*"))
    assert run("status", "--json", data_dir=data_dir).json["status"] == "stopped"


@pytest.mark.slow
def test_a_closed_terminal_stops_it(database: Path, data_dir: Path) -> None:
    own, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", IN_A_TERMINAL, "import", database, "--batch-size", "200"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment(data_dir, TERM="xterm"),
    )
    os.close(theirs)
    wait_until(lambda: published(data_dir))
    os.close(own)
    assert process.wait(SOON_SECONDS) == 130
    assert nothing_runs(data_dir)
    assert not list(data_dir.glob("snapshots/*"))
    assert run("status", "--json", data_dir=data_dir).json["status"] == "stopped"


@pytest.mark.slow
def test_an_import_under_nohup_survives_a_closed_terminal(database: Path, data_dir: Path) -> None:
    importing = subprocess.Popen(
        ["nohup", sys.executable, "-m", "tautulli_pipeline", "import", database],
        env=environment(data_dir),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_until(lambda: published(data_dir))
    importing.send_signal(signal.SIGHUP)
    assert importing.wait(60) == 0


def catches(process_id: int, number: int) -> bool:
    """Whether a process has a handler for the signal."""
    status = Path(f"/proc/{process_id}/status").read_text(encoding="ascii")
    mask = status.partition("SigCgt:")[2].split()[0]
    return bool(int(mask, 16) >> (number - 1) & 1)


@pytest.mark.parametrize("pause_seconds", [0.15, 0.4, 0.8])
def test_an_early_signal_shows_no_traceback(
    pause_seconds: float, database: Path, data_dir: Path
) -> None:
    importing = start("import", database, data_dir=data_dir)
    # Until then, Python itself is still starting.
    wait_until(lambda: catches(importing.pid, signal.SIGTERM), pause_seconds=0.005)
    time.sleep(pause_seconds)
    importing.send_signal(signal.SIGTERM)
    outcome = ended(importing)
    assert outcome.exit_code == 130
    assert "Traceback" not in outcome.stderr
    assert not data_dir.exists() or nothing_runs(data_dir)


INTERRUPTED_IN_EXEC = """
from tautulli_pipeline.cli import faults, main
def interrupted(*_):
    try:
        exec("import signal; signal.raise_signal(signal.SIGINT)")  # as in dataclasses
    except KeyboardInterrupt:
        return 130
faults.run_reporting_faults = interrupted
main()
"""


def test_a_handled_interrupt_does_not_kill_the_process_at_exit(tmp_path: Path) -> None:
    (tmp_path / "interrupted.py").write_text(INTERRUPTED_IN_EXEC)
    done = subprocess.run([sys.executable, "-m", "interrupted"], cwd=tmp_path, check=False)
    assert done.returncode == 130


def test_a_stopped_validate_writes_nothing(database: Path, data_dir: Path) -> None:
    validating = start("validate", database, "--json", data_dir=data_dir)
    wait_until(lambda: list(data_dir.glob("snapshots/snapshot-*/*")), pause_seconds=0.001)
    validating.send_signal(signal.SIGINT)
    outcome = ended(validating)
    assert outcome.exit_code == 130
    assert outcome.json["error"] == "stopped; nothing was written"
    assert not data_dir.exists()
