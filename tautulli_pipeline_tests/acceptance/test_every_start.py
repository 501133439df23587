"""Imports behave the same whether they are started from the command line or from the UI.

Both start in the data directory of a running `up`, over a JetStream that the tests control.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from filelock import FileLock

from tautulli_pipeline.data_dir.consumer_lock import is_consumer_running
from tautulli_pipeline.data_dir.layout import DataDir
from tautulli_pipeline.demo.database import make_demo_database
from tautulli_pipeline.imports.record import ImportLog
from tautulli_pipeline.imports.reset import reset_progress
from tautulli_pipeline.orchestration.history import forget_history
from tautulli_pipeline.settings import Settings
from tautulli_pipeline_tests.command import ended, held_up, nothing_runs, processes_of, query, start
from tautulli_pipeline_tests.command import wait_until as wait_for
from tautulli_pipeline_tests.external_server import STREAM, ExternalServer, external_server
from tautulli_pipeline_tests.holding import held_by_another_process
from tautulli_pipeline_tests.nats_credentials import Trust
from tautulli_pipeline_tests.pages import overwrite, settle, tree_of
from tautulli_pipeline_tests.served import PARTITIONS, TERMINATE, Served, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ROWS = 8000
BATCH = 200
SERVER_AWAY = "the stream server is unreachable; waiting for it to come back"
EVENTS_LOST = "events were lost on the stream; publishing them again"
WAITS_SECONDS = 90
LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.read()
"""
COMPLETED, STOPPED, FAILED = "completed", "stopped", "failed"


def wait_until(true: Callable[[], Any], pause_seconds: float = 0.01) -> Any:
    return wait_for(true, WAITS_SECONDS, pause_seconds)


@dataclass(frozen=True)
class Ended:
    """How an import ended.

    Attributes:
        output: all messages of the import.
    """

    status: str
    output: str


class Started(ABC):
    """An import that was started from the command line or from the UI."""

    def __init__(self, served: Served) -> None:
        self.served = served

    @property
    def data_dir(self) -> Path:
        return self.served.data_dir

    @abstractmethod
    def ended(self) -> Ended:
        """Wait until the import and its automatic retries have ended."""

    @abstractmethod
    def stop(self) -> None:
        """Stop the import in the way that fits how it was started."""

    def process(self) -> psutil.Process:
        """Wait until the import holds its lock; return its process."""
        log = ImportLog(self.data_dir)
        return psutil.Process(wait_until(log.lock.holder, 0.002).process_id)

    def consumer(self) -> psutil.Process:
        def found() -> list[psutil.Process]:
            every = processes_of(self.data_dir)
            return [p for p in every if "consumer_main" in " ".join(p.cmdline())]

        return wait_until(found)[0]

    def is_published(self, ranges: int) -> bool:
        return len(list(self.data_dir.glob("receipts/*/0*"))) >= ranges


class ByCommand(Started):
    """`tautulli-pipeline import`."""

    def __init__(self, served: Served, **options: object) -> None:
        super().__init__(served)
        source = options.pop("source", served.database)
        flags = [flag for name, value in options.items() for flag in _flag(name, value)]
        self._process = start(
            *("import", source, "--batch-size", BATCH, *flags),
            data_dir=served.data_dir,
            **served.variables,
        )

    def ended(self) -> Ended:
        outcome = ended(self._process)
        statuses = {0: COMPLETED, 130: STOPPED}
        return Ended(statuses.get(outcome.exit_code, FAILED), outcome.stderr)

    def stop(self) -> None:
        self._process.send_signal(signal.SIGINT)


def _flag(name: str, value: object) -> list[str]:
    return [f"--{name}"] if value is True else [f"--{name}", str(value)]


