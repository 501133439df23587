"""Output of the commands, as text and as JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tautulli_pipeline.cli.lines import print_line
from tautulli_pipeline.cli.reporting import (
    print_json,
    print_summary,
    report_unreadable,
    show_status,
)
from tautulli_pipeline.imports.record import ImportLog, ImportRecord, Outcomes, Status
from tautulli_pipeline.settings import Settings

RECORD = ImportRecord(
    import_id="20260101T000000-abcd",
    source="/media/tautulli.db",
    fresh=False,
    status=Status.COMPLETED,
    started_at=datetime(2026, 1, 1, tzinfo=UTC),
    process_id=1,
    total_records=12_345,
    elapsed_seconds=10.0,
    outcomes=Outcomes(imported=12_000, duplicates_stream=300, duplicates_cache=30, rejected=15),
)
WAREHOUSE = Path("/data/playback.duckdb")


@pytest.fixture(autouse=True)
def _narrow(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")


def lines_of(capsys):
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def test_json_is_one_object_on_its_own_line(capsys):
    print_json({"title": "Ærø", "at": datetime(2026, 1, 1), "none": None})
    out = capsys.readouterr().out
    assert json.loads(out) == {"title": "Ærø", "at": "2026-01-01T00:00:00Z", "none": None}
    assert out.endswith("}\n")


@pytest.mark.parametrize("name", ["[red]x[/red]", "[/b]", ":heart:", "7 of 8", "x" * 200])
def test_markup_in_a_line_is_not_interpreted(capsys, name):
    print_line(f"/data/{name}/playback.duckdb")
    assert capsys.readouterr().out == f"/data/{name}/playback.duckdb\n"


def test_a_summary_lists_every_outcome_and_the_warehouse(capsys):
    print_summary(RECORD, WAREHOUSE)
    assert lines_of(capsys) == [
        "imported 12,000",
        "duplicates found by the stream 300",
        "duplicates found by the cache 30",
        "duplicates already in the table 0",
        "rejected (see dead_letters) 15",
        "unreadable 0",
        "plays in this import 12,345",
        "completed after 10.0 s, 1,234 rows/s",
        "/data/playback.duckdb",
    ]


def test_a_summary_includes_unchanged_plays(capsys):
    print_summary(replace(RECORD, unchanged=1_000), WAREHOUSE)
    assert "unchanged since the last import 1,000" in lines_of(capsys)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (Status.RUNNING, "running: 100.0 %, 1,234 rows/s, 0:00 left"),
        (Status.STOPPING, "stopping: 100.0 %, 1,234 rows/s, 0:00 left"),
        (Status.STOPPED, "stopped after 10.0 s, 1,234 rows/s; import again to resume it"),
        (Status.FAILED, "failed after 10.0 s, 1,234 rows/s; import again to resume it"),
    ],
)
def test_the_line_before_the_path_shows_status_and_next_step(capsys, status, expected):
    print_summary(replace(RECORD, status=status), WAREHOUSE)
    assert lines_of(capsys)[-2] == expected


def test_each_damaged_table_has_its_own_line(capsys):
    report_unreadable(())
    assert capsys.readouterr().err == ""
    damage = {"table": "session_history", "rows": 2, "ids": ["4", "9"], "cause": "page 7 is torn"}
    report_unreadable((damage, damage | {"rows": 1, "ids": ["11"]}))
    assert capsys.readouterr().err == (
        "could not read 2 rows of session_history, id 4, 9 (page 7 is torn)\n"
        "could not read 1 row of session_history, id 11 (page 7 is torn)\n"
    )


def test_a_status_without_a_record_explains_the_next_import(capsys, tmp_path):
    settings = Settings(pipeline_data_dir=tmp_path / "data")
    show_status(settings, as_json=False)
    settings.data_dir.mkdir()
    show_status(settings, as_json=False)
    settings.warehouse_path.touch()
    show_status(settings, as_json=False)
    assert lines_of(capsys) == [
        f"nothing has been imported into {settings.data_dir} yet",
        f"nothing has been imported into {settings.data_dir} yet",
        f"no progress is saved in {settings.data_dir}: the next import reads every play",
    ]
    show_status(settings, as_json=True)
    assert json.loads(capsys.readouterr().out)["status"] == "pending"


def test_a_status_comes_from_the_record_without_opening_the_warehouse(capsys, tmp_path):
    settings = Settings(pipeline_data_dir=tmp_path)
    settings.warehouse_path.write_text("not a database")
    ImportLog(tmp_path).write(RECORD)
    show_status(settings, as_json=True)
    assert json.loads(capsys.readouterr().out) == RECORD.summary()
    show_status(settings, as_json=False)
    assert lines_of(capsys)[-1] == str(settings.warehouse_path)
