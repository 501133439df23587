"""Extracts the database from a zipped Tautulli backup.

Member names are never used as paths, and declared sizes are not trusted. An archive is
rejected unless it contains exactly one database and no unsafe members.
"""

from __future__ import annotations

import errno
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Final

from tautulli_pipeline.errors import SourceError
from tautulli_pipeline.source.address import Named
from tautulli_pipeline.source.faults import read_faults, refused
from tautulli_pipeline.source.original import SQLITE_MAGIC, open_regular

_MAGICS: Final = (b"PK\3\4", b"PK\5\6")
# Far above the largest known history. A zip bomb is detected from the directory alone.
_MAX_DATABASE_BYTES: Final = 16 << 30
_MAX_MEMBERS: Final = 1000
_MAX_READ_BYTES: Final = 1 << 20
_NAMES_SHOWN: Final = 3
_MAX_TEXT_CHARS: Final = 80
_ENCRYPTED: Final = 0x1 | 0x40
_COMPRESSIONS: Final = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
# Some tools separate folders by backslashes.
_UNSAFE_NAME: Final = re.compile(r"[/\\]|[A-Za-z]:|.*\0|(.*[/\\])?\.\.([/\\]|$)", re.DOTALL)

_USE_ANOTHER: Final = "use another Tautulli backup"
_UNZIP: Final = "unzip it and import the database inside"


def is_archive(header: bytes) -> bool:
    """Whether `header` is the start of a zip archive."""
    return header.startswith(_MAGICS)


def archived_bytes(archive: Path) -> int:
    """Return the size of the only database in an archive.

    Raises:
        SourceError: the archive does not contain exactly one database, or is unsafe to read.
    """
    with read_faults(archive), _opened(archive, archive) as opened:
        return _find_database(opened, archive).file_size


def extract_database(
    archive: Path,
    target: Path,
    *,
    named: Named,
    on_copied: Callable[[int], None] = lambda _count: None,
) -> None:
    """Write the only database in a copied archive to the new file `target`.

    Messages name `named`, the user's path.

    Raises:
        SourceError: as for `archived_bytes`, or the content contradicts the directory.
    """
    with _opened(archive, named) as opened, target.open("xb") as copy:
        member = _find_database(opened, named)
        with opened.open(member) as content:
            while chunk := content.read(_MAX_READ_BYTES):
                copy.write(chunk)
                on_copied(len(chunk))
        if copy.tell() != member.file_size:
            raise zipfile.BadZipFile("it is shorter than declared")


@contextmanager
def _opened(archive: Path, named: Named) -> Iterator[zipfile.ZipFile]:
    try:
        with open_regular(archive) as file, zipfile.ZipFile(_LimitedReads(file)) as opened:
            yield opened
    except NotImplementedError as error:
        raise refused(named, f"unsupported zip format ({error})", _UNZIP) from error
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError) as error:
        raise _damaged(named, str(error) or "it is truncated") from error
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise _damaged(named, "its directory points before the start of the file") from error


class _LimitedReads:
    """A file that refuses large reads: an oversized directory would exhaust memory."""

    def __init__(self, file: FileIO) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell
        self.seekable = file.seekable

    def read(self, size: int = -1) -> bytes:
        if size > _MAX_READ_BYTES:
            raise zipfile.BadZipFile(f"its directory is {size:,} bytes long")
        return self._file.read(size)


def _find_database(opened: zipfile.ZipFile, named: Named) -> zipfile.ZipInfo:
    members = [member for member in opened.infolist() if not member.filename.endswith("/")]
    if len(members) > _MAX_MEMBERS:
        raise refused(named, f"the zip archive contains {len(members):,} files", _UNZIP)
    for member in opened.infolist():
        _require_safe(member, named)
    databases = [member for member in members if _is_database(opened, member)]
    if not databases:
        raise refused(
            named,
            "the zip archive contains no SQLite database",
            "give the path of Tautulli's database, usually tautulli.db, or of a backup",
        )
    if len(databases) > 1:
        raise refused(named, f"it contains {len(databases)} databases: {_names(databases)}", _UNZIP)
    _require_importable(databases[0], members, named)
    return databases[0]


def _require_safe(member: zipfile.ZipInfo, named: Named) -> None:
    name = _quoted_name(member)
    kind = stat.S_IFMT(member.external_attr >> 16)
    if _UNSAFE_NAME.match(member.orig_filename):
        raise refused(named, f"its member {name} points outside the archive", _USE_ANOTHER)
    if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
        raise refused(named, f"its member {name} is a link or a device", _USE_ANOTHER)
    if member.flag_bits & _ENCRYPTED:
        raise refused(named, f"its member {name} is encrypted", _UNZIP)
    if member.compress_type not in _COMPRESSIONS:
        method = f"unsupported compression method {member.compress_type}"
        raise refused(named, f"its member {name} uses {method}", _UNZIP)


def _is_database(opened: zipfile.ZipFile, member: zipfile.ZipInfo) -> bool:
    with opened.open(member) as content:
        return content.read(len(SQLITE_MAGIC)) == SQLITE_MAGIC


def _require_importable(
    database: zipfile.ZipInfo, members: Sequence[zipfile.ZipInfo], named: Named
) -> None:
    if database.file_size > _MAX_DATABASE_BYTES:
        size, most = (f"{n / 2**30:,.0f} GiB" for n in (database.file_size, _MAX_DATABASE_BYTES))
        raise refused(named, f"its database is {size}, over the limit of {most}", _UNZIP)
    # Plays that are only in the log would be lost silently.
    logs = {f"{database.filename}-wal", f"{database.filename}-journal"}
    found_logs = [member for member in members if member.filename in logs and member.file_size]
    if found_logs:
        raise refused(
            named,
            f"it contains {_names(found_logs)} next to its database",
            "unzip it, keep these files next to the database, and import the database",
        )


def _names(members: Sequence[zipfile.ZipInfo]) -> str:
    names = [_quoted_name(member) for member in members[:_NAMES_SHOWN]]
    return ", ".join(names + ["..."] * (len(members) > _NAMES_SHOWN))


def _quoted_name(member: zipfile.ZipInfo) -> str:
    return _shortened(repr(member.orig_filename))


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_TEXT_CHARS else f"{text[:_MAX_TEXT_CHARS]}..."


def _damaged(named: Named, reason: str) -> SourceError:
    hint = f"if it is still being written, wait; otherwise {_USE_ANOTHER}"
    return refused(named, f"it is a damaged zip archive ({_shortened(reason)})", hint)
