"""The record of an import at work, its clock, and requests to stop it."""

from __future__ import annotations

import threading
from datetime import datetime

import pyarrow as pa
import pytest

from tautulli_pipeline.errors import StoppedError
from tautulli_pipeline.imports import running as running_module
from tautulli_pipeline.imports.receipts import ROWS, Receipt
from tautulli_pipeline.imports.record import Fates, ImportLog, ImportRecord, Status
from tautulli_pipeline.imports.running import RunningImport, heeding_requests
from tautulli_pipeline_tests.command import wait_until


@pytest.fixture
def seen():
    return []


@pytest.fixture
def running(log, tmp_path, seen):
    record = ImportRecord.begin(tmp_path / "tautulli.db", fresh=False)
    return RunningImport(log, record, seen.append)


@pytest.fixture
def clock(monkeypatch):
    """The time, to be moved by hand."""
    now = [100.0]
    monkeypatch.setattr(running_module.time, "monotonic", lambda: now[0])
    return now


def receipt_of(*ids):
    rows = pa.Table.from_pylist([{"source_row_id": row_id} for row_id in ids], schema=ROWS)
    return Receipt("import-1", "other", "default", 1, datetime(2026, 1, 1), rows)


def without_room(monkeypatch):
    def write(_log, _record):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ImportLog, "write", write)


def stored_status(log):
    """What is stored, though nobody holds the lock of a running import here."""
    with log.exclusive(None):
        return log.read().status


def test_every_change_is_stored_and_then_seen(running, log, seen):
    running.change(status=Status.STOPPED, total_records=7)
    assert log.read() == running.record == seen[-1]
    assert (running.record.status, running.record.total_records) == (Status.STOPPED, 7)


def test_time_counts_from_start_to_stop_and_over_all_attempts(log, tmp_path, clock):
    record = ImportRecord.begin(tmp_path / "tautulli.db", fresh=False)
    first = RunningImport(log, record)
    clock[0] += 5
    first.start_clock()
    clock[0] += 2
    assert first.record.elapsed_seconds == 2
    first.change(total_records=1)
    clock[0] += 3
    assert first.record.elapsed_seconds == 5
    first.stop_clock()
    clock[0] += 9
    assert first.record.elapsed_seconds == 5
    first.change(status=Status.STOPPED)
    second = RunningImport(log, log.read())
    second.start_clock()
    clock[0] += 1
    assert second.record.elapsed_seconds == 6


def test_progress_that_finds_no_room_is_noted_when_there_is_some_again(
    running, log, seen, monkeypatch
):
    with monkeypatch.context() as patched:
        without_room(patched)
        running.progressed({"imported": 3})
        with pytest.raises(OSError, match="No space left"):
            running.change(total_records=9)
    assert log.read() is None
    running.progressed({"imported": 4, "rejected": 1})
    assert log.read().fates == Fates(imported=4, rejected=1)
    assert log.read().total_records == 9
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("ids", "last"), [((1, 2, 3), 3), ((5, None), 5), ((None, 6), 6), ((), 0), ((None,), 0)]
)
def test_the_last_id_that_was_published_is_kept(running, log, ids, last):
    running.published(receipt_of(*ids))
    assert running.record.last_processed_id == last
    assert (log.read() is None) == (last == 0)


def test_changes_of_many_threads_are_all_kept(running, log):
    names = ("total_records", "unchanged", "last_processed_id", "process_id")

    def change(name):
        for value in range(1, 21):
            running.change(**{name: value})

    threads = [threading.Thread(target=change, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [getattr(log.read(), name) for name in names] == [20] * 4


@pytest.mark.parametrize("status", Status)
def test_only_what_runs_can_be_stopping(running, log, status):
    running.change(status=status)
    running.mark_stopping()
    expected = Status.STOPPING if status is Status.RUNNING else status
    assert stored_status(log) is expected


def test_stopping_goes_on_though_nobody_can_be_shown(running, monkeypatch):
    running.change(status=Status.RUNNING)
    without_room(monkeypatch)
    running.mark_stopping()
    assert running.record.status is Status.STOPPING


@pytest.mark.parametrize(
    ("fault", "noted"),
    [
        (StoppedError("stopped"), Status.STOPPED),
        (KeyboardInterrupt(), Status.STOPPED),
        (SystemExit(), Status.FAILED),
        (ValueError(), Status.FAILED),
    ],
)
def test_an_end_is_noted_as_what_it_is(running, log, fault, noted):
    with pytest.raises(type(fault)), running.until_ended():
        raise fault
    assert log.read().status is noted


def test_who_takes_other_faults_for_stops_says_so(running, log):
    with pytest.raises(ValueError, match="asked"), running.until_ended(stops=(ValueError,)):
        raise ValueError("asked")
    assert log.read().status is Status.STOPPED
    with pytest.raises(KeyboardInterrupt), running.until_ended(stops=(ValueError,)):
        raise KeyboardInterrupt
    assert log.read().status is Status.FAILED


def test_what_is_left_to_a_consumer_is_pending_unless_it_fails(running, log):
    running.leave_pending()
    with running.until_ended():
        pass
    assert log.read().status is Status.PENDING
    with pytest.raises(ValueError, match="no"), running.until_ended():
        raise ValueError("no")
    assert log.read().status is Status.FAILED


@pytest.fixture
def heeding(log, tmp_path, monkeypatch):
    """An import that looks for requests; gives the lock, its claim, the event and what it heard."""
    monkeypatch.setattr(running_module, "_LOOK_EVERY_SECONDS", 0.005)
    heard, stopping = [], threading.Event()
    with (
        log.exclusive(tmp_path / "tautulli.db") as claim,
        heeding_requests(
            log.lock,
            claim,
            stopping,
            on_request=lambda: heard.append("request"),
            on_stopping=lambda: heard.append("stopping"),
        ),
    ):
        yield log.lock, claim, stopping, heard


def test_a_request_is_told_once_however_long_it_takes_to_stop(heeding):
    lock, claim, stopping, heard = heeding
    lock.request_stop(claim)
    wait_until(lambda: heard == ["request"])
    stopping.wait(0.05)
    assert heard == ["request"]
    stopping.set()
    wait_until(lambda: heard == ["request", "stopping"])


def test_a_stop_that_nobody_asked_for_there_shows_as_well(heeding):
    _, _, stopping, heard = heeding
    stopping.set()
    wait_until(lambda: heard == ["stopping"])


def test_nothing_is_told_of_an_import_that_ends_by_itself(log, tmp_path):
    heard = []
    with (
        log.exclusive(tmp_path / "tautulli.db") as claim,
        heeding_requests(
            log.lock,
            claim,
            threading.Event(),
            on_request=lambda: heard.append("request"),
            on_stopping=lambda: heard.append("stopping"),
        ),
    ):
        pass
    assert heard == []
    assert not [t for t in threading.enumerate() if t.name == "stop-requests"]
