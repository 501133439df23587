from __future__ import annotations

import os
import random
import shutil
import sqlite3
import stat
import struct
import tracemalloc
import zipfile
from contextlib import closing

import pytest

from tautulli_pipeline.errors import ConfigurationError, SourceError
from tautulli_pipeline.source import archive as archive_module
from tautulli_pipeline.source.archive import extract_database
from tautulli_pipeline.source.snapshot import take_snapshot
from tautulli_pipeline_tests import tautulli_databases
from tautulli_pipeline_tests.folders import content_of

DIRECTORY = b"PK\1\2"
# Offsets of fields in a directory entry.
FLAGS, METHOD, CRC, SIZE = 8, 10, 16, 24


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """The bytes of a database of 100 plays."""
    return database_of(tmp_path_factory.mktemp("database") / "tautulli.db", 100)


@pytest.fixture
def backup(tmp_path):
    (tmp_path / "home").mkdir()
    return tmp_path / "home" / "tautulli.db.zip"


def database_of(path, rows):
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE plays (id INTEGER PRIMARY KEY, title TEXT)")
        connection.executemany("INSERT INTO plays (title) VALUES (?)", [("x" * 2000,)] * rows)
    return path.read_bytes()


def zipped(path, members, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


def patched(path, form, offset, value):
    """Overwrite one number in the first directory entry."""
    data = bytearray(path.read_bytes())
    struct.pack_into(form, data, data.index(DIRECTORY) + offset, value)
    path.write_bytes(data)
    return path


def rows_in(copy):
    with closing(sqlite3.connect(copy)) as connection:
        return connection.execute("SELECT count(*) FROM plays").fetchone()[0]


def rejection_of(backup, snapshots):
    """Return why an archive is rejected; nothing is created or changed."""
    before = content_of(backup.parent)
    with pytest.raises(SourceError) as caught, take_snapshot(backup, snapshots):
        pass
    assert content_of(backup.parent) == before
    assert not snapshots.parent.exists()
    assert caught.value.hint
    prefix = f"cannot read {str(backup)!r}: "
    assert caught.value.message.startswith(prefix)
    assert "\n" not in caught.value.message
    return caught.value.message.removeprefix(prefix)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("name", ["tautulli.db", "plexpy.db", "old/x", "プレックス [red] ';.db"])
def test_the_database_in_a_backup_is_copied(name, method, content, backup, snapshots):
    zipped(backup, [(name, content)], method)
    before = content_of(backup.parent)
    with take_snapshot(backup, snapshots) as snapshot:
        assert snapshot.path.read_bytes() == content
        assert rows_in(snapshot.path) == 100
        assert snapshot.source == backup
        assert snapshot.size_bytes == backup.stat().st_size
        folder = snapshot.path.parent
        assert [path.name for path in folder.iterdir()] == ["tautulli.db"]
        assert folder.stat().st_mode & 0o777 == 0o700
    assert content_of(backup.parent) == before
    assert not snapshots.parent.exists()


@pytest.mark.parametrize("name", tautulli_databases.NAMES)
def test_a_backup_made_like_tautullis_is_copied(name, backup, snapshots):
    tautulli_databases.build_backup(name, backup)
    with take_snapshot(backup, snapshots) as snapshot:
        assert tautulli_databases.read(snapshot.path) == tautulli_databases.content_of(name)


@pytest.mark.parametrize("name", ["backup", "tautulli.db"])
def test_a_backup_is_recognized_by_its_content_not_its_name(name, content, backup, snapshots):
    zipped(backup, [("tautulli.db", content)]).rename(backup.with_name(name))
    with take_snapshot(backup.with_name(name), snapshots) as snapshot:
        assert rows_in(snapshot.path) == 100


def test_a_database_with_a_backup_name_is_read_as_a_database(content, backup, snapshots):
    backup.write_bytes(content)
    with take_snapshot(backup, snapshots) as snapshot:
        assert rows_in(snapshot.path) == 100


def test_a_link_to_a_backup_is_followed(content, backup, tmp_path, snapshots):
    zipped(backup, [("tautulli.db", content)])
    (tmp_path / "link.db").symlink_to(backup)
    with take_snapshot(tmp_path / "link.db", snapshots) as snapshot:
        assert rows_in(snapshot.path) == 100
        assert snapshot.source == backup


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("config/", b""),
        ("__MACOSX/._tautulli.db", b"\0\5\x16\7\0\2\0\0Mac OS X"),
        (".DS_Store", b"\0\0\0\1Bud1"),
        ("config.ini", b"[General]\n"),
        ("tautulli.db-shm", bytes(32768)),
        ("tautulli.db-wal", b""),
    ],
)
def test_harmless_extra_files_are_ignored(name, data, content, backup, snapshots):
    zipped(backup, [(name, data), ("tautulli.db", content)])
    with take_snapshot(backup, snapshots) as snapshot:
        assert rows_in(snapshot.path) == 100


