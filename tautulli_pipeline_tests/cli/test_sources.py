"""Good and bad sources on the real command line."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import struct
import subprocess
import sys
import zipfile
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tautulli_pipeline.demo.database import make_demo_database
from tautulli_pipeline_tests import tautulli_databases
from tautulli_pipeline_tests.command import (
    Outcome,
    environment,
    imported,
    outcomes,
    query,
    run,
)
from tautulli_pipeline_tests.folders import content_of, without_privilege

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

ODD_NAME = '-it\'s [red] "so"; DROP TABLE x;--\n%41?mode=rw#プレックス🎬.db'
LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA locking_mode = EXCLUSIVE")
connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.read()
"""


def zipped(path: Path, *members: tuple[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)


def patch_directory(path: Path, offset: int, form: str, value: int) -> None:
    data = bytearray(path.read_bytes())
    struct.pack_into(form, data, data.index(b"PK\1\2") + offset, value)
    path.write_bytes(data)


def make_foreign(path: Path, _whole: bytes) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("CREATE TABLE photos (id INTEGER); INSERT INTO photos VALUES (1)")


def make_encrypted_zip(path: Path, whole: bytes) -> None:
    zipped(path, ("tautulli.db", whole))
    patch_directory(path, 8, "<H", 1)


def make_bomb(path: Path, whole: bytes) -> None:
    """Create a zip member of 100 MB that claims to be small."""
    zipped(path, ("tautulli.db", whole + bytes(100 << 20)))
    patch_directory(path, 24, "<L", len(whole))


def make_unreadable(path: Path, whole: bytes) -> None:
    path.write_bytes(whole)
    path.chmod(0)


@contextmanager
def locked_by_another_process(path: Path) -> Iterator[None]:
    with subprocess.Popen(
        [sys.executable, "-c", LOCK, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"locked\n"
            yield
        finally:
            process.kill()


@dataclass(frozen=True)
class Bad:
    """A source that is refused, and the words of the message."""

    words: str
    make: Callable[[Path, bytes], object]
    during: Callable[[Path], AbstractContextManager[None]] = nullcontext


BAD = {
    "missing": Bad("it does not exist", lambda _path, _whole: None),
    "text": Bad(
        "it is not a SQLite database", lambda p, _: p.write_text("id,title\n1,Film\n" * 99)
    ),
    "empty": Bad("it is empty", lambda p, _: p.touch()),
    "foreign": Bad("it has no table session_history", make_foreign),
    "folder": Bad("it is a folder", lambda p, _: p.mkdir()),
    "dangling link": Bad("it is a broken link", lambda p, _: p.symlink_to("gone.db")),
    "truncated": Bad("it is truncated (80,000 of ", lambda p, whole: p.write_bytes(whole[:80_000])),
    "encrypted": Bad(
        "it is not a SQLite database", lambda p, _: p.write_bytes(random.Random(1).randbytes(9999))
    ),
    "pipe": Bad("it is not a regular file", lambda p, _: os.mkfifo(p)),
    "device": Bad("it is not a regular file", lambda p, _: p.symlink_to("/dev/zero")),
    "unreadable": Bad("permission denied", make_unreadable),
    "locked": Bad(
        ") has locked it", lambda p, whole: p.write_bytes(whole), locked_by_another_process
    ),
    "zip of several": Bad(
        "it contains 2 databases: 'tautulli.db', 'plexpy.db'",
        lambda p, whole: zipped(p, ("tautulli.db", whole), ("plexpy.db", whole)),
    ),
    "zip of none": Bad("contains no SQLite database", lambda p, _: zipped(p, ("a.txt", b"hello"))),
    "zip that points outside": Bad(
        "its member '../tautulli.db' points outside",
        lambda p, whole: zipped(p, ("../tautulli.db", whole)),
    ),
    "encrypted zip": Bad("its member 'tautulli.db' is encrypted", make_encrypted_zip),
    "zip bomb": Bad("it is a damaged zip archive (Bad CRC-32", make_bomb),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return the bytes of a valid database of 200 plays."""
    path = tmp_path_factory.mktemp("whole") / "tautulli.db"
    make_demo_database(path, 200)
    return path.read_bytes()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@contextmanager
def unchanged(folder: Path) -> Iterator[None]:
    before = content_of(folder)
    yield
    assert content_of(folder) == before


def run_without_privilege(*arguments: object, data_dir: Path) -> Outcome:
    done = subprocess.run(
        without_privilege("-m", "tautulli_pipeline", *arguments),
        check=False,
        env=environment(data_dir),
        cwd=data_dir.parent,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("name", BAD)
def test_a_bad_source_is_refused_and_nothing_is_created_or_changed(
    name: str, home: Path, data_dir: Path, whole: bytes
) -> None:
    path = home / "tautulli.db"
    BAD[name].make(path, whole)
    with BAD[name].during(path), unchanged(home):
        outcome = run_without_privilege("import", path, "--json", data_dir=data_dir)
    assert outcome.exit_code == 3, outcome.stderr
    message, hint = outcome.stderr.splitlines()
    assert BAD[name].words in message
    assert any(str(shown) in message for shown in (path, path.resolve()))
    assert outcome.json == {
        "error": message.removeprefix("tautulli-pipeline: "),
        "hint": hint.removeprefix("  "),
    }
    assert list(home.parent.iterdir()) == [home]


def test_an_unusual_name_is_shown_on_one_line(tmp_path: Path) -> None:
    outcome = run("validate", "--", ODD_NAME, data_dir=tmp_path / "data")
    assert outcome.exit_code == 3
    assert outcome.stderr.splitlines() == [
        f"tautulli-pipeline: cannot read {ODD_NAME!r}: it does not exist",
        "  check the path of the Tautulli database",
    ]


def test_control_characters_in_a_name_are_escaped(tmp_path: Path, whole: bytes) -> None:
    path = tmp_path / "a\nb\x1b[2J\udce9.db"
    make_foreign(path, whole)
    outcome = run("validate", path, "--json", data_dir=tmp_path / "data")
    assert outcome.exit_code == 3
    message, _hint = outcome.stderr.splitlines()
    assert "a\\nb\\x1b[2J\\xe9.db is not a Tautulli database" in message
    assert message == f"tautulli-pipeline: {outcome.json['error']}"


def test_a_zipped_backup_is_imported(home: Path, data_dir: Path, whole: bytes) -> None:
    backup = home / "tautulli.backup-20231205143956.sched.db.zip"
    zipped(backup, ("tautulli.db", whole))
    with unchanged(home):
        summary = imported(backup, data_dir=data_dir)
    assert summary["source"] == str(backup)
    assert outcomes(summary) == {"total_records": 200, "processed": 200, "imported": 200}
    assert query(data_dir, "SELECT count(*) FROM playback_events") == [(200,)]
    assert list((data_dir / "snapshots").glob("*")) == []


def test_a_zipped_backup_of_a_real_database_is_imported_except_plays_without_a_user(
    home: Path, data_dir: Path
) -> None:
    database = home / "tautulli.db"
    tautulli_databases.build("v2.12.5", database)
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE session_history SET user_id = '' WHERE id > 147")
    backup = home / "tautulli.backup-20231205143956.sched.db.zip"
    zipped(backup, ("tautulli.db", database.read_bytes()))
    with unchanged(home):
        summary = imported(backup, data_dir=data_dir)
    counts = {"total_records": 150, "processed": 150, "imported": 147, "rejected": 3}
    assert outcomes(summary) == counts


def test_a_database_with_an_unusual_name_is_imported(
    home: Path, data_dir: Path, whole: bytes
) -> None:
    path = home / ODD_NAME / "caf\udce9.db"
    path.parent.mkdir()
    path.write_bytes(whole)
    with unchanged(home):
        summary = imported(path, data_dir=data_dir)
    # The byte that is not valid UTF-8 is escaped.
    assert summary["source"] == str(path.with_name("caf\\xe9.db"))
    assert summary["imported"] == 200


def test_a_read_only_database_with_a_wal_is_read_to_the_last_commit(
    home: Path, data_dir: Path, whole: bytes
) -> None:
    (home.parent / "live").mkdir()
    live = home.parent / "live" / "tautulli.db"
    live.write_bytes(whole)
    with closing(sqlite3.connect(live, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("DELETE FROM session_history WHERE id % 2 = 0")
        left = connection.execute("SELECT count(*) FROM session_history").fetchone()[0]
        for path in live.parent.iterdir():
            shutil.copy(path, home)
    for path in (*home.iterdir(), home):
        path.chmod(0o555 if path.is_dir() else 0o444)
    with unchanged(home):
        arguments = ("validate", home / "tautulli.db", "--json")
        outcome = run_without_privilege(*arguments, data_dir=data_dir)
    home.chmod(0o755)
    assert (outcome.exit_code, outcome.stderr) == (0, "")
    assert 0 < left < 200
    assert outcome.json["total_records"] == left


@pytest.mark.parametrize("kind", ["database", "backup"])
def test_a_link_is_followed(kind: str, home: Path, data_dir: Path, whole: bytes) -> None:
    original = home / "tautulli.db"
    original.write_bytes(whole)
    if kind == "backup":
        zipped(original, ("plexpy.db", whole))
    (home / "link.db").symlink_to("tautulli.db")
    with unchanged(home):
        facts = run("validate", home / "link.db", "--json", data_dir=data_dir).json
    assert (facts["source"], facts["total_records"]) == (str(original), 200)
    assert not data_dir.exists()


def test_an_unzipped_backup_is_read(home: Path, data_dir: Path, whole: bytes) -> None:
    path = home / "tautulli.backup-20220419154542.sched.db"
    path.write_bytes(whole)
    with unchanged(home):
        facts = run("validate", "--json", data_dir=data_dir, IMPORT_DB_PATH=path).json
    assert (facts["source"], facts["total_records"]) == (str(path), 200)


def test_a_name_with_a_tilde_is_a_file_name_if_there_is_no_such_user(
    tmp_path: Path, whole: bytes
) -> None:
    (tmp_path / "~nobody-of-that-name.db").write_bytes(whole)
    outcome = run("validate", "~nobody-of-that-name.db", "--json", data_dir=tmp_path / "data")
    assert outcome.json["total_records"] == 200