class ByInterface(Started):
    """A run of `import_job`, launched as the UI does."""

    def __init__(self, served: Served, **options: object) -> None:
        super().__init__(served)
        given = {name: str(v) if name == "source" else v for name, v in options.items()}
        self.run_id = served.launch(
            "import_job", {"ops": {"publish_partitions": {"config": given}}}
        )

    def ended(self) -> Ended:
        run_id: str | None = self.run_id
        lines, status = [], ""
        while run_id is not None:
            status = self.served.ended(run_id, WAITS_SECONDS)
            for event in self.served.events(run_id):
                lines += [event.get("message") or "", (event.get("error") or {}).get("message", "")]
            run_id = self._retry_of(run_id) if status == "FAILURE" else None
        statuses = {"SUCCESS": COMPLETED, "CANCELED": STOPPED}
        return Ended(statuses.get(status, FAILED), "\n".join(lines))

    def _retry_of(self, run_id: str) -> str | None:
        """Return the run with which Dagster retries a run whose process died."""
        (run,) = self.served.runs(runIds=[run_id])
        tags = {tag["key"]: tag["value"] for tag in run["tags"]}
        if tags.get("dagster/will_retry") != "true":
            return None
        retries = wait_until(
            lambda: [r for r in self.served.runs() if r["parentRunId"] == run_id], 0.3
        )
        return str(retries[0]["runId"])

    def stop(self) -> None:
        self.served.ask(TERMINATE, id=self.run_id)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("starts")
    make_demo_database(folder / "tautulli.db", ROWS)
    settle(folder / "tautulli.db")
    return folder


@pytest.fixture(scope="module")
def credentials(folder: Path) -> Path:
    return Trust().write_credentials(folder / "user.creds")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ExternalServer]:
    with external_server(folder / "server") as server:
        yield server


@pytest.fixture(scope="module")
def up(folder: Path, server: ExternalServer, credentials: Path) -> Iterator[Served]:
    variables = {
        "NATS_URL": server.url,
        "NATS_CREDS": credentials,
        "IMPORT_BATCH_SIZE": BATCH,
    }
    with serving(folder / "data", folder / "tautulli.db", **variables) as served:
        yield served
    assert nothing_runs(folder / "data")


