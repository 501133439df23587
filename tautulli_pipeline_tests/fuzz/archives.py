"""Zip archives that other tools, networks and attackers make."""

from __future__ import annotations

import io
import random
import struct
import warnings
import zipfile
from typing import TYPE_CHECKING

from tautulli_pipeline_tests.eras import make_era_database
from tautulli_pipeline_tests.fuzz.databases import damaged_database
from tautulli_pipeline_tests.pages import settle

if TYPE_CHECKING:
    from pathlib import Path

_NAMES = (
    *("tautulli.db", "plexpy.db", "Backups/tautulli.backup-1.db", "Backups\\tautulli.db"),
    *("../tautulli.db", "/tautulli.db", "C:\\tautulli.db", "a/../b.db", "./tautulli.db", "x:y.db"),
    *("tautulli.db\x00.txt", "\u202edb.illutuat", "é🎬.db", "n" * 3000 + ".db", "TAUTULLI.DB", " "),
    *("tautulli.db-wal", "tautulli.db-shm", "config.ini", "__MACOSX/._tautulli.db", "folder/"),
)
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_SIGNATURES = (b"PK\3\4", b"PK\1\2", b"PK\5\6", b"PK\6\6", b"PK\6\7", b"PK\7\x08")
_BOMB_BYTES = 48 * 2**20


def damaged_archive(path: Path, dice: random.Random) -> None:
    """Create an archive at `path`: damaged, or with unusual or unsafe members."""
    content = bytearray(_packed(_members(path.parent, dice), dice))
    for _ in range(dice.choice((0, 0, 1, 1, 2, 6))):
        content = dice.choice((_flip, _flip_field, _cut, _repeat, _surround))(content, dice)
    path.write_bytes(content)


def _members(folder: Path, dice: random.Random) -> list[tuple[str, bytes]]:
    database = folder / "inside.db"
    if dice.random() < 0.3:
        damaged_database(database, dice)
    else:
        make_era_database(database, dice.choice(("v2.17.2", "v1.0")), 60)
        settle(database, page_bytes=4096)
    content = database.read_bytes()
    for left in folder.glob("inside.db*"):
        left.unlink()
    name = "tautulli.db" if dice.random() < 0.5 else dice.choice(_NAMES)
    members = [(name, content)]
    for _ in range(dice.choice((0, 0, 1, 3))):
        other = dice.choice((b"", content, content[:5000], dice.randbytes(2000), b"[General]"))
        members.append((dice.choice(_NAMES), other))
    if dice.random() < 0.03:
        members[0] = (name, content[:100] + b"\0" * _BOMB_BYTES)
    if dice.random() < 0.03:
        members += [(f"{number}.txt", b"") for number in range(1200)]
    dice.shuffle(members)
    return members


def _packed(members: list[tuple[str, bytes]], dice: random.Random) -> bytes:
    """Zip the members; several may have the same name."""
    packed = io.BytesIO()
    method = dice.choice(_METHODS) if dice.random() < 0.3 else zipfile.ZIP_DEFLATED
    with warnings.catch_warnings(), zipfile.ZipFile(packed, "w", method) as archive:
        warnings.simplefilter("ignore")  # names that occur twice
        for name, content in members:
            member = zipfile.ZipInfo("x", (dice.randrange(1980, 2107), 1, 1, 0, 0, 0))
            member.filename = name  # unchanged, also with NUL and backslashes
            member.compress_type = method
            member.external_attr = dice.choice((0o100600, 0o100777, 0o120777, 0o060600, 0)) << 16
            member.extra = dice.randbytes(dice.choice((0, 0, 0, 3, 40)))
            archive.writestr(member, content)
        archive.comment = dice.randbytes(dice.choice((0, 0, 20, 60_000)))
    return packed.getvalue()


def _flip(content: bytearray, dice: random.Random) -> bytearray:
    for _ in range(dice.choice((1, 5, 50))):
        if content:
            content[dice.randrange(len(content))] = dice.randrange(256)
    return content


def _flip_field(content: bytearray, dice: random.Random) -> bytearray:
    """Change a field of a header or of the directory."""
    places = [at for mark in _SIGNATURES if (at := content.rfind(mark)) >= 0]
    if places:
        at = dice.choice(places) + dice.randrange(4, 46)
        value = dice.choice((0, 1, 0xFFFF, 0xFFFFFFFF, dice.randrange(2**32)))
        packed = struct.pack("<I", value)[: dice.choice((1, 2, 4))]
        content[at : at + len(packed)] = packed
    return content


def _cut(content: bytearray, dice: random.Random) -> bytearray:
    at = dice.randrange(len(content) + 1)
    return dice.choice((content[:at], content[at:]))


def _repeat(content: bytearray, dice: random.Random) -> bytearray:
    at = dice.randrange(len(content) + 1)
    return dice.choice((content + content, content[:at] + content[at // 2 :]))


def _surround(content: bytearray, dice: random.Random) -> bytearray:
    return dice.choice((bytearray(dice.randbytes(300)) + content, content + dice.randbytes(300)))
