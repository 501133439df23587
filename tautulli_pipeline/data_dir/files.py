"""Files that are replaced whole or not at all, and files that are locked."""

from __future__ import annotations

import fcntl
from pathlib import Path

from tautulli_pipeline.stream.guardian import try_lock


def write_atomically(file: Path, content: bytes) -> None:
    """Replace `file`; whoever reads it sees the old content or the new one.

    Raises:
        OSError: there is no room or no right to write it; the old content stays.
    """
    unfinished = file.with_name(f"{file.name}.new")
    try:
        unfinished.write_bytes(content)
        unfinished.replace(file)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise


def is_free(file: Path, operation: int = fcntl.LOCK_SH) -> bool:
    """Whether the kernel lock of a file could be taken now; one that is not there is free."""
    try:
        with file.open() as lock:
            return try_lock(lock, operation)
    except (FileNotFoundError, NotADirectoryError):
        return True