@pytest.fixture
def served(up: Served, server: ExternalServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """`up` over a data directory without imports; only the tests start runs."""
    monkeypatch.setenv("PIPELINE_DATA_DIR", "overwritten by `open_instance`")
    up.set_sensor("stream_backlog_sensor", running=False)
    yield up
    up.print_runs()
    wait_until(lambda: no_run_is_active(up), 0.2)
    settings = Settings(pipeline_data_dir=up.data_dir)
    reset_progress(settings, lambda: forget_history(settings))
    for file in up.data_dir.glob("playback.duckdb*"):
        file.unlink()
    server.delete_stream()


def no_run_is_active(served: Served) -> bool:
    return not served.runs(statuses=["STARTED", "QUEUED", "STARTING"])


@pytest.fixture(
    params=[
        # Other tests cover the command line as well: recovery/, cli/, test_external_streams.py.
        pytest.param(ByCommand, id="command line", marks=pytest.mark.slow),
        pytest.param(ByInterface, id="UI"),
    ]
)
def begin(request: pytest.FixtureRequest, served: Served) -> Callable[..., Started]:
    def begin(**options: object) -> Started:
        return request.param(served, **options)

    return begin


def assert_whole(served: Served, rows: int = ROWS) -> None:
    """Assert that every row is in the table once and that the import reports it."""
    wait_until(lambda: no_run_is_active(served), 0.2)
    status = served.status()
    assert (status["status"], status["processed"]) == ("completed", rows)
    counts = "SELECT count(*), count(DISTINCT id), count(DISTINCT source_row_id)"
    assert query(served.data_dir, f"{counts} FROM playback_events") == [(ROWS, ROWS, ROWS)]
    assert not list(served.data_dir.glob("receipts/*"))
    assert not list(served.data_dir.glob("snapshots/*"))


def assert_no_step_was_skipped(served: Served) -> None:
    """Assert that successful runs skipped no step."""
    for run in served.runs(statuses=["SUCCESS"]):
        kinds = {event["__typename"] for event in served.events(run["runId"])}
        assert "ExecutionStepSkippedEvent" not in kinds, run["jobName"]


@pytest.mark.slow
def test_a_backfill_of_two_ranges_imports_only_these(served: Served) -> None:
    # Before the first import, the sensor has already added the partitions.
    keys = wait_until(lambda: served.ask(PARTITIONS)["partitionKeys"], 0.5)
    served.backfill([keys[3], keys[7]])
    # Ranges that are not adjacent are imported by two runs, one after the other.
    imports = {"pipelineName": "__ASSET_JOB", "statuses": ["SUCCESS"]}
    wait_until(lambda: len(served.runs(**imports)) == 2, 0.3)
    wait_until(lambda: no_run_is_active(served), 0.2)
    stored = "SELECT DISTINCT (source_row_id - 1) // ? FROM playback_events ORDER BY 1"
    assert query(served.data_dir, stored, BATCH) == [(3,), (7,)]
    status = served.status()
    assert status["status"] == "completed"
    assert status["total_records"] + status["unchanged"] + status["pending"] == ROWS
    assert status["processed"] == status["total_records"] <= BATCH
    assert status["unchanged"] <= BATCH < status["pending"]


@pytest.mark.slow
def test_an_import_is_complete_when_its_last_row_is_stored(
    begin: Callable[..., Started], served: Served
) -> None:
    before = len(served.runs(pipelineName="consume_job", statuses=["SUCCESS"]))
    assert begin().ended().status == COMPLETED
    assert_whole(served)
    # The table is recorded too: by the command itself, or by a run that the sensor starts.
    served.set_sensor("stream_backlog_sensor", running=True)
    recorded = {"pipelineName": "consume_job", "statuses": ["SUCCESS"]}
    wait_until(lambda: len(served.runs(**recorded)) == before + 1, 0.2)
    assert_no_step_was_skipped(served)


@pytest.mark.slow
def test_an_import_reports_and_waits_for_a_server_that_is_away(
    begin: Callable[..., Started], served: Served, server: ExternalServer
) -> None:
    started = begin()
    wait_until(lambda: started.is_published(1), 0.002)
    server.kill()
    time.sleep(3)
    server.start()
    end = started.ended()
    assert end.status == COMPLETED, end.output
    assert end.output.count(SERVER_AWAY) == 1
    assert_whole(served)


@pytest.mark.slow
def test_stop_before_the_copy_leaves_nothing(begin: Callable[..., Started], served: Served) -> None:
    with locked(served.database):  # the import waits some seconds for the lock
        started = begin()
        started.process()
        began_at = time.monotonic()
        started.stop()
        assert started.ended().status == STOPPED
        assert time.monotonic() - began_at < 60
    assert ImportLog(served.data_dir).read() is None
    assert not list(served.data_dir.glob("snapshots/*"))


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Lock a database exclusively from another process."""
    command = [sys.executable, "-c", LOCK, str(database)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"locked\n"
            yield
        finally:
            holder.kill()


def test_stop_while_the_consumer_waits_to_begin(
    begin: Callable[..., Started], served: Served
) -> None:
    with FileLock(served.data_dir / "consumer.lock"):  # like a consumer that is writing a batch
        started = begin()
        wait_until(lambda: served.status()["import_id"])
        assert ImportLog(served.data_dir).lock.holder() is not None
        started.stop()
        assert started.ended().status == STOPPED
    assert served.status()["status"] == "stopped"


def test_stop_while_publishing_keeps_finished_ranges(
    begin: Callable[..., Started], served: Served
) -> None:
    started = begin()
    process = started.process()
    wait_until(lambda: started.is_published(1), 0.001)
    with held_up(process):
        ImportLog(served.data_dir).lock.request_stop(ImportLog(served.data_dir).lock.holder())
    assert started.ended().status == STOPPED
    assert served.status()["status"] == "stopped"
    finished = len(list(served.data_dir.glob("receipts/*/0*")))
    assert 1 <= finished < ROWS / BATCH
    first = served.status()["import_id"]
    assert begin().ended().status == COMPLETED
    assert served.status()["import_id"] == first
    assert_whole(served)


@pytest.mark.slow
def test_stop_while_draining(begin: Callable[..., Started], served: Served) -> None:
    started = begin()
    wait_until(lambda: started.is_published(1), 0.001)
    consumer = started.consumer()
    with held_up(consumer):
        wait_until(lambda: started.is_published(ROWS // BATCH))
        started.stop()
        wait_until(lambda: served.status()["status"] == "stopping")
    assert started.ended().status == STOPPED
    assert begin().ended().status == COMPLETED
    assert_whole(served)


@pytest.mark.slow
def test_lost_rows_are_published_again(
    begin: Callable[..., Started], served: Served, server: ExternalServer
) -> None:
    started = begin()
    wait_until(lambda: started.is_published(1), 0.001)
    with held_up(started.consumer()):
        wait_until(lambda: started.is_published(ROWS // BATCH))
        server.ask(lambda jetstream: jetstream.purge_stream(STREAM))
    end = started.ended()
    assert end.status == COMPLETED, end.output
    assert EVENTS_LOST in end.output
    assert EVENTS_LOST in (served.data_dir / "log" / "import.log").read_text()
    assert_whole(served)


def test_unusable_credentials_are_refused_before_the_source_is_read(
    begin: Callable[..., Started], served: Served, credentials: Path
) -> None:
    good = credentials.read_text()
    credentials.write_text("no credentials")
    try:
        end = begin(source=served.database.with_name("none.db")).ended()
    finally:
        credentials.write_text(good)
    assert end.status == FAILED
    assert str(credentials) in end.output
    assert "none.db" not in end.output
    assert ImportLog(served.data_dir).read() is None


@pytest.mark.slow
def test_a_second_start_is_refused_with_the_progress_of_the_first(
    begin: Callable[..., Started], served: Served
) -> None:
    first = begin()
    wait_until(lambda: first.is_published(1), 0.001)
    process = first.process()
    with held_up(first.consumer()):
        end = begin().ended()
    assert end.status == FAILED
    assert f"is already running (process {process.pid}, " in end.output
    assert first.ended().status == COMPLETED
    assert_whole(served)


@pytest.mark.slow
def test_fresh_covers_every_row_again(begin: Callable[..., Started], served: Served) -> None:
    assert begin().ended().status == COMPLETED
    assert begin().ended().status == COMPLETED
    status = served.status()  # of the first import, because the second found nothing new
    assert (status["total_records"], status["imported"]) == (ROWS, ROWS)
    assert status["checked_time"] >= status["end_time"]
    assert begin(fresh=True).ended().status == COMPLETED
    status = served.status()
    assert (status["total_records"], status["imported"], status["unchanged"]) == (ROWS, 0, 0)
    assert_whole(served)


@pytest.mark.slow
def test_salvage_imports_what_is_readable(
    begin: Callable[..., Started], served: Served, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged.db"
    shutil.copyfile(served.database, damaged)
    overwrite(damaged, tree_of(damaged, "session_history").leaves[3:4])
    end = begin(source=damaged).ended()
    assert end.status == FAILED
    assert f"cannot read all of {damaged}" in end.output or "malformed" in end.output
    assert begin(source=damaged, salvage=True).ended().status == COMPLETED
    status = served.status()
    assert status["errors"] > 0
    assert status["processed"] == status["total_records"] == ROWS
    (stored,) = query(served.data_dir, "SELECT count(*) FROM playback_events")
    assert stored == (ROWS - status["errors"],)


@pytest.mark.slow
def test_an_import_names_and_waits_for_a_program_that_holds_the_warehouse(
    begin: Callable[..., Started], served: Served
) -> None:
    warehouse = served.data_dir / "playback.duckdb"
    assert begin().ended().status == COMPLETED
    wait_until(lambda: no_run_is_active(served), 0.2)
    with held_by_another_process(warehouse) as process_id:
        end = begin(fresh=True, wait=0).ended()
        assert end.status == FAILED
        assert f"process {process_id} " in end.output
        started = begin(fresh=True, wait=60)
        wait_until(lambda: is_consumer_running(DataDir(served.data_dir)))
        time.sleep(2)
    end = started.ended()
    assert end.status == COMPLETED, end.output
    assert end.output.count(f"process {process_id} ") == 1
    assert_whole(served)


def importer(started: Started) -> psutil.Process:
    return started.process()


def consumer(started: Started) -> psutil.Process:
    return started.consumer()


@pytest.mark.slow
@pytest.mark.parametrize("victim", [importer, consumer])
@pytest.mark.parametrize("ranges", [1, ROWS // BATCH], ids=["publishing", "draining"])
def test_a_killed_run_is_resumed_to_the_last_row(
    served: Served, victim: Callable[[Started], psutil.Process], ranges: int
) -> None:
    """Imports of the command line are killed in `recovery/test_kills.py`."""
    started = ByInterface(served)
    wait_until(lambda: started.is_published(1), 0.001)
    suspended = started.consumer()
    suspended.suspend()
    wait_until(lambda: started.is_published(ranges), 0.001)
    victim(started).kill()
    if suspended.is_running():
        suspended.resume()
    if started.ended().status != COMPLETED:
        assert served.status()["status"] == "failed"
        assert ByInterface(served).ended().status == COMPLETED
    assert_whole(served)
