"""Who may write the warehouse beside imports and consumers, and what they are told who may not."""

from __future__ import annotations

import duckdb
import pytest

from tautulli_pipeline.data_dir.consumer_lock import consumer_lock, is_consumer_running
from tautulli_pipeline.errors import ConfigurationError, WarehouseError
from tautulli_pipeline.imports.curation import open_for_curation, replay_letters
from tautulli_pipeline.settings import Settings
from tautulli_pipeline_tests.warehouse.plays import rows


@pytest.mark.parametrize("kind", ["duplicate", "dead letter"])
def test_a_missing_warehouse_has_no_such_row_and_is_not_made(data_dir, kind):
    settings = Settings(pipeline_data_dir=data_dir)
    with (
        pytest.raises(ConfigurationError, match=f"there is no {kind} with the id 'abc'"),
        open_for_curation(settings, kind, ["abc", "def"]),
    ):
        pass
    assert not settings.data_dir.exists()


def test_upkeep_is_the_one_consumer_while_it_writes(settings):
    with open_for_curation(settings, "dead letter", []) as connection:
        assert rows(connection, "SELECT count(*) FROM playback_events") == [(0,)]
        assert is_consumer_running(settings.layout)
    assert not is_consumer_running(settings.layout)


def test_upkeep_waits_a_moment_for_a_consumer_that_has_not_opened_the_warehouse_yet(settings):
    with (
        consumer_lock(settings.layout, settings.warehouse_path),
        pytest.raises(WarehouseError, match="another consumer of this data directory"),
        open_for_curation(settings, "dead letter", [], patience_seconds=0.0),
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


def test_all_open_letters_are_tried_where_none_is_named_and_there_may_be_none(warehouse, settings):
    # No source is opened where no row of it is to be read.
    missing = settings.data_dir / "none.db"
    assert replay_letters(warehouse, settings, [], missing) == ()
    with pytest.raises(ConfigurationError, match="there is no dead letter with the id 'abc'"):
        replay_letters(warehouse, settings, ["abc"], missing)
