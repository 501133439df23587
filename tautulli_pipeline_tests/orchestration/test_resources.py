"""Runs started by Dagster, over one stream server and with a new warehouse per test."""

from __future__ import annotations

import shutil
import threading
from datetime import datetime

import dagster as dg
import pytest

from tautulli_pipeline.data_dir.consumer_lock import (
    consumer_lock,
    is_consumer_awaited,
    is_consumer_running,
)
from tautulli_pipeline.definitions import defs
from tautulli_pipeline.imports.connections import stream_address
from tautulli_pipeline.imports.record import ImportLog, ImportRecord, Status
from tautulli_pipeline.orchestration.history import last_materialized_at
from tautulli_pipeline.orchestration.resources import Warehouse
from tautulli_pipeline.settings import Settings, load_settings
from tautulli_pipeline.stream.publisher import Outgoing
from tautulli_pipeline.stream.session import open_publishing
from tautulli_pipeline_tests.cases import make_database, play
from tautulli_pipeline_tests.command import query, wait_until
from tautulli_pipeline_tests.holding import held_by_another_process

KEYS = ["0000000001-0000000010", "0000000011-0000000020", "0000000021-0000000030"]
PLAYS = 25
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a database, and a data directory with a running stream server."""
    folder = tmp_path_factory.mktemp("served")
    make_database(folder / "tautulli.db", plays=[play(n) for n in range(1, PLAYS + 1)])
    (folder / "data").mkdir()
    with stream_address(Settings(pipeline_data_dir=folder / "data")):
        yield folder


@pytest.fixture
def served_dir(home, monkeypatch):
    """The data directory without any import, in the environment of Dagster's processes."""
    monkeypatch.setenv("PIPELINE_DATA_DIR", str(home / "data"))
    monkeypatch.setenv("IMPORT_DB_PATH", str(home / "tautulli.db"))
    monkeypatch.setenv("IMPORT_BATCH_SIZE", "10")
    yield home / "data"
    ImportLog(home / "data").remove()
    shutil.rmtree(home / "data" / "receipts", ignore_errors=True)
    (home / "data" / "playback.duckdb").unlink(missing_ok=True)


def run(instance, job, *, tags=None, **config):
    """Run a job in this process; return the run and its events."""
    op = {"import_job": "publish_partitions", "dry_run_job": "judge_plays"}.get(job)
    ops = {"ops": {op: {"config": config}}} if config else {}
    result = defs.resolve_job_def(job).execute_in_process(
        instance=instance, run_config=QUIET | ops, tags=tags or {}, raise_on_error=False
    )
    (found,) = instance.get_runs(dg.RunsFilter(run_ids=[result.run_id]))
    return found, result.all_events


def failure_of(instance, job, **config):
    """Run a job that fails; return the failure that the UI shows."""
    found, events = run(instance, job, **config)
    assert found.status is dg.DagsterRunStatus.FAILURE
    (failed,) = [event for event in events if event.is_step_failure]
    return failed.step_failure_data.user_failure_data


def materialized_tables(events):
    """Return the materializations of `playback_events`."""
    table = dg.AssetKey("playback_events")
    return [e for e in events if e.is_step_materialization and e.asset_key == table]


def test_an_import_is_complete_when_its_run_succeeds(served_dir, instance):
    found, _ = run(instance, "import_job")
    record = ImportLog(served_dir).read()
    assert found.status is dg.DagsterRunStatus.SUCCESS
    assert (record.status, record.last_processed_id) == (Status.COMPLETED, PLAYS)
    assert (record.total_records, record.outcomes.imported) == (PLAYS, PLAYS)
    assert query(served_dir, "SELECT count(*) FROM playback_events") == [(PLAYS,)]
    assert not list((served_dir / "receipts").glob("*"))
    assert ImportLog(served_dir).lock.holder() is None

    assert last_materialized_at(instance) == datetime(1970, 1, 1)
    found, events = run(instance, "consume_job")
    assert found.status is dg.DagsterRunStatus.SUCCESS
    (recorded,) = materialized_tables(events)
    metadata = recorded.materialization.metadata
    assert metadata["inserted"].value == metadata["dagster/row_count"].value == PLAYS

    # Another import finds nothing due, and the consumer records nothing new.
    run(instance, "import_job")
    assert ImportLog(served_dir).read().checked_at
    _, events = run(instance, "consume_job")
    (again,) = materialized_tables(events)
    assert again.materialization.metadata["inserted"].value == 0


def test_successful_runs_skip_no_step(served_dir, instance):
    for job in ("import_job", "consume_job", "dry_run_job"):
        found, events = run(instance, job)
        assert found.status is dg.DagsterRunStatus.SUCCESS
        assert [event.step_key for event in events if event.is_step_skipped] == []
        assert any(event.is_step_success for event in events)


