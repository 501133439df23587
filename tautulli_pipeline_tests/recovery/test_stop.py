"""`stop`, `reset` and a second import while an import runs in another process."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import dagster as dg
import duckdb
import psutil
import pytest

from tautulli_pipeline.demo.database import make_demo_database
from tautulli_pipeline.orchestration.instance import open_instance
from tautulli_pipeline_tests.cases import make_database, play
from tautulli_pipeline_tests.command import (
    ended,
    environment,
    held_up,
    imported,
    nothing_runs,
    outcomes,
    processes_of,
    query,
    run,
    start,
    wait_until,
)
from tautulli_pipeline_tests.recovery.conftest import published

if TYPE_CHECKING:
    from pathlib import Path

ROWS = 8000
OPTIONS = ("--json", "--batch-size", 200)
RESUMABLE = {"error": "the import was stopped", "hint": "import again to resume it"}


def status(data_dir: Path) -> dict[str, Any]:
    facts: dict[str, Any] = run("status", "--json", data_dir=data_dir).json
    return facts


@pytest.mark.slow
def test_stop_ends_a_running_import_and_reset_makes_the_next_one_start_over(
    database: Path, data_dir: Path
) -> None:
    importing = start("import", database, *OPTIONS, data_dir=data_dir)
    wait_until(lambda: published(data_dir) > 5)
    (consumer,) = [p for p in processes_of(data_dir) if "consumer_main" in " ".join(p.cmdline())]
    with held_up(consumer):
        running = status(data_dir)
        assert running["status"] == "running"
        refused = run("import", database, "--json", data_dir=data_dir)
        assert refused.exit_code == 4
        assert refused.json["progress"]["import_id"] == running["import_id"]
        assert f"process {importing.pid}, " in refused.json["error"]
        refused = run("reset", "--json", data_dir=data_dir)
        assert (refused.exit_code, refused.json["progress"]["status"]) == (4, "running")
        asking = start("stop", "--json", data_dir=data_dir)
        wait_until(lambda: status(data_dir)["status"] == "stopping")
        assert (asking.poll(), importing.poll()) == (None, None)
    stopped = ended(importing)
    assert (stopped.exit_code, stopped.json) == (130, RESUMABLE)
    answer = ended(asking)
    assert (answer.exit_code, answer.json["status"]) == (0, "stopped")
    assert answer.json["stop_requested"]
    assert answer.stderr == f"asked process {importing.pid} to stop after the current batch\n"
    left = status(data_dir)
    assert (left["status"], left["import_id"]) == ("stopped", running["import_id"])
    assert 0 <= left["processed"] < ROWS

    before = query(data_dir, "SELECT id FROM playback_events")
    forgotten = run("reset", "--json", data_dir=data_dir)
    assert forgotten.exit_code == 0, forgotten.stderr
    assert forgotten.json["status"] == "pending"
    assert forgotten.json["forgotten"]["import_id"] == running["import_id"]
    assert forgotten.json["forgotten"]["partitions"] > 5
    assert not list(data_dir.glob("import.*"))
    assert status(data_dir)["status"] == "pending"
    assert query(data_dir, "SELECT id FROM playback_events") == before

    # Events left on the stream are consumed too, and another batch size is allowed now.
    again = imported(database, "--batch-size", 1000, data_dir=data_dir)
    assert again["import_id"] != running["import_id"]
    assert (again["total_records"], again["processed"], again["unchanged"]) == (ROWS, ROWS, 0)
    assert again["imported"] < ROWS
    counts = "SELECT count(*), count(DISTINCT source_row_id) FROM playback_events"
    assert query(data_dir, counts) == [(ROWS, ROWS)]
    widths = "SELECT DISTINCT partition_key[12:]::INT - partition_key[:10]::INT FROM import_ledger"
    of_this = f"{widths} WHERE import_id = ?"
    assert query(data_dir, of_this, again["import_id"]) == [(999,)]


@pytest.mark.slow
def test_terminating_the_run_in_dagster_stops_an_import_of_the_command_line(
    database: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIPELINE_DATA_DIR", "overwritten by `open_instance`")
    data_dir.mkdir()
    with open_instance(data_dir) as instance:
        importing = start("import", database, *OPTIONS, data_dir=data_dir)
        wait_until(lambda: published(data_dir), pause_seconds=0.001)
        (import_run,) = instance.get_runs(dg.RunsFilter(job_name="import_job"))
        assert instance.run_launcher.terminate(import_run.run_id)
        stopped = ended(importing)
        statuses = {one.job_name: one.status.value for one in instance.get_runs()}
    assert (stopped.exit_code, stopped.json) == (130, RESUMABLE)
    assert statuses == {"import_job": "CANCELED"}
    assert status(data_dir)["status"] == "stopped"
    assert imported(database, data_dir=data_dir)["processed"] == ROWS


def test_stop_while_the_source_is_copied_leaves_nothing_behind(
    database: Path, data_dir: Path
) -> None:
    importing = start("import", database, *OPTIONS, data_dir=data_dir)
    wait_until(lambda: list(data_dir.glob("snapshots/snapshot-*/*")), pause_seconds=0.001)
    with held_up(psutil.Process(importing.pid)):
        asking = start("stop", "--json", data_dir=data_dir)
        wait_until(lambda: list(data_dir.glob("import.*.stop")))
        shown = status(data_dir)
    assert (shown["status"], shown["source"]) == ("running", str(database))
    outcome = ended(importing)
    assert (outcome.exit_code, outcome.json) == (130, RESUMABLE)
    assert ended(asking).exit_code == 0
    assert not list(data_dir.glob("snapshots/*"))
    assert not list(data_dir.glob("import.*.stop"))


@pytest.mark.slow
def test_two_data_directories_can_import_at_the_same_time(data_dir: Path) -> None:
    sizes = {data_dir: 2000, data_dir.with_name("second"): 3000}
    both = [start("demo", "--rows", rows, "--json", data_dir=at) for at, rows in sizes.items()]
    for (at, rows), outcome in zip(sizes.items(), map(ended, both), strict=True):
        assert outcome.exit_code == 0, outcome.stderr
        assert outcomes(outcome.json) == {
            "total_records": rows,
            "processed": rows,
            "imported": rows,
        }
        counts = "SELECT count(*), count(DISTINCT source_row_id) FROM playback_events"
        assert query(at / "demo-data", counts) == [(rows, rows)]
        assert nothing_runs(at)


RESET_IN_STEPS = """
import os, sys, signal
from tautulli_pipeline.imports import reset
from tautulli_pipeline.imports.record import ImportLog
from tautulli_pipeline.orchestration.history import forget_history
from tautulli_pipeline.settings import load_settings
step = sys.argv[1]
def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
if step == "receipts":
    reset.shutil.rmtree = die
