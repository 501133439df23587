"""Connections to the stream and the warehouse, as the settings configure them."""

from __future__ import annotations

from functools import partial

import pytest

from tautulli_pipeline.data_dir.consumer_lock import consumer_lock, is_consumer_running
from tautulli_pipeline.errors import (
    ConfigurationError,
    StoppedError,
    WarehouseError,
    WarehouseHeldError,
)
from tautulli_pipeline.imports import connections
from tautulli_pipeline.imports.connections import (
    check_login,
    dedup_cache,
    open_as_consumer,
    stream_address,
)
from tautulli_pipeline.settings import Settings
from tautulli_pipeline.warehouse.writer import Writer
from tautulli_pipeline_tests.holding import held_by_another_process
from tautulli_pipeline_tests.warehouse.plays import (
    audit,
    batch,
    event,
    memory_warehouse,
    message,
    rows,
    uuid_of,
)


@pytest.fixture
def settings(tmp_path):
    return Settings(pipeline_data_dir=tmp_path)


def test_the_address_of_an_external_stream_follows_the_settings(tmp_path):
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


def test_unusable_credentials_are_reported_before_the_stream_is_contacted(tmp_path):
    missing = tmp_path / "none.creds"
    check_login(Settings(nats_creds=missing))  # not needed without NATS_URL
    with pytest.raises(ConfigurationError, match=r"none\.creds"):
        check_login(Settings(nats_url="nats://127.0.0.1:1", nats_creds=missing))


def test_the_embedded_stream_is_private_and_in_the_data_directory(settings):
    with stream_address(settings) as address, stream_address(settings) as again:
        assert address == again
        assert address.private
        assert (address.stream, address.durable_name) == ("MEDIA_EVENTS", "tautulli-pipeline")
        assert address.user
        assert address.password
        assert settings.layout.stream.is_dir()


@pytest.mark.parametrize(
    ("window_seconds", "entries", "layers"),
    [(300, 2, ["database", "cache"]), (300, 3, ["cache", "cache"]), (0, 3, ["database"] * 2)],
)
def test_the_settings_limit_the_size_and_window_of_the_cache(
    tmp_path, window_seconds, entries, layers
):
    settings = Settings(
        pipeline_data_dir=tmp_path, dedup_window_seconds=window_seconds, dedup_max_entries=entries
    )
    with memory_warehouse() as connection:
        writer = Writer(connection, dedup_cache(settings), "stream-1")
        writer.write(batch(message(n, event(n)) for n in (1, 2, 3)))
        # Under other ids, because exact repeats leave no audit row.
        again = (message(n + 10, event(n, event_id=uuid_of(n + 10))) for n in (1, 3))
        writer.write(batch(again))
        assert [(sequence, layer) for sequence, layer, *_ in audit(connection)] == list(
            zip((11, 13), layers, strict=True)
        )


def as_consumer(settings, wait_seconds=0.0, on_wait=lambda _words: None):
    return open_as_consumer(settings, wait_seconds=wait_seconds, on_wait=on_wait)


def test_opening_the_warehouse_takes_the_consumer_lock(settings):
    with as_consumer(settings) as connection:
        assert rows(connection, "SELECT count(*) FROM playback_events") == [(0,)]
        assert is_consumer_running(settings.layout)
        assert settings.warehouse_path.exists()
    assert not is_consumer_running(settings.layout)


def test_it_waits_for_another_consumer_and_then_fails(settings, monkeypatch):
    monkeypatch.setattr(connections, "consumer_lock", partial(consumer_lock, patience_seconds=0.1))
    with (
        consumer_lock(settings.layout, settings.warehouse_path),
        pytest.raises(WarehouseError, match="another consumer of this data directory"),
        as_consumer(settings),
    ):
        pass
    assert not settings.warehouse_path.exists()


def test_it_waits_for_a_program_that_holds_the_warehouse_until_it_is_told_to_stop(settings):
    received = []

    def give_up(held):
        received.append(held.waiting)
        raise StoppedError("the consumer was stopped")

    with held_by_another_process(settings.warehouse_path) as process_id:
        with pytest.raises(WarehouseHeldError, match=f"process {process_id} "):
            as_consumer(settings).__enter__()
        with pytest.raises(StoppedError):
            as_consumer(settings, 60, give_up).__enter__()
    assert f"process {process_id} " in received[0]
    assert not is_consumer_running(settings.layout)
