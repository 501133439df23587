"""While another program has the warehouse open, imports publish, and wait only to store."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from tautulli_pipeline.settings import Settings
from tautulli_pipeline.stream.publisher import Outgoing
from tautulli_pipeline_tests.cases import make_database, play
from tautulli_pipeline_tests.command import (
    ended,
    imported,
    outcomes,
    query,
    run,
    start,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROWS, BATCH = 60, 10
# A notebook, in either mode of DuckDB.
NOTEBOOK = """
import sys, time, duckdb
connection = duckdb.connect(sys.argv[1], read_only=sys.argv[2] == "read-only")
print(connection.execute("SELECT count(*) FROM playback_events").fetchall(), flush=True)
sys.stdin.read()
"""
MODES = pytest.mark.parametrize(
    "mode", ["read-only", pytest.param("read-write", marks=pytest.mark.slow)]
)


@pytest.fixture
def source(data_dir: Path) -> Path:
    """A database whose first half is imported; the other half is new."""
    path = data_dir.with_name("tautulli.db")
    make_database(path, plays=[play(number) for number in range(1, ROWS // 2 + 1)])
    imported(path, "--batch-size", BATCH, data_dir=data_dir)
    path.unlink()
    path.with_name("tautulli.db-wal").unlink(missing_ok=True)
    make_database(path, plays=[play(number) for number in range(1, ROWS + 1)])
    return path


@contextmanager
def held(data_dir: Path, mode: str) -> Iterator[int]:
    """Keep the warehouse open in another program; yield its process id."""
    command = [sys.executable, "-c", NOTEBOOK, str(data_dir / "playback.duckdb"), mode]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline()
            yield process.pid
        finally:
            process.kill()


def status(data_dir: Path) -> Any:
    return run("status", "--json", data_dir=data_dir).json


def count_stored(data_dir: Path) -> Any:
    return query(data_dir, "SELECT count(*), count(DISTINCT id) FROM playback_events")


@MODES
def test_an_import_publishes_and_waits_while_a_notebook_has_the_warehouse(
    mode: str, source: Path, data_dir: Path
) -> None:
    with held(data_dir, mode) as process_id:
        waiting = start("import", source, "--json", data_dir=data_dir)
        # Everything is published before the warehouse can be opened.
        wait_until(lambda: status(data_dir)["last_processed_id"] == ROWS)
        time.sleep(1)
        assert status(data_dir)["status"] == "running"
    outcome = ended(waiting)
    assert outcome.exit_code == 0, outcome
    assert outcomes(outcome.json)["imported"] == ROWS // 2
    lines = [line for line in outcome.stderr.splitlines() if f"process {process_id} " in line]
    assert len(lines) == 1
    assert lines[0].endswith(" has it open; waiting for it to close the file")
    assert count_stored(data_dir) == [(ROWS, ROWS)]


@MODES
def test_after_the_wait_the_import_ends_and_keeps_what_it_published(
    mode: str, source: Path, data_dir: Path
) -> None:
    with held(data_dir, mode) as process_id:
        began_at = time.monotonic()
        outcome = run("import", source, "--json", "--wait", 1, data_dir=data_dir)
        assert time.monotonic() - began_at < 60
        assert outcome.exit_code == 6
        assert f"process {process_id} " in outcome.json["error"]
        failed = status(data_dir)
        assert (failed["status"], failed["last_processed_id"]) == ("failed", ROWS)
        assert run("health", data_dir=data_dir).exit_code == 1
        # The next attempt has nothing to publish, and waits as well.
        assert run("import", source, "--wait", 0, data_dir=data_dir).exit_code == 6
    resumed = imported(source, data_dir=data_dir)
    assert resumed["import_id"] == failed["import_id"]
    assert outcomes(resumed) == {
        "total_records": ROWS // 2,
        "unchanged": ROWS // 2,
        "processed": ROWS // 2,
        "imported": ROWS // 2,
    }
    assert count_stored(data_dir) == [(ROWS, ROWS)]
    assert not (data_dir / "receipts").exists()


@MODES
def test_a_repeat_with_nothing_new_does_not_touch_the_warehouse(
    mode: str, source: Path, data_dir: Path
) -> None:
    imported(source, data_dir=data_dir)
    with held(data_dir, mode):
        outcome = run("import", source, "--json", "--wait", 0, data_dir=data_dir)
        assert (outcome.exit_code, outcome.stderr) == (0, "")
        assert outcomes(outcome.json) == {"unchanged": ROWS}
        assert run("health", data_dir=data_dir).exit_code == 0


@pytest.mark.slow
def test_a_repeat_with_nothing_new_ignores_what_a_notebook_wrote(
    source: Path, data_dir: Path
) -> None:
    imported(source, data_dir=data_dir)
    with duckdb.connect(data_dir / "playback.duckdb") as notebook:
        notebook.execute("CREATE TABLE mine AS SELECT 1 AS one")
    with held(data_dir, "read-write"):
        outcome = run("import", source, "--json", data_dir=data_dir)
    assert outcome.exit_code == 0
    assert outcome.stderr.startswith("warning: cannot update the analytics: cannot read")
    assert outcomes(outcome.json) == {"unchanged": ROWS}


@pytest.mark.slow
def test_another_warehouse_in_the_same_file_is_noticed(source: Path, data_dir: Path) -> None:
    """A restored backup overwrites the file in place: same device and inode."""
    imported(source, data_dir=data_dir)
    elsewhere = data_dir.with_name("elsewhere")
    imported(source, data_dir=elsewhere)
    warehouse = data_dir / "playback.duckdb"
    with duckdb.connect(elsewhere / "playback.duckdb") as connection:
        connection.execute("DELETE FROM playback_events WHERE source_row_id <= 5")
    warehouse.write_bytes((elsewhere / "playback.duckdb").read_bytes())
    assert outcomes(imported(source, data_dir=data_dir))["imported"] == 5
    assert count_stored(data_dir) == [(ROWS, ROWS)]


@pytest.mark.slow
def test_a_warehouse_that_is_another_one_after_all_gets_everything(
    source: Path, data_dir: Path
) -> None:
    """While a notebook holds the file, the remembered id is planned with; the opening tells."""
    imported(source, data_dir=data_dir)
    warehouse = data_dir / "playback.duckdb"
    with duckdb.connect(warehouse) as connection:
        connection.execute("UPDATE warehouse_identity SET warehouse_id = uuid()")
        connection.execute("DELETE FROM playback_events WHERE source_row_id <= 5")
    make_database(source.with_name("more.db"), plays=[play(n) for n in range(1, ROWS + 2)])
    with held(data_dir, "read-only"):
        waiting = start("import", source.with_name("more.db"), "--json", data_dir=data_dir)
        wait_until(lambda: status(data_dir)["last_processed_id"] == ROWS + 1)
    outcome = ended(waiting)
    assert outcome.exit_code == 0, outcome
    assert outcomes(outcome.json)["total_records"] == ROWS + 1
    assert outcomes(outcome.json)["imported"] == 6
    assert count_stored(data_dir) == [(ROWS + 1, ROWS + 1)]


@pytest.mark.slow
def test_events_of_other_producers_are_waited_for(source: Path, data_dir: Path) -> None:
    from tautulli_pipeline.imports.connections import stream_address
    from tautulli_pipeline.stream.session import open_publishing

    imported(source, data_dir=data_dir)
    message = Outgoing("playback.plex.movie", b"{}", {"Nats-Msg-Id": "plex-1"})
    settings = Settings(pipeline_data_dir=data_dir)
    with stream_address(settings) as address, open_publishing(address) as session:
        session.publish([message]).result()
    with held(data_dir, "read-only"):
        assert run("import", source, "--wait", 0, data_dir=data_dir).exit_code == 6
    assert outcomes(imported(source, data_dir=data_dir)) == {"unchanged": ROWS}
    assert query(data_dir, "SELECT count(*) FROM dead_letters") == [(1,)]


@pytest.mark.slow
def test_other_commands_know_the_consumer_of_a_running_import(source: Path, data_dir: Path) -> None:
    running = start("import", source, "--batch-size", BATCH, data_dir=data_dir)
    said = set()
    while running.poll() is None:
        for arguments in (["duplicates", "list"], ["validate", source]):
            outcome = run(*arguments, data_dir=data_dir)
            said |= {*outcome.stdout.splitlines(), *outcome.stderr.splitlines()}
    assert ended(running).exit_code == 0
    assert not [line for line in said if "close that program" in line]
    assert not [line for line in said if "has it open" in line]


@pytest.mark.slow
@MODES
def test_a_notebook_that_has_the_warehouse_for_20_seconds(
    mode: str, source: Path, data_dir: Path
) -> None:
    with held(data_dir, mode):
        waiting = start("import", source, "--json", data_dir=data_dir)
        time.sleep(20)
        assert waiting.poll() is None
    assert outcomes(ended(waiting).json)["imported"] == ROWS // 2
