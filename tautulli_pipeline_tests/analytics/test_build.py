"""Builds: what makes one necessary, how the file is replaced, and what a failed one leaves."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import duckdb
import pytest

from tautulli_pipeline.analytics import build as build_module
from tautulli_pipeline.analytics.build import build
from tautulli_pipeline.analytics.building import build_in_process, open_builder
from tautulli_pipeline.analytics.catalog import TABLES
from tautulli_pipeline.analytics.inputs import (
    Account,
    digest_of_settings,
    is_current,
    read_inputs,
    state_of,
    write_inputs,
)
from tautulli_pipeline.errors import AnalyticsError, WarehouseError
from tautulli_pipeline_tests.analytics.warehouses import (
    built,
    opened,
    query,
    request_for,
    store,
)
from tautulli_pipeline_tests.cases import make_database, play
from tautulli_pipeline_tests.fuzzed import fuzz

if TYPE_CHECKING:
    from pathlib import Path

PLAYS = [play(1), play(2)]


@pytest.fixture(scope="module")
def once_built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with two plays and their analytics."""
    folder = tmp_path_factory.mktemp("built")
    make_database(folder / "tautulli.db", plays=PLAYS)
    return built(folder / "tautulli.db", folder / "data")


@pytest.fixture
def folder(once_built: Path, tmp_path: Path) -> Path:
    """A copy of it, whose record is that of a build there."""
    request = request_for(shutil.copytree(once_built, tmp_path / "data"))
    recorded, layout = read_inputs(request.layout), request.layout
    assert recorded
    inputs = replace(
        recorded,
        settings=digest_of_settings(request),
        warehouse=state_of(request.warehouse),
        result=state_of(layout.analytics),
    )
    write_inputs(layout, inputs)
    assert is_current(request)
    return layout.path


def add_play(folder: Path) -> None:
    more = folder.with_name("more.db")
    make_database(more, plays=[play(3)])
    store(more, folder)


def count(folder: Path) -> int:
    return int(query(folder, "SELECT count(*) FROM plays")[0][0])


def test_every_table_and_column_of_the_file_is_described(folder):
    with opened(folder) as connection:
        tables = connection.execute("SELECT table_name, comment FROM duckdb_tables()").fetchall()
        columns = connection.execute(
            "SELECT table_name, column_name, data_type, comment FROM duckdb_columns() "
            "WHERE NOT internal ORDER BY table_name, column_index"
        ).fetchall()
    assert dict(tables) == {table.name: table.description for table in TABLES}
    assert columns == [
        (table.name, column, table.type(column), table.comment(column))
        for table in sorted(TABLES, key=lambda table: table.name)
        for column in table.columns
    ]


def test_only_the_owner_can_read_the_file_and_nobody_writes_it(folder):
    assert (folder / "analytics.duckdb").stat().st_mode & 0o777 == 0o400


def test_nothing_is_built_if_nothing_has_changed(folder):
    request = request_for(folder)
    before = (folder / "analytics.duckdb").stat()
    assert is_current(request)
    assert build(request).rows is None
    assert (folder / "analytics.duckdb").stat() == before


def test_a_warehouse_that_was_only_touched_is_looked_at_once(folder):
    os.utime(folder / "playback.duckdb")
    assert not is_current(request_for(folder))
    assert build(request_for(folder)).rows is None
    assert is_current(request_for(folder))


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE playback_events SET restored_at = now() WHERE title = 'Film 1'",
        "DELETE FROM playback_events WHERE title = 'Film 1'",
        "INSERT OR REPLACE INTO users VALUES ('default', 2000001, 'mira', 'Somebody')",
        "INSERT OR REPLACE INTO libraries VALUES ('default', 1, 'Cinema', 'movie', true)",
        "INSERT OR REPLACE INTO servers VALUES ('default', 'new', NULL, now())",
        "INSERT INTO playback_revisions BY NAME SELECT * EXCLUDE (created_at), 1 AS revision, "
        "id AS event_id, now() AS revised_at FROM playback_events LIMIT 1",
    ],
)
def test_a_changed_warehouse_is_built_again(folder, change):
    with duckdb.connect(folder / "playback.duckdb") as connection:
        connection.execute(change)
    assert not is_current(request_for(folder))
    assert build(request_for(folder)).rows is not None


