"""The data directory: made, unmade where nothing came of it, and the faults of its disk."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from tautulli_pipeline.errors import ConfigurationError, PipelineError
from tautulli_pipeline.settings import Settings

_DISK_FAULTS: Final = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM}
)
# SQLite's READONLY, IOERR, FULL and CANTOPEN, which Dagster's storage runs into.
_SQLITE_FAULTS: Final = frozenset({8, 10, 13, 14})
# SQLite calls a full disk an I/O error.
_FULL_BELOW_BYTES: Final = 2**20


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
def data_directory(settings: Settings) -> Iterator[None]:
    """Make the data directory; one that was made for nothing is gone again.

    Raises:
        ConfigurationError: it cannot be made, or the warehouse's folder is not there.
    """
    require_warehouse_folder(settings)
    data_dir = settings.data_dir
    missing = [folder for folder in (data_dir, *data_dir.parents) if not folder.exists()]
    make_data_dir(settings)
    try:
        yield
    except BaseException:
        with suppress(OSError):  # something came of it
            for made in missing:
                made.rmdir()
        raise


def require_warehouse_folder(settings: Settings) -> None:
    """See that the folder of DUCKDB_PATH is there: making it would fill what a mount would cover.

    Raises:
        ConfigurationError: it is not.
    """
    path = settings.warehouse_path
    if path.parent != settings.data_dir and not path.parent.is_dir():
        raise ConfigurationError(
            f"DUCKDB_PATH={str(path)!r} is not usable: there is no folder {path.parent}",
            hint="make or mount the folder first, or set DUCKDB_PATH to a file in another one",
        )


@contextmanager
def explained_faults(data_dir: Path) -> Iterator[None]:
    """Turn what the disk of the data directory refuses into a fault of ours.

    Raises:
        ConfigurationError: it is full, or cannot be written.
    """
    try:
        yield
    except PipelineError:
        raise
    except Exception as error:
        cause = _disk_fault(error)
        if cause is None:
            raise
        full = shutil.disk_usage(_existing(data_dir)).free < _FULL_BELOW_BYTES
        raise ConfigurationError(
            f"cannot write to the data directory {data_dir}: "
            f"{'its disk is full' if full else cause}",
            hint="see that it has room and can be written, then import again to resume",
        ) from error


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())


def _disk_fault(error: BaseException) -> str | None:
    """What the disk refused, where that is behind `error`."""
    for cause in _chain(error):
        if isinstance(cause, OSError) and cause.errno in _DISK_FAULTS:
            return os.strerror(cause.errno).lower()
        # Without naming sqlite3: only its errors have such a code.
        if getattr(cause, "sqlite_errorcode", 0) & 0xFF in _SQLITE_FAULTS:
            return str(cause)
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what led to it; such a chain may lead back to itself."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        yield cause
        seen.add(id(cause))
        cause = cause.__cause__ or cause.__context__
