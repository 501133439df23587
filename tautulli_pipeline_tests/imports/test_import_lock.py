"""The import lock of a data directory, and stop requests."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest
from filelock import Timeout

from tautulli_pipeline.errors import ImportRunningError, StoppedError
from tautulli_pipeline.imports.import_lock import ImportLock
from tautulli_pipeline.imports.record import ImportLog, ImportRecord, Status
from tautulli_pipeline.imports.running import RunningImport
from tautulli_pipeline.imports.stopping import Stop

HOLDER = """
import sys
from pathlib import Path
from tautulli_pipeline.imports.import_lock import ImportLock
with ImportLock(Path(sys.argv[1])).hold(Path("/given/tautulli.db")):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def lock(tmp_path):
    return ImportLock(tmp_path)


@pytest.fixture
def other(tmp_path):
    """Another process that holds the lock."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.stdin.close()


def test_the_holder_is_known_while_it_holds_the_lock(lock, other, tmp_path):
    held = lock.holder()
    assert (held.process_id, held.source) == (other.pid, "/given/tautulli.db")
    with pytest.raises(Timeout), lock.hold(None):
        pass
    assert lock.holder() == held
    other.stdin.close()
    other.wait()
    assert lock.holder() is None
    assert list(tmp_path.iterdir()) == []


def test_a_killed_holder_releases_the_lock(lock, other):
    other.kill()
    other.wait()
    assert lock.holder() is None
    with lock.hold(None) as claim:
        assert claim.process_id == os.getpid()


def test_checking_the_lock_creates_no_file(lock, tmp_path):
    assert not lock.is_held()
    assert lock.holder() is None
    assert list(tmp_path.iterdir()) == []


def test_many_threads_can_check_the_lock_of_a_dead_holder(lock, other, tmp_path):
    other.kill()
    other.wait()
    seen = []

    def look():
        seen.extend(ImportLock(tmp_path).is_held() for _ in range(300))

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(seen) == {False}


def test_a_stale_request_does_not_stop_a_later_attempt(lock, other, tmp_path):
    stale = lock.holder()
    lock.request_stop(stale)
    assert lock.is_stop_requested(stale)
    assert lock.is_stopping()
    other.kill()
    other.wait()
    assert list(tmp_path.glob("*.stop"))
    with lock.hold(None) as claim:
        assert not lock.is_stop_requested(claim)
        assert not lock.is_stopping()
        lock.request_stop(stale)  # a process that read the old claim and sends its request only now
        assert not lock.is_stop_requested(claim)
    assert list(tmp_path.glob("*.stop")) == []


def test_a_stale_request_does_not_show_a_later_attempt_as_stopping(lock, other):
    stale = lock.holder()
    other.kill()
    other.wait()
    with lock.hold(None):
        lock.request_stop(stale)
        assert not lock.is_stopping()


def test_a_request_shows_the_attempt_as_stopping_to_every_process(lock, tmp_path):
    assert not lock.is_stopping()
    with lock.hold(None) as claim:
        assert not ImportLock(tmp_path).is_stopping()
        lock.request_stop(claim)
        assert ImportLock(tmp_path).is_stopping()
    assert not lock.is_stopping()


def test_a_reset_blocks_imports_with_a_clear_message(tmp_path):
    with ImportLog(tmp_path).exclusive(None):
        with pytest.raises(ImportRunningError) as caught, ImportLog(tmp_path).exclusive(tmp_path):
            pass
        assert ImportLog(tmp_path).current() is None
    assert caught.value.message == f"the progress of {tmp_path} is being reset"
    assert list(tmp_path.iterdir()) == []


def test_an_import_that_is_still_copying_its_source_is_shown_as_running(tmp_path):
    log = ImportLog(tmp_path)
    log.write(ImportRecord.begin(tmp_path / "old.db", "default", fresh=False))
    with log.exclusive(tmp_path / "new.db") as claim:
        os.utime(tmp_path / "import.json", (0, 0))
        current = ImportLog(tmp_path).current()
        assert (current.status, current.source) == (Status.RUNNING, str(tmp_path / "new.db"))
        assert current.summary()["import_id"] is None
        assert current.started_at == claim.started_at
        log.write(ImportRecord.begin(tmp_path / "own.db", "default", fresh=False))
        assert ImportLog(tmp_path).current().source == str(tmp_path / "own.db")


def statuses_of(tmp_path, work):
    """Return the status of the record at each change while `work` runs, and at the end."""
    log, seen, stop = ImportLog(tmp_path), [], Stop("the import was stopped")
    with log.exclusive(tmp_path / "x.db") as claim, stop.shared(log.lock, claim):
        running = RunningImport(
            log,
            ImportRecord.begin(tmp_path / "x.db", "default", fresh=False),
            unreadable=(),
            began_at=time.monotonic(),
            observe=lambda changed: seen.append(changed.status.value),
        )
        with running.until_ended():
            work(log, claim, stop)
            running.complete()
    return seen, log.read().status.value


def test_a_request_shows_as_stopping_before_the_import_is_stopped(tmp_path):
    def asked(log, claim, stop):
        assert log.read().status is Status.RUNNING
        ImportLog(tmp_path).lock.request_stop(claim)
        assert log.read().status is Status.STOPPING
        assert stop.wait(10)
        assert log.read().status is Status.STOPPING
        stop.require_none()

    with pytest.raises(StoppedError):
        statuses_of(tmp_path, asked)
    assert ImportLog(tmp_path).read().status is Status.STOPPED


def test_an_import_without_a_stop_request_completes(tmp_path):
    assert statuses_of(tmp_path, lambda *_: None) == (["running", "completed"], "completed")


def test_an_import_that_fails_on_a_full_disk_raises_the_original_error(tmp_path, monkeypatch):
    def no_room(_log, _record):
        raise OSError(28, "No space left on device")

    def fail(log, *_):
        monkeypatch.setattr(ImportLog, "write", no_room)
        raise ValueError("the original error")

    with pytest.raises(ValueError, match="the original error"):
        statuses_of(tmp_path, fail)
    monkeypatch.undo()
    assert ImportLog(tmp_path).read().status is Status.FAILED


def test_a_lock_that_is_kept_between_two_imports_is_no_reset(tmp_path):
    with (
        ImportLock(tmp_path).kept(),
        pytest.raises(ImportRunningError) as caught,
        ImportLog(tmp_path).exclusive(tmp_path),
    ):
        pass
    assert caught.value.message == f"another import into {tmp_path} is just beginning or ending"
    assert caught.value.hint == "import again in a moment"
