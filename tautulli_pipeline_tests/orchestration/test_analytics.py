"""The assets of the statistics: what a run records, and when it builds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
import pytest

from tautulli_pipeline.analytics.catalog import TABLES
from tautulli_pipeline.orchestration.analytics import (
    ANALYTICS_KEYS,
    analytics,
    analytics_checks,
    analytics_file,
    building,
    charting,
)
from tautulli_pipeline.orchestration.report import REPORT_KEY, reporting
from tautulli_pipeline_tests.analytics.warehouses import store
from tautulli_pipeline_tests.cases import make_database

if TYPE_CHECKING:
    from pathlib import Path

RESOURCES = {
    "building": building,
    "charting": charting,
    "analytics": analytics_file,
    "reporting": reporting,
}


@pytest.fixture
def folder(database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory with a warehouse of two plays, which the environment names."""
    folder = tmp_path / "data"
    folder.mkdir()
    store(database, folder)
    monkeypatch.setenv("PIPELINE_DATA_DIR", str(folder))
    monkeypatch.setenv("PIPELINE_TIMEZONE", "Europe/Berlin")
    return folder


def materialized(instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    assets = [analytics, analytics_checks]
    return dg.materialize(assets, instance=instance, resources=RESOURCES)


def test_a_run_records_each_table_with_rows_check_and_chart_and_writes_the_report(folder, instance):
    result = materialized(instance)
    rows = {
        event.asset_key: event.materialization.metadata
        for event in result.get_asset_materialization_events()
    }
    assert rows.keys() == {*ANALYTICS_KEYS, REPORT_KEY}
    file = folder / "report.html"
    assert rows[REPORT_KEY]["plays"].value == 2
    assert rows[REPORT_KEY]["file"].value == str(file)
    assert rows[REPORT_KEY]["page"].value == "/report"
    assert "2 plays on 15 Nov 2023" in file.read_text()
    plays = rows[dg.AssetKey(["analytics", "plays"])]
    assert plays["dagster/row_count"].value == 2
    assert plays["chart"].value.startswith("![plays](data:image/png;base64,")
    checks = result.get_asset_check_evaluations()
    assert {(check.asset_key, check.passed) for check in checks} == {
        (key, True) for key in ANALYTICS_KEYS
    }


def test_a_run_builds_nothing_if_nothing_has_changed(folder, instance):
    assert materialized(instance).get_asset_materialization_events()
    again = materialized(instance)
    assert again.success
    assert again.get_asset_materialization_events() == []
    (folder / "report.html").unlink()  # as after an import from the command line
    (written,) = materialized(instance).get_asset_materialization_events()
    assert written.asset_key == REPORT_KEY


@pytest.fixture
def empty_database(tmp_path: Path) -> Path:
    """A database without plays."""
    make_database(tmp_path / "empty.db")
    return tmp_path / "empty.db"


def test_without_plays_there_is_no_report_and_no_failure(folder, instance, empty_database):
    (folder / "playback.duckdb").unlink()
    store(empty_database, folder)
    result = materialized(instance)
    assert result.success
    assert REPORT_KEY not in {
        event.asset_key for event in result.get_asset_materialization_events()
    }
    assert not (folder / "report.html").exists()


def test_every_asset_is_described_and_has_its_columns():
    specs = {spec.key: spec for spec in analytics.specs}
    assert specs.keys() == {*ANALYTICS_KEYS, REPORT_KEY}
    for table, key in zip(TABLES, ANALYTICS_KEYS, strict=True):
        spec = specs[key]
        assert spec.description is not None
        assert spec.description.startswith(table.description)
        columns = spec.metadata["dagster/column_schema"].columns
        assert [column.name for column in columns] == [*table.columns]
        assert all(column.description for column in columns)
