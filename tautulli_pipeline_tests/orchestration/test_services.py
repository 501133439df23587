"""What the settings are turned into: folders, addresses and the locks between processes."""

from __future__ import annotations

import fcntl
import stat
import threading
from pathlib import Path

import pytest

from tautulli_pipeline.errors import ConfigurationError, WarehouseError
from tautulli_pipeline.orchestration.services import (
    announce_warehouse,
    announced_warehouse,
    check_login,
    consumer_lock,
    data_paths,
    is_consumer_at_work,
    is_consumer_awaited,
    make_data_dir,
    stream_address,
)
from tautulli_pipeline.settings import Settings
from tautulli_pipeline_tests.command import wait_until


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_the_places_of_a_data_directory_are_absolute_and_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = data_paths(Settings(pipeline_data_dir=Path("data")))
    found = {paths.snapshots, paths.receipts, paths.survey}
    assert len(found) == 3
    assert {path.parent for path in found} == {tmp_path / "data"}


def test_a_data_directory_is_for_its_owner_alone_and_may_be_there(tmp_path):
    settings = Settings(pipeline_data_dir=tmp_path / "some" / "where")
    make_data_dir(settings)
    assert mode_of(settings.data_dir) == 0o700
    (settings.data_dir / "kept").touch()
    settings.data_dir.chmod(0o750)
    make_data_dir(settings)
    assert mode_of(settings.data_dir) == 0o750  # somebody chose that
    assert (settings.data_dir / "kept").exists()


def test_a_data_directory_that_cannot_be_made_is_named_with_its_variable(tmp_path):
    (tmp_path / "file").touch()
    settings = Settings(pipeline_data_dir=tmp_path / "file" / "data")
    with pytest.raises(ConfigurationError) as caught:
        make_data_dir(settings)
    where = str(tmp_path / "file" / "data")
    assert caught.value.message == (f"PIPELINE_DATA_DIR={where!r} is not usable: Not a directory")
    assert "PIPELINE_DATA_DIR" in caught.value.hint


def test_an_external_stream_is_addressed_as_the_settings_say(tmp_path):
    settings = Settings(
        pipeline_data_dir=tmp_path / "data",
        nats_url="nats://media.example:4333",
        nats_stream="EVENTS",
        nats_durable_name="pipeline-2",
        nats_duplicate_window_seconds=7,
        nats_user="mira",
        nats_password="hunter2",
        nats_token="s3cret",
        nats_creds=tmp_path / "user.creds",
        nats_tls_ca=tmp_path / "ca.pem",
    )
    with stream_address(settings) as address:
        assert (address.url, address.private) == ("nats://media.example:4333", False)
        assert (address.stream, address.durable_name) == ("EVENTS", "pipeline-2")
        assert address.duplicate_window_seconds == 7
        assert (address.user, address.password, address.token) == ("mira", "hunter2", "s3cret")
        assert address.credentials_file == tmp_path / "user.creds"
        assert address.ca_file == tmp_path / "ca.pem"
        assert not {"hunter2", "s3cret"} & set(repr(address).split("'"))
    assert not settings.data_dir.exists()


def test_a_login_that_cannot_work_is_told_before_anything_is_asked_of_the_stream(tmp_path):
    missing = tmp_path / "none.creds"
    check_login(Settings(nats_creds=missing))  # without NATS_URL nobody needs it
    with pytest.raises(ConfigurationError, match=r"none\.creds"):
        check_login(Settings(nats_url="nats://127.0.0.1:1", nats_creds=missing))


def test_there_is_one_consumer_at_a_time(settings):
    assert not is_consumer_at_work(settings)
    with consumer_lock(settings):
        assert is_consumer_at_work(settings)
        with (
            pytest.raises(WarehouseError) as caught,
            consumer_lock(settings, patience_seconds=0),
        ):
            pass
        assert is_consumer_at_work(settings)
    assert str(settings.warehouse_path) in caught.value.message
    assert caught.value.message.endswith("another consumer of this data directory is at work")
    assert not is_consumer_at_work(settings)
    with consumer_lock(settings, patience_seconds=0):
        pass
    assert mode_of(settings.data_dir / "consumer.lock") == 0o600


def test_a_consumer_that_fails_leaves_the_lock_to_the_next_one(settings):
    with pytest.raises(ZeroDivisionError), consumer_lock(settings):
        raise ZeroDivisionError
    assert not is_consumer_at_work(settings)


def test_looking_for_a_consumer_makes_no_file(settings, tmp_path):
    assert not is_consumer_at_work(settings)
    assert not is_consumer_awaited(settings)
    assert announced_warehouse(settings) is None
    assert list(tmp_path.iterdir()) == []


def test_who_consumes_sees_that_somebody_waits_until_his_turn_has_come(settings):
    got_it, may_end = threading.Event(), threading.Event()

    def wait_for_the_turn():
        with consumer_lock(settings, patience_seconds=30):
            got_it.set()
            may_end.wait(30)

    waiting = threading.Thread(target=wait_for_the_turn)
    with consumer_lock(settings):
        assert not is_consumer_awaited(settings)
        waiting.start()
        wait_until(lambda: is_consumer_awaited(settings))
        assert not got_it.is_set()
    assert got_it.wait(10)
    assert not is_consumer_awaited(settings)
    may_end.set()
    waiting.join()


def test_who_gives_up_waiting_is_not_waited_for(settings):
    with consumer_lock(settings):
        with (
            pytest.raises(WarehouseError, match="another consumer"),
            consumer_lock(settings, patience_seconds=0.4),
        ):
            pass
        assert not is_consumer_awaited(settings)


def test_the_warehouse_is_told_by_the_consumer_that_has_it_open_and_by_none_before(settings):
    with consumer_lock(settings):
        announce_warehouse(settings, "warehouse-1")
        assert announced_warehouse(settings) == "warehouse-1"
        announce_warehouse(settings, "warehouse-2")
        assert announced_warehouse(settings) == "warehouse-2"
    with consumer_lock(settings):
        assert announced_warehouse(settings) is None


def test_an_announcement_that_was_cut_short_is_not_read(settings, monkeypatch):
    announce_warehouse(settings, "warehouse-1")
    write = Path.write_text

    def cut_short(path, text):
        write(path, text[:3])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", cut_short)
    with pytest.raises(OSError, match="No space left"):
        announce_warehouse(settings, "another one")
    assert announced_warehouse(settings) == "warehouse-1"


def test_who_looks_for_a_moment_keeps_no_consumer_away(settings):
    with consumer_lock(settings):
        pass
    with (settings.data_dir / "consumer.lock").open() as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)  # as `is_consumer_at_work` does
        looked = threading.Timer(0.05, looking.close)
        looked.start()
        with consumer_lock(settings, patience_seconds=0):
            pass
        looked.join()
