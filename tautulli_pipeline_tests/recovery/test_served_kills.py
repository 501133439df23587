"""SIGKILL of the run worker, the daemon, the command line and `up`, while `up` serves."""

from __future__ import annotations

import os
import random
import signal
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import dagster as dg
import psutil
import pytest

from tautulli_pipeline.demo.database import make_demo_database
from tautulli_pipeline.orchestration.instance import open_instance
from tautulli_pipeline_tests.command import (
    ended,
    imported,
    nothing_runs,
    outcomes,
    processes_of,
    query,
    run,
    start,
    wait_until,
)
from tautulli_pipeline_tests.recovery.conftest import publications, published
from tautulli_pipeline_tests.served import Served, serving

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

ROWS = 60_000
BATCH = 400
WAITS_SECONDS = 120


def daemon_of(served: Served) -> psutil.Process:
    words = "dagster._daemon run"
    return next(p for p in processes_of(served.data_dir) if words in " ".join(p.cmdline()))


def running_since_before(data_dir: Path, moment: datetime) -> list[str]:
    """Return the runs that were created before `moment` and count as running."""
    statuses = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
    wanted = dg.RunsFilter(statuses=statuses, created_before=moment)
    with open_instance(data_dir) as instance:
        return [run.run_id for run in instance.get_runs(wanted)]


@pytest.fixture
def chance() -> random.Random:
    """Random moments that differ in each test run; a failure shows the seed to repeat them."""
    seed = int(os.environ.get("KILLS_SEED", time.time_ns()))
    print(f"KILLS_SEED={seed}")  # noqa: T201 - pytest shows it with a failure
    return random.Random(seed)


@pytest.mark.timeout(600)
def test_killing_worker_daemon_and_up_stores_every_row_once_and_blocks_no_import(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chance: random.Random
) -> None:
    monkeypatch.setenv("PIPELINE_DATA_DIR", "overwritten by `open_instance`")
    database = tmp_path / "tautulli.db"
    make_demo_database(database, ROWS)

    def at_a_random_moment(least: int, most: int) -> None:
        wanted = chance.randint(least, most)
        wait_until(lambda: published(data_dir) >= wanted, WAITS_SECONDS, 0.002)

    with serving(data_dir, database, IMPORT_BATCH_SIZE=BATCH) as served:
        by_hand = start("import", database, "--batch-size", BATCH, data_dir=data_dir)
        at_a_random_moment(1, 30)
        os.killpg(by_hand.pid, signal.SIGKILL)
        assert ended(by_hand).exit_code == -signal.SIGKILL
        began = served.status()
        assert began["status"] == "failed"

        run_id = served.launch("import_job")  # while the dead runs still count as running
        worker = served.worker(run_id)
        at_a_random_moment(35, 70)
        worker.kill()
        retried = wait_until(
            lambda: [r for r in served.runs() if r["parentRunId"] == run_id], WAITS_SECONDS, 0.3
        )
        assert served.ended(run_id) == "FAILURE"
        at_a_random_moment(75, 140)
        daemon_of(served).kill()
        assert served.ended(retried[0]["runId"], WAITS_SECONDS) == "SUCCESS"
        done = wait_until(
            lambda: (s := served.status())["status"] == "completed" and s, WAITS_SECONDS, 0.5
        )
        assert done["import_id"] == began["import_id"]
        assert outcomes(done) == {"total_records": ROWS, "processed": ROWS, "imported": ROWS}
        wait_until(lambda: not served.runs(statuses=["STARTED", "QUEUED", "STARTING"]))
        again = imported(database, data_dir=data_dir)
        assert (again["unchanged"], again["total_records"]) == (ROWS, 0)
        served.process.kill()  # the next `up` ends its children

    counts = "SELECT count(*), count(DISTINCT id), count(DISTINCT source_row_id)"
    assert query(data_dir, f"{counts} FROM playback_events") == [(ROWS, ROWS, ROWS)]
    assert set(publications(data_dir).values()) == {1}
    began_at = datetime.now(UTC)
    with serving(data_dir, database) as served:
        assert running_since_before(data_dir, began_at) == []
        # Dagster may retry runs of the killed `up`; none keeps counting as running.
        wait_until(lambda: not served.runs(statuses=["STARTED", "QUEUED", "CANCELING"]))
    assert nothing_runs(data_dir)
    assert run("status", "--json", data_dir=data_dir).json["status"] == "completed"


@pytest.mark.timeout(300)
def test_an_import_under_up_survives_a_kill_of_the_guardian(data_dir: Path, tmp_path: Path) -> None:
    database = tmp_path / "tautulli.db"
    make_demo_database(database, ROWS // 4)
    with serving(data_dir, database, IMPORT_BATCH_SIZE=BATCH) as served:
        run_id = served.launch("import_job")
        wait_until(lambda: published(data_dir) >= 10, WAITS_SECONDS)
        words = "tautulli_pipeline.stream.guardian"
        (guardian,) = (p for p in processes_of(data_dir) if words in p.cmdline())
        guardian.kill()
        before = published(data_dir)
        wait_until(lambda: published(data_dir) > before, 15)
        assert served.ended(run_id, WAITS_SECONDS) == "SUCCESS"
    assert query(data_dir, "SELECT count(*) FROM playback_events") == [(ROWS // 4,)]
    assert nothing_runs(data_dir)