def test_an_import_covers_only_the_selected_partitions(served_dir, instance):
    run(instance, "dry_run_job")
    instance.add_dynamic_partitions("history_ranges", KEYS)
    run(instance, "import_job", tags={"dagster/partition": KEYS[1]})
    record = ImportLog(served_dir).read()
    assert (record.total_records, record.pending) == (10, 15)


def test_run_config_overrides_the_environment(served_dir, instance, tmp_path, monkeypatch):
    other = tmp_path / "other.db"
    make_database(other, plays=[play(n) for n in (1, 2, 3)])
    run(instance, "import_job", dry_run=True, source=str(other))
    assert ImportLog(served_dir).read() is None
    monkeypatch.delenv("IMPORT_DB_PATH")
    run(instance, "import_job", source=str(other))
    record = ImportLog(served_dir).read()
    assert (record.source, record.outcomes.imported) == (str(other), 3)
    run(instance, "import_job", source=str(other), fresh=True)
    assert ImportLog(served_dir).read().total_records == 3


def test_every_option_has_a_description_and_is_optional():
    for job in ("import_job", "dry_run_job"):
        ops = defs.resolve_job_def(job).run_config_schema.config_type.fields["ops"]
        (op,) = ops.config_type.fields.values()
        options = op.config_type.fields["config"].config_type.fields
        assert {"source", "salvage"} <= options.keys()
        assert all(option.description for option in options.values())
        assert not any(option.is_required for option in options.values())


def test_a_second_import_fails_with_the_progress_of_the_first(served_dir, instance):
    log, source = ImportLog(served_dir), served_dir.with_name("tautulli.db")
    with log.exclusive(source):
        log.write(ImportRecord.begin(source, "default", fresh=False))
        failure = failure_of(instance, "import_job")
    assert f"an import of {source} is already running" in failure.description
    assert failure.metadata["progress"].value["total_records"] == 0


@pytest.mark.parametrize("job", ["import_job", "dry_run_job"])
def test_a_pipeline_error_becomes_a_failure_with_its_hint(
    served_dir, instance, monkeypatch, tmp_path, job
):
    monkeypatch.setenv("PIPELINE_DATA_DIR", str(tmp_path / "data"))
    failure = failure_of(instance, job, source=str(tmp_path / "none.db"))
    assert "it does not exist. check the path" in failure.description
    assert {name: found.value for name, found in failure.metadata.items()} == {"exit_code": 3}
    monkeypatch.delenv("IMPORT_DB_PATH")
    assert failure_of(instance, job).description == (
        "no database to read. set IMPORT_DB_PATH for the Dagster processes, or `source` in "
        "the run's config"
    )
    monkeypatch.setenv("IMPORT_BATCH_SIZE", "0")
    assert "IMPORT_BATCH_SIZE='0'" in failure_of(instance, job).description
    assert not (tmp_path / "data").exists()


def test_a_consumer_yields_to_a_waiting_one(served_dir, instance):
    settings = load_settings()
    with stream_address(settings) as address, open_publishing(address) as session:
        session.publish([Outgoing("playback.plex.movie", b"{}", {})]).result()
    waited = []

    def wait_for_the_lock():
        with consumer_lock(settings.layout, settings.warehouse_path, patience_seconds=60):
            waited.append(True)

    def wait_once_it_runs():
        wait_until(lambda: is_consumer_running(settings.layout), pause_seconds=0.001)
        wait_for_the_lock()

    waiting = threading.Thread(target=wait_once_it_runs)
    waiting.start()
    found, _ = run(instance, "consume_job")
    waiting.join(60)
    assert waited == [True]
    assert not is_consumer_awaited(settings.layout)
    # It yielded, or it finished before the other one was waiting.
    assert found.status in {dg.DagsterRunStatus.CANCELED, dg.DagsterRunStatus.SUCCESS}


def test_opening_the_warehouse_takes_the_consumer_lock(data_dir, monkeypatch):
    monkeypatch.setenv("PIPELINE_DATA_DIR", str(data_dir))
    with Warehouse().get_connection() as connection:
        assert connection.execute("SELECT count(*) FROM playback_events").fetchone() == (0,)
        assert is_consumer_running(load_settings().layout)
    assert not is_consumer_running(load_settings().layout)


def test_a_missing_warehouse_folder_fails_with_the_reason(tmp_path, monkeypatch):
    monkeypatch.setenv("PIPELINE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("DUCKDB_PATH", str(tmp_path / "mnt" / "playback.duckdb"))
    with pytest.raises(dg.Failure) as caught, Warehouse().get_connection():
        pass
    assert f"folder {tmp_path / 'mnt'} does not exist" in caught.value.description


def test_a_held_warehouse_fails_a_run_that_does_not_wait(served_dir, instance):
    with held_by_another_process(served_dir / "playback.duckdb") as process_id:
        failure = failure_of(instance, "import_job", wait=0)
    assert f"process {process_id} " in failure.description
    assert ImportLog(served_dir).read().status is Status.FAILED