def test_the_fingerprint_changes_with_the_content(content, backup, tmp_path, snapshots):
    def fingerprint():
        with take_snapshot(backup, snapshots) as snapshot:
            return snapshot.fingerprint

    zipped(backup, [("tautulli.db", content)])
    seen = [fingerprint(), fingerprint()]
    zipped(backup, [("tautulli.db", database_of(tmp_path / "other.db", 101))])
    assert seen[0] == seen[1] != fingerprint()


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([], "the zip archive contains no SQLite database"),
        ([("a.txt", b"SQLite")], "the zip archive contains no SQLite database"),
        ([("tautulli.db/", b"")], "the zip archive contains no SQLite database"),
        ([("tautulli.db", b"")], "the zip archive contains no SQLite database"),
        ([(f"{n}.txt", b"") for n in range(1001)], "the zip archive contains 1,001 files"),
    ],
)
def test_an_archive_without_a_database_is_rejected(members, words, backup, snapshots):
    assert rejection_of(zipped(backup, members), snapshots) == words


def test_an_archive_with_several_databases_is_rejected_with_their_names(content, backup, snapshots):
    names = ["tautulli.db", "a/plexpy.db", "b\nc.db", "d.db"]
    zipped(backup, [(name, content) for name in names])
    shown = r"'tautulli.db', 'a/plexpy.db', 'b\nc.db', ..."
    assert rejection_of(backup, snapshots) == f"it contains 4 databases: {shown}"


@pytest.mark.parametrize("suffix", ["-wal", "-journal"])
def test_a_log_next_to_the_database_is_not_ignored(suffix, content, backup, snapshots):
    zipped(backup, [("x/tautulli.db", content), (f"x/tautulli.db{suffix}", b"frames")])
    assert (
        rejection_of(backup, snapshots)
        == f"it contains 'x/tautulli.db{suffix}' next to its database"
    )


@pytest.mark.parametrize(
    "name",
    [
        *("/etc/tautulli.db", "../tautulli.db", "a/../../tautulli.db", "a/..", ".."),
        *("..\\tautulli.db", "a\\..\\b.db", "C:tautulli.db", "c:/tautulli.db", "\\\\host\\a.db"),
        *("a\n../../tautulli.db\n/..", "a\\..", "a/..\\tautulli.db"),
    ],
)
@pytest.mark.parametrize("alone", [True, False])
def test_a_member_that_points_outside_is_rejected(name, alone, content, backup, snapshots):
    others = [] if alone else [("tautulli.db", content)]
    zipped(backup, [*others, (name, content)])
    assert rejection_of(backup, snapshots) == f"its member {name!r} points outside the archive"


@pytest.mark.parametrize("name", ["..tautulli.db", "a..b/tautulli.db", "ab:c.db", "tautulli.db.."])
def test_harmless_dots_and_colons_in_names_are_allowed(name, content, backup, snapshots):
    with take_snapshot(zipped(backup, [(name, content)]), snapshots) as snapshot:
        assert rows_in(snapshot.path) == 100


@pytest.mark.parametrize("name", ["Backups\\tautulli.db", "a\\b\\..c.db", "a/b\\tautulli.db"])
def test_backslashes_are_part_of_a_name(name, content, backup, snapshots):
    members = [("Backups\\", b""), (name, content), (f"{name}-wal", b"")]
    with take_snapshot(zipped(backup, members), snapshots) as snapshot:
        assert rows_in(snapshot.path) == 100


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_a_link_or_device_is_rejected(kind, content, backup, snapshots):
    member = zipfile.ZipInfo("tautulli.db")
    member.external_attr = (kind | 0o777) << 16
    zipped(backup, [(member, content)])
    assert rejection_of(backup, snapshots) == "its member 'tautulli.db' is a link or a device"


@pytest.mark.parametrize("flag", [0x1, 0x41])
def test_an_encrypted_archive_is_rejected(flag, content, backup, snapshots):
    patched(zipped(backup, [("tautulli.db", content)]), "<H", FLAGS, flag)
    assert rejection_of(backup, snapshots) == "its member 'tautulli.db' is encrypted"


@pytest.mark.parametrize("method", [9, 12, 14, 93])
def test_an_unsupported_compression_method_is_rejected(method, content, backup, snapshots):
    patched(zipped(backup, [("tautulli.db", content)]), "<H", METHOD, method)
    words = f"its member 'tautulli.db' uses unsupported compression method {method}"
    assert rejection_of(backup, snapshots) == words


def test_an_unsupported_zip_version_is_rejected(content, backup, snapshots):
    patched(zipped(backup, [("tautulli.db", content)]), "<H", 6, 200)
    words = "unsupported zip format (zip file version 20.0)"
    assert rejection_of(backup, snapshots) == words


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ((CRC, 1), "Bad CRC-32 for file 'tautulli.db'"),
        ((SIZE, 4096), "Bad CRC-32 for file 'tautulli.db'"),
        ((SIZE, 10**9), "it is shorter than declared"),
        ((42, 10**6), "Truncated file header"),
        ((42, 5), "Bad magic number for file header"),
        ((0, 0), "Bad magic number for central directory"),
    ],
)
def test_a_wrong_directory_entry_is_rejected(change, reason, content, backup, snapshots):
    patched(zipped(backup, [("tautulli.db", content)]), "<L", *change)
    assert rejection_of(backup, snapshots) == f"it is a damaged zip archive ({reason})"


