"""Temporary folders for private copies, removed even if their owner is killed."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

from tautulli_pipeline.errors import ConfigurationError
from tautulli_pipeline.source.faults import cause, shown

_CLAIM_ATTEMPTS = 10


@contextmanager
def private_folder(parent: Path) -> Iterator[Path]:
    """Create a folder for one owner; on exit, remove it and any parents that were created."""
    missing = [folder for folder in (parent, *parent.parents) if not folder.exists()]
    try:
        folder, lock = _claim(parent)
        with lock:
            try:
                folder.mkdir(mode=0o700)
                yield folder
            finally:
                _discard(folder)
    finally:
        with suppress(OSError):
            for made in missing:
                made.rmdir()


def remove_stale_snapshots(snapshots_dir: Path) -> None:
    """Delete copies left behind by killed processes; keep those in use.

    Raises:
        ConfigurationError: a copy cannot be deleted.
    """
    names = {entry.name.removesuffix(".lock") for entry in snapshots_dir.glob("snapshot-*")}
    for folder in sorted(snapshots_dir / name for name in names):
        try:
            with _lock_of(folder).open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _discard(folder)
        except (FileNotFoundError, BlockingIOError):
            continue  # it is in use, or another owner removed the empty parent on exit
        except OSError as error:
            raise ConfigurationError(
                f"cannot delete the stale copy {shown(folder)}: {cause(error)}",
                hint="delete it by hand: it contains tokens from the database",
            ) from error


def _claim(parent: Path) -> tuple[Path, IO[str]]:
    """Lock a new folder's name before the folder exists: a folder always has an owner."""
    for _ in range(_CLAIM_ATTEMPTS):
        _make_private(parent)
        folder = parent / f"snapshot-{secrets.token_hex(8)}"
        # Another owner may remove the empty parent on exit.
        with suppress(FileNotFoundError, BlockingIOError), ExitStack() as unless_claimed:
            lock = unless_claimed.enter_context(_lock_of(folder).open("x"))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(lock.fileno()).st_nlink:
                unless_claimed.pop_all()
                return folder, lock
    raise OSError(errno.EBUSY, "other processes keep removing it")


def _make_private(folder: Path) -> None:
    for missing in reversed((folder, *folder.parents)):
        if not missing.exists():
            missing.mkdir(mode=0o700, exist_ok=True)


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def _discard(folder: Path) -> None:
    """Delete the folder, then its lock: the lock marks leftovers of a killed process."""
    # Its owner may be deleting it too, so missing files are fine.
    with suppress(FileNotFoundError):
        shutil.rmtree(folder)
    _lock_of(folder).unlink(missing_ok=True)
