"""Connections to the stream and the warehouse, as the settings configure them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

from duckdb import DuckDBPyConnection

from tautulli_pipeline.data_dir.consumer_lock import consumer_lock
from tautulli_pipeline.data_dir.logs import log_to
from tautulli_pipeline.errors import PipelineError, WarehouseHeldError
from tautulli_pipeline.settings import Settings
from tautulli_pipeline.stream.address import StreamAddress
from tautulli_pipeline.stream.limits import DEFAULT_MESSAGE_LIMIT, MessageLimit
from tautulli_pipeline.stream.login import login_options
from tautulli_pipeline.stream.server import ServerAddress, embedded_server, running_server
from tautulli_pipeline.stream.session import read_backlog, read_message_limit
from tautulli_pipeline.warehouse.cache import DedupCache
from tautulli_pipeline.warehouse.schema import open_warehouse
from tautulli_pipeline.warehouse.upgrade import OnUpgraded

_ANSWER_SECONDS: Final = 2.0


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
        yield _embedded_address(settings, server)


def find_message_limit(settings: Settings) -> tuple[MessageLimit, str]:
    """Return the largest message that the stream takes, and why this is the default, if it is.

    Starts and creates nothing.
    """
    try:
        address = _running_address(settings)
        if address is None:
            return DEFAULT_MESSAGE_LIMIT, "the embedded stream server is not running"
        return read_message_limit(address, _ANSWER_SECONDS), ""
    except PipelineError as error:
        return DEFAULT_MESSAGE_LIMIT, error.message


def find_backlog(settings: Settings) -> tuple[str, int] | None:
    """Return the id of the stream and how many events wait on it; None if no server runs.

    Raises:
        StreamError: the server does not answer, or its stream or consumer cannot be used.
    """
    address = _running_address(settings)
    return read_backlog(address, _ANSWER_SECONDS) if address else None


def _running_address(settings: Settings) -> StreamAddress | None:
    """Return the address of the external server, or of the embedded one if it runs."""
    if settings.nats_url is not None:
        return _external_address(settings, settings.nats_url)
    server = running_server(settings.data_dir)
    return _embedded_address(settings, server) if server else None


def check_login(settings: Settings) -> None:
    """Check the NATS_* variables before anything starts.

    Raises:
        ConfigurationError: a variable, or the file that it names, is not usable.
    """
    if settings.nats_url is not None:
        login_options(_external_address(settings, settings.nats_url))


def _embedded_address(settings: Settings, server: ServerAddress) -> StreamAddress:
    names = _names(settings, server.url)
    return replace(names, user=server.user, password=server.password, private=True)


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
    on_wait: Callable[[WarehouseHeldError], None],
    on_upgraded: OnUpgraded = lambda _done, _total: None,
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
        open_warehouse(
            path, config, wait_seconds=wait_seconds, on_wait=on_wait, on_upgraded=on_upgraded
        ) as connection,
    ):
        yield connection
