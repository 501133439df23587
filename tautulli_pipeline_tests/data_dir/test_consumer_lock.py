"""The lock that allows one consumer per data directory, and waiting for it."""

from __future__ import annotations

import fcntl
import stat
import threading

import pytest

from tautulli_pipeline.data_dir.consumer_lock import (
    consumer_lock,
    is_consumer_awaited,
    is_consumer_running,
)
from tautulli_pipeline.data_dir.layout import DataDir
from tautulli_pipeline.errors import WarehouseError
from tautulli_pipeline_tests.command import wait_until


@pytest.fixture
def layout(tmp_path):
    return DataDir(tmp_path)


@pytest.fixture
def warehouse(tmp_path):
    return tmp_path / "playback.duckdb"


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_there_is_one_consumer_at_a_time(layout, warehouse):
    assert not is_consumer_running(layout)
    with consumer_lock(layout, warehouse):
        assert is_consumer_running(layout)
        with (
            pytest.raises(WarehouseError) as caught,
            consumer_lock(layout, warehouse, patience_seconds=0),
        ):
            pass
        assert is_consumer_running(layout)
    assert caught.value.message == (
        f"cannot write to the warehouse {warehouse}: "
        "another consumer of this data directory is running"
    )
    assert "tautulli-pipeline status" in caught.value.hint
    assert not is_consumer_running(layout)
    with consumer_lock(layout, warehouse, patience_seconds=0):
        pass
    assert mode_of(layout.consumer_lock) == 0o600


def test_each_data_directory_can_have_a_consumer(layout, warehouse, tmp_path):
    other = DataDir(tmp_path / "other")
    other.path.mkdir()
    with consumer_lock(layout, warehouse):
        assert not is_consumer_running(other)
        with consumer_lock(other, warehouse, patience_seconds=0):
            assert is_consumer_running(other)


def test_a_failed_consumer_releases_the_lock(layout, warehouse):
    with pytest.raises(ZeroDivisionError), consumer_lock(layout, warehouse):
        raise ZeroDivisionError
    assert not is_consumer_running(layout)


def test_checking_for_a_consumer_creates_no_file(layout, tmp_path):
    assert not is_consumer_running(layout)
    assert not is_consumer_awaited(layout)
    assert list(tmp_path.iterdir()) == []


def test_a_consumer_sees_that_another_one_is_waiting(layout, warehouse):
    got_it, may_end = threading.Event(), threading.Event()

    def wait_for_the_turn():
        with consumer_lock(layout, warehouse, patience_seconds=30):
            got_it.set()
            may_end.wait(30)

    waiting = threading.Thread(target=wait_for_the_turn)
    with consumer_lock(layout, warehouse):
        assert not is_consumer_awaited(layout)
        waiting.start()
        wait_until(lambda: is_consumer_awaited(layout))
        assert not got_it.is_set()
    assert got_it.wait(10)
    assert not is_consumer_awaited(layout)
    assert is_consumer_running(layout)
    may_end.set()
    waiting.join()
    assert mode_of(layout.consumer_queue) == 0o600


def test_a_consumer_that_timed_out_no_longer_counts_as_waiting(layout, warehouse):
    with consumer_lock(layout, warehouse):
        with (
            pytest.raises(WarehouseError, match="another consumer"),
            consumer_lock(layout, warehouse, patience_seconds=0.4),
        ):
            pass
        assert not is_consumer_awaited(layout)


def test_a_consumer_with_no_wait_time_does_not_count_as_waiting(layout, warehouse):
    with consumer_lock(layout, warehouse, patience_seconds=0):
        with (
            pytest.raises(WarehouseError, match="another consumer"),
            consumer_lock(layout, warehouse, patience_seconds=0),
        ):
            pass
        assert not layout.consumer_queue.exists()


def test_a_brief_check_does_not_block_a_consumer(layout, warehouse):
    with consumer_lock(layout, warehouse):
        pass
    with layout.consumer_lock.open() as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)  # as `is_consumer_running` does
        looked = threading.Timer(0.05, looking.close)
        looked.start()
        with consumer_lock(layout, warehouse, patience_seconds=0):
            pass
        looked.join()
