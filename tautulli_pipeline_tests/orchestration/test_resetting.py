"""Forgetting how far imports have come, in one Dagster instance."""

from __future__ import annotations

import dagster as dg
import pytest

from tautulli_pipeline.errors import ImportRunningError
from tautulli_pipeline.imports.record import ImportLog, ImportRecord
from tautulli_pipeline.orchestration.column_schemas import STREAM_KEY
from tautulli_pipeline.orchestration.instance import has_storage, open_instance
from tautulli_pipeline.orchestration.partitions import (
    DATA_VERSION,
    finished_partitions,
    known_grid,
    show_partitions,
)
from tautulli_pipeline.orchestration.resetting import Forgotten, reset_progress
from tautulli_pipeline.orchestration.services import consumer_lock, data_paths
from tautulli_pipeline.settings import Settings
from tautulli_pipeline.source.partitions import Grid

KEYS = [Grid(10).key_of(1), Grid(10).key_of(11)]


def record_of(settings):
    return ImportRecord.begin(settings.data_dir / "tautulli.db", fresh=False)


def leave_receipts(settings, *names):
    for name in names:
        file = data_paths(settings).receipts / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


def test_where_nothing_was_begun_there_is_nothing_to_forget(settings, tmp_path):
    missing = Settings(pipeline_data_dir=tmp_path / "none")
    assert reset_progress(settings) is None
    assert reset_progress(missing) is None
    assert list(tmp_path.iterdir()) == []


def test_a_reset_forgets_record_receipts_and_ranges_and_keeps_the_rest(settings, log):
    record = record_of(settings)
    log.write(record)
    leave_receipts(settings, "import-1/a", "import-1/b", "import-2/a")
    settings.warehouse_path.write_text("the table")
    with open_instance(settings.data_dir) as instance:
        show_partitions(instance, KEYS)
        instance.report_runless_asset_event(
            dg.AssetMaterialization(STREAM_KEY, partition=KEYS[0], tags={DATA_VERSION: "i:p:d"})
        )
    assert reset_progress(settings) == Forgotten(record.import_id, partitions=2, receipts=3)
    assert not log.exists()
    assert not data_paths(settings).receipts.exists()
    with open_instance(settings.data_dir) as instance:
        assert finished_partitions(instance) == {}
        assert known_grid(instance) is None
    assert settings.warehouse_path.read_text() == "the table"
    assert reset_progress(settings) is None


def test_a_record_that_cannot_be_read_is_one_more_reason(settings, log):
    (settings.data_dir / "import.json").write_text("{")
    assert reset_progress(settings) == Forgotten(None, 0, 0)
    assert not log.exists()
    assert not has_storage(settings.data_dir)


def test_receipts_without_a_record_are_what_a_reset_cut_short_left(settings):
    leave_receipts(settings, "import-1/a")
    assert reset_progress(settings) == Forgotten(None, 0, 1)
    assert not data_paths(settings).receipts.exists()


def test_what_an_import_is_at_work_with_is_not_forgotten(settings, log):
    leave_receipts(settings, "import-1/a")
    with ImportLog(settings.data_dir).exclusive(settings.data_dir / "tautulli.db"):
        log.write(record_of(settings))
        with pytest.raises(ImportRunningError) as caught:
            reset_progress(settings)
    assert "is already running" in caught.value.message
    assert caught.value.progress["status"] == "pending"
    assert log.exists()
    assert data_paths(settings).receipts.exists()


@pytest.mark.parametrize("recorded", ["a record", "a damaged one", "none"])
def test_a_consumer_that_goes_on_is_told_with_how_far_it_is(settings, log, recorded):
    leave_receipts(settings, "import-1/a")
    if recorded == "a record":
        log.write(record_of(settings))
    elif recorded == "a damaged one":
        (settings.data_dir / "import.json").write_text("{")
    with consumer_lock(settings), pytest.raises(ImportRunningError) as caught:
        reset_progress(settings, patience_seconds=0)
    assert caught.value.message == (
        f"cannot reset {settings.data_dir}: a consumer is bringing the stream into the table"
    )
    assert bool(caught.value.progress) == (recorded == "a record")
    assert caught.value.exit_code == 4
    assert data_paths(settings).receipts.exists()
    assert log.lock.holder() is None
