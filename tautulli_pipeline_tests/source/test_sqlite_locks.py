from __future__ import annotations

import fcntl
import sqlite3
import struct
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager

import psutil
import pytest

from tautulli_pipeline.errors import SourceChangedError, SourceError
from tautulli_pipeline.source import snapshot as snapshot_module
from tautulli_pipeline.source.snapshot import take_snapshot
from tautulli_pipeline.source.sqlite_locks import LAYOUT, await_unlocked, lock_holder
from tautulli_pipeline_tests.folders import content_of

HOLDER = """
import sqlite3, sys
path, *statements = sys.argv[1:]
connection = sqlite3.connect(path, isolation_level=None)
for statement in statements:
    cursor = connection.execute(statement)
    cursor.fetchone()
print("ready", flush=True)
if input() == "commit":
    connection.execute("COMMIT")
"""
# Simulates a platform whose lock structure is unknown.
ON_ANOTHER_SYSTEM = """
import sqlite3, sys, psutil
from pathlib import Path
sys.platform = "plan9"
from tautulli_pipeline.source.snapshot import take_snapshot
with take_snapshot(Path(sys.argv[1]), Path(sys.argv[2])) as snapshot:
    print(*sqlite3.connect(snapshot.path).execute("SELECT count(*) FROM plays").fetchone())
"""
INSERT = "INSERT INTO plays (title) VALUES ('new')"
INSERT_MANY = "INSERT INTO plays (title) SELECT p.title FROM plays p, plays q LIMIT 2500"
WAL, EXCLUSIVE = "PRAGMA journal_mode = WAL", "PRAGMA locking_mode = EXCLUSIVE"
SPILLED = ["PRAGMA cache_size = 5", "BEGIN", INSERT_MANY]
EXCLUDING_READERS = {
    "begin exclusive": ["BEGIN EXCLUSIVE"],
    "exclusive mode after a write": [EXCLUSIVE, INSERT],
    "exclusive mode with a log": [EXCLUSIVE, WAL, INSERT],
    "a spilled transaction": SPILLED,
}
ALLOWING_READERS = {
    "an open connection": ["SELECT count(*) FROM plays"],
    "an active reader": ["SELECT * FROM plays"],
    "a transaction that has not spilled": ["BEGIN IMMEDIATE", INSERT],
    "a writer with a log": [WAL, INSERT],
    "a transaction in a log": [WAL, "BEGIN EXCLUSIVE", INSERT],
    "a spilled transaction in a log": [WAL, *SPILLED],
}


@contextmanager
def holding(database, *statements):
    """Run a separate process that has executed `statements` and keeps its connection open."""
    command = [sys.executable, "-c", HOLDER, str(database), *statements]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout.readline() == b"ready\n"
            yield process
        finally:
            process.kill()


def rows_in(copy):
    with closing(sqlite3.connect(copy)) as connection:
        return connection.execute("SELECT count(*) FROM plays").fetchone()[0]


@pytest.mark.parametrize("how", EXCLUDING_READERS)
def test_an_exclusively_locked_database_is_rejected_with_the_process(how, database, tmp_path):
    with holding(database, *EXCLUDING_READERS[how]) as process:
        name = psutil.Process(process.pid).name()
        before = content_of(database.parent)
        began_at = time.monotonic()
        with (
            pytest.raises(SourceError) as caught,
            take_snapshot(database, tmp_path / "data", patience_seconds=0.3),
        ):
            pass
        assert 0.3 <= time.monotonic() - began_at < 30
        assert content_of(database.parent) == before
    words = f"process {process.pid} ({name}) has locked it"
    assert caught.value.message == f"cannot read {str(database)!r}: {words}"
    assert caught.value.hint.startswith("wait for that process, end it")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("how", ALLOWING_READERS)
def test_a_process_that_allows_readers_does_not_block_a_copy(how, database, tmp_path):
    with holding(database, *ALLOWING_READERS[how]):
        assert lock_holder(database) == ""
        with take_snapshot(database, tmp_path / "data", patience_seconds=0) as snapshot:
            assert rows_in(snapshot.path) == 100 + (how == "a writer with a log")


