"""Tautulli's zipped backups: the one database in an archive, as a stream of bounded size.

A member's name is never used as a path, its size is not taken on trust, and an archive
that holds anything but one database and harmless company is refused.
"""

from __future__ import annotations

import errno
import re
import stat
import struct
import zipfile
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from tautulli_pipeline.source.faults import read_faults, refused
from tautulli_pipeline.source.original import SQLITE_MAGIC, open_regular

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from io import FileIO
    from pathlib import Path

    from tautulli_pipeline.errors import SourceError

_MAGICS: Final = (b"PK\3\4", b"PK\5\6")
# Many times the largest history; a bomb is told from its directory alone.
_LARGEST_DATABASE_BYTES: Final = 16 << 30
_MOST_MEMBERS: Final = 1000
_MOST_BYTES_AT_ONCE: Final = 1 << 20
_NAMES_SHOWN: Final = 3
_MOST_LETTERS: Final = 80
_ENCRYPTED: Final = 0x1 | 0x40
_COMPRESSIONS: Final = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
_OUTSIDE: Final = re.compile(r"/|[A-Za-z]:|.*[\\\0]|(.*/)?\.\.(/|$)", re.DOTALL)

_TAKE_ANOTHER: Final = "take another of Tautulli's backups"
_UNZIP: Final = "unzip it, and import the database that was in it"


def is_archive(header: bytes) -> bool:
    """Whether a file that begins with `header` is a zip archive, whatever its name."""
    return header.startswith(_MAGICS)


def archived_bytes(archive: Path) -> int:
    """Size of the one database in an archive.

    Raises:
        SourceError: it holds none, or not one alone, or is not fit to be read.
    """
    with read_faults(archive), _opened(archive, archive) as opened:
        return _the_database(opened, archive).file_size


def extract_database(archive: Path, target: Path, *, named: Path) -> None:
    """Write the one database in an archive to `target`, which must not be there yet.

    Args:
        archive: a private copy of the archive.
        target: the new file.
        named: the path of the original, for messages.

    Raises:
        SourceError: as `archived_bytes`, or the content is not what the directory says.
    """
    with _opened(archive, named) as opened, target.open("xb") as copy:
        member = _the_database(opened, named)
        with opened.open(member) as content:
            while chunk := content.read(_MOST_BYTES_AT_ONCE):
                copy.write(chunk)
        if copy.tell() != member.file_size:
            raise zipfile.BadZipFile("it is shorter than it should be")


@contextmanager
def _opened(archive: Path, named: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with open_regular(archive) as file, zipfile.ZipFile(_SmallReads(file)) as opened:
            yield opened
    except NotImplementedError as error:
        raise refused(named, f"it is a zip archive of an unknown kind ({error})", _UNZIP) from error
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError) as error:
        raise _damaged(named, str(error) or "it ends too early") from error
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise _damaged(named, "its directory points before its beginning") from error


class _SmallReads:
    """A file of which nobody gets much at once: a directory of any size asks for memory."""

    def __init__(self, file: FileIO) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell
        self.seekable = file.seekable

    def read(self, size: int = -1) -> bytes:
        if size > _MOST_BYTES_AT_ONCE:
            raise zipfile.BadZipFile(f"its directory has {size:,} bytes")
        return self._file.read(size)


def _the_database(opened: zipfile.ZipFile, named: Path) -> zipfile.ZipInfo:
    members = [member for member in opened.infolist() if not member.filename.endswith("/")]
    if len(members) > _MOST_MEMBERS:
        raise refused(named, f"it is a zip archive of {len(members):,} files", _UNZIP)
    for member in opened.infolist():
        _require_harmless(member, named)
    databases = [member for member in members if _is_database(opened, member)]
    if not databases:
        raise refused(
            named,
            "it is a zip archive without a SQLite database",
            "name one of Tautulli's backups, or its own database, usually tautulli.db",
        )
    if len(databases) > 1:
        raise refused(named, f"it holds {len(databases)} databases: {_names(databases)}", _UNZIP)
    _require_alone(databases[0], members, named)
    return databases[0]


def _require_harmless(member: zipfile.ZipInfo, named: Path) -> None:
    name = _named(member)
    kind = stat.S_IFMT(member.external_attr >> 16)
    if _OUTSIDE.match(member.orig_filename):
        raise refused(named, f"its member {name} points outside of the archive", _TAKE_ANOTHER)
    if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
        raise refused(named, f"its member {name} is a link or a device", _TAKE_ANOTHER)
    if member.flag_bits & _ENCRYPTED:
        raise refused(named, f"its member {name} is encrypted", _UNZIP)
    if member.compress_type not in _COMPRESSIONS:
        method = f"method {member.compress_type}, which is not supported"
        raise refused(named, f"its member {name} is compressed by {method}", _UNZIP)


def _is_database(opened: zipfile.ZipFile, member: zipfile.ZipInfo) -> bool:
    with opened.open(member) as content:
        return content.read(len(SQLITE_MAGIC)) == SQLITE_MAGIC


def _require_alone(
    database: zipfile.ZipInfo, members: Sequence[zipfile.ZipInfo], named: Path
) -> None:
    if database.file_size > _LARGEST_DATABASE_BYTES:
        size, most = (
            f"{n / 2**30:,.0f} GiB" for n in (database.file_size, _LARGEST_DATABASE_BYTES)
        )
        raise refused(named, f"its database would have {size}, more than {most}", _UNZIP)
    # Plays that are in the log alone would be lost without a word.
    logs = {f"{database.filename}-wal", f"{database.filename}-journal"}
    beside = [member for member in members if member.filename in logs and member.file_size]
    if beside:
        raise refused(
            named,
            f"it holds {_names(beside)} beside its database",
            "unzip it, and import the database with what belongs to it beside it",
        )


def _names(members: Sequence[zipfile.ZipInfo]) -> str:
    names = [_named(member) for member in members[:_NAMES_SHOWN]]
    return ", ".join(names + ["..."] * (len(members) > _NAMES_SHOWN))


def _named(member: zipfile.ZipInfo) -> str:
    return _cut(repr(member.orig_filename))


def _cut(words: str) -> str:
    return words if len(words) <= _MOST_LETTERS else f"{words[:_MOST_LETTERS]}..."


def _damaged(named: Path, reason: str) -> SourceError:
    hint = f"wait if it is still being written, or else {_TAKE_ANOTHER}"
    return refused(named, f"it is a damaged zip archive ({_cut(reason)})", hint)
