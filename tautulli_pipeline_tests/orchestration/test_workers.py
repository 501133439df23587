"""Detecting dead runs by their processes, with real processes and in-memory storage."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import dagster as dg
import psutil
import pytest
from dagster._core.events import EngineEventData
from dagster._core.launcher.base import WorkerStatus
from dagster._core.remote_origin import (
    GrpcServerCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)

from tautulli_pipeline.orchestration import workers
from tautulli_pipeline.orchestration.launcher import WatchfulRunLauncher
from tautulli_pipeline.orchestration.workers import (
    PROCESS_TAG,
    end_runs,
    fail_orphaned_runs,
    has_unfinished_runs,
    worker_of,
)
from tautulli_pipeline_tests.command import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

RunStatus = dg.DagsterRunStatus
# The code location from which Dagster's daemon would load the job of a queued run.
ORIGIN = RemoteJobOrigin(
    RemoteRepositoryOrigin(GrpcServerCodeLocationOrigin("127.0.0.1", 1), "__repository__"),
    "import_job",
)
IGNORE_SIGTERM = """
import signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that runs longer than any test."""
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


@pytest.fixture(scope="module")
def gone() -> int:
    """The id of a process that has exited."""
    with subprocess.Popen(["true"]) as process:
        process.wait()
    return process.pid


def run_of(
    instance: dg.DagsterInstance,
    *process_ids: int,
    status: RunStatus = RunStatus.STARTED,
    job_name: str = "import_job",
    tags: dict[str, Any] | None = None,
) -> dg.DagsterRun:
    """Add a run whose launcher reported these process ids, in this order."""
    run = instance.add_run(
        dg.DagsterRun(job_name, status=status, tags=tags, remote_job_origin=ORIGIN)
    )
    for process_id in process_ids:
        metadata = {"pid": dg.MetadataValue.text(str(process_id))}
        instance.report_engine_event("started", run, EngineEventData(metadata))
    return run


def tagged(process_id: int) -> dict[str, str]:
    return {PROCESS_TAG: str(process_id)}


def status_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> RunStatus:
    found = instance.get_run_by_id(run.run_id)
    assert found is not None
    return found.status


@pytest.mark.parametrize("by_tag", [True, False])
def test_a_run_lives_as_long_as_its_process(instance, sleeper, by_tag):
    reported = () if by_tag else (sleeper.pid,)
    run = run_of(instance, *reported, tags=tagged(sleeper.pid) if by_tag else None)
    assert worker_of(instance, run) == psutil.Process(sleeper.pid)
    sleeper.kill()
    wait_until(lambda: psutil.Process(sleeper.pid).status() == psutil.STATUS_ZOMBIE)
    assert worker_of(instance, run) is None  # still a zombie
    sleeper.wait()
    assert worker_of(instance, run) is None


def test_the_last_reported_process_counts(instance, gone):
    assert worker_of(instance, run_of(instance, gone, os.getpid())) is not None
    assert worker_of(instance, run_of(instance, os.getpid(), gone)) is None


def test_other_engine_events_do_not_hide_the_process_id(instance, gone):
    run = run_of(instance, gone)
    instance.report_engine_event("loading", run, EngineEventData({"seconds": 3}))
    instance.report_engine_event("loaded", run)
    assert worker_of(instance, run) is None


def test_a_process_started_after_the_report_has_reused_the_id(instance):
    run = run_of(instance)
    began_at = psutil.Process().create_time()
    instance.report_engine_event(
        "started", run, EngineEventData({"pid": dg.MetadataValue.text(str(os.getpid()))})
    )
    (report,) = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)

    def is_found_if_reported_at(moment: float) -> bool:
        instance.store_event(report._replace(timestamp=moment))
        return worker_of(instance, run) is not None

    assert is_found_if_reported_at(began_at + 60)
    assert is_found_if_reported_at(began_at - 1)  # kernel and storage clocks may differ
    assert not is_found_if_reported_at(began_at - 60)


def test_a_run_without_a_reported_process_has_no_known_worker(instance):
    run = run_of(instance)
    with pytest.raises(LookupError):
        worker_of(instance, run)


@pytest.mark.parametrize("status", workers.UNFINISHED)
def test_an_orphaned_run_is_marked_as_failed_whatever_its_status(instance, gone, status):
    run = run_of(instance, gone, status=status)
    fail_orphaned_runs(instance)
    assert status_of(instance, run) is RunStatus.FAILURE
    messages = [entry.message for entry in instance.all_logs(run.run_id)]
    assert any("The process of this run no longer exists." in message for message in messages)


def test_running_queued_and_finished_runs_are_not_marked_as_failed(instance, gone):
    untouched = [
        run_of(instance, os.getpid()),
        run_of(instance),
        run_of(instance, gone, status=RunStatus.QUEUED),
        run_of(instance, gone, status=RunStatus.SUCCESS),
        run_of(instance, gone, status=RunStatus.CANCELED),
    ]
    before = [status_of(instance, run) for run in untouched]
    fail_orphaned_runs(instance)
    assert [status_of(instance, run) for run in untouched] == before


def test_only_runs_of_the_given_job_are_marked_as_failed(instance, gone):
    of_import = run_of(instance, gone)
    of_consumer = run_of(instance, gone, job_name="consume_job")
    fail_orphaned_runs(instance, "import_job")
    assert status_of(instance, of_import) is RunStatus.FAILURE
    assert status_of(instance, of_consumer) is RunStatus.STARTED


@pytest.mark.parametrize("status", [RunStatus.QUEUED, *workers.UNFINISHED])
def test_a_run_is_unfinished_until_it_has_ended(instance, status):
    for ended in (RunStatus.SUCCESS, RunStatus.FAILURE, RunStatus.CANCELED):
        run_of(instance, status=ended)
    assert not has_unfinished_runs(instance, "import_job")
    run_of(instance, status=status)
    assert has_unfinished_runs(instance, "import_job")
    assert not has_unfinished_runs(instance, "consume_job")


def test_end_runs_cancels_only_runs_of_the_daemon(instance, sleeper, gone):
    of_daemon = run_of(instance, sleeper.pid)
    dead = run_of(instance, gone)
    unreported = run_of(instance, status=RunStatus.STARTING)
    with subprocess.Popen(["sleep", "600"]) as command_line:
        of_command_line = run_of(instance, tags=tagged(command_line.pid))
        end_runs(instance)
        assert command_line.poll() is None
        command_line.kill()
    # With any other status, the terminated run would count as failed and be retried.
    assert status_of(instance, of_daemon) is RunStatus.CANCELING
    assert not psutil.pid_exists(sleeper.pid)
    assert status_of(instance, dead) is RunStatus.STARTED
    assert status_of(instance, unreported) is RunStatus.STARTING
    assert status_of(instance, of_command_line) is RunStatus.STARTED


def test_end_runs_does_not_wait_forever_for_a_worker(instance, monkeypatch):
    monkeypatch.setattr(workers, "_EXIT_TIMEOUT_SECONDS", 0.1)
    command = [sys.executable, "-S", "-c", IGNORE_SIGTERM]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        run = run_of(instance, process.pid)
        end_runs(instance)
        assert process.poll() is None
        assert status_of(instance, run) is RunStatus.CANCELING
        process.kill()


def test_the_health_check_reports_the_status_of_a_worker(instance, gone):
    launcher = WatchfulRunLauncher()
    launcher.register_instance(instance)
    assert launcher.supports_check_run_worker_health
    health = {
        name: launcher.check_run_worker_health(run_of(instance, *process_ids))
        for name, process_ids in (("alive", (os.getpid(),)), ("unknown", ()), ("gone", (gone,)))
    }
    assert {name: found.status for name, found in health.items()} == {
        "alive": WorkerStatus.RUNNING,
        "unknown": WorkerStatus.RUNNING,
        "gone": WorkerStatus.FAILED,
    }
    assert health["unknown"].msg == "its process id is not known yet"
    assert health["gone"].msg == "its process no longer exists"


def test_terminating_a_run_without_a_process_cancels_it_immediately(instance, gone):
    launcher = WatchfulRunLauncher()
    launcher.register_instance(instance)
    run = run_of(instance, tags=tagged(gone))
    assert launcher.terminate(run.run_id)
    assert status_of(instance, run) is RunStatus.CANCELED
    assert not launcher.terminate(run.run_id)
    assert not launcher.terminate("00000000-0000-0000-0000-000000000000")
