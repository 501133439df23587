from __future__ import annotations

import errno
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tautulli_pipeline.errors import ConfigurationError, SourceChangedError, SourceError
from tautulli_pipeline.source import original as original_module
from tautulli_pipeline.source import snapshot as snapshot_module
from tautulli_pipeline.source.original import look
from tautulli_pipeline.source.private_folder import remove_stale_snapshots
from tautulli_pipeline.source.snapshot import copy_file, take_snapshot
from tautulli_pipeline_tests import tautulli_databases
from tautulli_pipeline_tests.folders import content_of, without_privilege
from tautulli_pipeline_tests.source.plain_database import make_plain_database

ODD_NAMES = ["it's.db", 'a "b" c.db', "a;b%20c?mode=rw.db", "a\nb.db", "プレックス🎬.db", "-wal"]

# A separate process: POSIX locks are released when their process closes any handle of the file.
WRITER = """
import sqlite3, sys
path, mode, script = sys.argv[1:]
connection = sqlite3.connect(path, isolation_level=None, timeout=30)
connection.execute(f"PRAGMA journal_mode = {mode}")
connection.execute("PRAGMA cache_size = 5")
fill = lambda count: connection.executemany(
    "INSERT INTO plays (title) VALUES (?)", [("x" * 2000,)] * count)
exec(script)
"""
UNCOMMITTED = "connection.execute('BEGIN'); fill(200); print('ready', flush=True); input()"
ENDLESS = """
import time
print('ready', flush=True)
while True:
    connection.execute('BEGIN'); fill(10); connection.execute('COMMIT'); time.sleep({pause})
"""


@contextmanager
def writer(path, mode, script):
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), mode, script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        try:
            assert process.stdout.readline() == b"ready\n"
            yield process
        finally:
            process.kill()


def kill_in_transaction(database, script=UNCOMMITTED):
    """Leave a hot journal: a transaction spilled into the database must be rolled back."""
    with writer(database, "DELETE", script):
        pass


def rows_in(path, table="plays"):
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


COPY_AND_COUNT = """
import sqlite3, sys
from contextlib import closing
from pathlib import Path
from tautulli_pipeline.errors import PipelineError
from tautulli_pipeline.source.snapshot import take_snapshot
try:
    with take_snapshot(Path(sys.argv[1]), Path(sys.argv[2])) as snapshot:
        with closing(sqlite3.connect(snapshot.path)) as connection:
            print(connection.execute("SELECT count(*) FROM plays").fetchone()[0], "rows")
except PipelineError as error:
    print(type(error).__name__, error.message)
"""


def answer_without_privilege(database, snapshots):
    command = without_privilege("-c", COPY_AND_COUNT, database, snapshots)
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@contextmanager
def unchanged(folder):
    before = content_of(folder)
    yield
    assert content_of(folder) == before


def failure_of(source, snapshots, kind=SourceError, **options):
    with pytest.raises(kind) as caught, take_snapshot(source, snapshots, **options):
        pass
    assert "\n" not in caught.value.message
    return caught.value


def test_a_copy_has_every_row_and_is_private(home, database, snapshots):
    with unchanged(home), take_snapshot(database, snapshots) as snapshot:
        assert rows_in(snapshot.path) == 100
        assert snapshot.path.name == "tautulli.db"
        assert snapshot.source == database.resolve()
        assert snapshot.size_bytes == database.stat().st_size
        folder = snapshot.path.parent
        assert folder.parent == snapshots
        for private in (folder, snapshots, snapshots.parent):
            assert private.stat().st_mode & 0o777 == 0o700


def test_nothing_is_left_after_an_exception_in_the_block(database, snapshots):
    with pytest.raises(RuntimeError, match="mine"), take_snapshot(database, snapshots) as snapshot:
        raise RuntimeError("mine")
    assert not snapshot.path.exists()
    assert not snapshots.parent.exists()


