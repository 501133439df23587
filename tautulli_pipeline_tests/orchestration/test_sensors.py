"""Decisions and skip reasons of the sensors and the schedule."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from tautulli_pipeline.data_dir.consumer_lock import consumer_lock
from tautulli_pipeline.definitions import defs
from tautulli_pipeline.errors import (
    ConfigurationError,
    PipelineError,
    SourceError,
    StreamError,
)
from tautulli_pipeline.imports.connections import stream_address
from tautulli_pipeline.imports.record import ImportLog, ImportRecord, Outcomes, Status
from tautulli_pipeline.orchestration.instance import open_instance
from tautulli_pipeline.orchestration.names import ONLY
from tautulli_pipeline.orchestration.sensors import (
    dry_run_schedule,
    history_sensor_of,
    import_schedule_of,
    stream_backlog_sensor,
)
from tautulli_pipeline.settings import load_settings
from tautulli_pipeline.stream.publisher import Outgoing
from tautulli_pipeline.stream.session import open_publishing
from tautulli_pipeline_tests.cases import play
from tautulli_pipeline_tests.orchestration.ended_runs import run_job
from tautulli_pipeline_tests.tautulli_server import KEY, send_error, serving_tautulli

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

new_history_sensor, import_schedule = history_sensor_of(ONLY), import_schedule_of(ONLY)

PLAYS = [play(row_id) for row_id in (0, 1, 2, 11, 12)]
KEYS = ["0000000001-0000000010", "0000000011-0000000020", "other"]


@pytest.fixture
def instance(
    data_dir: Path, database: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dg.DagsterInstance]:
    """The instance of a data directory, with settings for the database in the environment."""
    data_dir.mkdir()
    monkeypatch.setenv("PIPELINE_DATA_DIR", str(data_dir))
    monkeypatch.setenv("IMPORT_DB_PATH", str(database))
    monkeypatch.setenv("IMPORT_BATCH_SIZE", "10")
    with open_instance(data_dir) as instance:
        yield instance


@pytest.fixture
def _enabled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMPORT_ENABLED", "true")


class Ticking:
    """Evaluates a sensor repeatedly and keeps its cursor."""

    def __init__(self, sensor: dg.SensorDefinition, instance: dg.DagsterInstance) -> None:
        self._sensor = sensor
        self._instance = instance
        self.cursor: str | None = None

    def __call__(self) -> str:
        """Run one tick and add the requested partitions; return the skip reason, '' if none."""
        context = dg.build_sensor_context(
            instance=self._instance, cursor=self.cursor, definitions=defs
        )
        data = self._sensor.evaluate_tick(context)
        self.cursor = data.cursor
        for request in data.dynamic_partitions_requests:
            self._instance.add_dynamic_partitions(
                request.partitions_def_name, request.partition_keys
            )
        assert len(data.run_requests or ()) + bool(data.skip_message) == 1
        return data.skip_message or ""


def known(instance: dg.DagsterInstance) -> list[str]:
    return list(instance.get_dynamic_partitions("history_ranges"))


def write(tmp_path: Path, sql: str) -> None:
    with closing(sqlite3.connect(tmp_path / "tautulli.db")) as connection, connection:
        connection.execute(sql)


def test_without_import_enabled_partitions_are_added_and_nothing_starts(
    instance: dg.DagsterInstance, data_dir: Path
) -> None:
    tick = Ticking(new_history_sensor, instance)
    assert tick() == "IMPORT_ENABLED is not true, so imports only start by hand"
    assert known(instance) == KEYS
    # Unchanged files are not copied again; copying would fail now.
    (data_dir / "snapshots").write_text("in the way")
    assert tick() == "IMPORT_ENABLED is not true, so imports only start by hand"


@pytest.mark.usefixtures("_enabled")
def test_a_running_tautulli_is_watched_without_downloads(
    instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance.add_dynamic_partitions("history_ranges", KEYS[:1])
    with serving_tautulli(tmp_path / "tautulli.db") as server:
        monkeypatch.setenv("IMPORT_DB_PATH", server.url)
        tick = Ticking(new_history_sensor, instance)
        assert tick().startswith(f"there is no API key for {server.url}")
        monkeypatch.setenv("TAUTULLI_API_KEY", KEY)
        server.fault = lambda handler, _command: send_error(handler, 400, "API not enabled")
        assert "its API is switched off" in tick()
        server.fault = lambda _handler, _command: False
        assert tick() == ""
        assert known(instance) == KEYS[:2]  # the partition of the newest play was added
        assert tick() == "the database has not changed"
        write(tmp_path, "DELETE FROM session_history WHERE id = 12")
        assert tick() == ""
        assert server.downloads() == 0
        assert KEY not in (tick.cursor or "")


@pytest.mark.usefixtures("_enabled")
def test_with_import_enabled_new_plays_are_imported_once(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    tick = Ticking(new_history_sensor, instance)
    assert tick() == ""
    assert tick() == "the database has not changed"
    write(tmp_path, "UPDATE session_history_metadata SET title = 'other'")
    assert tick() == "the database has no new plays"
    write(tmp_path, "INSERT INTO session_history (id, started) VALUES (21, 1700000000)")
    assert tick() == ""
    assert known(instance) == [*KEYS[:2], "other", "0000000021-0000000030"]
    assert tick() == "the database has not changed"


def test_enabling_imports_later_imports_the_plays_seen_before(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    tick = Ticking(new_history_sensor, instance)
    tick()
    monkeypatch.setenv("IMPORT_ENABLED", "true")
    assert tick() == ""


@pytest.mark.usefixtures("_enabled")
def test_nothing_starts_while_an_import_runs(
    instance: dg.DagsterInstance, data_dir: Path, tmp_path: Path
) -> None:
    log, source = ImportLog(data_dir), tmp_path / "tautulli.db"
    tick = Ticking(new_history_sensor, instance)
    with log.exclusive(source):
        record = ImportRecord.begin(source, "default", fresh=False)
        log.write(record)
        reason = tick()
        context = dg.build_schedule_context(instance=instance)
        assert import_schedule.evaluate_tick(context).skip_message == reason
    assert reason.startswith(f"an import of {source} is already running (process ")
    assert tick() == ""  # the plays seen meanwhile are imported now


@pytest.mark.usefixtures("_enabled")
def test_an_unreadable_database_is_reported_once(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    (tmp_path / "tautulli.db").write_bytes(b"not a database at all")
    tick = Ticking(new_history_sensor, instance)
    assert "it is not a SQLite database" in tick()
    assert tick() == "the database has not changed"
    (tmp_path / "tautulli.db").unlink()
    assert "it does not exist" in tick()


def test_an_invalid_setting_is_the_skip_reason(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMPORT_BATCH_SIZE", "none")
    for sensor in (new_history_sensor, stream_backlog_sensor):
        assert Ticking(sensor, instance)().startswith("IMPORT_BATCH_SIZE='none' is not usable: ")


def test_the_schedule_starts_an_import_only_if_enabled(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def evaluate() -> tuple[int, str | None]:
        data = import_schedule.evaluate_tick(dg.build_schedule_context(instance=instance))
        return len(data.run_requests or ()), data.skip_message

    assert evaluate() == (0, "IMPORT_ENABLED is not true, so imports only start by hand")
    monkeypatch.setenv("IMPORT_ENABLED", "true")
    assert evaluate() == (1, None)
    instance.create_run_for_job(
        defs.resolve_job_def("import_job"), status=dg.DagsterRunStatus.STARTED
    )
    assert evaluate() == (0, "an import is queued or running")
    monkeypatch.delenv("IMPORT_DB_PATH")
    assert evaluate() == (0, "IMPORT_DB_PATH is not set, so there is no database to watch")


def test_without_import_enabled_the_dry_run_schedule_looks_for_changes(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def evaluate() -> tuple[int, str | None]:
        data = dry_run_schedule.evaluate_tick(dg.build_schedule_context(instance=instance))
        return len(data.run_requests or ()), data.skip_message

    assert evaluate() == (1, None)
    monkeypatch.setenv("IMPORT_ENABLED", "true")
    assert evaluate() == (0, "IMPORT_ENABLED is true, so import_schedule imports what is due")
    monkeypatch.setenv("IMPORT_ENABLED", "false")
    monkeypatch.delenv("IMPORT_DB_PATH")
    assert evaluate() == (0, "IMPORT_DB_PATH is not set, so there is no database to watch")


@pytest.mark.usefixtures("_enabled")
def test_a_failed_import_is_tried_again_until_one_succeeds(instance: dg.DagsterInstance) -> None:
    tick = Ticking(new_history_sensor, instance)
    assert tick() == ""
    run_job(instance, "import_job", StreamError("no server"))
    assert "import_job failed at " in (reason := tick())
    assert "it is tried again at " in reason
    run_job(instance, "import_job")
    assert tick() == "the database has not changed"


@pytest.mark.usefixtures("_enabled")
@pytest.mark.parametrize("error", [SourceError("no database"), ConfigurationError("bad value")])
@pytest.mark.parametrize("change", ["settings", "database"])
def test_an_import_that_fails_for_a_lasting_reason_waits_until_it_changes(
    instance: dg.DagsterInstance,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: PipelineError,
    change: str,
) -> None:
    tick = Ticking(new_history_sensor, instance)
    assert tick() == ""
    run_job(instance, "import_job", error)
    assert tick().endswith("it is tried again when the database or the settings change")
    if change == "settings":
        monkeypatch.setenv("DEDUP_MAX_ENTRIES", "5")
    else:
        write(tmp_path, "UPDATE session_history_metadata SET title = 'other'")
    assert "it is tried again at " in tick()


def test_a_consumer_starts_when_events_are_pending_and_no_consumer_runs(
    instance: dg.DagsterInstance, data_dir: Path, tmp_path: Path
) -> None:
    tick = Ticking(stream_backlog_sensor, instance)
    assert tick() == "nothing has been published yet"
    settings, log = load_settings(), ImportLog(data_dir)
    with stream_address(settings) as address:
        with open_publishing(address) as session:
            assert tick() == "no events are pending on the stream"
            # Events of other producers are consumed in the same way.
            session.publish([Outgoing("playback.plex.movie", b"{}", {})]).result()
        assert tick() == ""
        with consumer_lock(settings.layout, settings.warehouse_path):
            assert tick() == "a consumer is running"
        with log.exclusive(tmp_path / "tautulli.db"):
            assert tick() == "an import is running and consumes the events it publishes"
        job = defs.resolve_job_def("consume_job")
        started = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
        assert tick() == "a consumer is running"
        instance.report_run_failed(started)
        assert tick().startswith("consume_job failed at ")


def test_rows_stored_by_an_import_are_recorded_once(
    instance: dg.DagsterInstance, data_dir: Path, tmp_path: Path
) -> None:
    tick = Ticking(stream_backlog_sensor, instance)
    log = ImportLog(data_dir)
    begun = ImportRecord.begin(tmp_path / "tautulli.db", "default", fresh=False)
    stored = replace(begun, status=Status.COMPLETED, ended_at=datetime.now(UTC))
    with stream_address(load_settings()):
        log.write(stored)
        assert tick() == "no events are pending on the stream"  # it stored nothing
        log.write(replace(stored, outcomes=Outcomes(imported=5)))
        assert tick() == ""
        instance.report_runless_asset_event(dg.AssetMaterialization("playback_events"))
        assert tick() == "no events are pending on the stream"
