"""A full disk at each place that writes: one clear message, nothing lost, resumable.

The tests lower the kernel's file size limit of the running process. Writes beyond the limit
fail as on a full disk.
"""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

import psutil
import pytest

from tautulli_pipeline_tests.command import (
    ended,
    imported,
    nothing_runs,
    outcomes,
    query,
    run,
    start,
    wait_until,
)
from tautulli_pipeline_tests.recovery.conftest import published

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

pytestmark = pytest.mark.slow

ROWS = 2500
DATA_DIRECTORY = (2, "cannot write to the data directory {data}: ")
COPY = (2, "cannot copy '{database}' to '{data}/snapshots': ")
WAREHOUSE = (6, "cannot write the warehouse {data}/playback.duckdb: ")


def importer(process: subprocess.Popen[str]) -> int:
    return process.pid


def consumer(process: subprocess.Popen[str]) -> int:
    children = psutil.Process(process.pid).children()
    return next(child.pid for child in children if "consumer_main" in " ".join(child.cmdline()))


def at_once(_data_dir: Path) -> bool:
    return True


def once_it_publishes(data_dir: Path) -> bool:
    return published(data_dir) > 0


@pytest.mark.parametrize(
    ("limited_process", "when", "limit_bytes", "expected"),
    [
        pytest.param(importer, at_once, 0, DATA_DIRECTORY, id="lock and claim"),
        pytest.param(importer, at_once, 100_000, COPY, id="copy of the source"),
        pytest.param(importer, once_it_publishes, 0, DATA_DIRECTORY, id="receipts and runs"),
        pytest.param(consumer, once_it_publishes, 6_000_000, WAREHOUSE, id="warehouse and its log"),
    ],
)
def test_a_full_disk_is_one_message_and_the_import_resumes(
    *, limited_process, when, limit_bytes, expected, database: Path, data_dir: Path
) -> None:
    # Coverage data could not be written either.
    unmeasured = {"COVERAGE_PROCESS_START": "", "COVERAGE_PROCESS_CONFIG": ""}
    options = ("--json", "--batch-size", 200)
    process = start("import", database, *options, data_dir=data_dir, **unmeasured)
    wait_until(lambda: when(data_dir), pause_seconds=0.001)
    limits = (limit_bytes, limit_bytes)
    resource.prlimit(limited_process(process), resource.RLIMIT_FSIZE, limits)
    outcome = ended(process)
    exit_code, message = expected
    assert outcome.exit_code == exit_code, outcome
    assert outcome.json["error"].startswith(message.format(data=data_dir, database=database))
    assert outcome.json["hint"]
    assert "Traceback" not in outcome.stderr
    assert "sqlalche" not in outcome.stderr
    assert nothing_runs(data_dir)
    assert not list(data_dir.glob("snapshots/*"))

    if when is at_once:
        assert not data_dir.exists()
        return
    began = run("status", "--json", data_dir=data_dir).json
    summary = imported(database, data_dir=data_dir)
    assert (began["status"], began["import_id"]) == ("failed", summary["import_id"])
    assert outcomes(summary) == {"total_records": ROWS, "processed": ROWS, "imported": ROWS}
    counts = "SELECT count(*), count(DISTINCT source_row_id) FROM playback_events"
    assert query(data_dir, counts) == [(ROWS, ROWS)]