def test_an_existing_folder_is_kept(database, snapshots):
    snapshots.mkdir(parents=True)
    with take_snapshot(database, snapshots):
        pass
    assert list(snapshots.iterdir()) == []


def test_an_os_error_in_the_block_is_not_converted(database, snapshots):
    with pytest.raises(OSError, match="mine"), take_snapshot(database, snapshots):
        raise OSError(errno.ENOSPC, "mine")


def test_only_committed_frames_are_copied(home, snapshots):
    database = make_plain_database(home / "tautulli.db", mode="WAL")
    script = "connection.execute('PRAGMA wal_autocheckpoint = 0'); fill(25);" + UNCOMMITTED
    with writer(database, "WAL", script):
        assert database.with_name("tautulli.db-wal").stat().st_size > 200 * 2000
        with unchanged(home), take_snapshot(database, snapshots) as snapshot:
            assert [path.name for path in snapshot.path.parent.iterdir()] == ["tautulli.db"]
            assert rows_in(snapshot.path) == 125
            assert [path.name for path in snapshot.path.parent.iterdir()] == ["tautulli.db"]


def test_a_transaction_spilled_into_the_database_is_rolled_back(home, database, snapshots):
    kill_in_transaction(database)
    assert database.with_name("tautulli.db-journal").stat().st_size > 0
    assert database.stat().st_size > 300 * 2000
    with unchanged(home), take_snapshot(database, snapshots) as snapshot:
        assert rows_in(snapshot.path) == 100
        assert [path.name for path in snapshot.path.parent.iterdir()] == ["tautulli.db"]


def test_a_persistent_journal_of_a_finished_transaction_is_ignored(home, snapshots):
    database = make_plain_database(home / "tautulli.db", mode="PERSIST")
    assert database.with_name("tautulli.db-journal").exists()
    with unchanged(home), take_snapshot(database, snapshots) as snapshot:
        assert rows_in(snapshot.path) == 100
        assert [path.name for path in snapshot.path.parent.iterdir()] == ["tautulli.db"]


@pytest.mark.parametrize(("mode", "pause"), [("WAL", 0.001), ("DELETE", 0.05)])
def test_every_copy_under_a_busy_writer_is_a_committed_state(home, snapshots, mode, pause):
    database = make_plain_database(home / "tautulli.db", rows=2000, mode=mode)
    counts = []
    with writer(database, mode, ENDLESS.format(pause=pause)):
        until = time.monotonic() + 30
        while len(set(counts)) < 10 and time.monotonic() < until:
            with take_snapshot(database, snapshots, attempts=200, pause_seconds=0.01) as snapshot:
                counts.append(rows_in(snapshot.path))
    assert all(count % 10 == 0 for count in counts)
    assert counts == sorted(counts)
    assert len(set(counts)) >= 10


def test_a_real_database_with_an_open_log_is_copied_to_its_last_commit(home, snapshots):
    home.mkdir()
    tautulli_databases.build_in_use("v2.17.2", home / "tautulli.db", plays_in_log=25)
    with unchanged(home), take_snapshot(home / "tautulli.db", snapshots) as snapshot:
        assert rows_in(snapshot.path, "session_history") == 300
        assert tautulli_databases.read(snapshot.path) == tautulli_databases.content_of("v2.17.2")


