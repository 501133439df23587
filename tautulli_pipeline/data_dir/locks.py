"""Kernel file locks, which are released when the process that holds them exits."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO


def open_private(name: str | Path, mode: str = "a") -> IO[str]:
    """Open a text file for writing, readable only by its owner."""
    return open(name, mode, opener=lambda path, flags: os.open(path, flags, 0o600))


def try_lock(file: IO[str] | int, operation: int) -> bool:
    """Acquire `fcntl.LOCK_SH` or `fcntl.LOCK_EX` without waiting; False if it is not free."""
    try:
        fcntl.flock(file, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_free(file: Path, operation: int = fcntl.LOCK_SH) -> bool:
    """Whether the lock of a file is free; a file that does not exist is free."""
    try:
        with file.open() as lock:
            return try_lock(lock, operation)
    except (FileNotFoundError, NotADirectoryError):
        return True


def is_replaced(file: IO[str], path: Path) -> bool:
    """Whether an open file was deleted or replaced, so that others lock another file."""
    try:
        return not os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return True
