"""The `health` command: one line, an exit code, and neither Dagster nor the warehouse."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tautulli_pipeline.demo.database import make_demo_database
from tautulli_pipeline.imports.record import ImportLog
from tautulli_pipeline_tests.command import environment, imported, run, run_process
from tautulli_pipeline_tests.holding import held_by_another_process

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def source(data_dir: Path) -> Path:
    path = data_dir.with_name("tautulli.db")
    make_demo_database(path, 20)
    return path


def test_without_an_import_it_fails_and_creates_nothing(data_dir: Path) -> None:
    outcome = run("health", data_dir=data_dir)
    assert (outcome.exit_code, outcome.stdout) == (1, "")
    reason, hint = outcome.stderr.splitlines()
    assert reason == f"tautulli-pipeline: no import into {data_dir} has completed yet"
    assert hint.startswith("  ")
    outcome = run("health", "--json", data_dir=data_dir)
    assert (outcome.exit_code, set(outcome.json)) == (1, {"error", "hint"})
    assert not data_dir.exists()


def test_a_dry_run_is_no_import(source: Path, data_dir: Path) -> None:
    assert run("import", source, "--dry-run", data_dir=data_dir).exit_code == 0
    assert run("health", data_dir=data_dir).exit_code == 1
    imported(source, data_dir=data_dir)
    completed_at = run("health", "--json", data_dir=data_dir).json["last_completed_at"]
    assert run("import", source, "--dry-run", data_dir=data_dir).exit_code == 0
    assert run("health", "--json", data_dir=data_dir).json["last_completed_at"] == completed_at


def test_it_follows_the_imports_and_needs_no_warehouse(source: Path, data_dir: Path) -> None:
    imported(source, data_dir=data_dir)
    with held_by_another_process(data_dir / "playback.duckdb"):
        outcome = run("health", "--max-age", 1, "--json", data_dir=data_dir)
    assert outcome.exit_code == 0
    assert outcome.json["healthy"] is True
    ago = datetime.now(UTC) - datetime.fromisoformat(outcome.json["last_completed_at"])
    assert timedelta() <= ago < timedelta(minutes=5)
    said = run("health", data_dir=data_dir)
    completed_at = datetime.fromisoformat(outcome.json["last_completed_at"])
    assert said.stdout == f"the last import completed at {completed_at:%Y-%m-%d %H:%M:%S} UTC\n"

    content = source.read_bytes()
    source.write_bytes(b"nothing" * 100)
    assert run("import", source, data_dir=data_dir).exit_code == 3
    failed = run("health", data_dir=data_dir)
    assert failed.exit_code == 1
    assert f"the last import failed: cannot read {str(source)!r}: it is not" in failed.stderr
    assert run("status", "--json", data_dir=data_dir).json["status"] == "completed"

    source.write_bytes(content)
    imported(source, data_dir=data_dir)
    assert run("health", data_dir=data_dir).exit_code == 0
    old = run("health", "--max-age", 0, data_dir=data_dir)
    assert old.exit_code == 1
    assert old.stderr.startswith("tautulli-pipeline: the last import completed 0.0 hours ago, at ")


@pytest.mark.parametrize("hours", ["-1", "day"])
def test_an_impossible_age_is_refused(hours: str, data_dir: Path) -> None:
    assert run("health", "--max-age", hours, data_dir=data_dir).exit_code == 2


def test_it_takes_a_fraction_of_a_second(source: Path, data_dir: Path) -> None:
    imported(source, data_dir=data_dir)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert run_process("health", data_dir=data_dir).exit_code == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert seconds < 0.6  # 0.2 s, and more while the machine is busy


def test_it_loads_neither_dagster_nor_duckdb(source: Path, data_dir: Path) -> None:
    imported(source, data_dir=data_dir)
    assert ImportLog(data_dir).read() is not None
    code = (
        "import json, sys\n"
        "from tautulli_pipeline.cli.app import application\n"
        "application(['health'], standalone_mode=False)\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(data_dir), check=True, capture_output=True
    )
    loaded = json.loads(done.stdout.splitlines()[-1])
    assert not {"dagster", "duckdb", "pyarrow", "nats", "sqlite3", "pydantic_settings"} & {*loaded}
