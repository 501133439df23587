"""Reads the user's files as plain bytes; SQLite never opens them."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Final

from tautulli_pipeline.errors import SourceChangedError
from tautulli_pipeline.source.faults import read_faults, refused, spelled_out, unreadable

SQLITE_MAGIC = b"SQLite format 3\0"

_HEADER_BYTES = 100  # includes both change counters of a database
_WAL_HEADER_BYTES = 32  # includes the salts and the checkpoint sequence
_CHUNK_BYTES = 1 << 20
# Two writes within one clock tick leave the same times. FAT has a resolution of 2 s; file
# systems with fractional seconds have a resolution of a few milliseconds.
_COARSE_TICK_NS = 3_000_000_000
_FINE_TICK_NS = 500_000_000
_SECOND_NS = 1_000_000_000
# What people write for the address of a running Tautulli, such as `nas:8181`.
_HOST_AND_PORT: Final = re.compile(r"[\w.-]+:\d+")


@dataclass(frozen=True)
class ObservedFile:
    """A file's identity, times and first bytes."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    header: bytes

    def settled_at(self, time_ns: int) -> bool:
        """Whether any write after `time_ns` would change the times."""
        is_coarse = self.mtime_ns % _SECOND_NS == 0
        tick_ns = _COARSE_TICK_NS if is_coarse else _FINE_TICK_NS
        return time_ns - max(self.mtime_ns, self.ctime_ns) > tick_ns


@dataclass(frozen=True)
class Observed:
    """The state of a database's files at one moment."""

    database: ObservedFile | None
    wal: ObservedFile | None
    journal: ObservedFile | None

    @property
    def files(self) -> dict[str, ObservedFile | None]:
        """The files by suffix, in the order in which they are copied."""
        return {"": self.database, "-wal": self.wal, "-journal": self.journal}

    def name_at(self, original: Path) -> str:
        """Return a hash of the times, sizes and headers, and the path, as valid UTF-8."""
        fingerprint = hashlib.blake2b(repr(self).encode(), digest_size=16).hexdigest()
        return f"{fingerprint} {spelled_out(original)}"

    def settled_at(self, time_ns: int) -> bool:
        """Whether any write after `time_ns` would change the times."""
        return all(file is None or file.settled_at(time_ns) for file in self.files.values())

    @property
    def copy_bytes(self) -> int:
        """The space needed for the copy, including a checkpoint that grows it by the WAL."""
        return sum(file.size for file in (*self.files.values(), self.wal) if file)

    def require_same(self, later: Observed) -> None:
        """Reject every change except an append to the WAL."""
        if self.database != later.database:
            raise SourceChangedError("the database changed")
        if self.journal != later.journal:
            raise SourceChangedError("its rollback journal changed")
        if _log_identity(self.wal) != _log_identity(later.wal):
            raise SourceChangedError("its write-ahead log was restarted")


def locate(source: Path) -> Path:
    """Return the path of the file itself, with links resolved.

    Raises:
        SourceError: the file does not exist or cannot be accessed.
    """
    try:
        source.stat()
        return source.resolve()
    except FileNotFoundError:
        state = "it is a broken link" if source.is_symlink() else "it does not exist"
        hint = "check the path of the Tautulli database"
        if _HOST_AND_PORT.fullmatch(source.name):
            hint += f"; for a running Tautulli, write http://{source.name}"
        raise refused(source, state, hint) from None
    except OSError as error:
        raise unreadable(source, error) from error


def sidecar(database: Path, suffix: str) -> Path:
    """Return the path of the WAL or journal of a database, which may not exist."""
    return database.with_name(database.name + suffix)


def observe(database: Path) -> Observed:
    """Return the state of a database, its WAL and its journal."""
    return Observed(*(look(sidecar(database, suffix)) for suffix in ("", "-wal", "-journal")))


def open_regular(path: Path) -> FileIO:
    """Open a regular file for reading; reject anything else without opening it."""
    mode = path.lstat().st_mode
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
        raise refused(path, f"it is {kind}", "give the path of the database file itself")
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW), "rb", buffering=0)


def chunks(path: Path, size: int, *, chunk_bytes: int = _CHUNK_BYTES) -> Iterator[memoryview]:
    """Yield the first `size` bytes; each chunk is valid until the next one is requested."""
    buffer = memoryview(bytearray(min(size, chunk_bytes)))
    try:
        with read_faults(path), open_regular(path) as file:
            while size:
                count = file.readinto(buffer[:size])
                if not count:
                    raise SourceChangedError("it was truncated")
                yield buffer[:count]
                size -= count
    except FileNotFoundError:
        raise SourceChangedError("one of its files disappeared") from None


def require_digest(path: Path, size: int, expected: str) -> None:
    """Read a file again whose times are too recent to reveal a write during the copy."""
    digest = hashlib.sha256()
    for chunk in chunks(path, size):
        digest.update(chunk)
    if digest.hexdigest() != expected:
        raise SourceChangedError("it changed within one clock tick")


def _log_identity(wal: ObservedFile | None) -> tuple[int, int, bytes] | None:
    return (wal.device, wal.inode, wal.header[:_WAL_HEADER_BYTES]) if wal else None


def look(path: Path) -> ObservedFile | None:
    """Return the state of one file; None if it does not exist."""
    with suppress(FileNotFoundError), read_faults(path), open_regular(path) as file:
        seen = os.fstat(file.fileno())
        return ObservedFile(
            device=seen.st_dev,
            inode=seen.st_ino,
            size=seen.st_size,
            mtime_ns=seen.st_mtime_ns,
            ctime_ns=seen.st_ctime_ns,
            header=file.read(_HEADER_BYTES),
        )
    return None