@pytest.mark.parametrize("kept", [4, 100, -1, -30])
def test_a_truncated_archive_is_rejected(kept, content, backup, snapshots):
    zipped(backup, [("tautulli.db", content)])
    backup.write_bytes(backup.read_bytes()[:kept])
    assert rejection_of(backup, snapshots).startswith("it is a damaged zip archive (")


def test_an_excessive_declared_size_is_rejected(backup, content, snapshots):
    with (
        zipfile.ZipFile(backup, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("tautulli.db", "w", force_zip64=True) as member,
    ):
        member.write(content)
    data = backup.read_bytes()
    # A 64-bit field of the directory declares the size, which does not fit into 32 bits.
    at = data.index(DIRECTORY)
    extra = struct.pack("<HHQ", 1, 8, 2**40)
    entry = bytearray(data[at : data.index(b"PK\5\6")])
    struct.pack_into("<L", entry, SIZE, 0xFFFFFFFF)
    struct.pack_into("<H", entry, 30, len(extra))
    end = bytearray(data[data.index(b"PK\5\6") :])
    struct.pack_into("<L", end, 12, len(entry) + len(extra))
    backup.write_bytes(data[:at] + entry + extra + end)
    words = "its database is 1,024 GiB, over the limit of 16 GiB"
    assert rejection_of(backup, snapshots) == words


def test_a_zip_bomb_uses_little_memory_and_only_its_declared_disk_space(backup, content, tmp_path):
    with (
        zipfile.ZipFile(backup, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("tautulli.db", "w") as member,
    ):
        member.write(content)
        for _ in range(200):
            member.write(bytes(1 << 20))
    patched(backup, "<L", SIZE, len(content))
    tracemalloc.start()
    with pytest.raises(SourceError, match="Bad CRC-32"):
        extract_database(backup, tmp_path / "out.db", named=backup)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (tmp_path / "out.db").stat().st_size <= len(content)
    assert peak_bytes < 10 * 2**20


def test_an_oversized_directory_is_not_loaded_into_memory(backup, content, snapshots):
    members = [(f"{n}{'x' * 60_000}", b"") for n in range(20)]
    zipped(backup, [("tautulli.db", content), *members])
    words = rejection_of(backup, snapshots)
    assert words.startswith("it is a damaged zip archive (its directory is 1,2")


def test_a_long_name_is_shortened_in_the_message(backup, content, snapshots):
    zipped(backup, [("../" + "x" * 60_000, content)])
    assert len(rejection_of(backup, snapshots)) < 200


def test_the_extracted_database_is_validated(backup, content, snapshots):
    zipped(backup, [("tautulli.db", content[:16] + b"\xff" * 50 + content[66:])])
    with (
        pytest.raises(SourceError, match="file is not a database"),
        take_snapshot(backup, snapshots),
    ):
        pass
    assert not snapshots.parent.exists()


def test_the_space_check_includes_the_extracted_database(backup, content, snapshots, monkeypatch):
    zipped(backup, [("tautulli.db", content)])
    usage = shutil.disk_usage(backup)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=len(content)))
    with pytest.raises(ConfigurationError) as caught, take_snapshot(backup, snapshots):
        pass
    needed = (len(content) + backup.stat().st_size) / 1e6
    assert (
        f"it needs {needed:.1f} MB, but {len(content) / 1e6:.1f} MB are free"
        in caught.value.message
    )
    assert not snapshots.parent.exists()


def test_an_archive_that_disappears_is_reported(backup, content, snapshots, monkeypatch):
    zipped(backup, [("tautulli.db", content)])
    monkeypatch.setattr(archive_module, "open_regular", lambda path: (path / "gone").open("rb"))
    assert rejection_of(backup, snapshots) == os.strerror(20).lower()


def test_random_damage_is_reported_or_harmless(backup, content, tmp_path):
    """Random bytes are changed, mostly in the headers and the directory."""
    zipped(backup, [("tautulli.db", content), ("a.txt", b"hello")])
    good, dice, messages = backup.read_bytes(), random.Random(20), []
    for attempt in range(1500):
        data = bytearray(good)
        for _ in range(dice.randint(1, 3)):
            at = dice.choice([dice.randrange(60), len(data) - 1 - dice.randrange(250)])
            data[at] = dice.choice([0, 1, 128, 255, dice.randrange(256)])
        backup.write_bytes(data[: dice.choice([len(data)] * 9 + [dice.randrange(len(data))])])
        target = tmp_path / f"{attempt}.db"
        try:
            extract_database(backup, target, named=backup)
        except SourceError as error:
            messages.append(error.message)
        else:
            assert target.read_bytes() == content
        target.unlink(missing_ok=True)
    assert 500 < len(messages) < 1500
    assert max(map(len, messages)) < len(str(backup)) + 200
    assert not [message for message in messages if "\n" in message]
