"""What Dagster's storage says about wiped assets."""

from __future__ import annotations

import dagster as dg

from tautulli_pipeline.data_dir.layout import DataDir
from tautulli_pipeline.imports.wiped_assets import wiped_assets
from tautulli_pipeline.orchestration.instance import open_instance


def state_of(folder):
    """Return the size and the time of the last write of each file, but of SQLite's locks."""
    found = {path.name: path.stat() for path in folder.glob("*") if not path.name.endswith("-shm")}
    return {name: (one.st_size, one.st_mtime_ns) for name, one in found.items()}


def test_a_wipe_is_seen_with_and_without_a_log_and_reading_changes_no_file(tmp_path):
    index, key = DataDir(tmp_path).history_index, dg.AssetKey(["cabin", "playback_stream"])

    def wiped():
        before = state_of(index.parent)
        found = wiped_assets(index)
        assert state_of(index.parent) == before
        return found

    assert wiped() == []
    with open_instance(tmp_path) as instance:
        instance.report_runless_asset_event(dg.AssetMaterialization(key, partition="1"))
        assert wiped() == []
        instance.wipe_assets([key])
        ((name, first),) = during = wiped()
    assert name == key.to_string()
    assert wiped() == during
    with open_instance(tmp_path) as instance:
        instance.report_runless_asset_event(dg.AssetMaterialization(key, partition="1"))
        instance.wipe_assets([key])
    ((_, second),) = wiped()
    assert second != first