def test_the_fingerprint_changes_with_the_database_and_the_log(home, snapshots):
    def fingerprint():
        with take_snapshot(database, snapshots) as snapshot:
            return snapshot.fingerprint

    database = make_plain_database(home / "tautulli.db", mode="WAL")
    script = "input(); fill(1); print('ready', flush=True); input()"
    seen = [fingerprint(), fingerprint()]
    with writer(database, "WAL", "print('ready', flush=True);" + script) as process:
        process.stdin.write(b"\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"ready\n"
        seen += [fingerprint(), fingerprint()]
    assert seen[0] == seen[1] != seen[2] == seen[3]
    shutil.copytree(home, home.with_name("elsewhere"))
    database = home.with_name("elsewhere") / "tautulli.db"
    assert fingerprint() == seen[2]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_any_name_works(name, home, snapshots):
    database = make_plain_database(home / name / name)
    with unchanged(home), take_snapshot(database, snapshots / name) as snapshot:
        assert rows_in(snapshot.path) == 100


def test_a_link_is_followed_to_the_log_next_to_its_target(home, tmp_path, snapshots):
    database = make_plain_database(home / "tautulli.db", mode="WAL")
    link = tmp_path / "link.db"
    link.symlink_to(database)
    with (
        writer(database, "WAL", "fill(5);" + UNCOMMITTED),
        unchanged(home),
        take_snapshot(link, snapshots) as snapshot,
    ):
        assert rows_in(snapshot.path) == 105
        assert snapshot.source == database.resolve()


def test_a_database_in_a_read_only_folder_is_copied(home, tmp_path, snapshots):
    database = make_plain_database(home / "tautulli.db", mode="WAL")
    still = tmp_path / "still"
    with writer(database, "WAL", "fill(5);" + UNCOMMITTED):
        shutil.copytree(home, still)
    for entry in (*still.iterdir(), still):
        entry.chmod(0o555 if entry.is_dir() else 0o444)
    with unchanged(still):
        assert answer_without_privilege(still / "tautulli.db", snapshots) == "105 rows"
    still.chmod(0o755)


def test_a_database_without_read_permission_is_reported(home, database, snapshots):
    database.chmod(0)
    with unchanged(home):
        answer = answer_without_privilege(database, snapshots)
    assert answer == f"SourceError cannot read {str(database)!r}: permission denied"
    assert not snapshots.parent.exists()


def test_a_log_without_read_permission_is_reported(home, database, snapshots):
    log = database.with_name("tautulli.db-wal")
    log.write_bytes(b"frames")
    log.chmod(0)
    with unchanged(home):
        answer = answer_without_privilege(database, snapshots)
    assert answer == f"SourceError cannot read {str(log)!r}: permission denied"
    assert not snapshots.parent.exists()


def test_a_data_folder_without_write_permission_is_reported(database, tmp_path):
    (tmp_path / "data").mkdir(mode=0o555)
    answer = answer_without_privilege(database, tmp_path / "data" / "snapshots")
    assert answer.startswith(f"ConfigurationError cannot copy {str(database)!r} to ")
    assert answer.endswith("permission denied")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is empty (0 bytes)"),
        (b"just text\n" * 500, "it is not a SQLite database"),
        (b"PK\x03\x04" + bytes(500), "it is a damaged zip archive (File is not a zip file)"),
        (b"PK are my initials", "it is not a SQLite database"),
        (b"SQLite format 3", "it is not a SQLite database"),
    ],
)
def test_a_file_that_is_not_a_database_is_rejected_unchanged(content, words, home, snapshots):
    home.mkdir()
    path = home / "tautulli.db"
    path.write_bytes(content)
    with unchanged(home):
        assert failure_of(path, snapshots).message == f"cannot read {str(path)!r}: {words}"
    assert not snapshots.parent.exists()


def make_nothing(path):
    return "it does not exist"


def make_dangling_link(path):
    path.symlink_to(path.with_name("gone.db"))
    return "it is a broken link"


def make_looping_link(path):
    path.symlink_to(path)
    return os.strerror(errno.ELOOP).lower()


def make_folder(path):
    path.mkdir()
    return "it is a folder"


def make_pipe(path):
    os.mkfifo(path)
    return "it is not a regular file"


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        folder = os.open(path.parent, os.O_RDONLY)
        server.bind(f"/proc/self/fd/{folder}/{path.name}")
        os.close(folder)
    return "it is not a regular file"


@pytest.mark.parametrize(
    "make",
    [make_nothing, make_dangling_link, make_looping_link, make_folder, make_pipe, make_socket],
)
def test_a_path_without_a_readable_file_is_rejected(make, home, snapshots):
    home.mkdir()
    path = home / "tautulli.db"
    words = make(path)
    with unchanged(home):
        assert failure_of(path, snapshots).message == f"cannot read {str(path)!r}: {words}"
    assert not snapshots.parent.exists()


