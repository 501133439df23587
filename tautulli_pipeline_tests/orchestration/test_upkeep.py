"""Who may write the warehouse beside imports and consumers, and what they are told who may not."""

from __future__ import annotations

import duckdb
import pytest

from tautulli_pipeline.data_dir.consumer_lock import consumer_lock, is_consumer_running
from tautulli_pipeline.errors import ConfigurationError, WarehouseError
from tautulli_pipeline.orchestration.upkeep import (
    Resolved,
    confirm_duplicates,
    open_for_upkeep,
    replay_letters,
    restore_duplicates,
)
from tautulli_pipeline.settings import Settings
from tautulli_pipeline_tests.warehouse.plays import (
    batch,
    event,
    message,
    rows,
    uuid_of,
    writer,
)


@pytest.mark.parametrize("kind", ["duplicate", "dead letter"])
def test_a_missing_warehouse_has_no_such_row_and_is_not_made(data_dir, kind):
    settings = Settings(pipeline_data_dir=data_dir)
    with (
        pytest.raises(ConfigurationError, match=f"there is no {kind} with the id 'abc'"),
        open_for_upkeep(settings, kind, ["abc", "def"]),
    ):
        pass
    assert not settings.data_dir.exists()


def test_upkeep_is_the_one_consumer_while_it_writes(settings):
    with open_for_upkeep(settings, "dead letter", []) as connection:
        assert rows(connection, "SELECT count(*) FROM playback_events") == [(0,)]
        assert is_consumer_running(settings.layout)
    assert not is_consumer_running(settings.layout)


def test_upkeep_waits_a_moment_for_a_consumer_that_has_not_opened_the_warehouse_yet(settings):
    with (
        consumer_lock(settings.layout, settings.warehouse_path),
        pytest.raises(WarehouseError, match="another consumer of this data directory"),
        open_for_upkeep(settings, "dead letter", [], patience_seconds=0.0),
    ):
        pass


def test_a_write_that_fails_names_the_warehouse(settings):
    with (
        pytest.raises(WarehouseError) as caught,
        open_for_upkeep(settings, "dead letter", []),
    ):
        raise duckdb.IOException("no space left on device")
    assert str(settings.warehouse_path) in caught.value.message
    assert not is_consumer_running(settings.layout)


@pytest.fixture
def audited(warehouse):
    """A warehouse with two plays and a duplicate of each, of other events; and their ids."""
    twins = [event(n, event_id=uuid_of(n + 2), session_key=f"other-{n}") for n in (1, 2)]
    sent = [event(1), event(2), *twins]
    writer(warehouse).write(batch(message(n, one) for n, one in enumerate(sent, 1)))
    ids = rows(warehouse, "SELECT id FROM dedupe_audit_log ORDER BY stream_sequence")
    return warehouse, [row_id for (row_id,) in ids]


def stored(connection):
    ((count,),) = rows(connection, "SELECT count(*) FROM playback_events")
    return count


def statuses(connection):
    found = rows(connection, "SELECT status FROM dedupe_audit_log ORDER BY stream_sequence")
    return [status for (status,) in found]


def test_a_duplicate_restored_or_confirmed_twice_is_changed_once(audited):
    connection, (first, second) = audited
    assert stored(connection) == 2
    assert restore_duplicates(connection, [first]) == (Resolved(first, True),)
    assert restore_duplicates(connection, [first]) == (Resolved(first, False),)
    assert confirm_duplicates(connection, [second]) == (Resolved(second, True),)
    assert confirm_duplicates(connection, [second]) == (Resolved(second, False),)
    assert stored(connection) == 3
    assert statuses(connection) == ["user_restored", "user_confirmed"]


@pytest.mark.parametrize("resolve", [restore_duplicates, confirm_duplicates])
def test_nothing_is_changed_where_one_of_the_duplicates_does_not_exist(audited, resolve):
    connection, (first, _) = audited
    before = statuses(connection)
    with pytest.raises(ConfigurationError, match="there is no duplicate with the id 'none'"):
        resolve(connection, [first, "none"])
    assert statuses(connection) == before
    assert stored(connection) == 2


def test_all_open_letters_are_tried_where_none_is_named_and_there_may_be_none(audited, settings):
    connection, _ = audited
    # No source is opened where no row of it is to be read.
    missing = settings.data_dir / "none.db"
    assert replay_letters(connection, settings, [], missing) == ()
    with pytest.raises(ConfigurationError, match="there is no dead letter with the id 'abc'"):
        replay_letters(connection, settings, ["abc"], missing)
