"""Which runs are alive, told by their processes; real ones, and Dagster's storage in memory."""

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
    is_orphaned,
    own_process_tag,
    unended_runs,
    worker_of,
)
from tautulli_pipeline_tests.command import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

RunStatus = dg.DagsterRunStatus
# Where Dagster's daemon finds the job of a run that is queued.
ORIGIN = RemoteJobOrigin(
    RemoteRepositoryOrigin(GrpcServerCodeLocationOrigin("127.0.0.1", 1), "__repository__"),
    "import_job",
)
DEAF = """
import signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that is at work for longer than any test."""
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


@pytest.fixture(scope="module")
def gone() -> int:
    """The number of a process that was and is no more."""
    with subprocess.Popen(["true"]) as process:
        process.wait()
    return process.pid


def run_of(
    instance: dg.DagsterInstance,
    *told: int,
    status: RunStatus = RunStatus.STARTED,
    job_name: str = "import_job",
    tags: dict[str, Any] | None = None,
) -> dg.DagsterRun:
    """A run whose launcher named these processes, one after the other."""
    run = instance.add_run(
        dg.DagsterRun(job_name, status=status, tags=tags, remote_job_origin=ORIGIN)
    )
    for process_id in told:
        metadata = {"pid": dg.MetadataValue.text(str(process_id))}
        instance.report_engine_event("started", run, EngineEventData(metadata))
    return run


def tagged(process_id: int) -> dict[str, str]:
    return {PROCESS_TAG: str(process_id)}


def status_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> RunStatus:
    found = instance.get_run_by_id(run.run_id)
    assert found is not None
    return found.status


def test_a_run_that_this_process_executes_names_it(instance):
    run = run_of(instance, tags=own_process_tag())
    worker = worker_of(instance, run)
    assert worker is not None
    assert worker.pid == os.getpid()


@pytest.mark.parametrize("by_tag", [True, False])
def test_a_run_lives_as_long_as_its_process(instance, sleeper, by_tag):
    told = () if by_tag else (sleeper.pid,)
    run = run_of(instance, *told, tags=tagged(sleeper.pid) if by_tag else None)
    assert not is_orphaned(instance, run)
    sleeper.kill()
    wait_until(lambda: psutil.Process(sleeper.pid).status() == psutil.STATUS_ZOMBIE)
    assert is_orphaned(instance, run)  # nobody has asked for its exit code yet
    sleeper.wait()
    assert is_orphaned(instance, run)


def test_the_process_that_was_told_last_counts(instance, gone):
    assert worker_of(instance, run_of(instance, gone, os.getpid())) is not None
    assert worker_of(instance, run_of(instance, os.getpid(), gone)) is None


def test_what_a_run_says_besides_does_not_hide_its_process(instance, gone):
    run = run_of(instance, gone)
    instance.report_engine_event("loading", run, EngineEventData({"seconds": 3}))
    instance.report_engine_event("loaded", run)
    assert is_orphaned(instance, run)


def test_a_process_younger_than_the_word_of_it_only_has_its_number(instance):
    run = run_of(instance)
    began_at = psutil.Process().create_time()
    instance.report_engine_event(
        "started", run, EngineEventData({"pid": dg.MetadataValue.text(str(os.getpid()))})
    )
    (told,) = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)

    def told_at(moment: float) -> bool:
        instance.store_event(told._replace(timestamp=moment))
        return worker_of(instance, run) is not None

    assert told_at(began_at + 60)
    assert told_at(began_at - 1)  # kernel and storage have clocks of their own
    assert not told_at(began_at - 60)


def test_a_run_that_has_not_told_its_process_is_not_taken_for_dead(instance):
    run = run_of(instance)
    with pytest.raises(LookupError):
        worker_of(instance, run)
    assert not is_orphaned(instance, run)


@pytest.mark.parametrize("status", workers.UNFINISHED)
def test_a_dead_run_is_reported_as_failed_whatever_it_said_last(instance, gone, status):
    run = run_of(instance, gone, status=status)
    fail_orphaned_runs(instance)
    assert status_of(instance, run) is RunStatus.FAILURE
    said = [entry.message for entry in instance.all_logs(run.run_id)]
    assert any("The process of this run is gone." in message for message in said)