def test_a_path_through_a_file_is_rejected(database, snapshots):
    error = failure_of(database / "tautulli.db", snapshots)
    assert error.message.endswith(os.strerror(errno.ENOTDIR).lower())


def test_a_device_is_rejected(snapshots):
    assert failure_of(Path("/dev/zero"), snapshots).message.endswith("it is not a regular file")


def test_a_line_break_in_a_path_is_escaped_in_the_message(home, snapshots):
    assert "a\\nb.db" in failure_of(home / "a\nb.db", snapshots).message


def test_a_pipe_in_place_of_the_log_is_rejected_without_blocking(home, database, snapshots):
    os.mkfifo(database.with_name("tautulli.db-wal"))
    with unchanged(home):
        assert failure_of(database, snapshots).message.endswith("it is not a regular file")
    assert not snapshots.parent.exists()


def test_a_damaged_database_is_rejected_with_sqlites_message(home, database, snapshots):
    os.truncate(database, database.stat().st_size // 2)
    with unchanged(home):
        error = failure_of(database, snapshots)
    assert error.message.endswith("database disk image is malformed")
    assert not snapshots.parent.exists()


def test_a_database_with_a_damaged_header_is_rejected(home, database, snapshots):
    with database.open("r+b") as file:
        file.seek(16)
        file.write(b"\xff" * 50)
    with unchanged(home):
        assert failure_of(database, snapshots).message.endswith("file is not a database")


class ActionAfterCopy:
    """Runs an action on the source right after one of its files has been copied."""

    def __init__(self, monkeypatch, suffix, action):
        self._suffix, self._action = suffix, action
        self.copies = 0
        monkeypatch.setattr(snapshot_module, "copy_file", self)

    def __call__(self, original, target, seen, *more):
        digest = copy_file(original, target, seen, *more)
        if str(original).endswith(f".db{self._suffix}"):
            self.copies += 1
            self._action(original)
        return digest


def append_to(path):
    with path.open("ab") as file:
        file.write(b"more")


def write_into(path):
    with path.open("r+b") as file:
        file.seek(5000)
        file.write(os.urandom(16))


def replace_file(path):
    other = path.with_name("other")
    shutil.copy2(path, other)
    other.replace(path)


def truncate(path):
    os.truncate(path, path.stat().st_size - 1)


@pytest.mark.parametrize("action", [write_into, replace_file, truncate, Path.unlink, Path.touch])
def test_the_copy_fails_if_the_database_keeps_changing(action, database, snapshots, monkeypatch):
    saved = database.read_bytes()

    def act(path):
        path.write_bytes(saved)
        action(path)

    after_copy = ActionAfterCopy(monkeypatch, "", act)
    error = failure_of(database, snapshots, attempts=3, pause_seconds=0)
    assert isinstance(error, SourceChangedError)
    assert "kept changing while it was copied" in error.message
    assert error.hint == "stop Tautulli during the import, or import a Tautulli backup"
    assert after_copy.copies >= 1
    assert not snapshots.parent.exists()


def test_a_single_change_causes_one_more_attempt(database, snapshots, monkeypatch):
    def commit_once(path):
        if after_copy.copies == 1:
            with closing(sqlite3.connect(path)) as connection, connection:
                connection.execute("INSERT INTO plays (title) VALUES ('new')")

    after_copy = ActionAfterCopy(monkeypatch, "", commit_once)
    with take_snapshot(database, snapshots, pause_seconds=0) as snapshot:
        assert rows_in(snapshot.path) == 101
    assert after_copy.copies == 2


def test_a_write_within_one_clock_tick_is_detected(database, snapshots, monkeypatch):
    def look_with_a_coarse_clock(path):
        seen = look(path)
        day_ns = 86_400 * 10**9
        ticked = {"mtime_ns": seen.mtime_ns // day_ns * day_ns, "ctime_ns": 2**62} if seen else {}
        return seen and replace(seen, **ticked)

    monkeypatch.setattr(original_module, "look", look_with_a_coarse_clock)
    ActionAfterCopy(monkeypatch, "", write_into)
    error = failure_of(database, snapshots, attempts=2, pause_seconds=0)
    assert error.message.endswith("it changed within one clock tick")


@pytest.mark.parametrize("offset", [24, 92])
def test_the_change_counter_reveals_a_write_with_unchanged_times(
    offset, database, snapshots, monkeypatch
):
    def look_without_times(path):
        seen = look(path)
        return seen and replace(seen, mtime_ns=0, ctime_ns=0)

    def count_up(path):
        with path.open("r+b") as file:
            file.seek(offset)
            file.write(os.urandom(4))

    monkeypatch.setattr(original_module, "look", look_without_times)
    ActionAfterCopy(monkeypatch, "", count_up)
    error = failure_of(database, snapshots, attempts=2, pause_seconds=0)
    assert error.message.endswith("the database changed")


def test_a_growing_log_needs_no_second_attempt(home, snapshots, monkeypatch):
    database = make_plain_database(home / "tautulli.db", mode="WAL")
    with writer(database, "WAL", "fill(5);" + UNCOMMITTED):
        after_copy = ActionAfterCopy(monkeypatch, "-wal", append_to)
        with take_snapshot(database, snapshots) as snapshot:
            assert rows_in(snapshot.path) == 105
    assert after_copy.copies == 1


def reset_log(path):
    with path.open("r+b") as file:
        file.seek(12)
        file.write(os.urandom(16))


@pytest.mark.parametrize("action", [reset_log, replace_file, Path.unlink])
def test_the_copy_fails_if_the_log_restarts(action, home, snapshots, monkeypatch):
    database = make_plain_database(home / "tautulli.db", mode="WAL")
    with writer(database, "WAL", "fill(5);" + UNCOMMITTED):
        ActionAfterCopy(monkeypatch, "-wal", action)
        error = failure_of(database, snapshots, attempts=1)
    assert error.message.endswith("its write-ahead log was restarted")


@pytest.mark.parametrize(
    ("suffix", "reason"),
    [("-wal", "its write-ahead log was restarted"), ("-journal", "its rollback journal changed")],
)
def test_a_new_log_or_journal_is_detected(suffix, reason, database, snapshots, monkeypatch):
    def appear(path):
        path.with_name(path.name + suffix).write_bytes(b"\0" * 64)

    ActionAfterCopy(monkeypatch, "", appear)
    error = failure_of(database, snapshots, attempts=1)
    assert error.message.endswith(reason)


def test_the_copy_fails_if_the_journal_changes(database, snapshots, monkeypatch):
    kill_in_transaction(database)
    ActionAfterCopy(monkeypatch, "-journal", append_to)
    error = failure_of(database, snapshots, attempts=2, pause_seconds=0)
    assert error.message.endswith("its rollback journal changed")


def test_a_super_journal_is_rejected(home, tmp_path, snapshots):
    database = make_plain_database(home / "tautulli.db")
    make_plain_database(home / "other.db")
    script = f"""
connection.execute("ATTACH '{home / "other.db"}' AS other")
connection.execute("BEGIN"); fill(10); connection.execute("INSERT INTO other.plays DEFAULT VALUES")
print('ready', flush=True); input()
"""
    kill_in_transaction(database, script)
    name = os.fsencode(home / "tautulli.db-mj0123ABCD")
    with database.with_name("tautulli.db-journal").open("ab") as file:
        file.write(len(name).to_bytes(4, "big") + sum(name).to_bytes(4, "big"))
        file.write(bytes.fromhex("d9d505f920a163d7"))
    with unchanged(home):
        error = failure_of(database, snapshots, attempts=2, pause_seconds=0)
    assert error.message.endswith("a transaction across several databases is in progress")


def test_a_full_disk_is_reported_before_anything_is_created(database, snapshots, monkeypatch):
    usage = shutil.disk_usage(database)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with unchanged(database.parent):
        error = failure_of(database, snapshots, kind=ConfigurationError)
    assert error.message.endswith("it needs 0.2 MB, but 0.0 MB are free")
    assert not snapshots.parent.exists()


def test_a_disk_that_fills_up_leaves_no_files(database, snapshots, monkeypatch):
    def fill_up(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    ActionAfterCopy(monkeypatch, "", fill_up)
    with unchanged(database.parent):
        error = failure_of(database, snapshots, kind=ConfigurationError)
    assert "it needs 0.2 MB, " in error.message
    assert not snapshots.parent.exists()


def test_a_file_in_place_of_the_data_folder_is_reported(database, tmp_path):
    (tmp_path / "data").write_text("mine")
    error = failure_of(database, tmp_path / "data" / "snapshots", kind=ConfigurationError)
    assert error.message.startswith(f"cannot copy {str(database)!r} to ")
    assert (tmp_path / "data").read_text() == "mine"


OWNER = """
import sys
from pathlib import Path
from tautulli_pipeline.source.snapshot import take_snapshot
with take_snapshot(Path(sys.argv[1]), Path(sys.argv[2])) as snapshot:
    print(snapshot.path, flush=True)
    input()
"""


def test_only_the_copy_of_a_killed_owner_is_removed(database, snapshots):
    command = [sys.executable, "-c", OWNER, str(database), str(snapshots)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as owner:
        orphan = Path(owner.stdout.readline().decode().strip())
        remove_stale_snapshots(snapshots)
        with take_snapshot(database, snapshots) as live:
            assert orphan.exists()
            owner.send_signal(signal.SIGKILL)
            owner.wait()
            with take_snapshot(database, snapshots) as other:
                assert not orphan.parent.exists()
                assert live.path.exists()
                assert len(list(snapshots.iterdir())) == 4
                assert live.path != other.path
    assert list(snapshots.iterdir()) == []


def test_stale_copies_are_removed_with_or_without_their_lock(snapshots):
    for name in ("snapshot-1", "snapshot-2"):
        (snapshots / name).mkdir(parents=True)
        (snapshots / name / "tautulli.db").write_bytes(b"tokens")
    (snapshots / "snapshot-2.lock").touch()
    (snapshots / "snapshot-3.lock").touch()
    (snapshots / "mine.txt").touch()
    remove_stale_snapshots(snapshots)
    assert [path.name for path in snapshots.iterdir()] == ["mine.txt"]


def test_a_stale_copy_that_cannot_be_deleted_is_reported(snapshots):
    snapshots.mkdir(parents=True)
    (snapshots / "snapshot-1").write_bytes(b"tokens")
    with pytest.raises(ConfigurationError) as caught:
        remove_stale_snapshots(snapshots)
    assert caught.value.message.startswith("cannot delete the stale copy ")
    assert caught.value.hint == "delete it by hand: it contains tokens from the database"


def test_a_missing_folder_has_no_stale_copies(snapshots):
    remove_stale_snapshots(snapshots)
    assert not snapshots.exists()


def test_concurrent_copies_do_not_interfere(database, snapshots):
    faults = []

    def copy_often():
        try:
            for _ in range(20):
                with take_snapshot(database, snapshots) as snapshot:
                    assert rows_in(snapshot.path) == 100
        except Exception as fault:
            faults.append(fault)

    threads = [threading.Thread(target=copy_often) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert list(snapshots.glob("*")) == []


def test_the_progress_of_a_copy_counts_its_bytes(database, snapshots):
    seen = []
    with take_snapshot(database, snapshots, on_copied=lambda *bytes_: seen.append(bytes_)):
        pass
    done = [count for count, _ in seen]
    assert done == sorted(done)
    assert done[-1] >= database.stat().st_size
    assert {total for _, total in seen} == {seen[0][1]}
    assert done[-1] <= seen[0][1]
