"""Takes a private copy of the user's database without changing the original.

SQLite can create files next to any database it opens, so the original is only read as
plain bytes. Only the copy is opened. It contains tokens and is deleted after use.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tautulli_pipeline.errors import ConfigurationError, SourceChangedError
from tautulli_pipeline.source.address import Named
from tautulli_pipeline.source.archive import archived_bytes, extract_database, is_archive
from tautulli_pipeline.source.faults import cause, refused, shown, spelled_out
from tautulli_pipeline.source.original import (
    SQLITE_MAGIC,
    Observed,
    ObservedFile,
    chunks,
    locate,
    observe,
    require_digest,
    sidecar,
)
from tautulli_pipeline.source.private_folder import private_folder, remove_stale_snapshots
from tautulli_pipeline.source.queries import explained, open_copy, primary_code
from tautulli_pipeline.source.sqlite_locks import await_unlocked, lock_holder

OnCopied = Callable[[int, int], None]

COPY_NAME = "tautulli.db"
_SUPER_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")
_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True)
class Snapshot:
    """A private copy of a database, usable while its context is open."""

    path: Path
    """The copy, rolled back or checkpointed: it has no WAL or journal."""
    source: Named
    """The original, with links resolved and bytes that are not UTF-8 escaped."""
    size_bytes: int
    """Size of the original's main file."""
    fingerprint: str
    """Changes whenever the bytes of the main file, WAL or journal change."""


@contextmanager
def take_snapshot(
    source: Path,
    snapshots_dir: Path,
    *,
    attempts: int = 5,
    pause_seconds: float = 0.2,
    patience_seconds: float = 3.0,
    prepare: Callable[[Snapshot], None] = lambda _snapshot: None,
    on_copied: OnCopied = lambda _done, _total: None,
) -> Iterator[Snapshot]:
    """Copy a database with its WAL and journal; the copy exists as long as the context.

    The copy is a committed state of the original, even if another process is writing.
    Nothing is created until the source is known to be a SQLite database or a zip archive.
    The original and its folder are not changed.

    Args:
        source: the database, or a zip archive of one.
        snapshots_dir: the parent of the temporary folder for the copy.
        attempts: how often to copy a source that changes during the copy.
        pause_seconds: the pause between two attempts.
        patience_seconds: how long to wait for a lock that excludes readers.
        prepare: called with the copy before SQLite opens it.
        on_copied: receives the bytes that are copied and in total, often.

    Raises:
        SourceError: the source is not a readable SQLite database, or a process locks it.
        SourceChangedError: the source changed during every attempt.
        ConfigurationError: there is not enough space for the copy, or no write permission.
    """
    original = locate(source)
    needed_bytes = _needed_bytes(original, observe(original))
    await_unlocked(original, patience_seconds)
    snapshots_dir = snapshots_dir.absolute()
    remove_stale_snapshots(snapshots_dir)
    with ExitStack() as stack:
        with copy_faults(original, snapshots_dir, needed_bytes):
            if free_bytes(snapshots_dir) < needed_bytes:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            folder = stack.enter_context(private_folder(snapshots_dir))
            progress = _Progress(on_copied, needed_bytes)
            snapshot = _copy_at_rest(
                original,
                folder,
                progress,
                attempts=attempts,
                pause_seconds=pause_seconds,
                patience_seconds=patience_seconds,
            )
            _unpack(snapshot, progress)
            prepare(snapshot)
            settle(snapshot)
        yield snapshot


def _needed_bytes(original: Path, observed: Observed) -> int:
    """Return the space needed for the copy; reject anything but a database or an archive."""
    seen = observed.database
    if seen is None:
        raise refused(original, "it disappeared")
    if seen.size == 0:
        raise refused(original, "it is empty (0 bytes)", "import a Tautulli backup")
    if is_archive(seen.header):
        return observed.copy_bytes + archived_bytes(original)
    if not seen.header.startswith(SQLITE_MAGIC):
        hint = "give the path of Tautulli's database, usually tautulli.db, or of a backup"
        raise refused(original, "it is not a SQLite database", hint)
    return observed.copy_bytes


class _Progress:
    """Counts the bytes of a source that are copied."""

    def __init__(self, on_copied: OnCopied, total_bytes: int) -> None:
        self._on_copied = on_copied
        self._total_bytes = total_bytes
        self._done_bytes = 0

    def add(self, copied_bytes: int) -> None:
        self._done_bytes += copied_bytes
        self._on_copied(self._done_bytes, self._total_bytes)

    def restart(self) -> None:
        self._done_bytes = 0


def _copy_at_rest(
    original: Path,
    folder: Path,
    progress: _Progress,
    *,
    attempts: int,
    pause_seconds: float,
    patience_seconds: float,
) -> Snapshot:
    reason = "no attempt was made"
    for attempt in range(attempts):
        if attempt:
            time.sleep(pause_seconds)
        await_unlocked(original, patience_seconds)
        try:
            progress.restart()
            return _copy_once(original, folder, progress)
        except SourceChangedError as change:
            reason = change.message
    raise SourceChangedError(
        f"{shown(original)} kept changing while it was copied ({attempts} attempts): {reason}",
        hint="stop Tautulli during the import, or import a Tautulli backup",
    )


