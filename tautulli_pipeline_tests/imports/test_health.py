"""Whether the last import completed, read from its record alone."""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest

from tautulli_pipeline.errors import PipelineError, SourceError, StoppedError
from tautulli_pipeline.imports.health import last_completed_at
from tautulli_pipeline.imports.record import ImportLog, ImportRecord, Outcomes, Status
from tautulli_pipeline.imports.running import RunningImport
from tautulli_pipeline.settings import Settings

SOURCE = Path("/media/tautulli.db")
GONE = SourceError("it is gone")


def problem(tmp_path, max_age_hours=None):
    """Return why the data directory is unhealthy; '' if it is not."""
    try:
        last_completed_at(Settings(pipeline_data_dir=tmp_path), max_age_hours)
    except PipelineError as error:
        found = error
    else:
        return ""
    assert (found.exit_code, bool(found.hint)) == (1, True)
    assert "\n" not in found.message
    return found.message


class Attempts:
    """Imports that hold the lock, as far as the record is concerned."""

    def __init__(self, log):
        self.log = log

    def begin(self, stack, source=SOURCE, *, fresh=False):
        stack.enter_context(self.log.exclusive(source))
        running = RunningImport(
            self.log,
            self.log.continue_or_begin(source, "default", fresh=fresh),
            unreadable=(),
            began_at=0.0,
            observe=lambda _record: None,
        )
        stack.enter_context(running.until_ended())
        return running

    def complete(self, **given):
        with ExitStack() as stack:
            self.begin(stack, **given).complete()

    def fail(self, error=GONE, **given):
        stack = ExitStack()
        self.begin(stack, **given)
        with pytest.raises(type(error)), stack:
            raise error


@pytest.fixture
def attempts(log):
    return Attempts(log)


def test_without_an_import_it_is_unhealthy_and_nothing_is_created(tmp_path):
    assert problem(tmp_path / "data") == f"no import into {tmp_path / 'data'} has completed yet"
    assert list(tmp_path.iterdir()) == []


def test_after_an_import_that_completed_it_is_healthy(attempts, tmp_path):
    attempts.complete()
    assert problem(tmp_path) == ""
    age = datetime.now(UTC) - last_completed_at(Settings(pipeline_data_dir=tmp_path))
    assert timedelta() <= age < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (SourceError("it is gone"), "the last import failed: it is gone"),
        (StoppedError("stopped"), "the last import was stopped"),
        (KeyboardInterrupt(), "the last import was stopped"),
    ],
)
def test_after_an_import_that_did_not_complete_it_is_unhealthy(attempts, tmp_path, error, said):
    attempts.complete()
    attempts.fail(error)
    assert problem(tmp_path) == said
    attempts.complete()
    assert problem(tmp_path) == ""


def test_while_an_import_runs_the_one_before_it_counts(attempts, tmp_path):
    with ExitStack() as stack:
        attempts.begin(stack).complete()
        assert problem(tmp_path) == ""
    completed_at = last_completed_at(Settings(pipeline_data_dir=tmp_path))
    with ExitStack() as stack:
        attempts.begin(stack, fresh=True)
        assert last_completed_at(Settings(pipeline_data_dir=tmp_path)) == completed_at
        assert "more than 0" in problem(tmp_path, 0)
    attempts.fail(fresh=True)
    for resumed in (False, True):
        with ExitStack() as stack:
            attempts.begin(stack, fresh=not resumed)
            before = "the import before the running one failed"
            assert problem(tmp_path) == before


def test_an_import_that_finds_nothing_new_counts_as_well(attempts, log, tmp_path):
    attempts.complete()
    old = datetime.now(UTC) - timedelta(hours=30)
    log.write(replace(log.read(), ended_at=old, last_completed_at=old, total_records=7))
    assert "30.0 hours ago" in problem(tmp_path, 1)
    attempts.complete()
    assert problem(tmp_path, 1) == ""
    assert log.read().total_records == 7  # `status` keeps the figures of the last one


def test_while_the_first_import_runs_it_is_unhealthy(attempts, tmp_path):
    with ExitStack() as stack:
        attempts.begin(stack)
        assert problem(tmp_path).endswith("has completed yet; the first one is running")


def test_a_killed_import_is_unhealthy_even_while_the_next_one_copies_its_source(log, tmp_path):
    log.write(replace(ImportRecord.begin(SOURCE, "default", fresh=False), status=Status.RUNNING))
    killed = f"the last import failed: process {os.getpid()} ended unexpectedly"
    assert problem(tmp_path) == killed
    with log.exclusive(SOURCE):  # it has recorded nothing yet
        assert problem(tmp_path) == killed


def test_an_import_that_cannot_even_begin_counts(attempts, log, tmp_path):
    attempts.complete()
    with pytest.raises(SourceError), log.exclusive(SOURCE), log.noting_failure():
        raise SourceError("cannot read it")
    assert problem(tmp_path) == "the last import failed: cannot read it"
    assert (log.read().status, log.read().error) == (Status.COMPLETED, None)
    attempts.complete()
    assert problem(tmp_path) == ""


def test_the_age_is_limited(attempts, log, tmp_path):
    attempts.complete()
    ended_at = datetime.now(UTC) - timedelta(hours=30)
    log.write(replace(log.read(), ended_at=ended_at, last_completed_at=ended_at))
    assert problem(tmp_path) == problem(tmp_path, 30.1) == ""
    said = problem(tmp_path, 24)
    assert said.startswith("the last import completed 30.0 hours ago, at ")
    assert said.endswith(" UTC, which is more than 24")


def test_an_import_that_a_later_consumer_completed_counts(attempts, log, tmp_path):
    attempts.fail()
    log.write(replace(log.read(), total_records=3))
    assert log.settle(log.read().import_id, Outcomes(imported=3))
    assert problem(tmp_path) == ""


def test_records_of_the_first_version_say_when_they_completed(log, tmp_path):
    began_at = datetime(2026, 1, 1, tzinfo=UTC)
    record = ImportRecord.begin(SOURCE, "default", fresh=False)
    log.write(replace(record, status=Status.COMPLETED, started_at=began_at, elapsed_seconds=90.0))
    file = tmp_path / "import.json"
    fields = orjson.loads(file.read_bytes())
    since = ("error", "refused", "status_before", "last_completed_at", "ended_at", "pending")
    for name in since:
        del fields[name]
    file.write_bytes(orjson.dumps(fields))
    assert last_completed_at(Settings(pipeline_data_dir=tmp_path)) == began_at + timedelta(
        seconds=90
    )


def test_a_damaged_record_is_unhealthy(tmp_path):
    (tmp_path / "import.json").write_text("{")
    assert problem(tmp_path).startswith("cannot read the saved progress")


def test_it_can_be_asked_at_any_moment_of_an_import(attempts, tmp_path):
    attempts.complete()
    ended, found = threading.Event(), set()

    def ask():
        while not ended.is_set():
            found.add(problem(tmp_path))

    thread = threading.Thread(target=ask)
    thread.start()
    for _ in range(20):
        attempts.complete(fresh=True)
    ended.set()
    thread.join()
    assert found == {""}
    assert isinstance(ImportLog(tmp_path).read(), ImportRecord)
