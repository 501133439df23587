"""Creating the data directory, removing it if it stays empty, and explaining disk errors."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from tautulli_pipeline.errors import ConfigurationError, PipelineError
from tautulli_pipeline.settings import Settings

_DISK_ERRORS: Final = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM}
)
# SQLite's READONLY, IOERR, FULL and CANTOPEN, which Dagster's storage can raise.
_SQLITE_ERRORS: Final = frozenset({8, 10, 13, 14})
# SQLite may report a full disk as an I/O error, so the free space decides.
_FULL_BELOW_BYTES: Final = 2**20
_OTHER_USERS: Final = stat.S_IRWXG | stat.S_IRWXO


def make_data_dir(settings: Settings) -> None:
    """Create the data directory, private to its owner.

    Raises:
        ConfigurationError: it cannot be created.
    """
    try:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"PIPELINE_DATA_DIR={str(settings.data_dir)!r} is not usable: {error.strerror}",
            hint="set PIPELINE_DATA_DIR to a writable directory",
        ) from error


def close_to_others(settings: Settings) -> list[Path]:
    """Make what is in the data directory private to its owner.

    The mode of an existing folder is not changed, because the user may share it for other
    files, nor is that of a warehouse in another folder.

    Returns:
        The files that other users can still read.
    """
    exposed, warehouse = [], settings.warehouse_path
    if _is_open(settings.data_dir):
        for path in filter(_is_open, settings.layout.entries()):
            exposed.append(path)
            with suppress(OSError):  # it belongs to another user, or it was just deleted
                path.chmod(stat.S_IMODE(path.lstat().st_mode) & ~_OTHER_USERS)
    if warehouse.parent != settings.data_dir and warehouse.is_file() and _is_open(warehouse):
        exposed.append(warehouse)
    # Some file systems ignore a change of the mode.
    return [path for path in exposed if _is_open(path)]


def _is_open(path: Path) -> bool:
    """Whether the mode lets other users read or change the file; false if it does not exist."""
    with suppress(OSError):
        mode = path.lstat().st_mode
        return not stat.S_ISLNK(mode) and bool(mode & _OTHER_USERS)
    return False


@contextmanager
def data_directory(
    settings: Settings, say: Callable[[str], None] = lambda _words: None
) -> Iterator[None]:
    """Create the data directory; on an error, remove it again if it is new and empty.

    `say` receives a warning if other users can read what is in it.

    Raises:
        ConfigurationError: it cannot be created, or the warehouse's folder does not exist.
    """
    require_warehouse_folder(settings)
    data_dir = settings.data_dir
    missing = [folder for folder in (data_dir, *data_dir.parents) if not folder.exists()]
    make_data_dir(settings)
    for path in close_to_others(settings):
        say(f"other users can read {path}; to keep them out, use `chmod go-rwx`")
    try:
        yield
    except BaseException:
        with suppress(OSError):  # it is not empty
            for made in missing:
                made.rmdir()
        raise


def require_warehouse_folder(settings: Settings) -> None:
    """Raise a `ConfigurationError` unless the folder of DUCKDB_PATH exists.

    It may be an unmounted mount point, so it is never created.
    """
    path = settings.warehouse_path
    if path.parent != settings.data_dir and not path.parent.is_dir():
        raise ConfigurationError(
            f"DUCKDB_PATH={str(path)!r} is not usable: folder {path.parent} does not exist",
            hint="create or mount the folder first, or set DUCKDB_PATH to a file in another folder",
        )


@contextmanager
def explained_faults(data_dir: Path) -> Iterator[None]:
    """Turn errors of a full or read-only disk into a `ConfigurationError`."""
    try:
        yield
    except PipelineError:
        raise
    except Exception as error:
        cause = _disk_error(error)
        if cause is None:
            raise
        existing = next(path for path in (data_dir, *data_dir.parents) if path.exists())
        full = shutil.disk_usage(existing).free < _FULL_BELOW_BYTES
        raise ConfigurationError(
            f"cannot write to the data directory {data_dir}: "
            f"{'its disk is full' if full else cause}",
            hint="check that it has free space and is writable, then import again to resume",
        ) from error


def _disk_error(error: BaseException) -> str | None:
    """Return the disk error behind `error`, if any."""
    for cause in _chain(error):
        if isinstance(cause, OSError) and cause.errno in _DISK_ERRORS:
            return os.strerror(cause.errno).lower()
        # Only sqlite3 errors have this attribute, so sqlite3 need not be imported.
        if getattr(cause, "sqlite_errorcode", 0) & 0xFF in _SQLITE_ERRORS:
            return str(cause)
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and its causes; stops if the chain is circular."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        yield cause
        seen.add(id(cause))
        cause = cause.__cause__ or cause.__context__
