"""The record of a running import: how it is stored and shown, its clock, and its end."""

from __future__ import annotations

import os
import shutil
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pyarrow as pa
import pytest

from tautulli_pipeline.errors import StoppedError, StreamError
from tautulli_pipeline.imports import running as running_module
from tautulli_pipeline.imports.plan import Finished
from tautulli_pipeline.imports.receipts import ROWS, Receipt
from tautulli_pipeline.imports.record import ImportLog, ImportRecord, Outcomes, Status
from tautulli_pipeline.imports.running import RunningImport

DAMAGE = {"table": "session_history", "ids": [7, 9]}


@pytest.fixture
def log(tmp_path):
    """The log of a data directory whose import lock this process holds."""
    log = ImportLog(tmp_path)
    with log.exclusive(tmp_path / "tautulli.db"):
        yield log


@pytest.fixture
def seen():
    return []


@pytest.fixture
def start(log, tmp_path, seen):
    """Begin an import, or resume `record`."""

    def start(record=None, *, unreadable=(), began_at=None):
        return RunningImport(
            log,
            record or ImportRecord.begin(tmp_path / "tautulli.db", "default", fresh=False),
            unreadable=unreadable,
            began_at=time.monotonic() if began_at is None else began_at,
            observe=seen.append,
        )

    return start