def test_no_run_is_buried_that_lives_waits_or_has_ended(instance, gone):
    spared = [
        run_of(instance, os.getpid()),
        run_of(instance),
        run_of(instance, gone, status=RunStatus.QUEUED),
        run_of(instance, gone, status=RunStatus.SUCCESS),
        run_of(instance, gone, status=RunStatus.CANCELED),
    ]
    before = [status_of(instance, run) for run in spared]
    fail_orphaned_runs(instance)
    assert [status_of(instance, run) for run in spared] == before


def test_only_runs_of_the_job_that_is_named_are_buried(instance, gone):
    of_import = run_of(instance, gone)
    of_consumer = run_of(instance, gone, job_name="consume_job")
    fail_orphaned_runs(instance, "import_job")
    assert status_of(instance, of_import) is RunStatus.FAILURE
    assert status_of(instance, of_consumer) is RunStatus.STARTED


@pytest.mark.parametrize("status", [RunStatus.QUEUED, *workers.UNFINISHED])
def test_a_run_is_under_way_until_it_has_ended(instance, status):
    for ended in (RunStatus.SUCCESS, RunStatus.FAILURE, RunStatus.CANCELED):
        run_of(instance, status=ended)
    assert not unended_runs(instance, "import_job")
    run_of(instance, status=status)
    assert unended_runs(instance, "import_job")
    assert not unended_runs(instance, "consume_job")


def test_ending_cancels_the_runs_of_the_daemon_and_no_others(instance, sleeper, gone):
    of_daemon = run_of(instance, sleeper.pid)
    dead = run_of(instance, gone)
    untold = run_of(instance, status=RunStatus.STARTING)
    with subprocess.Popen(["sleep", "600"]) as command_line:
        of_command_line = run_of(instance, tags=tagged(command_line.pid))
        end_runs(instance)
        assert command_line.poll() is None
        command_line.kill()
    # A termination without this word would count as a failure and be tried again.
    assert status_of(instance, of_daemon) is RunStatus.CANCELING
    assert not psutil.pid_exists(sleeper.pid)
    assert status_of(instance, dead) is RunStatus.STARTED
    assert status_of(instance, untold) is RunStatus.STARTING
    assert status_of(instance, of_command_line) is RunStatus.STARTED


def test_a_worker_that_does_not_end_is_not_waited_for_for_ever(instance):
    command = [sys.executable, "-S", "-c", DEAF]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"deaf\n"
        run = run_of(instance, process.pid)
        end_runs(instance, patience_seconds=0.1)
        assert process.poll() is None
        assert status_of(instance, run) is RunStatus.CANCELING
        process.kill()


def test_the_monitoring_hears_what_became_of_a_worker(instance, gone):
    launcher = WatchfulRunLauncher()
    launcher.register_instance(instance)
    assert launcher.supports_check_run_worker_health
    health = {
        name: launcher.check_run_worker_health(run_of(instance, *told))
        for name, told in (("alive", (os.getpid(),)), ("untold", ()), ("gone", (gone,)))
    }
    assert {name: found.status for name, found in health.items()} == {
        "alive": WorkerStatus.RUNNING,
        "untold": WorkerStatus.RUNNING,
        "gone": WorkerStatus.FAILED,
    }
    assert health["untold"].msg == "it has not told its process yet"
    assert health["gone"].msg == "its process is gone"


def test_a_run_whose_process_is_gone_is_canceled_at_once(instance, gone):
    launcher = WatchfulRunLauncher()
    launcher.register_instance(instance)
    run = run_of(instance, tags=tagged(gone))
    assert launcher.terminate(run.run_id)
    assert status_of(instance, run) is RunStatus.CANCELED
    assert not launcher.terminate(run.run_id)
    assert not launcher.terminate("00000000-0000-0000-0000-000000000000")
