"""A private copy of the user's database, taken without touching the original.

SQLite itself writes beside any file it opens, so the original is only ever read as
plain bytes. Only the copy is opened, and it is deleted after use: it holds tokens.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
import shutil
import sqlite3
import stat
import time
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from tautulli_pipeline.errors import ConfigurationError, SourceChangedError, SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import FileIO
    from pathlib import Path

_COPY_NAME = "tautulli.db"
_MAGIC = b"SQLite format 3\0"
_SUPER_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")
_HEADER_BYTES = 100  # holds both change counters of a database
_WAL_HEADER_BYTES = 32  # holds the salts and the checkpoint sequence
_CHUNK_BYTES = 1 << 20
# FAT counts in steps of 2 s: two writes within a step leave the same times.
_SETTLED_AFTER_NS = 3_000_000_000
_CLAIM_ATTEMPTS = 10
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True)
class Snapshot:
    """A private copy of a database, usable while its context is open."""

    path: Path
    """The copy: rolled back or checkpointed, so a reader finds no WAL or journal."""
    source: Path
    """The original, with links resolved."""
    size_bytes: int
    """Size of the original's main file."""
    fingerprint: str
    """Changes whenever the bytes of the main file, WAL or journal change."""


@contextmanager
def take_snapshot(
    source: Path, snapshots_dir: Path, *, attempts: int = 5, pause_seconds: float = 0.2
) -> Iterator[Snapshot]:
    """Copy a database and what belongs to it; the copy lives as long as the context.

    The copy is one committed state of the original, also while another process writes.
    Nothing is created before the source has passed for a SQLite database, the original
    and its folder stay as they are, and no copy survives the context.

    Raises:
        SourceError: there is no readable SQLite database.
        SourceChangedError: no attempt found the source at rest.
        ConfigurationError: there is no room for the copy, or no right to write it.
    """
    original = _locate(source)
    observed = _observe(original)
    _require_database(original, observed.database)
    snapshots_dir = snapshots_dir.absolute()
    remove_stale_snapshots(snapshots_dir)
    with ExitStack() as stack:
        with _copy_faults(original, snapshots_dir, observed.copy_bytes):
            _require_room(snapshots_dir, observed.copy_bytes)
            folder = stack.enter_context(_private_folder(snapshots_dir))
            snapshot = _copy_at_rest(original, folder, attempts, pause_seconds)
            _settle(snapshot)
        yield snapshot


def remove_stale_snapshots(snapshots_dir: Path) -> None:
    """Delete the copies that killed processes left behind; live ones stay.

    Raises:
        ConfigurationError: one cannot be deleted.
    """
    names = {entry.name.removesuffix(".lock") for entry in snapshots_dir.glob("snapshot-*")}
    for folder in sorted(snapshots_dir / name for name in names):
        try:
            with _lock_of(folder).open("a") as lock:
                if _locks(lock):
                    _discard(folder)
        except FileNotFoundError:
            continue  # another owner that left took the empty parent along
        except OSError as error:
            raise ConfigurationError(
                f"cannot delete the stale copy {_shown(folder)}: {_cause(error)}",
                hint="delete it by hand: it holds the tokens of the database",
            ) from error


