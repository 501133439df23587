"""`up` with Dagster's real webserver and daemon."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from tautulli_pipeline.demo.database import make_demo_database
from tautulli_pipeline.imports.record import ImportLog
from tautulli_pipeline_tests.command import (
    held_up,
    nothing_runs,
    outcomes,
    processes_of,
    query,
    run,
    wait_until,
)
from tautulli_pipeline_tests.served import PARTITIONS, TERMINATE, Served, free_port, serving
from tautulli_pipeline_tests.serving.sites import Answer, send

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROWS = 20_000
WAITS_SECONDS = 120


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    make_demo_database(folder / "tautulli.db", ROWS)
    with serving(folder / "data", folder / "tautulli.db") as served:
        yield served
    assert served.process.returncode == 130
    assert nothing_runs(folder / "data")


def partitions(served: Served) -> list[str]:
    return list(served.ask(PARTITIONS)["partitionKeys"])


@pytest.mark.slow
def test_a_backfill_of_all_partitions_from_the_ui_fills_the_table(served: Served) -> None:
    # Before the first import, the sensor adds the partitions and starts nothing.
    keys = wait_until(lambda: partitions(served), WAITS_SECONDS, pause_seconds=0.5)
    assert len(keys) == 21
    assert "IMPORT_ENABLED is not true" in served.skip_reasons()["new_history_sensor"]
    assert served.runs() == []

    served.backfill(keys)
    done = wait_until(
        lambda: (s := served.status())["status"] == "completed" and s, WAITS_SECONDS, 1.0
    )
    assert outcomes(done) == {"total_records": ROWS, "processed": ROWS, "imported": ROWS}
    node = served.ask(PARTITIONS)
    assert node["assetPartitionStatuses"] == {
        "materializedPartitions": keys,
        "unmaterializedPartitions": [],
        "failedPartitions": [],
    }
    # Once the import is complete, the sensor starts `consume_job`, which records the table.
    recorded = {"pipelineName": "consume_job", "statuses": ["SUCCESS"]}
    wait_until(lambda: served.runs(**recorded), WAITS_SECONDS, 0.3)
    wait_until(lambda: no_run_is_active(served), WAITS_SECONDS, 0.3)
    counts = "SELECT count(*), count(DISTINCT id), count(DISTINCT source_row_id)"
    assert query(served.data_dir, f"{counts} FROM playback_events") == [(ROWS, ROWS, ROWS)]


@pytest.mark.slow
def test_an_import_stopped_from_the_ui_is_resumed_by_the_command_line(served: Served) -> None:
    run_id = served.launch("import_job", **every_partition(served))
    wait_until(lambda: list(served.data_dir.glob("receipts/*/0*")), pause_seconds=0.001)
    served.ask(TERMINATE, id=run_id)
    assert served.ended(run_id) == "CANCELED"
    stopped = served.status()
    assert stopped["status"] == "stopped"
    resumed = run("import", served.database, "--json", data_dir=served.data_dir)
    assert resumed.exit_code == 0, resumed.stderr
    assert resumed.json["import_id"] == stopped["import_id"]
    assert resumed.json["status"] == "completed"
    wait_until(lambda: no_run_is_active(served), WAITS_SECONDS, 0.3)
    counts = "SELECT count(*), count(DISTINCT source_row_id) FROM playback_events"
    assert query(served.data_dir, counts) == [(ROWS, ROWS)]


def no_run_is_active(served: Served) -> bool:
    return not served.runs(statuses=["STARTED", "QUEUED", "STARTING"])


def every_partition(served: Served) -> dict[str, str]:
    """Return the tags of a run that publishes every partition again."""
    keys = wait_until(lambda: partitions(served), WAITS_SECONDS, pause_seconds=0.5)
    return {
        "dagster/asset_partition_range_start": keys[0],
        "dagster/asset_partition_range_end": keys[-1],
    }


@pytest.mark.slow
def test_other_programs_start_stop_resume_and_reset_an_import_over_http(served: Served) -> None:
    wait_until(lambda: partitions(served), WAITS_SECONDS, pause_seconds=0.5)

    def ask(method: str, path: str, body: str | None = None) -> Answer:
        return send(served.port, method, f"/api/v1/import{path}", body)

    started = ask("POST", "/tautulli", '{"resume": false}')
    assert (started.status, started.json["status"]) == (200, "running")
    with held_up(psutil.Process(ImportLog(served.data_dir).lock.holder().process_id)):
        again = ask("POST", "/tautulli")
        assert (again.status, again.json["progress"]["status"]) == (409, "running")
        assert again.json["progress"]["import_id"] == started.json["import_id"]
        assert ask("DELETE", "/progress").status == 409
        assert ask("GET", "/status").json["status"] == "running"
    stopped = ask("DELETE", "")
    assert (stopped.status, stopped.json["status"]) == (200, "stopped")
    wait_until(lambda: no_run_is_active(served), WAITS_SECONDS, 0.3)
    assert ask("DELETE", "").status == 409
    resumed = ask("POST", "/tautulli")
    assert resumed.status == 200, resumed.text
    assert resumed.json["import_id"] == started.json["import_id"]
    wait_until(lambda: ask("GET", "/status").json["status"] == "completed", WAITS_SECONDS, 0.3)
    # The sensor starts `consume_job`, which records the table.
    recorded = {"pipelineName": "consume_job", "statuses": ["SUCCESS"]}
    wait_until(lambda: served.runs(**recorded), WAITS_SECONDS, 0.3)
    wait_until(lambda: no_run_is_active(served), WAITS_SECONDS, 0.3)
    assert query(served.data_dir, "SELECT count(*) FROM playback_events") == [(ROWS,)]
    reset = ask("DELETE", "/progress")
    assert (reset.status, reset.json["status"]) == (200, "pending")


def test_other_addresses_than_loopback_need_a_password(tmp_path: Path) -> None:
    refused = run("up", "--host", "0.0.0.0", "--port", free_port(), data_dir=tmp_path)
    assert refused.exit_code == 2
    assert "PIPELINE_PASSWORD_FILE and PIPELINE_ALLOWED_HOSTS" in " ".join(refused.stderr.split())


def test_a_data_directory_or_port_in_use_is_reported(served: Served) -> None:
    again = run("up", "--port", free_port(), data_dir=served.data_dir)
    assert (again.exit_code, again.stdout) == (2, "")
    assert again.stderr.startswith(
        f"tautulli-pipeline: another `up` is already serving {served.data_dir} at {served.url}\n"
    )
    elsewhere = served.data_dir.with_name("elsewhere")
    taken = run("up", "--port", served.port, data_dir=elsewhere)
    assert (taken.exit_code, taken.stdout) == (2, "")
    assert taken.stderr.startswith(
        f"tautulli-pipeline: cannot listen on 127.0.0.1:{served.port}: address already in use\n"
    )
    assert not elsewhere.exists()


@pytest.mark.parametrize(
    ("name", "message"), [("none.db", "it does not exist"), ("text.db", "not a SQLite database")]
)
def test_an_unusable_database_is_refused_at_the_start(tmp_path: Path, name: str, message: str):
    (tmp_path / "text.db").write_text("no database" * 100)
    refused = run(
        *("up", "--port", free_port()),
        data_dir=tmp_path / "data",
        IMPORT_DB_PATH=tmp_path / name,
    )
    assert refused.exit_code == 3
    assert f"cannot read '{tmp_path / name}': " in refused.stderr
    assert message in refused.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.slow
def test_a_stop_is_answered_at_once(tmp_path: Path):
    make_demo_database(tmp_path / "tautulli.db", 20)
    with serving(tmp_path / "data", tmp_path / "tautulli.db") as served:
        assert served.process.stderr is not None
        began_at = time.monotonic()
        served.process.send_signal(signal.SIGINT)
        assert served.process.stderr.readline() == "stopping the services\n"
        assert time.monotonic() - began_at < 15
    assert served.process.returncode == 130
    # A code server that was just starting ends by itself.
    wait_until(lambda: nothing_runs(tmp_path / "data"), WAITS_SECONDS, pause_seconds=0.5)


@pytest.mark.slow
def test_a_killed_child_is_restarted(served: Served) -> None:
    module = "tautulli_pipeline.serving.web"
    (webserver,) = [p for p in processes_of(served.data_dir) if module in p.cmdline()]
    webserver.send_signal(signal.SIGKILL)
    assert served.process.stderr is not None
    message = served.process.stderr.readline()
    assert message == "the webserver exited with code -9; restarting it\n"
    wait_until(lambda: answers(served), 60, 0.5)


def answers(served: Served) -> bool:
    try:
        return bool(partitions(served))
    except OSError:
        return False
