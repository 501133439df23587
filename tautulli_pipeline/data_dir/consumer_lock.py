"""The lock that allows only one consumer per data directory."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from tautulli_pipeline.data_dir.layout import DataDir
from tautulli_pipeline.data_dir.locks import is_free, open_private
from tautulli_pipeline.errors import WarehouseError

# A consumer whose parent was killed exits after its current batch.
_CONSUMER_EXITS_WITHIN_SECONDS: Final = 20.0
# `is_consumer_running` holds the lock briefly.
_PROBE_SECONDS: Final = 0.3


@contextmanager
def consumer_lock(
    data_dir: DataDir,
    warehouse: Path,
    *,
    patience_seconds: float = _CONSUMER_EXITS_WITHIN_SECONDS,
) -> Iterator[None]:
    """Hold the consumer lock of a data directory; the error message names `warehouse`.

    Raises:
        WarehouseError: another consumer, which can see the wait, still runs after
            `patience_seconds`.
    """
    lock = FileLock(data_dir.consumer_lock, mode=0o600)
    try:
        with _waiting(data_dir) if patience_seconds else nullcontext():
            held = lock.acquire(timeout=max(patience_seconds, _PROBE_SECONDS))
    except Timeout:
        raise WarehouseError(
            f"cannot write to the warehouse {warehouse}: "
            "another consumer of this data directory is running",
            hint="wait until it finishes; `tautulli-pipeline status` shows its progress",
        ) from None
    with held:
        yield


@contextmanager
def _waiting(data_dir: DataDir) -> Iterator[None]:
    """Signal that a process is waiting for the lock while the context is open."""
    with open_private(data_dir.consumer_queue) as queue:
        fcntl.flock(queue, fcntl.LOCK_SH)
        yield


def is_consumer_awaited(data_dir: DataDir) -> bool:
    """Whether another process is waiting for the consumer lock."""
    return not is_free(data_dir.consumer_queue, fcntl.LOCK_EX)


def is_consumer_running(data_dir: DataDir) -> bool:
    """Whether a consumer is running."""
    return not is_free(data_dir.consumer_lock)
