"""Atomic file writes."""

from __future__ import annotations

import fcntl
import glob
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from tautulli_pipeline.data_dir.locks import is_replaced, open_private, try_lock


def write_atomically(file: Path, content: bytes) -> None:
    """Replace `file` atomically, readable by its owner only; if that fails, it stays as it is."""
    with replacing(file) as unfinished:
        unfinished.write_bytes(content)


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """Yield an empty file of another name that replaces `file` at the end of the context.

    It is readable by its owner only, and is removed on an error. Several processes may do this at
    the same time: each has a file of its own, and the last one wins. What a killed one left is
    removed by the next.

    Raises:
        OSError: the folder does not exist or cannot be written.
    """
    _remove_leftovers(file)
    with _reserved(file) as lock:
        unfinished = Path(lock.name)
        try:
            yield unfinished
            unfinished.replace(file)
        except BaseException:
            with suppress(OSError):
                unfinished.unlink(missing_ok=True)
            raise


def _reserved(file: Path) -> IO[str]:
    """Create an unfinished file and lock it, so that others can see that somebody writes it."""
    while True:
        reserved = open_private(file.with_name(f"{file.name}.{secrets.token_hex(4)}.new"), "x")
        with suppress(OSError):  # some network drives have no locks
            fcntl.flock(reserved, fcntl.LOCK_EX)
        if not is_replaced(reserved, Path(reserved.name)):
            return reserved
        reserved.close()  # another process has removed it before it was locked


def _remove_leftovers(file: Path) -> None:
    """Remove the unfinished files that nobody has locked."""
    for path in file.parent.glob(f"{glob.escape(file.name)}.{'[0-9a-f]' * 8}.new"):
        with suppress(OSError), path.open() as left:
            if try_lock(left, fcntl.LOCK_EX):
                path.unlink(missing_ok=True)
