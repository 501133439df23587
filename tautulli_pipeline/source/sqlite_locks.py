"""Detects whether another process locks readers out of a SQLite database, without locking it.

SQLite locks byte ranges of the main file. A process that commits without a WAL, or uses
exclusive mode, holds a write lock on the pending byte or the shared range. Processes that
write to a WAL hold only a read lock there, like every reader.
"""

from __future__ import annotations

import fcntl
import os
import struct
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil

from tautulli_pipeline.source.faults import refused
from tautulli_pipeline.source.original import open_regular

_PENDING_BYTE: Final = 0x40000000
# First byte and length of the ranges that a writer locks to exclude readers.
_EXCLUSIVE_RANGES: Final = ((_PENDING_BYTE, 1), (_PENDING_BYTE + 2, 510))
_TICK_SECONDS: Final = 0.05

# C's struct flock on known platforms; on others no lock is detected.
LAYOUT: Final = {
    "linux": ("hhqqi0q", ("type", "whence", "start", "length", "pid")),
    "darwin": ("qqihh", ("start", "length", "pid", "type", "whence")),
}.get(sys.platform if sys.maxsize > 2**32 else "")


def await_unlocked(database: Path, patience_seconds: float) -> None:
    """Wait for a commit in progress to finish.

    Raises:
        SourceError: a process still excludes readers after `patience_seconds`.
    """
    deadline = time.monotonic() + patience_seconds
    while holder := lock_holder(database):
        if time.monotonic() >= deadline:
            hint = "wait for that process, end it, or import a Tautulli backup"
            raise refused(database, f"{holder} has locked it", hint)
        time.sleep(_TICK_SECONDS)


def lock_holder(database: Path) -> str:
    """Describe the process that excludes readers; '' if there is none."""
    # A file system without locks raises OSError, and so does a missing file.
    with suppress(OSError), open_regular(database) as file:
        for start, length in _EXCLUSIVE_RANGES:
            process_id = _writer_of(file.fileno(), start, length)
            if process_id is not None:
                return _describe(process_id)
    return ""


def _writer_of(descriptor: int, start: int, length: int) -> int | None:
    """Return the id of the process whose lock prevents a read lock on these bytes."""
    if LAYOUT is None:
        return None
    layout, names = LAYOUT
    request = {"type": fcntl.F_RDLCK, "whence": os.SEEK_SET, "start": start, "length": length}
    packed = struct.pack(layout, *(request.get(name, 0) for name in names))
    reply = struct.unpack(layout, fcntl.fcntl(descriptor, fcntl.F_GETLK, packed))
    lock = dict(zip(names, reply, strict=True))
    return None if lock["type"] == fcntl.F_UNLCK else lock["pid"]


def _describe(process_id: int) -> str:
    # A process in another container or on another machine has no process id here.
    if process_id <= 0:
        return "a process on another machine or in another container"
    with suppress(psutil.Error):
        return f"process {process_id} ({psutil.Process(process_id).name()})"
    return f"process {process_id}"