def test_another_time_zone_or_person_is_built_again(folder):
    anna = Account("default", 2_000_001, "Anna")
    for request in (request_for(folder, "Asia/Tokyo"), request_for(folder, "Asia/Tokyo", anna)):
        assert not is_current(request)
        assert build(request).rows is not None
        assert is_current(request)
    assert query(folder, "SELECT DISTINCT person FROM plays") == [("Anna",)]
    assert query(folder, "SELECT timezone FROM about") == [("Asia/Tokyo",)]


def test_nothing_is_due_without_a_warehouse(tmp_path):
    assert is_current(request_for(tmp_path))


def test_a_file_that_is_missing_or_was_changed_is_built_again(folder):
    file = folder / "analytics.duckdb"
    file.chmod(0o600)
    with duckdb.connect(file) as connection:
        connection.execute("CREATE TABLE mine AS SELECT 1 AS one")
    assert not is_current(request_for(folder))
    assert build(request_for(folder)).rows is not None
    assert ("mine",) not in query(folder, "SHOW TABLES")
    file.unlink()
    assert not is_current(request_for(folder))
    assert build(request_for(folder)).rows is not None
    assert count(folder) == 2


WRITER = """
import duckdb, os, sys
os.chmod("analytics.duckdb", 0o600)
connection = duckdb.connect("analytics.duckdb")
connection.execute("CREATE TABLE theirs AS SELECT 42 AS answer")
print("ready", flush=True)
sys.stdin.readline()
"""
READER = """
import duckdb, sys
connection = duckdb.connect("analytics.duckdb", read_only=True)
print("ready", flush=True)
sys.stdin.readline()
print(connection.execute("SELECT count(*) FROM plays").fetchall()[0][0], flush=True)
"""


