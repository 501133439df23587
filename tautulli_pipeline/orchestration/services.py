"""What the settings ask for, made: paths, the stream's address, locks, layer 2."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from tautulli_pipeline.errors import ConfigurationError, WarehouseError
from tautulli_pipeline.settings import Settings
from tautulli_pipeline.stream.address import StreamAddress
from tautulli_pipeline.stream.guardian import open_private, try_lock
from tautulli_pipeline.stream.login import login_options
from tautulli_pipeline.stream.server import EmbeddedServer
from tautulli_pipeline.warehouse.cache import DedupCache
from tautulli_pipeline.warehouse.dedup import Deduplicator

# A consumer whose parent was killed ends after the batch in hand.
_CONSUMER_ENDS_WITHIN_SECONDS: Final = 20.0
# Whoever asks whether one is at work holds its lock for a moment.
_PROBE_SECONDS: Final = 0.3


@dataclass(frozen=True)
class DataPaths:
    """Where things are in a data directory."""

    snapshots: Path
    receipts: Path
    survey: Path


def data_paths(settings: Settings) -> DataPaths:
    """The places in this data directory."""
    home = settings.data_dir
    return DataPaths(home / "snapshots", home / "receipts", home / "survey.json")


def make_data_dir(settings: Settings) -> None:
    """Create the data directory, private to its owner.

    Raises:
        ConfigurationError: it cannot be made there.
    """
    try:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"PIPELINE_DATA_DIR={str(settings.data_dir)!r} is not usable: {error.strerror}",
            hint="set PIPELINE_DATA_DIR to a directory that you may write",
        ) from error


@contextmanager
def stream_address(settings: Settings) -> Iterator[StreamAddress]:
    """The external JetStream, or the embedded one, running while the context is open.

    Raises:
        StreamError: the embedded server does not start.
    """
    if settings.nats_url is not None:
        yield _external_address(settings, settings.nats_url)
        return
    with EmbeddedServer(settings.data_dir) as server:
        yield replace(
            _names(settings, server.url), user=server.user, password=server.password, private=True
        )


def check_login(settings: Settings) -> None:
    """See that what the NATS_* variables say can be used, before anything starts.

    Raises:
        ConfigurationError: one of them, or the file that it names, cannot.
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


@contextmanager
def consumer_lock(
    settings: Settings, *, patience_seconds: float = _CONSUMER_ENDS_WITHIN_SECONDS
) -> Iterator[None]:
    """Be the one consumer of this data directory.

    Raises:
        WarehouseError: another one keeps consuming.
    """
    lock = FileLock(settings.data_dir / "consumer.lock", mode=0o600)
    try:
        with _waiting(settings) if patience_seconds else nullcontext():
            lock.acquire(timeout=max(patience_seconds, _PROBE_SECONDS))
    except Timeout:
        raise WarehouseError(
            f"cannot write the warehouse {settings.warehouse_path}: "
            "another consumer of this data directory is at work",
            hint="wait until it is done; `tautulli-pipeline status` shows how far it is",
        ) from None
    try:
        _announcement(settings).unlink(missing_ok=True)
        yield
    finally:
        lock.release()


@contextmanager
def _waiting(settings: Settings) -> Iterator[None]:
    """Show that somebody waits to consume, until he does or is gone."""
    with open_private(settings.data_dir / "consumer.queue") as queue:
        fcntl.flock(queue, fcntl.LOCK_SH)
        yield


def is_consumer_awaited(settings: Settings) -> bool:
    """Whether another process waits to be the consumer."""
    try:
        with (settings.data_dir / "consumer.queue").open() as queue:
            return not try_lock(queue, fcntl.LOCK_EX)
    except FileNotFoundError:
        return False


def is_consumer_at_work(settings: Settings) -> bool:
    """Whether some process consumes."""
    try:
        with (settings.data_dir / "consumer.lock").open() as lock:
            return not try_lock(lock, fcntl.LOCK_SH)
    except FileNotFoundError:
        return False


def announce_warehouse(settings: Settings, warehouse_id: str) -> None:
    """Tell which warehouse the consumer has open; nobody else can open it to see."""
    unfinished = _announcement(settings).with_suffix(".new")
    unfinished.write_text(warehouse_id)
    unfinished.replace(_announcement(settings))


def announced_warehouse(settings: Settings) -> str | None:
    """The warehouse that the consumer has open; None where it has not told yet."""
    try:
        return _announcement(settings).read_text()
    except FileNotFoundError:
        return None


def _announcement(settings: Settings) -> Path:
    return settings.data_dir / "consumer.warehouse"


def deduplicator(settings: Settings) -> Deduplicator:
    """Layers 2 and 3 with the window and size that are set."""
    return Deduplicator(DedupCache(settings.dedup_window_seconds, settings.dedup_max_entries))
