"""Resetting the import progress of a data directory."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import dagster as dg
import pytest

from tautulli_pipeline.data_dir.consumer_lock import consumer_lock
from tautulli_pipeline.errors import ImportRunningError
from tautulli_pipeline.imports import reset as reset_module
from tautulli_pipeline.imports.record import ImportLog, ImportRecord, Status
from tautulli_pipeline.imports.reset import Forgotten, reset_progress
from tautulli_pipeline.orchestration.history import (
    DATA_VERSION,
    DagsterHistory,
    forget_history,
)
from tautulli_pipeline.orchestration.instance import open_instance
from tautulli_pipeline.orchestration.names import ONLY
from tautulli_pipeline.settings import Settings
from tautulli_pipeline.source.partitions import Grid

KEYS = [Grid(10).partition_of(1).key, Grid(10).partition_of(11).key]


def reset(settings):
    return reset_progress(settings, partial(forget_history, settings))


def record_of(settings):
    return ImportRecord.begin(settings.data_dir / "tautulli.db", "default", fresh=False)


def leave_receipts(settings, *names):
    for name in names:
        file = settings.layout.receipts / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


def test_reset_without_an_import_does_nothing(settings, tmp_path):
    missing = Settings(pipeline_data_dir=tmp_path / "none")
    assert reset(settings) is None
    assert reset(missing) is None
    assert list(tmp_path.iterdir()) == []


def test_reset_deletes_record_receipts_and_ranges_and_keeps_the_table(settings, log):
    record = record_of(settings)
    log.write(record)
    leave_receipts(settings, "import-1/a", "import-1/b", "import-2/a")
    settings.warehouse_path.write_text("the table")
    with open_instance(settings.data_dir) as instance:
        DagsterHistory(instance).show(KEYS)
        instance.report_runless_asset_event(
            dg.AssetMaterialization(
                ONLY.stream_key, partition=KEYS[0], tags={DATA_VERSION: "i:p:d"}
            )
        )
    assert reset(settings) == Forgotten(record.import_id, partitions=2, receipts=3)
    assert not settings.layout.import_record.exists()
    assert not settings.layout.receipts.exists()
    with open_instance(settings.data_dir) as instance:
        assert DagsterHistory(instance).finished() == {}
        assert DagsterHistory(instance).grid() is None
    assert settings.warehouse_path.read_text() == "the table"
    assert reset(settings) is None


def test_reset_deletes_an_unreadable_record(settings, log):
    (settings.data_dir / "import.json").write_text("{")
    assert reset(settings) == Forgotten(None, 0, 0)
    assert not settings.layout.import_record.exists()
    assert not settings.layout.run_history.exists()


def test_an_interrupted_reset_is_completed(settings):
    leave_receipts(settings, "import-1/a")
    assert reset(settings) == Forgotten(None, 0, 1)
    assert not settings.layout.receipts.exists()


def test_reset_is_refused_while_an_import_runs(settings, log):
    leave_receipts(settings, "import-1/a")
    with ImportLog(settings.data_dir).exclusive(settings.data_dir / "tautulli.db"):
        log.write(replace(record_of(settings), status=Status.RUNNING))
        with pytest.raises(ImportRunningError) as caught:
            reset(settings)
    assert "is already running" in caught.value.message
    assert caught.value.progress["status"] == "running"
    assert settings.layout.import_record.exists()
    assert settings.layout.receipts.exists()


@pytest.mark.parametrize("recorded", ["valid record", "damaged record", "no record"])
def test_reset_is_refused_while_a_consumer_runs(settings, log, recorded, monkeypatch):
    monkeypatch.setattr(reset_module, "consumer_lock", partial(consumer_lock, patience_seconds=0))
    leave_receipts(settings, "import-1/a")
    if recorded == "valid record":
        log.write(record_of(settings))
    elif recorded == "damaged record":
        (settings.data_dir / "import.json").write_text("{")
    with (
        consumer_lock(settings.layout, settings.warehouse_path),
        pytest.raises(ImportRunningError) as caught,
    ):
        reset(settings)
    assert caught.value.message == (
        f"cannot reset {settings.data_dir}: a consumer is writing the stream to the table"
    )
    assert bool(caught.value.progress) == (recorded == "valid record")
    assert caught.value.exit_code == 4
    assert settings.layout.receipts.exists()
    assert log.lock.holder() is None
