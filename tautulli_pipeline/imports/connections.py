"""Connections to the stream and the warehouse, as the settings configure them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from duckdb import DuckDBPyConnection

from tautulli_pipeline.data_dir.consumer_lock import consumer_lock
from tautulli_pipeline.data_dir.logs import log_to
from tautulli_pipeline.settings import Settings
from tautulli_pipeline.stream.address import StreamAddress
from tautulli_pipeline.stream.login import login_options
from tautulli_pipeline.stream.server import embedded_server
from tautulli_pipeline.warehouse.cache import DedupCache
from tautulli_pipeline.warehouse.schema import open_warehouse


@contextmanager
def stream_address(settings: Settings) -> Iterator[StreamAddress]:
    """Yield the address of the external JetStream server, or of the embedded one.

    The embedded server runs while the context is open.

    Raises:
        StreamError: the embedded server does not start.
    """
    if settings.nats_url is not None:
        yield _external_address(settings, settings.nats_url)
        return
    with embedded_server(settings.data_dir) as server:
        yield replace(
            _names(settings, server.url), user=server.user, password=server.password, private=True
        )


def check_login(settings: Settings) -> None:
    """Check the NATS_* variables before anything starts.

    Raises:
        ConfigurationError: a variable, or the file that it names, is not usable.
    """
    if settings.nats_url is not None:
        login_options(_external_address(settings, settings.nats_url))


def _external_address(settings: Settings, url: str) -> StreamAddress:
    secret, token = settings.nats_password, settings.nats_token
    return replace(
        _names(settings, url),
        user=settings.nats_user,
        password=secret.get_secret_value() if secret else None,
        token=token.get_secret_value() if token else None,
        credentials_file=settings.nats_creds,
        ca_file=settings.nats_tls_ca,
    )


def _names(settings: Settings, url: str) -> StreamAddress:
    return StreamAddress(
        url,
        settings.nats_stream,
        settings.nats_durable_name,
        settings.nats_duplicate_window_seconds,
    )


def dedup_cache(settings: Settings) -> DedupCache:
    """Return layer 2 with the configured window and size."""
    return DedupCache(settings.dedup_window_seconds, settings.dedup_max_entries)


@contextmanager
def open_as_consumer(
    settings: Settings,
    *,
    wait_seconds: float,
    on_wait: Callable[[str], None],
    config: Mapping[str, Any] | None = None,
) -> Iterator[DuckDBPyConnection]:
    """Open the warehouse as the only consumer of this data directory.

    Raises:
        WarehouseError: another consumer keeps running, or see `open_warehouse`.
    """
    path = settings.warehouse_path
    with (
        consumer_lock(settings.layout, path),
        log_to(settings.layout.log("consumer")),
        open_warehouse(path, config, wait_seconds=wait_seconds, on_wait=on_wait) as connection,
    ):
        yield connection
