"""Manual changes to the warehouse, and how they exclude imports and consumers."""

from __future__ import annotations

import duckdb
import pytest

from tautulli_pipeline.data_dir.consumer_lock import consumer_lock, is_consumer_running
from tautulli_pipeline.errors import ConfigurationError, WarehouseError
from tautulli_pipeline.imports import curation
from tautulli_pipeline.imports.curation import open_for_curation, replay_letters
from tautulli_pipeline.settings import Settings
from tautulli_pipeline_tests.warehouse.plays import rows


@pytest.mark.parametrize("kind", ["duplicate", "dead letter"])
def test_a_missing_warehouse_has_no_rows_and_is_not_created(data_dir, kind):
    settings = Settings(pipeline_data_dir=data_dir)
    with (
        pytest.raises(ConfigurationError, match=f"there is no {kind} with the id 'abc'"),
        open_for_curation(settings, kind, ["abc", "def"]),
    ):
        pass
    assert not settings.data_dir.exists()


def test_curation_holds_the_consumer_lock_while_it_writes(settings):
    with open_for_curation(settings, "dead letter", []) as connection:
        assert rows(connection, "SELECT count(*) FROM playback_events") == [(0,)]
        assert is_consumer_running(settings.layout)
    assert not is_consumer_running(settings.layout)


def test_curation_is_refused_while_another_consumer_holds_the_lock(settings, monkeypatch):
    monkeypatch.setattr(curation, "_PATIENCE_SECONDS", 0.0)
    with (
        consumer_lock(settings.layout, settings.warehouse_path),
        pytest.raises(WarehouseError, match="another consumer of this data directory"),
        open_for_curation(settings, "dead letter", []),
    ):
        pass


def test_a_write_that_fails_names_the_warehouse(settings):
    with (
        pytest.raises(WarehouseError) as caught,
        open_for_curation(settings, "dead letter", []),
    ):
        raise duckdb.IOException("no space left on device")
    assert str(settings.warehouse_path) in caught.value.message
    assert not is_consumer_running(settings.layout)


def test_without_ids_all_open_letters_are_replayed_even_if_there_are_none(warehouse, settings):
    # The source is not opened if no row has to be read from it.
    missing = settings.data_dir / "none.db"
    assert replay_letters(warehouse, settings, [], missing) == ()
    with pytest.raises(ConfigurationError, match="there is no dead letter with the id 'abc'"):
        replay_letters(warehouse, settings, ["abc"], missing)
