"""The lock that keeps consumers of one data directory apart."""

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

# A consumer whose parent was killed ends after its current batch.
_CONSUMER_ENDS_WITHIN_SECONDS: Final = 20.0
# Whoever asks whether a consumer is running holds its lock for a moment.
_PROBE_SECONDS: Final = 0.3


@contextmanager
def consumer_lock(
    data_dir: DataDir,
    warehouse: Path,
    *,
    patience_seconds: float = _CONSUMER_ENDS_WITHIN_SECONDS,
) -> Iterator[None]:
    """Be the one consumer of this data directory.

    Args:
        data_dir: the data directory.
        warehouse: named in the message of the fault.
        patience_seconds: how long to wait for another consumer; others see that it waits.

    Raises:
        WarehouseError: another one keeps consuming.
    """
    lock = FileLock(data_dir.consumer_lock, mode=0o600)
    try:
        with _waiting(data_dir) if patience_seconds else nullcontext():
            held = lock.acquire(timeout=max(patience_seconds, _PROBE_SECONDS))
    except Timeout:
        raise WarehouseError(
            f"cannot write the warehouse {warehouse}: "
            "another consumer of this data directory is running",
            hint="wait until it is done; `tautulli-pipeline status` shows its progress",
        ) from None
    with held:
        yield


@contextmanager
def _waiting(data_dir: DataDir) -> Iterator[None]:
    """Show that somebody waits to consume, for as long as the context is open."""
    with open_private(data_dir.consumer_queue) as queue:
        fcntl.flock(queue, fcntl.LOCK_SH)
        yield


def is_consumer_awaited(data_dir: DataDir) -> bool:
    """Whether another process waits to be the consumer."""
    return not is_free(data_dir.consumer_queue, fcntl.LOCK_EX)


def is_consumer_running(data_dir: DataDir) -> bool:
    """Whether some process consumes."""
    return not is_free(data_dir.consumer_lock)
