"""Whether another process keeps readers out of a SQLite database; no lock is taken to tell.

SQLite locks byte ranges of the main file. Who commits without a WAL, or runs in exclusive
mode, holds a write lock on the pending byte or the shared range; the writers of a WAL hold
only a read lock there, as every reader does.
"""

from __future__ import annotations

import fcntl
import os
import struct
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import psutil

from tautulli_pipeline.source.faults import refused
from tautulli_pipeline.source.original import open_regular

if TYPE_CHECKING:
    from pathlib import Path

_PENDING_BYTE: Final = 0x40000000
# First byte and length of what a writer locks before readers have to keep out.
_KEEPING_OUT: Final = ((_PENDING_BYTE, 1), (_PENDING_BYTE + 2, 510))
_TICK_SECONDS: Final = 0.05

# C's struct flock, where it is known; elsewhere nobody is asked.
LAYOUT: Final = {
    "linux": ("hhqqi0q", ("type", "whence", "start", "length", "pid")),
    "darwin": ("qqihh", ("start", "length", "pid", "type", "whence")),
}.get(sys.platform if sys.maxsize > 2**32 else "")


def await_unlocked(database: Path, patience_seconds: float) -> None:
    """Let a commit that is under way come to its end.

    Raises:
        SourceError: a process still keeps readers out after `patience_seconds`.
    """
    deadline = time.monotonic() + patience_seconds
    while holder := lock_holder(database):
        if time.monotonic() >= deadline:
            hint = "wait for that process or end it, or import one of Tautulli's backups"
            raise refused(database, f"{holder} has locked it", hint)
        time.sleep(_TICK_SECONDS)


def lock_holder(database: Path) -> str:
    """The process that keeps readers out, in words; '' where there is none."""
    # A file system without locks cannot answer, and a file that is gone holds none.
    with suppress(OSError), open_regular(database) as file:
        for start, length in _KEEPING_OUT:
            process_id = _writer_of(file.fileno(), start, length)
            if process_id is not None:
                return _named(process_id)
    return ""


def _writer_of(descriptor: int, start: int, length: int) -> int | None:
    """The process whose lock forbids a read lock on these bytes."""
    if LAYOUT is None:
        return None
    layout, names = LAYOUT
    asked = {"type": fcntl.F_RDLCK, "whence": os.SEEK_SET, "start": start, "length": length}
    question = struct.pack(layout, *(asked.get(name, 0) for name in names))
    told = struct.unpack(layout, fcntl.fcntl(descriptor, fcntl.F_GETLK, question))
    answer = dict(zip(names, told, strict=True))
    return None if answer["type"] == fcntl.F_UNLCK else answer["pid"]


def _named(process_id: int) -> str:
    # A holder in another container or on another machine has no number here.
    if process_id <= 0:
        return "a process of another machine or container"
    with suppress(psutil.Error):
        return f"process {process_id} ({psutil.Process(process_id).name()})"
    return f"process {process_id}"
