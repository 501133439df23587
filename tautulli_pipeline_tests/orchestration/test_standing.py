"""What runs of Dagster's own UI and daemon work with: one stream server, a warehouse each."""

from __future__ import annotations

import os
import shutil
import threading
import time

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test

from tautulli_pipeline.errors import StoppedError, WarehouseError
from tautulli_pipeline.imports.record import ImportLog, ImportRecord, Status
from tautulli_pipeline.orchestration import standing
from tautulli_pipeline.orchestration.column_schemas import STREAM_KEY
from tautulli_pipeline.orchestration.partitions import DATA_VERSION
from tautulli_pipeline.orchestration.services import (
    announce_warehouse,
    announced_warehouse,
    consumer_lock,
    is_consumer_at_work,
    is_consumer_awaited,
    stream_address,
)
from tautulli_pipeline.orchestration.standing import (
    StandingConsuming,
    StandingPublishing,
    StandingWarehouse,
)
from tautulli_pipeline.orchestration.workers import own_process_tag
from tautulli_pipeline.settings import Settings, load_settings
from tautulli_pipeline_tests.cases import make_database, play
from tautulli_pipeline_tests.command import query, wait_until
from tautulli_pipeline_tests.holding import held_by_another_process

KEYS = ["0000000001-0000000010", "0000000011-0000000020", "0000000021-0000000030"]
PLAYS = 25


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A data directory with a running stream server, and a database beside it."""
    folder = tmp_path_factory.mktemp("standing")
    make_database(folder / "tautulli.db", plays=[play(n) for n in range(1, PLAYS + 1)])
    (folder / "data").mkdir()
    with stream_address(Settings(pipeline_data_dir=folder / "data")):
        yield folder


@pytest.fixture
def standing_dir(home, monkeypatch):
    monkeypatch.setenv("PIPELINE_DATA_DIR", str(home / "data"))
    monkeypatch.setenv("IMPORT_DB_PATH", str(home / "tautulli.db"))
    monkeypatch.setenv("IMPORT_BATCH_SIZE", "10")
    yield home / "data"
    ImportLog(home / "data").remove()
    shutil.rmtree(home / "data" / "receipts", ignore_errors=True)


def failure_of(opening):
    with pytest.raises(dg.Failure) as caught, opening:
        pass
    assert caught.value.allow_retries is False
    return caught.value


def status(data_dir):
    return ImportLog(data_dir).read().status


def publish(instance, half):
    """As the op does, with a record of each partition."""
    keys = []
    for receipt, finished in half.receipts():
        keys.append(receipt.partition_key)
        materialization = dg.AssetMaterialization(
            STREAM_KEY, partition=keys[-1], tags={DATA_VERSION: str(finished)}
        )
        instance.report_runless_asset_event(materialization)
    return keys


def test_an_import_is_published_left_to_the_consumer_and_settled_by_it(standing_dir, instance):
    with StandingPublishing().open(instance) as half:
        assert status(standing_dir) is Status.RUNNING
        assert ImportLog(standing_dir).read().process_id == os.getpid()
        assert half.coverage() == {"total_records": PLAYS, "unchanged": 0}
        assert publish(instance, half) == KEYS
    record = ImportLog(standing_dir).read()
    assert (record.status, record.last_processed_id) == (Status.PENDING, PLAYS)
    assert half.folder.path.exists()
    assert ImportLog(standing_dir).lock.holder() is None

    consumed = StandingConsuming().consume(StandingWarehouse())
    assert (consumed.arrivals.stored, consumed.facts) == (PLAYS, {})
    assert ImportLog(standing_dir).read().fates.imported == PLAYS
    assert status(standing_dir) is Status.COMPLETED
    assert not half.folder.path.exists()
    assert not is_consumer_at_work(load_settings())
    assert query(standing_dir, "SELECT count(*) FROM playback_events") == [(PLAYS,)]

    # Nothing is due now, and nothing is left to a consumer.
    with StandingPublishing().open(instance) as half:
        assert half.work == ()
        assert half.coverage() == {"total_records": 0, "unchanged": PLAYS}
    assert status(standing_dir) is Status.COMPLETED
    again = StandingConsuming().consume(StandingWarehouse())
    assert (again.arrivals.stored, again.arrivals.row_count) == (0, PLAYS)


@pytest.mark.parametrize(
    ("fault", "noted"),
    [
        (StoppedError("stopped"), Status.STOPPED),
        (KeyboardInterrupt(), Status.STOPPED),
        (dg.DagsterExecutionInterruptedError(), Status.STOPPED),
        (ZeroDivisionError(), Status.FAILED),
        (GeneratorExit(), Status.FAILED),
    ],
)
def test_what_ends_an_import_is_noted_as_a_stop_or_a_failure(standing_dir, instance, fault, noted):
    with pytest.raises(type(fault)), StandingPublishing().open(instance):
        raise fault
    assert status(standing_dir) is noted
    assert ImportLog(standing_dir).lock.holder() is None


def test_a_fault_in_the_middle_of_a_termination_is_a_stop(standing_dir, instance):
    run = create_run_for_test(
        instance,
        job_name="import_job",
        tags=own_process_tag(),
        status=dg.DagsterRunStatus.CANCELING,
    )
    with pytest.raises(StoppedError) as caught, StandingPublishing().open(instance):
        raise RuntimeError("the query was interrupted")
    assert "the query was interrupted" in str(caught.value.__cause__)
    assert status(standing_dir) is Status.STOPPED
    assert instance.get_run_by_id(run.run_id).status is dg.DagsterRunStatus.CANCELING


def test_a_request_to_stop_reaches_the_half_and_shows(standing_dir, instance):
    log = ImportLog(standing_dir)

    def publish_after_a_request(half):
        log.lock.request_stop(log.lock.holder())
        assert half.stopping.wait(10)
        wait_until(lambda: status(standing_dir) is Status.STOPPING)
        publish(instance, half)

    with pytest.raises(StoppedError), StandingPublishing().open(instance) as half:
        publish_after_a_request(half)
    assert status(standing_dir) is Status.STOPPED
    assert len(list((standing_dir / "receipts").glob("*/*"))) == 1  # the range in hand


def test_partitions_that_somebody_chose_are_what_the_import_covers(standing_dir, instance):
    with StandingPublishing().open(instance) as half:
        half.choose(KEYS[1:2])
        assert publish(instance, half) == KEYS[1:2]
    assert ImportLog(standing_dir).read().total_records == 10


def test_a_second_import_fails_with_the_progress_of_the_first(standing_dir, instance):
    log, source = ImportLog(standing_dir), standing_dir.with_name("tautulli.db")
    with log.exclusive(source):
        log.write(ImportRecord.begin(source, fresh=False))
        failure = failure_of(StandingPublishing().open(instance))
    assert f"an import of {source} is already running" in failure.description
    assert failure.metadata["progress"].value["total_records"] == 0


def test_a_fault_of_ours_is_a_failure_with_its_remedy(
    standing_dir, instance, monkeypatch, tmp_path
):
    monkeypatch.setenv("PIPELINE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("IMPORT_DB_PATH", str(tmp_path / "none.db"))
    failure = failure_of(StandingPublishing().open(instance))
    assert "it does not exist. check the path" in failure.description
    assert failure.metadata == {}
    monkeypatch.delenv("IMPORT_DB_PATH")
    failure = failure_of(StandingPublishing().open(instance))
    assert failure.description == (
        "no database to import. set IMPORT_DB_PATH for the Dagster processes"
    )
    monkeypatch.setenv("IMPORT_BATCH_SIZE", "0")
    assert "IMPORT_BATCH_SIZE" in failure_of(StandingPublishing().open(instance)).description
    assert not (tmp_path / "data").exists()


def test_a_consumer_makes_room_for_one_that_waits(standing_dir, instance):
    with StandingPublishing().open(instance) as half:
        publish(instance, half)
    settings, waited = load_settings(), []

    def wait_for_the_turn():
        with consumer_lock(settings, patience_seconds=60):
            waited.append(ImportLog(standing_dir).read().fates.processed)

    def consume_while_another_waits(connection):
        waiting.start()
        wait_until(lambda: is_consumer_awaited(settings))
        StandingConsuming._drain(connection)

    waiting = threading.Thread(target=wait_for_the_turn)
    with pytest.raises(StoppedError, match="made room"), StandingWarehouse().get_connection() as c:
        consume_while_another_waits(c)
    waiting.join(60)
    assert len(waited) == 1


def test_who_opens_the_warehouse_is_the_one_consumer_and_names_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PIPELINE_DATA_DIR", str(tmp_path / "data"))
    with StandingWarehouse().get_connection() as connection:
        ((own,),) = connection.execute("SELECT warehouse_id FROM warehouse_identity").fetchall()
        assert announced_warehouse(load_settings()) == str(own)
        assert is_consumer_at_work(load_settings())
        assert standing._warehouse_id(load_settings()) == str(own)
    assert standing._warehouse_id(load_settings()) == str(own)
    assert not is_consumer_at_work(load_settings())


def test_a_warehouse_that_cannot_be_opened_fails_with_the_reason(tmp_path, monkeypatch):
    monkeypatch.setenv("PIPELINE_DATA_DIR", str(tmp_path))
    with held_by_another_process(tmp_path / "playback.duckdb") as process_id:
        failure = failure_of(StandingWarehouse().get_connection())
        with pytest.raises(WarehouseError):  # and nobody who consumes could tell its name
            standing._warehouse_id(load_settings())
    assert f"process {process_id} " in failure.description
    monkeypatch.setenv("DUCKDB_PATH", str(tmp_path / "mnt" / "playback.duckdb"))
    failure = failure_of(StandingWarehouse().get_connection())
    assert f"there is no folder {tmp_path / 'mnt'}" in failure.description


def test_a_consumer_is_asked_for_its_warehouse_until_it_tells_or_time_is_up(tmp_path, monkeypatch):
    monkeypatch.setattr(standing, "_CONSUMER_OPENS_WITHIN_SECONDS", 0.5)
    settings = Settings(pipeline_data_dir=tmp_path)
    with consumer_lock(settings):
        began_at = time.monotonic()
        with pytest.raises(WarehouseError, match="another consumer"):
            standing._warehouse_id(settings)
        assert time.monotonic() - began_at > 0.5
        monkeypatch.setattr(standing, "_CONSUMER_OPENS_WITHIN_SECONDS", 60.0)
        announce_warehouse(settings, "warehouse-1")
        assert standing._warehouse_id(settings) == "warehouse-1"
