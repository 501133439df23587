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
from tautulli_pipeline_tests.analytics.warehouses import store

if TYPE_CHECKING:
    from pathlib import Path

RESOURCES = {"building": building, "charting": charting, "analytics": analytics_file}


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
    return dg.materialize([analytics, analytics_checks], instance=instance, resources=RESOURCES)


def test_a_run_records_each_table_with_its_rows_its_check_and_charts(folder, instance):
    result = materialized(instance)
    rows = {
        event.asset_key: event.materialization.metadata
        for event in result.get_asset_materialization_events()
    }
    assert rows.keys() == {*ANALYTICS_KEYS}
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


def test_every_asset_is_described_and_has_its_columns():
    for table, spec in zip(TABLES, analytics.specs, strict=True):
        assert spec.description is not None
        assert spec.description.startswith(table.description)
        columns = spec.metadata["dagster/column_schema"].columns
        assert [column.name for column in columns] == [*table.columns]
        assert all(column.description for column in columns)