def started(folder: Path, script: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_a_program_that_has_the_file_open_keeps_what_it_sees_and_does_not_delay_a_build(folder):
    reader = started(folder, READER)
    add_play(folder)
    assert build(request_for(folder)).rows is not None
    assert count(folder) == 3
    assert reader.communicate("\n")[0] == "2\n"


def test_what_another_program_writes_to_the_file_does_not_get_into_the_new_one(folder):
    writer = started(folder, WRITER)
    assert (folder / "analytics.duckdb.wal").exists()
    add_play(folder)
    assert build(request_for(folder)).rows is not None
    assert ("theirs",) not in query(folder, "SHOW TABLES")
    assert count(folder) == 3
    writer.communicate("\n")
    assert ("theirs",) not in query(folder, "SHOW TABLES")


def test_a_log_that_another_program_left_is_removed_although_nothing_is_built(folder):
    log = folder / "analytics.duckdb.wal"
    log.write_bytes(b"left by a notebook that was killed")
    assert not is_current(request_for(folder))
    assert build(request_for(folder)).rows is None
    assert not log.exists()
    assert is_current(request_for(folder))


def test_a_failed_build_leaves_the_old_file_and_the_next_one_makes_up_for_it(folder, monkeypatch):
    add_play(folder)
    with monkeypatch.context() as patched:
        patched.setattr("tautulli_pipeline.analytics.build._put_in_place", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            build(request_for(folder))
    assert count(folder) == 2
    assert not is_current(request_for(folder))
    assert build(request_for(folder)).rows is not None
    assert count(folder) == 3
    assert not list(folder.glob("analytics.duckdb.*"))


def test_a_build_that_needs_more_memory_gets_it(folder, monkeypatch):
    add_play(folder)
    with monkeypatch.context() as patched:
        patched.setattr("tautulli_pipeline.analytics.build._MEMORY_LIMITS", ("4MB", "5MB"))
        with pytest.raises(duckdb.OutOfMemoryException):
            build(request_for(folder))
    assert count(folder) == 2
    monkeypatch.setattr("tautulli_pipeline.analytics.build._MEMORY_LIMITS", ("4MB", "256MB"))
    assert build(request_for(folder)).rows is not None
    assert count(folder) == 3
    assert not list(folder.glob("analytics.duckdb.*"))


def test_a_checkpoint_that_needs_more_memory_gets_it(folder, monkeypatch):
    """DuckDB raises an `IOException` if a checkpoint runs out of memory."""
    add_play(folder)
    faults = [duckdb.IOException("IO Error: Could not write: No space left on device")]

    def create(*arguments):
        if faults:
            raise faults.pop()
        return created(*arguments)

    created = build_module._create_tables
    monkeypatch.setattr(build_module, "_create_tables", create)
    with pytest.raises(duckdb.IOException, match="No space left"):
        build(request_for(folder))
    faults.append(duckdb.IOException("IO Error: Checkpoint failed: could not allocate block"))
    assert build(request_for(folder)).rows is not None
    assert count(folder) == 3


@pytest.mark.parametrize("moment", ["streams_by.sql", "about.sql"])
def test_a_build_that_is_killed_leaves_the_old_file_whole(folder, moment):
    add_play(folder)
    script = f"""
import os, sys
from pathlib import Path
from tautulli_pipeline.analytics import build
from tautulli_pipeline_tests.analytics.warehouses import request_for
read = Path.read_text
def killed_at(path, *arguments):
    if path.name == {moment!r}:
        os.kill(os.getpid(), 9)
    return read(path, *arguments)
Path.read_text = killed_at
build.build(request_for(Path({str(folder)!r})))
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    assert count(folder) == 2
    assert not is_current(request_for(folder))
    assert build(request_for(folder)).rows is not None
    assert count(folder) == 3
    assert not list(folder.glob("analytics.duckdb.*"))


def test_a_build_in_its_own_process_reports_its_rows(folder):
    add_play(folder)
    result = build_in_process(request_for(folder))
    assert result.rows is not None
    assert result.rows["plays"] == 3
    assert result.rows.keys() == {table.name for table in TABLES}


def test_a_warehouse_that_another_program_writes_fails_the_build_alone(folder):
    script = WRITER.replace("analytics.duckdb", "playback.duckdb").replace("theirs", "t")
    writer = started(folder, script)
    with pytest.raises(WarehouseError, match=f"process {writer.pid}"):
        build(request_for(folder))
    with pytest.raises(AnalyticsError, match="cannot update the analytics: cannot read the"):
        build_in_process(request_for(folder))
    writer.communicate("\n")
    assert count(folder) == 2


def test_a_data_directory_can_have_any_name(database, tmp_path):
    folder = built(database, tmp_path / 'what? 100%\'s "größe"')
    assert count(folder) == 2


@pytest.mark.parametrize("timezone", ["Pacific/Kiritimati", "America/New_York"])
def test_no_cell_stops_the_build(tmp_path: Path, timezone: str) -> None:
    database = tmp_path / "tautulli.db"
    make_database(database, plays=[play(n) for n in range(1, 31)])
    fuzz(database, 500, seed=3, one_in=12)
    data_dir = built(database, tmp_path / "data", timezone)
    with duckdb.connect(data_dir / "playback.duckdb", read_only=True) as warehouse:
        stored = warehouse.execute("SELECT count(*) FROM playback_events").fetchall()
    assert query(data_dir, "SELECT count(*) FROM plays") == stored


def test_a_builder_that_is_not_asked_builds_nothing(tmp_path):
    with open_builder():
        pass
    command = [sys.executable, "-m", "tautulli_pipeline.analytics.build_main"]
    done = subprocess.run(command, cwd=tmp_path, input=b"", capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")
    assert list(tmp_path.iterdir()) == []


def test_a_builder_that_is_killed_before_it_is_asked_fails_the_build_alone(folder, monkeypatch):
    """Its pipe cannot be flushed then; that must not be taken for a closed standard output."""
    monkeypatch.setattr("sys.executable", "/bin/false")
    with open_builder() as builder:
        builder.load()
        assert builder._process is not None
        builder._process.wait()
        builder.begin(request_for(folder))
        with pytest.raises(AnalyticsError, match="its process ended unexpectedly"):
            builder.built()


def test_a_builder_loads_once_before_it_is_asked(folder: Path) -> None:
    add_play(folder)
    with open_builder() as builder:
        builder.load()
        loading = builder._process
        builder.begin(request_for(folder))
        assert builder._process is loading
        built_now = builder.built()
    assert built_now.rows
    assert built_now.rows["plays"] == 3
    assert loading
    assert loading.returncode is not None
