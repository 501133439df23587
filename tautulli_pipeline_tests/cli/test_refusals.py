"""Message and exit code of a command that cannot run."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tautulli_pipeline.demo.database import make_demo_database
from tautulli_pipeline_tests.command import (
    ended,
    imported,
    nothing_runs,
    run,
    start,
    wait_until,
)

if TYPE_CHECKING:
    from pathlib import Path

HOLD = """
import sys, time, duckdb
connection = duckdb.connect(sys.argv[1])
print("held", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["import", "--no-such-option", "any.db"], "--no-such-option"),
        (["import"], "no database given"),
        (["import", "any.db", "--batch-size", "0"], "--batch-size"),
        (["no-such-command"], "no-such-command"),
        ([], "Usage:"),
    ],
)
def test_wrong_usage_is_refused(arguments: list[str], words: str, data_dir: Path) -> None:
    outcome = run(*arguments, data_dir=data_dir)
    assert (outcome.exit_code, outcome.stdout) == (2, "")
    assert words in outcome.stderr
    assert not data_dir.exists()


def test_a_file_instead_of_the_data_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    outcome = run("demo", "--rows", 5, data_dir=tmp_path / "data")
    assert outcome.exit_code == 2
    assert "PIPELINE_DATA_DIR" in outcome.stderr


def test_an_unreachable_stream_is_reported_within_seconds(data_dir: Path) -> None:
    make_demo_database(data_dir.with_name("tautulli.db"), 20)
    began_at = time.monotonic()
    outcome = run(
        "import",
        data_dir.with_name("tautulli.db"),
        data_dir=data_dir,
        NATS_URL="nats://127.0.0.1:1",
    )
    assert time.monotonic() - began_at < 60
    assert outcome.exit_code == 5
    assert "nats://127.0.0.1:1" in outcome.stderr
    assert len(outcome.stderr.splitlines()) == 2
    assert nothing_runs(data_dir)


def test_a_warehouse_in_use_is_reported_and_the_import_can_be_resumed(
    data_dir: Path,
) -> None:
    database = data_dir.with_name("tautulli.db")
    make_demo_database(database, 20)
    data_dir.mkdir()
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, data_dir / "playback.duckdb"], stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    try:
        outcome = run("import", database, "--json", "--wait", 0, data_dir=data_dir)
    finally:
        holder.kill()
        holder.communicate()
    assert outcome.exit_code == 6
    assert f"process {holder.pid} " in outcome.json["error"]
    failed = run("status", "--json", data_dir=data_dir).json
    assert (failed["status"], failed["processed"]) == ("failed", 0)
    resumed = imported(database, data_dir=data_dir)
    assert (resumed["import_id"], resumed["imported"]) == (failed["import_id"], 20)


def test_a_second_import_is_refused_with_the_progress_of_the_first(data_dir: Path) -> None:
    database = data_dir.with_name("tautulli.db")
    make_demo_database(database, 20)
    first = start("import", database, "--json", data_dir=data_dir)
    wait_until((data_dir / "import.json").exists)
    second = run("import", database, "--json", data_dir=data_dir)
    assert second.exit_code == 4
    assert f"process {first.pid}, " in second.json["error"]
    assert " plays)" in second.json["error"]
    assert json.loads(ended(first).stdout)["imported"] == 20