def _copy_once(original: Path, folder: Path, progress: _Progress) -> Snapshot:
    """Copy all files, then verify that they are consistent.

    The WAL is measured after the main file, so it has every commit that is missing from an
    unchanged main file. SQLite's recovery ignores frames after the last complete commit.
    """
    began_ns = time.time_ns()
    before = observe(original)
    if before.database is None:
        raise SourceChangedError("it disappeared")
    digests = {
        suffix: copy_file(
            sidecar(original, suffix), sidecar(folder / COPY_NAME, suffix), file, progress.add
        )
        for suffix, file in before.files.items()
    }
    _require_no_super_journal(sidecar(folder / COPY_NAME, "-journal"))
    for suffix, file in before.files.items():
        if suffix != "-wal" and file and not file.settled_at(began_ns):
            require_digest(sidecar(original, suffix), file.size, digests[suffix])
    before.require_same(observe(original))
    if holder := lock_holder(original):
        raise SourceChangedError(f"{holder} locked it")
    return Snapshot(
        path=folder / COPY_NAME,
        source=spelled_out(original),
        size_bytes=before.database.size,
        fingerprint=hashlib.sha256(repr(digests).encode()).hexdigest(),
    )


def copy_file(
    original: Path,
    target: Path,
    seen: ObservedFile | None,
    on_copied: Callable[[int], None] = lambda _count: None,
) -> str:
    """Copy the observed number of bytes and return their digest; '' if there was no file."""
    target.unlink(missing_ok=True)
    if seen is None:
        return ""
    digest = hashlib.sha256()
    with target.open("xb") as copy, ThreadPoolExecutor(1) as worker:
        for chunk in chunks(original, seen.size):
            # Hashing and writing take equally long, and both release the GIL.
            digesting = worker.submit(digest.update, chunk)
            copy.write(chunk)
            digesting.result()
            on_copied(len(chunk))
    return digest.hexdigest()


def _require_no_super_journal(journal: Path) -> None:
    """Reject a journal that depends on a super-journal, which SQLite finds by its path."""
    if journal.exists() and journal.stat().st_size >= len(_SUPER_JOURNAL_MAGIC):
        with journal.open("rb") as file:
            file.seek(-len(_SUPER_JOURNAL_MAGIC), os.SEEK_END)
            if file.read() == _SUPER_JOURNAL_MAGIC:
                raise SourceChangedError("a transaction across several databases is in progress")


def _unpack(snapshot: Snapshot, progress: _Progress) -> None:
    """Replace a copied archive with the database it contains."""
    with snapshot.path.open("rb") as copy:
        if not is_archive(copy.read(len(SQLITE_MAGIC))):
            return
    archive = snapshot.path.rename(snapshot.path.with_name("backup.zip"))
    extract_database(archive, snapshot.path, named=snapshot.source, on_copied=progress.add)
    archive.unlink()


def settle(snapshot: Snapshot) -> None:
    """Open the copy to roll back its journal or checkpoint its WAL, and leave WAL mode."""
    failed = f"cannot open a copy of {shown(snapshot.source)}"
    with (
        open_copy(snapshot.path, mode="rw") as connection,
        explained(connection, failed, hint="import a Tautulli backup"),
    ):
        try:
            for pragma in ("locking_mode = EXCLUSIVE", "synchronous = OFF", "schema_version"):
                connection.execute(f"PRAGMA {pragma}").fetchall()
            connection.execute("SELECT count(*) FROM sqlite_master").fetchall()
            connection.execute("PRAGMA journal_mode = DELETE").fetchall()
        except sqlite3.OperationalError as error:
            if primary_code(error) != sqlite3.SQLITE_FULL:
                raise
            raise OSError(errno.ENOSPC, str(error)) from error
    sidecar(snapshot.path, "-journal").unlink(missing_ok=True)


def free_bytes(folder: Path) -> int:
    """Return the free space where a folder is, or will be."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return shutil.disk_usage(existing).free


@contextmanager
def copy_faults(original: Named, snapshots_dir: Path, needed_bytes: int) -> Iterator[None]:
    """Replace system errors while a copy is written."""
    try:
        yield
    except OSError as error:
        reason, hint = cause(error), "copies are made in PIPELINE_DATA_DIR: make it writable"
        if error.errno in _NO_SPACE:
            free = free_bytes(snapshots_dir)
            reason = f"it needs {_megabytes(needed_bytes)}, but {_megabytes(free)} are free"
            hint = "free up space, or set PIPELINE_DATA_DIR to a folder on a larger disk"
        raise ConfigurationError(
            f"cannot copy {shown(original)} to {shown(snapshots_dir)}: {reason}", hint=hint
        ) from error


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.1f} MB"
