"""The user's own files, looked at and read as plain bytes; SQLite never opens them."""

from __future__ import annotations

import hashlib
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tautulli_pipeline.errors import SourceChangedError
from tautulli_pipeline.source.faults import read_faults, refused, spelled_out, unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import FileIO
    from pathlib import Path

SQLITE_MAGIC = b"SQLite format 3\0"

_HEADER_BYTES = 100  # holds both change counters of a database
_WAL_HEADER_BYTES = 32  # holds the salts and the checkpoint sequence
_CHUNK_BYTES = 1 << 20
# Two writes within one tick of a clock leave the same times. FAT counts in steps of 2 s;
# whatever counts in parts of seconds does so in steps of some milliseconds.
_COARSE_TICK_NS = 3_000_000_000
_FINE_TICK_NS = 500_000_000
_SECOND_NS = 1_000_000_000


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
        """Whether every later write shows in the times."""
        is_coarse = self.mtime_ns % _SECOND_NS == 0
        tick_ns = _COARSE_TICK_NS if is_coarse else _FINE_TICK_NS
        return time_ns - max(self.mtime_ns, self.ctime_ns) > tick_ns


@dataclass(frozen=True)
class Observed:
    """The files of a database at one moment."""

    database: ObservedFile | None
    wal: ObservedFile | None
    journal: ObservedFile | None

    @property
    def files(self) -> dict[str, ObservedFile | None]:
        """By suffix, in the order in which they are copied."""
        return {"": self.database, "-wal": self.wal, "-journal": self.journal}

    @property
    def fingerprint(self) -> str:
        """Names their state by times, sizes and headers alone."""
        return hashlib.blake2b(repr(self).encode(), digest_size=16).hexdigest()

    def name_at(self, original: Path) -> str:
        """Their state together with the path, as any format takes it."""
        return f"{self.fingerprint} {spelled_out(original)}"

    def settled_at(self, time_ns: int) -> bool:
        """Whether every later write shows in the times."""
        return all(file is None or file.settled_at(time_ns) for file in self.files.values())

    @property
    def copy_bytes(self) -> int:
        """Room for the copy, and for the checkpoint that may grow it by the WAL."""
        return sum(file.size for file in (*self.files.values(), self.wal) if file)

    def require_same(self, later: Observed) -> None:
        """Refuse every change but a WAL that was only appended to."""
        if self.database != later.database:
            raise SourceChangedError("the database was written")
        if self.journal != later.journal:
            raise SourceChangedError("its rollback journal was written")
        if _log_identity(self.wal) != _log_identity(later.wal):
            raise SourceChangedError("its write-ahead log began anew")


def locate(source: Path) -> Path:
    """The path of the file itself, with links resolved.

    Raises:
        SourceError: it leads nowhere.
    """
    try:
        source.stat()
        return source.resolve()
    except FileNotFoundError:
        state = "the link leads nowhere" if source.is_symlink() else "it does not exist"
        raise refused(source, state, "check the path of the Tautulli database") from None
    except OSError as error:
        raise unreadable(source, error) from error


def beside(database: Path, suffix: str) -> Path:
    """The WAL or journal of a database, which need not be there."""
    return database.with_name(database.name + suffix)


def observe(database: Path) -> Observed:
    """Look at a database and what belongs to it."""
    return Observed(*(look(beside(database, suffix)) for suffix in ("", "-wal", "-journal")))


def open_regular(path: Path) -> FileIO:
    """Open for reading; a pipe or device is refused before it can block or notice.

    Raises:
        SourceError: it is no regular file.
    """
    mode = path.lstat().st_mode
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
        raise refused(path, f"it is {kind}", "name the database file itself")
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW), "rb", buffering=0)


def chunks(path: Path, size: int, *, chunk_bytes: int = _CHUNK_BYTES) -> Iterator[memoryview]:
    """The first `size` bytes, each part good until the next one is asked for."""
    buffer = memoryview(bytearray(min(size, chunk_bytes)))
    try:
        with read_faults(path), open_regular(path) as file:
            while size:
                count = file.readinto(buffer[:size])
                if not count:
                    raise SourceChangedError("it was cut short")
                yield buffer[:count]
                size -= count
    except FileNotFoundError:
        raise SourceChangedError("a part of it disappeared") from None


def require_digest(path: Path, size: int, expected: str) -> None:
    """Read again where the times are too young to betray a write under the copy."""
    digest = hashlib.sha256()
    for chunk in chunks(path, size):
        digest.update(chunk)
    if digest.hexdigest() != expected:
        raise SourceChangedError("it was written within one tick of its clock")


def _log_identity(wal: ObservedFile | None) -> tuple[int, int, bytes] | None:
    return (wal.device, wal.inode, wal.header[:_WAL_HEADER_BYTES]) if wal else None


def look(path: Path) -> ObservedFile | None:
    """State of one file; None if it does not exist."""
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