else:
    ImportLog.remove = die
settings = load_settings()
reset.reset_progress(settings, lambda: forget_history(settings))
"""


@pytest.mark.slow
def test_a_killed_reset_is_completed_by_the_next_one(data_dir: Path) -> None:
    source = data_dir.with_name("small.db")
    make_demo_database(source, 50)
    assert imported(source, data_dir=data_dir)["processed"] == 50
    (data_dir / "receipts" / "left").mkdir(parents=True)
    for step in ("receipts", "record"):
        killed = subprocess.run(
            [sys.executable, "-c", RESET_IN_STEPS, step], env=environment(data_dir), check=False
        )
        assert killed.returncode == -signal.SIGKILL
        assert status(data_dir)["status"] == "completed"
    assert run("reset", "--json", data_dir=data_dir).exit_code == 0
    assert status(data_dir)["status"] == "pending"
    assert not (data_dir / "receipts").exists()
    again = imported(source, data_dir=data_dir)
    assert (again["processed"], again["unchanged"], again["imported"]) == (50, 0, 0)


@pytest.mark.slow
def test_stop_of_one_server_lets_the_import_go_on_with_the_next_one(
    database: Path, data_dir: Path
) -> None:
    data_dir.mkdir()
    small = {"home": 20, "barn": 30}
    for server, rows in small.items():
        plays = [play(n, started=rows * 10**6 + n * 10**4) for n in range(1, rows + 1)]
        make_database(data_dir.with_name(f"{server}.db"), plays=plays)
    sources = {"home": "../home.db", "cabin": str(database), "barn": "../barn.db"}
    (data_dir / "pipeline.toml").write_text(
        "".join(f'[[servers]]\nid = "{one}"\nsource = "{path}"\n' for one, path in sources.items())
    )
    importing = start("import", *OPTIONS, data_dir=data_dir)
    wait_until(lambda: published(data_dir) > 5)
    assert [one["status"] for one in status(data_dir)["servers"]] == [
        *("completed", "running", "pending")
    ]
    (consumer,) = [p for p in processes_of(data_dir) if "consumer_main" in " ".join(p.cmdline())]
    with held_up(consumer):
        other = run("stop", "--server", "barn", data_dir=data_dir)
        assert other.stdout == "no import of barn is running, but one of cabin is\n"
        asking = start("stop", "--server", "cabin", data_dir=data_dir)
        wait_until(lambda: status(data_dir)["servers"][1]["status"] == "stopping")
    ended_import, answer = ended(importing), ended(asking)
    assert "; import again to resume it\n" in answer.stdout
    assert (answer.exit_code, ended_import.exit_code) == (0, 130)
    found = ended_import.json
    assert found["error"] == "cabin: the import was stopped"
    assert [one["status"] for one in found["servers"]] == ["completed", "stopped", "completed"]
    assert (found["servers"][0]["imported"], found["servers"][2]["imported"]) == (20, 30)
    assert run("health", data_dir=data_dir).stderr.startswith(
        "tautulli-pipeline: cabin: the last import was stopped"
    )
    # People see the plays of the others.
    with duckdb.connect(data_dir / "analytics.duckdb", read_only=True) as connection:
        seen = dict(
            connection.execute("SELECT server_id, count(*) FROM plays GROUP BY 1").fetchall()
        )
    assert small.items() <= seen.items()

    resumed = imported("--batch-size", 200, data_dir=data_dir)
    assert resumed["servers"][1]["import_id"] == found["servers"][1]["import_id"]
    assert query(data_dir, "SELECT count(*) FROM playback_events") == [(ROWS + 50,)]
