"""The record of an import: how it is stored, read and completed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest

from tautulli_pipeline.configuration import parse_configuration
from tautulli_pipeline.errors import ImportRunningError
from tautulli_pipeline.imports.record import (
    ImportLog,
    ImportRecord,
    Outcomes,
    Status,
    resumable_imports,
)
from tautulli_pipeline.settings import Settings

HOLDER = """
import sys
from pathlib import Path
from tautulli_pipeline.imports.record import ImportLog
with ImportLog(Path(sys.argv[1])).exclusive(Path('/given/tautulli.db')):
    print("held", flush=True)
    sys.stdin.read()
"""
READER = """
import sys
from pathlib import Path
from tautulli_pipeline.imports.record import ImportLog
print("reading", flush=True)
while True:
    ImportLog(Path(sys.argv[1])).read()
"""
SOURCE = Path("/media/tautulli.db")
OUTCOMES = Outcomes(
    published=60,
    imported=40,
    duplicates_stream=1,
    duplicates_cache=2,
    duplicates_database=3,
    rejected=4,
    errors=5,
)


def record(status=Status.RUNNING, **changes):
    standard = {
        "import_id": "20260101T000000-abcd",
        "source": str(SOURCE),
        "server_id": "default",
        "fresh": False,
        "status": status,
        "started_at": datetime(2026, 1, 1, 0, 0, 7, tzinfo=UTC),
        "process_id": 4711,
        "total_records": 110,
        "unchanged": 9,
        "pending": 6,
        "last_processed_id": 77,
        "elapsed_seconds": 5.5,
        "outcomes": OUTCOMES,
    }
    return ImportRecord(**(standard | changes))


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the import lock."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.stdin.close()


def test_a_record_round_trips(log):
    assert log.read() is None
    ended_at = datetime(2026, 1, 1, 0, 7, 30, 123, tzinfo=UTC)
    unreadable = ({"table": "session_history", "ids": [7, 9]},)
    for status in (Status.STOPPED, Status.COMPLETED, Status.FAILED):
        written = record(status, dry_run=True, fresh=True, ended_at=ended_at, unreadable=unreadable)
        log.write(written)
        assert log.read() == written


def killed(**changes):
    """Return the record of an import whose process died."""
    return record(Status.FAILED, error="process 4711 ended unexpectedly", **changes)


def write_as_0_1_0(folder, written):
    """Store a record in the format of version 0.1.0."""
    ImportLog(folder).write(written)
    file = folder / "import.json"
    fields = orjson.loads(file.read_bytes())
    for name in ("pending", "ended_at", "server_id", "error", "checked_at"):
        del fields[name]
    file.write_bytes(orjson.dumps(fields))


def test_a_record_of_an_earlier_version_can_be_read(log, tmp_path):
    write_as_0_1_0(tmp_path, record(Status.STOPPED))
    assert log.read() == record(Status.STOPPED, pending=0, server_id="")


def test_a_record_is_replaced_atomically(log, tmp_path, monkeypatch):
    log.write(record(Status.STOPPED))
    write = Path.write_bytes

    def cut_short(path, content):
        write(path, content[:20])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", cut_short)
    with pytest.raises(OSError, match="No space"):
        log.write(record(Status.COMPLETED))
    assert log.read() == record(Status.STOPPED)


def test_readers_never_see_a_partial_record(log):
    log.write(record(Status.STOPPED))
    done = threading.Event()

    def keep_writing():
        while not done.is_set():
            log.write(record(Status.STOPPED, last_processed_id=10**15))
            log.write(record(Status.STOPPED))

    thread = threading.Thread(target=keep_writing)
    thread.start()
    seen = {log.read().last_processed_id for _ in range(500)}
    done.set()
    thread.join()
    assert seen <= {77, 10**15}


@pytest.mark.parametrize("status", [Status.RUNNING, Status.STOPPING])
def test_an_import_whose_process_died_has_failed(log, tmp_path, status):
    log.write(record(status))
    assert log.read() == killed()
    with log.exclusive(SOURCE):
        assert log.read() == ImportLog(tmp_path).read() == record(Status.RUNNING)
    assert log.read() == killed()


@pytest.mark.parametrize("status", [Status.RUNNING, Status.STOPPING])
def test_a_running_import_that_is_asked_to_stop_is_stopping(log, tmp_path, status):
    with log.exclusive(SOURCE) as claim:
        log.write(record(status))
        ImportLog(tmp_path).lock.request_stop(claim)
        assert log.read() == ImportLog(tmp_path).read() == record(Status.STOPPING)
        assert log.running().message.startswith(f"an import of {SOURCE} is already stopping")
        log.write(record(Status.STOPPED))
        assert log.read() == record(Status.STOPPED)
        log.write(record(status))
    assert log.read() == killed()  # while stopping


def test_the_outcomes_in_a_record_of_0_1_0_are_read(log):
    stopped = replace(record(Status.STOPPED), outcomes=Outcomes(published=9, imported=7))
    log.write(stopped)
    file = log._file
    file.write_bytes(file.read_bytes().replace(b'"outcomes"', b'"fates"'))
    assert log.read() == stopped


def test_an_ended_import_is_not_shown_as_running_when_another_one_begins(log):
    for status in (Status.STOPPED, Status.COMPLETED, Status.FAILED):
        log.write(record(status))
        with log.exclusive(SOURCE) as claim:
            log.lock.request_stop(claim)
            assert log.read() == record(status)


def test_a_killed_process_leaves_no_lock(log, tmp_path, holder):
    log.write(record())
    assert log.read().status is Status.RUNNING
    holder.kill()
    holder.wait()
    assert log.read().status is Status.FAILED
    with log.exclusive(SOURCE):
        pass


def test_a_second_import_is_refused_with_the_progress_of_the_first(log, holder):
    starting = f"process {holder.pid}, 0.0 %, 0 of 0 plays"
    for known, said in [
        (None, f"an import of /given/tautulli.db is already running ({starting})"),
        (
            record(),
            "an import of /media/tautulli.db is already running "
            "(process 4711, 50.0 %, 55 of 110 plays)",
        ),
    ]:
        if known:
            log.write(known)
        with pytest.raises(ImportRunningError) as caught, log.exclusive(SOURCE):
            pass
        assert caught.value.message == said
        assert caught.value.exit_code == 4
        assert "tautulli-pipeline status" in caught.value.hint


def test_reading_the_status_never_blocks_an_import_that_starts(log, tmp_path):
    log.write(record())
    with subprocess.Popen(
        [sys.executable, "-c", READER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as reader:
        assert reader.stdout.readline() == "reading\n"
        try:
            for _ in range(300):
                with ImportLog(tmp_path).exclusive(SOURCE):
                    pass
        finally:
            reader.kill()


def test_the_summary_shows_every_figure():
    assert record().summary() == {
        "status": "running",
        "dry_run": False,
        "import_id": "20260101T000000-abcd",
        "source": "/media/tautulli.db",
        "server_id": "default",
        "progress": 50.0,
        "total_records": 110,
        "unchanged": 9,
        "pending": 6,
        "processed": 55,
        "published": 60,
        "imported": 40,
        "duplicates": {"stream": 1, "cache": 2, "database": 3},
        "rejected": 4,
        "errors": 5,
        "revised": 0,
        "unreadable": [],
        "records_per_second": 10.0,
        "elapsed_seconds": 5.5,
        "upgrade_seconds": 0.0,
        "estimated_remaining_seconds": 5.5,
        "start_time": "2026-01-01T00:00:07Z",
        "end_time": None,
        "checked_time": None,
        "last_processed_id": 77,
    }


def test_the_summary_of_a_failed_import_shows_why():
    assert killed().summary()["error"] == "process 4711 ended unexpectedly"


@pytest.mark.parametrize(
    ("changes", "progress", "rate", "remaining"),
    [
        ({"status": Status.COMPLETED, "total_records": 0, "outcomes": Outcomes()}, 100.0, 0.0, 0.0),
        ({"status": Status.RUNNING, "total_records": 0, "outcomes": Outcomes()}, 0.0, 0.0, 0.0),
        ({"status": Status.RUNNING, "elapsed_seconds": 0.0}, 50.0, 0.0, 0.0),
        ({"status": Status.RUNNING, "upgrade_seconds": 4.4}, 50.0, 50.0, 1.1),
        ({"status": Status.RUNNING, "upgrade_seconds": 5.5}, 50.0, 0.0, 0.0),
        ({"status": Status.STOPPED}, 50.0, 10.0, 0.0),
        ({"status": Status.STOPPING}, 50.0, 10.0, 5.5),
        ({"status": Status.COMPLETED, "total_records": 55}, 100.0, 10.0, 0.0),
        ({"total_records": 100_000, "outcomes": Outcomes(imported=99_999)}, 99.9, 18_181.6, 0.0),
    ],
)
def test_progress_rate_and_remaining_time(changes, progress, rate, remaining):
    summary = record(**changes).summary()
    assert (
        summary["progress"],
        summary["records_per_second"],
        summary["estimated_remaining_seconds"],
    ) == (progress, rate, remaining)


@pytest.mark.parametrize(
    ("last", "fresh", "continued"),
    [
        (record(Status.STOPPED), False, True),
        (record(Status.FAILED), False, True),
        (record(Status.RUNNING), False, True),
        (record(Status.STOPPED), True, False),
        (record(Status.COMPLETED), False, False),
        (record(Status.FAILED, dry_run=True), False, False),
        (record(Status.STOPPED, source="/media/another.db"), False, False),
        (record(Status.STOPPED, server_id="another"), False, False),
        (None, False, False),
    ],
)
def test_an_unfinished_import_of_the_same_source_is_resumed(log, last, fresh, continued):
    if last is not None:
        log.write(last)
    given = log.continue_or_begin(SOURCE, "default", fresh=fresh)
    if continued:
        ended = killed() if last.status == "running" else last
        assert given == replace(ended, status_before=ended.status)
    else:
        assert given.import_id != record().import_id
        assert given.source == str(SOURCE)
        assert (given.status, given.fresh, given.outcomes) == (Status.PENDING, fresh, Outcomes())
        assert given.process_id == os.getpid()


def test_every_import_has_a_unique_id():
    begun = [ImportRecord.begin(SOURCE, "default", fresh=False).import_id for _ in range(20)]
    assert len(set(begun)) == 20


IMPORT_ID = record().import_id
ENDED = (Status.RUNNING, Status.STOPPED, Status.FAILED)


def assert_completed(log, before, outcomes):
    """Assert that the record shows the import as complete, with its end time."""
    found = log.read()
    assert found == replace(
        before,
        status=Status.COMPLETED,
        outcomes=outcomes,
        ended_at=found.ended_at,
        last_completed_at=found.ended_at,
    )
    assert timedelta(0) <= datetime.now(UTC) - found.ended_at < timedelta(seconds=60)
    assert not found.resumable


@pytest.mark.parametrize("status", ENDED)
@pytest.mark.parametrize("imported", [110, 111])
def test_settling_the_last_row_completes_an_import_that_is_not_running(log, status, imported):
    log.write(record(status))
    assert log.settle(IMPORT_ID, Outcomes(imported=imported))
    assert_completed(log, record(), Outcomes(imported=imported))


@pytest.mark.parametrize("status", ENDED)
def test_settled_rows_of_an_import_that_is_not_running_are_recorded(log, status):
    ended_at = datetime(2026, 1, 1, tzinfo=UTC)
    log.write(record(status, ended_at=ended_at))
    assert not log.settle(IMPORT_ID, Outcomes(imported=109))
    expected = killed() if status is Status.RUNNING else record(status)
    assert log.read() == replace(expected, outcomes=Outcomes(imported=109), ended_at=ended_at)
    assert log.read().resumable


@pytest.mark.parametrize(
    ("changes", "import_id"),
    [
        ({"status": Status.FAILED}, "another"),
        ({"status": Status.COMPLETED}, IMPORT_ID),
        ({"status": Status.FAILED, "dry_run": True}, IMPORT_ID),
    ],
)
def test_another_or_a_complete_import_is_not_settled(log, changes, import_id):
    log.write(record(**changes))
    assert not log.settle(import_id, Outcomes(imported=110))
    assert log.read() == record(**changes)


def test_nothing_is_settled_without_a_record(log, tmp_path):
    assert not log.settle(IMPORT_ID, Outcomes(imported=110))
    assert log.read() is None
    assert list(tmp_path.iterdir()) == []


def test_another_process_cannot_complete_a_running_import(log, holder):
    log.write(record())
    assert not log.settle("another", Outcomes(imported=110))
    assert log.read() == record()
    assert not log.settle(IMPORT_ID, Outcomes(imported=110))
    assert log.read() == record()
    assert log.lock.holder().process_id == holder.pid


def test_an_import_killed_before_it_was_planned_is_not_completed(log):
    log.write(record(total_records=0, outcomes=Outcomes()))
    assert not log.settle(IMPORT_ID, Outcomes())
    assert log.read().status is Status.FAILED
    assert not log.settle(IMPORT_ID, Outcomes(imported=110))
    assert log.read().status is Status.FAILED


def test_settling_releases_the_lock(log):
    log.write(record(Status.STOPPED))
    log.settle(IMPORT_ID, Outcomes(imported=109))
    assert log.lock.holder() is None
    with log.exclusive(SOURCE):
        pass


def test_an_import_that_0_1_0_only_published_is_failed_and_can_be_resumed(log, tmp_path):
    write_as_0_1_0(tmp_path, record(Status.PENDING))
    found = log.read()
    assert found == killed(pending=0, server_id="")
    assert found.resumable
    resumed = log.continue_or_begin(SOURCE, "default", fresh=False)
    assert resumed == replace(found, status_before=Status.FAILED)


def test_an_import_that_0_1_0_only_published_is_completed_once_its_rows_are_settled(log, tmp_path):
    write_as_0_1_0(tmp_path, record(Status.PENDING, outcomes=Outcomes()))
    with ImportLog(tmp_path).exclusive(None):
        assert not log.settle(IMPORT_ID, Outcomes(imported=110))
    assert not log.settle(IMPORT_ID, Outcomes(imported=109))
    assert log.read() == killed(pending=0, server_id="", outcomes=Outcomes(imported=109))
    assert log.settle(IMPORT_ID, Outcomes(imported=110))
    assert_completed(log, record(pending=0, server_id=""), Outcomes(imported=110))


def test_a_new_import_is_pending(log):
    begun = ImportRecord.begin(SOURCE, "default", fresh=False)
    log.write(begun)
    assert log.read() == begun
    assert begun.status is Status.PENDING
    assert (begun.pending, begun.ended_at) == (0, None)


def test_an_import_that_another_one_has_followed_is_not_resumable(tmp_path):
    """Otherwise, its receipts would never be deleted."""
    text = '[[servers]]\nid = "home"\nsource = "a.db"\nreplaces = ["default"]\n'
    settings = Settings(pipeline_data_dir=tmp_path)
    ImportLog(tmp_path).write(record(Status.FAILED, import_id="without-the-file"))
    ImportLog(tmp_path, "barn").write(
        record(Status.STOPPED, import_id="of-a-removed-server", server_id="barn")
    )
    assert resumable_imports(settings) == {"without-the-file", "of-a-removed-server"}
    settings = settings.configured(parse_configuration(text, tmp_path / "pipeline.toml"))
    # It is still the last import of this server.
    assert resumable_imports(settings) == {"without-the-file", "of-a-removed-server"}
    ImportLog(tmp_path, "home").write(record(Status.COMPLETED, server_id="home"))
    assert resumable_imports(settings) == {"of-a-removed-server"}