@pytest.fixture
def running(start):
    return start()


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves."""
    now = [100.0]
    monkeypatch.setattr(running_module.time, "monotonic", lambda: now[0])
    return now


def plan_of(total_records, unchanged=0, pending=0, covered=("b", "a")):
    return SimpleNamespace(
        total_records=total_records, unchanged=unchanged, pending=pending, covered=covered
    )


def receipt_of(*ids):
    rows = pa.Table.from_pylist([{"source_row_id": row_id} for row_id in ids], schema=ROWS)
    return Receipt("import-1", "other", "default", datetime(2026, 1, 1), rows, 1)


def with_full_disk(monkeypatch):
    def write(_log, _record):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ImportLog, "write", write)


def read_without_process(folder):
    """Return the record as it reads after the process of the import has died."""
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(folder / "import.json", elsewhere)
    return ImportLog(elsewhere).read()


def is_just_now(moment):
    return timedelta(0) <= datetime.now(UTC) - moment < timedelta(seconds=60)


def test_an_import_is_immediately_stored_and_shown_as_running(start, log, seen):
    running = start(unreadable=(DAMAGE,))
    stored = log.read()
    assert seen == [stored]
    assert (stored.status, stored.process_id) == (Status.RUNNING, os.getpid())
    assert (stored.unreadable, stored.ended_at) == ((DAMAGE,), None)
    assert running.record.import_id == stored.import_id


def test_every_change_is_stored_and_then_shown(running, log, seen, clock):
    changes = [
        (lambda: running.cover(plan_of(7, 3, 2)), (7, 3, 2, Outcomes(), 0)),
        (lambda: running.published(receipt_of(4, 5)), (7, 3, 2, Outcomes(), 5)),
        (lambda: running.settled(Outcomes(imported=6)), (7, 3, 2, Outcomes(imported=6), 5)),
        (lambda: running.progressed(Outcomes(imported=7)), (7, 3, 2, Outcomes(imported=7), 5)),
        (running.complete, (7, 3, 2, Outcomes(imported=7), 5)),
    ]
    for number, (change, expected) in enumerate(changes, start=2):
        change()
        stored = log.read()
        assert stored == running.record == seen[-1]
        assert len(seen) == number
        counts = (stored.total_records, stored.unchanged, stored.pending)
        assert (*counts, stored.outcomes, stored.last_processed_id) == expected
    assert [record.status for record in seen] == [Status.RUNNING] * 5 + [Status.COMPLETED]


def test_elapsed_time_counts_the_wait_of_the_user_over_all_attempts(start, log, clock):
    first = start(began_at=95.0)
    assert first.record.elapsed_seconds == log.read().elapsed_seconds == 5
    clock[0] += 2
    assert first.record.elapsed_seconds == 7
    first.cover(plan_of(1))
    assert log.read().elapsed_seconds == 7
    clock[0] += 3
    with pytest.raises(StoppedError), first.until_ended():
        raise StoppedError("stopped")
    assert log.read().elapsed_seconds == 10
    clock[0] += 9
    second = start(log.read(), began_at=clock[0] - 1)
    assert second.record.elapsed_seconds == 11
    clock[0] += 1
    second.complete()
    clock[0] += 9
    assert second.record.elapsed_seconds == log.read().elapsed_seconds == 12


def test_the_time_of_an_upgrade_does_not_count_for_the_rate(start, log, clock):
    first = start(began_at=98.0)
    first.ready()  # there was no upgrade
    first.upgrading()
    clock[0] += 60
    first.upgrading()
    clock[0] += 30
    assert first.record.upgrade_seconds == 90
    first.ready()
    first.cover(plan_of(100))
    clock[0] += 3
    first.settled(Outcomes(imported=50))
    assert (log.read().elapsed_seconds, log.read().upgrade_seconds) == (95, 90)
    summary = log.read().summary()
    assert summary["records_per_second"] == 10
    assert summary["estimated_remaining_seconds"] == 5
    # Another attempt, which goes on with an upgrade, is stopped during it.
    second = start(log.read(), began_at=clock[0])
    second.upgrading()
    clock[0] += 7
    with pytest.raises(StoppedError), second.until_ended():
        raise StoppedError("stopped")
    clock[0] += 5
    assert (log.read().elapsed_seconds, log.read().upgrade_seconds) == (102, 97)
    assert second.record == log.read()


def test_a_resumed_import_continues_its_record(start, log, clock):
    before = start(unreadable=(DAMAGE,))
    before.cover(plan_of(7, 3, 2))
    before.settled(Outcomes(imported=4))
    with pytest.raises(StoppedError), before.until_ended():
        raise StoppedError("stopped")
    stopped = replace(log.read(), process_id=1)
    start(stopped, began_at=clock[0])
    assert log.read() == replace(
        stopped,
        status=Status.RUNNING,
        process_id=os.getpid(),
        unreadable=(),
        ended_at=None,
        sent_records=4,
    )


def test_progress_lost_on_a_full_disk_is_recorded_once_there_is_room_again(
    running, log, seen, monkeypatch
):
    before = log.read()
    with monkeypatch.context() as patched:
        with_full_disk(patched)
        running.progressed(Outcomes(imported=3))
        with pytest.raises(OSError, match="No space left"):
            running.cover(plan_of(9))
        with pytest.raises(OSError, match="No space left"):
            running.settled(Outcomes(imported=3))
    assert log.read() == before
    running.progressed(Outcomes(imported=4, rejected=1))
    assert log.read().outcomes == Outcomes(imported=4, rejected=1)
    assert log.read().total_records == 9
    assert len(seen) == 2


@pytest.mark.parametrize(
    ("ids", "last"), [((1, 2, 3), 3), ((5, None), 5), ((None, 6), 6), ((), 0), ((None,), 0)]
)
def test_the_last_published_id_is_recorded(running, log, seen, ids, last):
    running.published(receipt_of(*ids))
    assert running.record.last_processed_id == log.read().last_processed_id == last
    assert running.record.sent_records == len(ids)
    assert len(seen) == 2


def test_a_partition_without_ids_does_not_change_the_last_id(running, log):
    for ids in ((1, 2, 3), (), (None,)):
        running.published(receipt_of(*ids))
    assert log.read().last_processed_id == 3


def test_concurrent_changes_are_all_kept(running, log):
    changes = (
        lambda value: running.cover(plan_of(value, value, value)),
        lambda value: running.settled(Outcomes(imported=value)),
        lambda value: running.published(receipt_of(value)),
    )

    def keep_changing(change):
        for value in range(1, 21):
            change(value)

    threads = [threading.Thread(target=keep_changing, args=(change,)) for change in changes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept = log.read()
    assert (kept.total_records, kept.unchanged, kept.pending) == (20, 20, 20)
    assert (kept.outcomes, kept.last_processed_id) == (Outcomes(imported=20), 20)


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (StoppedError("stopped"), Status.STOPPED),
        (KeyboardInterrupt(), Status.STOPPED),
        (SystemExit(), Status.FAILED),
        (ValueError(), Status.FAILED),
    ],
)
def test_an_import_that_ends_early_is_recorded_as_stopped_or_failed(
    running, log, seen, fault, status
):
    running.settled(Outcomes(imported=4))
    with pytest.raises(type(fault)) as caught, running.until_ended():
        raise fault
    assert caught.value is fault
    ended = log.read()
    assert (ended.status, ended.outcomes) == (status, Outcomes(imported=4))
    assert ended.resumable
    assert is_just_now(ended.ended_at)
    assert seen[-1] == ended


def test_completing_an_import_records_its_end(running, log, seen):
    with running.until_ended():
        running.complete()
        ended = log.read()
        assert ended.status is Status.COMPLETED
        assert is_just_now(ended.ended_at)
    assert log.read() == seen[-1] == ended


def test_an_error_after_completion_does_not_change_the_status(running, log):
    running.complete()
    ended = log.read()
    with pytest.raises(StoppedError), running.until_ended():
        raise StoppedError("too late")
    assert log.read() == running.record == ended


def test_an_import_that_cannot_record_its_end_raises_the_original_error_and_has_failed(
    running, tmp_path, monkeypatch
):
    with monkeypatch.context() as patched:
        with_full_disk(patched)
        with pytest.raises(ValueError, match="the reason"), running.until_ended():
            raise ValueError("the reason")
    assert read_without_process(tmp_path).status is Status.FAILED


def test_an_import_that_cannot_record_its_completion_has_failed(running, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        with_full_disk(patched)
        with pytest.raises(OSError, match="No space left"), running.until_ended():
            running.complete()
    found = read_without_process(tmp_path)
    assert (found.status, found.ended_at) == (Status.FAILED, None)
    assert found.resumable


def test_an_import_that_finds_nothing_new_keeps_the_figures_of_the_last_one(start, log):
    first = start()
    first.cover(plan_of(7))
    first.settled(Outcomes(imported=7))
    first.complete()
    last = log.read()
    second = start()
    second.cover(plan_of(0, unchanged=7, pending=2))
    second.complete()
    assert (second.record.total_records, second.record.unchanged) == (0, 7)
    checked_at = second.record.ended_at
    assert log.read() == replace(
        last,
        checked_at=checked_at,
        pending=2,
        status_before=Status.COMPLETED,
        last_completed_at=checked_at,
    )


@pytest.mark.parametrize(
    "changes", [{"status": Status.FAILED}, {"source": "/other.db"}, {"server_id": "other"}]
)
def test_an_import_that_finds_nothing_keeps_no_other_import(start, log, changes):
    first = start()
    first.cover(plan_of(7))
    log.write(replace(first.record, **({"status": Status.COMPLETED} | changes)))
    second = start()
    second.cover(plan_of(0, unchanged=7))
    second.complete()
    assert log.read() == second.record


@pytest.mark.parametrize(
    ("error", "stored"),
    [
        (StreamError("no server", hint="start it"), "no server; start it"),
        (RuntimeError("odd\nmore"), "unexpected RuntimeError: odd"),
        (StoppedError("stopped"), None),
    ],
)
def test_a_failed_import_records_why(start, log, error, stored):
    running = start()
    with pytest.raises(type(error)), running.until_ended():
        raise error
    assert log.read().error == stored
    resumed = start(log.read())
    assert resumed.record.error is None


@pytest.mark.parametrize("between", [{}, {"server": "cabin"}, {"source": "backup.db"}])
@pytest.mark.parametrize("fails_early", [False, True])
def test_what_an_import_began_is_remembered_until_another_one_has_finished_it(
    log, tmp_path, between, fails_early
):
    """Whatever other imports are in between, of the same source or of another one."""

    def begin(server="default", source="tautulli.db", covered=None):
        record = log.continue_or_begin(tmp_path / source, server, fresh=bool(between))
        begun = RunningImport(
            log, record, unreadable=(), began_at=0.0, observe=lambda _record: None
        )
        if covered is not None:
            begun.cover(plan_of(4, covered=covered))
        return begun

    def fail(running):
        with pytest.raises(StreamError), running.until_ended():
            raise StreamError("the stream is unreachable")

    finished = {key: Finished("long-before", "place:digest") for key in ("first", "second")}
    first = begin(covered=finished)
    assert first.half_published(finished) == set()
    finished["first"] = Finished(first.record.import_id, "place:digest")
    fail(first)
    other = begin(**between, covered=None if fails_early else ())
    fail(other) if fails_early else other.complete()
    again = begin(covered=("second",))
    assert again.half_published(finished) == {"second"}
    again.published(replace(receipt_of(7), partition_key="second"))
    finished["second"] = Finished(again.record.import_id, "place:digest")
    again.complete()
    assert begin().half_published(finished) == set()
