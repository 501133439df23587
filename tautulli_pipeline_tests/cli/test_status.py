"""The `status` command, and the summary of an import."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tautulli_pipeline.cli.status import print_summary, show_status
from tautulli_pipeline.imports.record import ImportLog, ImportRecord, Outcomes, Status
from tautulli_pipeline.settings import Settings

RECORD = ImportRecord(
    import_id="20260101T000000-abcd",
    source="/media/tautulli.db",
    server_id="home",
    fresh=False,
    status=Status.COMPLETED,
    started_at=datetime(2026, 1, 1, tzinfo=UTC),
    ended_at=datetime(2026, 1, 1, 0, 0, 10, 999, tzinfo=UTC),
    process_id=1,
    total_records=12_345,
    elapsed_seconds=10.0,
    outcomes=Outcomes(
        imported=12_000, duplicates_stream=300, duplicates_cache=30, rejected=15, logged=30
    ),
)
WAREHOUSE = Path("/data/playback.duckdb")
TABLE = "the plays are in the table playback_events of /data/playback.duckdb"
NOTHING = Outcomes()


@pytest.fixture(autouse=True)
def _narrow(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")


def lines_of(capsys):
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def test_a_summary_says_what_happened_and_lists_outcomes_that_are_not_zero(capsys):
    print_summary(RECORD, WAREHOUSE)
    assert lines_of(capsys) == [
        "imported 12,000 plays from /media/tautulli.db in 10.0 s (1,234 plays/s)",
        "imported 12,000",
        "duplicates found by the stream 300",
        "duplicates found by the cache 30",
        "rejected 15",
        "plays in this import 12,345",
        "list the duplicates with `tautulli-pipeline duplicates list`",
        "list the rejected plays with `tautulli-pipeline dead-letters list`",
        TABLE,
    ]


def test_a_summary_of_exact_repeats_does_not_point_to_the_audit_log(capsys):
    print_summary(replace(RECORD, outcomes=Outcomes(duplicates_database=12_345)), WAREHOUSE)
    assert not [line for line in lines_of(capsys) if "duplicates list" in line]


def test_a_summary_of_an_import_without_surprises_has_no_counts(capsys):
    print_summary(replace(RECORD, outcomes=Outcomes(imported=12_345)), WAREHOUSE)
    assert lines_of(capsys) == [
        "imported 12,345 plays from /media/tautulli.db in 10.0 s (1,234 plays/s)",
        TABLE,
    ]


def test_a_summary_includes_plays_outside_the_import(capsys):
    print_summary(replace(RECORD, unchanged=1_000, pending=7), WAREHOUSE)
    lines = lines_of(capsys)
    assert "unchanged since an earlier import 1,000" in lines
    assert "not imported yet 7" in lines


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"total_records": 1, "outcomes": Outcomes(imported=1)},
            "imported 1 play from /media/tautulli.db in 10.0 s (0 plays/s)",
        ),
        (
            {"total_records": 5, "outcomes": Outcomes(duplicates_database=5)},
            "no new plays among 5 plays of /media/tautulli.db (10.0 s)",
        ),
        (
            {"total_records": 5, "outcomes": Outcomes(duplicates_database=5, revised=1)},
            "corrected 1 play of /media/tautulli.db in 10.0 s; there are no new ones",
        ),
        (
            {"total_records": 9, "outcomes": Outcomes(imported=4, duplicates_cache=5, revised=2)},
            "imported 4 plays, corrected 2 from /media/tautulli.db in 10.0 s (1 plays/s)",
        ),
        (
            {"total_records": 0, "outcomes": NOTHING, "unchanged": 300},
            "nothing new: 300 plays of /media/tautulli.db are unchanged",
        ),
        (
            {"total_records": 0, "outcomes": NOTHING},
            "there are no plays in /media/tautulli.db",
        ),
        ({"status": Status.RUNNING}, "running: 100.0 %, 1,234 plays/s, 0:00 left"),
        ({"status": Status.STOPPING}, "stopping: 100.0 %, 1,234 plays/s, 0:00 left"),
        (
            {"status": Status.STOPPED, "outcomes": Outcomes(imported=45)},
            "the import stopped after 10.0 s; 45 of 12,345 plays are done; "
            "import again to resume it",
        ),
        (
            {"status": Status.FAILED, "outcomes": NOTHING, "error": "the disk is full"},
            "the import failed after 10.0 s; 0 of 12,345 plays are done; "
            "import again to resume it (the disk is full)",
        ),
    ],
)
def test_the_first_line_says_what_happened(capsys, changes, expected):
    print_summary(replace(RECORD, **changes), WAREHOUSE)
    assert lines_of(capsys)[0] == expected


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
    assert lines_of(capsys)[:6] == [
        "status completed",
        "database /media/tautulli.db",
        "server home",
        "started 2026-01-01 00:00:00 UTC",
        "ended 2026-01-01 00:00:10 UTC",
        "imported 12,000 plays from /media/tautulli.db in 10.0 s (1,234 plays/s)",
    ]