@dataclass(frozen=True)
class _File:
    """A file's identity, times and first bytes."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    header: bytes

    def settled_at(self, time_ns: int) -> bool:
        return time_ns - max(self.mtime_ns, self.ctime_ns) > _SETTLED_AFTER_NS


@dataclass(frozen=True)
class _Observed:
    """The files of a database at one moment."""

    database: _File | None
    wal: _File | None
    journal: _File | None

    @property
    def files(self) -> dict[str, _File | None]:
        """By suffix, in the order in which they are copied."""
        return {"": self.database, "-wal": self.wal, "-journal": self.journal}

    @property
    def copy_bytes(self) -> int:
        """Room for the copy, and for the checkpoint that may grow it by the WAL."""
        return sum(file.size for file in (*self.files.values(), self.wal) if file)

    def require_same(self, later: _Observed) -> None:
        """Refuse every change but a WAL that was only appended to."""
        if self.database != later.database:
            raise SourceChangedError("the database was written")
        if self.journal != later.journal:
            raise SourceChangedError("its rollback journal was written")
        if _log_identity(self.wal) != _log_identity(later.wal):
            raise SourceChangedError("its write-ahead log began anew")


def _log_identity(wal: _File | None) -> tuple[int, int, bytes] | None:
    return (wal.device, wal.inode, wal.header[:_WAL_HEADER_BYTES]) if wal else None


def _beside(database: Path, suffix: str) -> Path:
    return database.with_name(database.name + suffix)


def _observe(database: Path) -> _Observed:
    return _Observed(
        *(_look(_beside(database, suffix)) for suffix in ("", "-wal", "-journal")),
    )


def _look(path: Path) -> _File | None:
    with suppress(FileNotFoundError), _read_faults(path), _open_regular(path) as file:
        seen = os.fstat(file.fileno())
        return _File(
            device=seen.st_dev,
            inode=seen.st_ino,
            size=seen.st_size,
            mtime_ns=seen.st_mtime_ns,
            ctime_ns=seen.st_ctime_ns,
            header=file.read(_HEADER_BYTES),
        )
    return None


def _open_regular(path: Path) -> FileIO:
    """Open for reading; a pipe or device is refused before it can block or notice."""
    mode = path.lstat().st_mode
    if stat.S_ISDIR(mode):
        raise SourceError(
            f"cannot read {_shown(path)}: it is a folder", hint="name the database file itself"
        )
    if not stat.S_ISREG(mode):
        raise SourceError(f"cannot read {_shown(path)}: it is not a regular file")
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW), "rb", buffering=0)


def _locate(source: Path) -> Path:
    try:
        source.stat()
        return source.resolve()
    except FileNotFoundError:
        state = "the link leads nowhere" if source.is_symlink() else "it does not exist"
        raise SourceError(
            f"cannot read {_shown(source)}: {state}", hint="check the path of the Tautulli database"
        ) from None
    except OSError as error:
        raise _unreadable(source, error) from error


def _require_database(path: Path, seen: _File | None) -> None:
    if seen is None:
        raise SourceError(f"cannot read {_shown(path)}: it disappeared")
    if seen.size == 0:
        raise SourceError(
            f"cannot read {_shown(path)}: it is empty (0 bytes)",
            hint="import one of Tautulli's backups",
        )
    if not seen.header.startswith(_MAGIC):
        raise SourceError(
            f"cannot read {_shown(path)}: it is not a SQLite database",
            hint="name Tautulli's own database, usually tautulli.db",
        )


def _copy_at_rest(original: Path, folder: Path, attempts: int, pause_seconds: float) -> Snapshot:
    reason = "no attempt was made"
    for attempt in range(attempts):
        if attempt:
            time.sleep(pause_seconds)
        try:
            return _copy_once(original, folder)
        except SourceChangedError as change:
            reason = change.message
    raise SourceChangedError(
        f"{_shown(original)} kept changing while it was copied ({attempts} attempts): {reason}",
        hint="stop Tautulli for the import, or import one of its backups",
    )


def _copy_once(original: Path, folder: Path) -> Snapshot:
    """Copy all files, then prove that they belong together.

    The WAL is measured after the main file, so it holds every commit that an unchanged main
    file may lack; SQLite's own recovery ignores the frames behind the last whole commit.
    """
    began_ns = time.time_ns()
    before = _observe(original)
    if before.database is None:
        raise SourceChangedError("it disappeared")
    digests = {
        suffix: _copy(_beside(original, suffix), _beside(folder / _COPY_NAME, suffix), file)
        for suffix, file in before.files.items()
    }
    _require_no_super_journal(_beside(folder / _COPY_NAME, "-journal"))
    for suffix, file in before.files.items():
        if suffix != "-wal" and file and not file.settled_at(began_ns):
            _require_digest(_beside(original, suffix), file.size, digests[suffix])
    before.require_same(_observe(original))
    return Snapshot(
        path=folder / _COPY_NAME,
        source=original,
        size_bytes=before.database.size,
        fingerprint=hashlib.sha256(repr(digests).encode()).hexdigest(),
    )


def _copy(original: Path, target: Path, seen: _File | None) -> str:
    """Copy as many bytes as were seen; the digest is '' where there was no file."""
    target.unlink(missing_ok=True)
    if seen is None:
        return ""
    digest = hashlib.sha256()
    with target.open("xb") as copy:
        for chunk in _chunks(original, seen.size):
            digest.update(chunk)
            copy.write(chunk)
    return digest.hexdigest()


def _chunks(path: Path, size: int) -> Iterator[memoryview]:
    buffer = memoryview(bytearray(min(size, _CHUNK_BYTES)))
    try:
        with _read_faults(path), _open_regular(path) as file:
            while size:
                count = file.readinto(buffer[:size])
                if not count:
                    raise SourceChangedError("it was cut short")
                yield buffer[:count]
                size -= count
    except FileNotFoundError:
        raise SourceChangedError("a part of it disappeared") from None


def _require_digest(path: Path, size: int, expected: str) -> None:
    """Read again where the times are too young to betray a write under the copy."""
    digest = hashlib.sha256()
    for chunk in _chunks(path, size):
        digest.update(chunk)
    if digest.hexdigest() != expected:
        raise SourceChangedError("it was written within one tick of its clock")


def _require_no_super_journal(journal: Path) -> None:
    """Refuse a journal whose fate hangs on a file that SQLite would look up by its path."""
    if journal.exists() and journal.stat().st_size >= len(_SUPER_JOURNAL_MAGIC):
        with journal.open("rb") as file:
            file.seek(-len(_SUPER_JOURNAL_MAGIC), os.SEEK_END)
            if file.read() == _SUPER_JOURNAL_MAGIC:
                raise SourceChangedError("a transaction over several databases is under way")


def _settle(snapshot: Snapshot) -> None:
    """Open the copy: roll back its journal or take in its WAL, and leave WAL mode."""
    try:
        with closing(sqlite3.connect(snapshot.path, isolation_level=None)) as connection:
            for pragma in ("locking_mode = EXCLUSIVE", "synchronous = OFF", "schema_version"):
                connection.execute(f"PRAGMA {pragma}").fetchall()
            connection.execute("SELECT count(*) FROM sqlite_master").fetchall()
            connection.execute("PRAGMA journal_mode = DELETE").fetchall()
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            raise OSError(errno.ENOSPC, str(error)) from error
        raise SourceError(
            f"cannot open a copy of {_shown(snapshot.source)}: {error}",
            hint="import one of Tautulli's backups",
        ) from error
    _beside(snapshot.path, "-journal").unlink(missing_ok=True)


@contextmanager
def _private_folder(parent: Path) -> Iterator[Path]:
    """Make a folder for one owner; on leaving, what was made is gone."""
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


def _claim(parent: Path) -> tuple[Path, IO[str]]:
    """Lock a new folder's name before the folder exists, so that none is ever unowned."""
    for _ in range(_CLAIM_ATTEMPTS):
        _make_private(parent)
        folder = parent / f"snapshot-{secrets.token_hex(8)}"
        # Another owner that leaves may take the empty parent along.
        with suppress(FileNotFoundError):
            lock = _lock_of(folder).open("x")
            if _locks(lock) and os.fstat(lock.fileno()).st_nlink:
                return folder, lock
            lock.close()
    raise OSError(errno.EBUSY, "other processes keep removing it")