def test_a_copy_waits_for_a_commit_in_progress(database, tmp_path):
    with holding(database, "BEGIN EXCLUSIVE", INSERT) as process:
        timer = threading.Timer(0.5, process.communicate, [b"commit\n"])
        timer.start()
        with take_snapshot(database, tmp_path / "data", patience_seconds=20) as snapshot:
            assert rows_in(snapshot.path) == 101
        timer.join()


def test_a_lock_taken_during_the_copy_fails_the_attempt(database, tmp_path, monkeypatch):
    holders = []

    def look_for_holders(path):
        holders.append(lock_holder(path))
        return "process 1 (other)" if len(holders) == 1 else holders[-1]

    monkeypatch.setattr(snapshot_module, "lock_holder", look_for_holders)
    with take_snapshot(database, tmp_path / "data", pause_seconds=0) as snapshot:
        assert rows_in(snapshot.path) == 100
    assert holders == ["", ""]
    holders.clear()
    with (
        pytest.raises(SourceChangedError, match=r"process 1 \(other\) locked it$"),
        take_snapshot(database, tmp_path / "data", attempts=1),
    ):
        pass


def test_checking_for_locks_takes_no_lock(database):
    with database.open("rb") as file:
        lock_holder(database)
        with holding(database, "BEGIN EXCLUSIVE"):
            assert file.read(6) == b"SQLite"


def test_a_platform_without_lock_detection_can_copy(database, tmp_path):
    with holding(database, *SPILLED):
        command = [sys.executable, "-c", ON_ANOTHER_SYSTEM, database, tmp_path / "data"]
        assert subprocess.run(command, check=True, capture_output=True).stdout == b"100\n"


@pytest.mark.parametrize(
    ("process_id", "words"),
    [(0, "a process on another machine or in another container"), (2**30, f"process {2**30}")],
)
def test_a_lock_holder_without_a_local_process_is_described(
    database, monkeypatch, process_id, words
):
    layout, names = LAYOUT
    answer = dict.fromkeys(names, 0) | {"type": fcntl.F_WRLCK, "pid": process_id}
    monkeypatch.setattr(fcntl, "fcntl", lambda *_: struct.pack(layout, *answer.values()))
    assert lock_holder(database) == words


def test_a_missing_file_is_not_locked(tmp_path):
    assert lock_holder(tmp_path / "gone.db") == ""


PENDING, RESERVED, SHARED_FIRST, SHARED_LAST = (
    *(0x40000000, 0x40000001),
    *(0x40000002, 0x40000002 + 509),
)
LOCKER = """
import fcntl, sys
path, kind, start, length = sys.argv[1:]
with open(path, "r+b") as file:
    fcntl.lockf(file, getattr(fcntl, kind), int(length), int(start))
    print("ready", flush=True)
    sys.stdin.read()
"""


@contextmanager
def locking(database, kind, start, length=1):
    command = [sys.executable, "-c", LOCKER, str(database), kind, str(start), str(length)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout.readline() == b"ready\n"
            yield process.pid
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("kind", "start", "excluded"),
    [
        ("LOCK_EX", PENDING, True),
        ("LOCK_EX", SHARED_FIRST, True),
        ("LOCK_EX", SHARED_LAST, True),
        ("LOCK_EX", RESERVED, False),
        ("LOCK_EX", SHARED_LAST + 1, False),
        ("LOCK_EX", PENDING - 1, False),
        ("LOCK_SH", PENDING, False),
        ("LOCK_SH", SHARED_FIRST, False),
    ],
)
def test_only_locks_on_sqlites_lock_bytes_exclude_readers(database, kind, start, excluded):
    with locking(database, kind, start) as process_id:
        holder = lock_holder(database)
    assert holder.startswith(f"process {process_id} (") is excluded
    assert bool(holder) is excluded


def test_a_lock_through_another_hard_link_is_detected(database):
    linked = database.with_name("linked.db")
    linked.hardlink_to(database)
    with locking(linked, "LOCK_EX", PENDING) as process_id:
        assert lock_holder(database).startswith(f"process {process_id} (")
    assert lock_holder(database) == ""


def test_without_patience_a_lock_fails_immediately(database):
    began = time.monotonic()
    await_unlocked(database, 0)
    with locking(database, "LOCK_EX", PENDING), pytest.raises(SourceError, match="has locked it"):
        await_unlocked(database, 0)
    assert time.monotonic() - began < 30
