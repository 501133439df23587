"""The event log that keeps its files open."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import dagster as dg
import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from dagster._core.storage import sql
from dagster._core.storage.event_log.sqlite import sqlite_event_log
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage

from tautulli_pipeline.orchestration import storage
from tautulli_pipeline.orchestration.instance import COMMAND_LINE_TAGS, open_instance
from tautulli_pipeline.orchestration.storage import OpenEventLog
from tautulli_pipeline_tests.command import wait_until

KEY = dg.AssetKey("films")
LOCATION = "tautulli_pipeline.definitions"

WRITE_AND_DIE = """
import os, sys
from pathlib import Path
import dagster as dg
from tautulli_pipeline.orchestration.instance import open_instance
with open_instance(Path(sys.argv[1])) as instance:
    for number in range(20):
        instance.report_runless_asset_event(
            dg.AssetMaterialization("films", partition=f"{number:03d}")
        )
    os.kill(os.getpid(), 9)
"""


def report(instance, partition):
    instance.report_runless_asset_event(dg.AssetMaterialization(KEY, partition=partition))


def open_files(folder: Path) -> set[str]:
    links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    targets = [str(link.readlink()) for link in links]
    return {Path(target).name for target in targets if target.startswith(str(folder))}


def test_the_instance_of_a_data_directory_uses_the_open_event_log(data_dir):
    data_dir.mkdir()
    with open_instance(data_dir) as instance:
        assert isinstance(instance.event_log_storage, OpenEventLog)
        with dg.DagsterInstance.from_ref(instance.get_ref()) as restored:
            assert isinstance(restored.event_log_storage, OpenEventLog)


def test_open_instances_see_each_others_events(data_dir):
    data_dir.mkdir()
    with open_instance(data_dir) as one, open_instance(data_dir) as other:
        for number in range(3):
            report(one, f"a{number}")
            report(other, f"b{number}")
            expected = {f"{name}{n}" for name in "ab" for n in range(number + 1)}
            assert set(one.get_materialized_partitions(KEY)) == expected
            assert set(other.get_materialized_partitions(KEY)) == expected


def test_an_open_instance_is_told_of_each_event_that_another_one_writes(tmp_path):
    folder = tmp_path / "a[b]*"
    folder.mkdir()
    told = []
    with open_instance(folder) as writer, open_instance(folder) as reader:
        run = dg.DagsterRun(job_name="job")
        writer.report_engine_event("before", run)
        first = reader.get_records_for_run(run.run_id)
        reader.watch_event_logs(
            run.run_id, first.cursor, lambda entry, _cursor: told.append(entry.message)
        )
        for number in range(3):
            writer.report_engine_event(f"event {number}", run)
            wait_until(lambda number=number: len(told) > number)
        assert told == ["event 0", "event 1", "event 2"]


@pytest.mark.parametrize(("tags", "location"), [(COMMAND_LINE_TAGS, LOCATION), ({}, None)])
def test_runs_of_the_command_line_belong_to_the_code_location(data_dir, tags, location):
    data_dir.mkdir()

    @dg.job
    def import_job():
        pass

    with open_instance(data_dir) as instance:
        run = instance.create_run_for_job(import_job, tags=tags)
        origin = instance.get_run_by_id(run.run_id).remote_job_origin
        assert (origin and origin.location_name) == location
        assert (origin and origin.job_name) == (location and "import_job")


def test_recorded_events_survive_a_kill_of_the_process(data_dir):
    data_dir.mkdir()
    command = [sys.executable, "-c", WRITE_AND_DIE, str(data_dir)]
    assert subprocess.run(command, check=False).returncode == -9
    with open_instance(data_dir) as instance:
        expected = {f"{number:03d}" for number in range(20)}
        assert set(instance.get_materialized_partitions(KEY)) == expected


def test_few_files_stay_open_and_none_after_the_instance_is_closed(data_dir):
    data_dir.mkdir()
    with open_instance(data_dir) as instance:
        log = instance.event_log_storage
        for number in range(12):
            with log.run_connection(f"run-{number}"):
                pass
        report(instance, "a")
        runs = data_dir / "history" / "runs"
        held = {name for name in open_files(runs) if name.endswith(".db")}
        assert "index.db" in held
        assert len(held) <= 4
        assert instance.get_runs() == []
        assert "runs.db" in open_files(data_dir / "history")
    assert open_files(data_dir) == set()


def schema_of(file: Path):
    with closing(sqlite3.connect(file)) as connection:
        tables = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master")
        versions = connection.execute("SELECT * FROM alembic_version")
        (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
        return {*tables}, versions.fetchall(), mode


@pytest.mark.parametrize("can_link", [True, False])
def test_the_file_of_a_run_has_the_tables_that_dagster_gives_it(tmp_path, monkeypatch, can_link):
    def fail(_source, _target):
        raise PermissionError

    if not can_link:
        monkeypatch.setattr(storage.os, "link", fail)
    mine, theirs = OpenEventLog(str(tmp_path / "a")), SqliteEventLogStorage(str(tmp_path / "b"))
    for log in (mine, theirs):
        with log.run_connection("run-1"):
            pass
    mine.dispose()
    assert schema_of(tmp_path / "a" / "run-1.db") == schema_of(tmp_path / "b" / "run-1.db")
    assert {file.suffix for file in (tmp_path / "a").iterdir()} == {".db"}
    assert mine.get_all_run_ids() == ["run-1"]


def test_the_tables_of_a_run_are_created_without_dagsters_statements(tmp_path, monkeypatch):
    log = OpenEventLog(str(tmp_path))
    monkeypatch.setattr(sqlite_event_log.SqlEventLogStorageMetadata, "create_all", pytest.fail)
    with log.run_connection("run-1") as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM event_logs").scalar() == 0
    log.dispose()


def test_a_table_is_looked_for_until_it_is_found(tmp_path):
    log = OpenEventLog(str(tmp_path))
    assert not log.has_table("later")
    with log.index_connection() as connection:
        connection.exec_driver_sql("CREATE TABLE later (id INTEGER)")
    assert log.has_table("later")
    log.dispose()


def test_a_wiped_log_is_empty_and_can_be_written_again(data_dir):
    data_dir.mkdir()
    with open_instance(data_dir) as instance:
        report(instance, "a")
        instance.event_log_storage.wipe()
        assert instance.get_materialized_partitions(KEY) == set()
        report(instance, "b")
        assert instance.get_materialized_partitions(KEY) == {"b"}


def test_only_the_creation_of_files_leaves_syncing_to_the_end(tmp_path):
    # 0 is OFF, 1 is NORMAL, 2 is FULL.
    with open_instance(tmp_path) as instance:
        storages = (instance.run_storage.connect(), instance.event_log_storage.index_connection())
        with storages[0] as runs, storages[1] as events:
            synced = [one.exec_driver_sql("PRAGMA synchronous").scalar() for one in (runs, events)]
    assert synced == [2, 1]


def test_the_migrations_in_a_folder_are_read_once():
    read = []

    def from_config(config):
        read.append(config.get_main_option("script_location"))
        return object()

    read_once, found = storage._read_once(from_config), []
    for folder in ("runs", "events", "runs"):
        config = Config()
        config.set_main_option("script_location", folder)
        found.append(read_once(config))
    assert read == ["runs", "events"]
    assert found[0] is found[2] is not found[1]
    assert {vars(module)["ScriptDirectory"] is ScriptDirectory for module in (command, sql)} == {
        False
    }