def _make_private(folder: Path) -> None:
    for missing in reversed((folder, *folder.parents)):
        if not missing.exists():
            missing.mkdir(mode=0o700, exist_ok=True)


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def _locks(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _discard(folder: Path) -> None:
    """Delete the folder and last its lock, which marks what is left after a kill."""
    # Its owner may be deleting it as well: what is gone already is as it should be.
    with suppress(FileNotFoundError):
        shutil.rmtree(folder)
    _lock_of(folder).unlink(missing_ok=True)


def _require_room(snapshots_dir: Path, needed_bytes: int) -> None:
    if shutil.disk_usage(_existing(snapshots_dir)).free < needed_bytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())


@contextmanager
def _read_faults(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _unreadable(path, error) from error


@contextmanager
def _copy_faults(original: Path, snapshots_dir: Path, needed_bytes: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        cause, hint = _cause(error), "PIPELINE_DATA_DIR says where copies are made"
        if error.errno in _NO_ROOM:
            free = shutil.disk_usage(_existing(snapshots_dir)).free
            cause = f"it needs {_megabytes(needed_bytes)}, {_megabytes(free)} are free"
            hint = "make room, or set PIPELINE_DATA_DIR to a larger disk"
        raise ConfigurationError(
            f"cannot copy {_shown(original)} to {_shown(snapshots_dir)}: {cause}", hint=hint
        ) from error


def _unreadable(path: Path, error: OSError) -> SourceError:
    return SourceError(
        f"cannot read {_shown(path)}: {_cause(error)}",
        hint="give this user read access to the database, its folder and its -wal",
    )


def _cause(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.1f} MB"


def _shown(path: Path) -> str:
    """Quoted and escaped: a path may hold line breaks."""
    return repr(str(path))
