"""The output of `stop` and `reset`, with a fake import that only holds the lock."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tautulli_pipeline.cli import controlling
from tautulli_pipeline.cli.controlling import run_reset, run_stop
from tautulli_pipeline.errors import ConfigurationError
from tautulli_pipeline.imports.import_lock import ImportLock
from tautulli_pipeline.imports.record import (
    PENDING_SUMMARY,
    ImportLog,
    ImportRecord,
    Outcomes,
    Status,
)
from tautulli_pipeline.imports.reset import Forgotten

RECORD = replace(
    ImportRecord.begin(Path("/media/tautulli.db"), "default", fresh=False),
    status=Status.RUNNING,
    total_records=2_000,
    outcomes=Outcomes(imported=1_500),
)


@pytest.fixture(autouse=True)
def _terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")


@contextmanager
def importing(settings, *, ends_as=None):
    """Run a fake import in a thread; on a stop request, it writes the record `ends_as` and ends."""
    log, over, begun = ImportLog(settings.data_dir), threading.Event(), threading.Event()

    def work():
        with log.exclusive(Path("/media/tautulli.db")) as claim:
            log.write(RECORD)
            begun.set()
            while not over.is_set():
                if ends_as is not None and log.lock.is_stop_requested(claim):
                    log.write(ends_as)
                    return
                over.wait(0.01)

    thread = threading.Thread(target=work)
    thread.start()
    assert begun.wait(10)
    try:
        yield
    finally:
        over.set()
        thread.join()


def stopped(settings, capsys, *, as_json=False, waits_seconds=30):
    capsys.readouterr()
    run_stop(settings, as_json=as_json, waits_seconds=waits_seconds)
    out, err = capsys.readouterr()
    return (json.loads(out) if as_json else out.strip()), err


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (None, "no import is running"),
        (
            replace(RECORD, status=Status.STOPPED),
            "no import is running; status of the last one: stopped",
        ),
        (RECORD, "no import is running; status of the last one: failed"),  # its process is gone
    ],
)
def test_stop_without_an_import_reports_the_last_status(settings, capsys, record, expected):
    if record is not None:
        ImportLog(settings.data_dir).write(record)
    assert stopped(settings, capsys) == (expected, "")
    facts, _ = stopped(settings, capsys, as_json=True)
    assert facts.pop("stop_requested") is False
    assert facts.keys() - {"error"} == PENDING_SUMMARY.keys()


@pytest.mark.parametrize(
    ("ends_as", "expected"),
    [
        (
            replace(RECORD, status=Status.STOPPED),
            "stopped at 75.0 %, 1,500 of 2,000 plays; import again to resume it",
        ),
        (
            replace(RECORD, status=Status.COMPLETED, outcomes=Outcomes(imported=2_000)),
            "completed at 100.0 %, 2,000 of 2,000 plays: it finished before it could be stopped",
        ),
    ],
)
def test_stop_waits_and_reports_the_progress(settings, capsys, ends_as, expected):
    with importing(settings, ends_as=ends_as):
        out, err = stopped(settings, capsys)
    assert out == expected
    assert err.endswith(" to stop after the current batch\n")
    assert not list(settings.data_dir.glob("*.stop"))


def test_a_stop_request_remains_if_the_import_does_not_stop_in_time(settings, capsys):
    with importing(settings):
        out, _ = stopped(settings, capsys, waits_seconds=0.05)
        assert out.startswith("stopping at 75.0 %, 1,500 of 2,000 plays: process ")
        assert "is still running; see `tautulli-pipeline status`" in out
        assert list(settings.data_dir.glob("*.stop"))
        facts, _ = stopped(settings, capsys, as_json=True, waits_seconds=0.05)
        assert (facts["status"], facts["stop_requested"]) == ("stopping", True)


def test_stop_ignores_a_running_reset(settings, capsys):
    with ImportLog(settings.data_dir).exclusive(None):
        out, err = stopped(settings, capsys)
        assert (out, err) == ("no import is running", "")
        assert not list(settings.data_dir.glob("*.stop"))


def test_a_failed_stop_request_names_the_process(settings, capsys, monkeypatch):
    def refuse(_lock, _claim, **_how):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(ImportLock, "request_stop", refuse)
    with (
        importing(settings),
        pytest.raises(ConfigurationError, match="to stop: Read-only file system") as caught,
    ):
        run_stop(settings, as_json=False)
    assert "Ctrl-C" in caught.value.hint


def test_stop_succeeds_if_the_import_ends_meanwhile(settings, capsys, monkeypatch):
    def gone(_lock, _claim, **_how):
        raise FileNotFoundError

    monkeypatch.setattr(ImportLock, "request_stop", gone)
    with importing(settings):
        out, err = stopped(settings, capsys, waits_seconds=0.05)
    assert err == ""
    assert "1,500 of 2,000 plays" in out


def test_reset_without_progress_reports_nothing_to_reset(settings, capsys, tmp_path):
    run_reset(settings, as_json=False)
    assert capsys.readouterr().out == f"nothing to reset in {tmp_path}\n"
    run_reset(settings, as_json=True)
    facts = json.loads(capsys.readouterr().out)
    assert facts.pop("forgotten") == {"import_id": None, "partitions": 0, "receipts": 0}
    assert facts == PENDING_SUMMARY


def test_reset_counts_the_ranges_in_words(settings, capsys, monkeypatch):
    for number, words in ((1, "(1 range)"), (1_234, "(1,234 ranges)")):
        removed = Forgotten("import-1", number, 0)
        monkeypatch.setattr(controlling, "reset_progress", lambda *_, removed=removed: removed)
        run_reset(settings, as_json=False)
        assert words in capsys.readouterr().out


def test_reset_deletes_the_progress_and_keeps_the_table(settings, capsys):
    ImportLog(settings.data_dir).write(RECORD)
    run_reset(settings, as_json=False)
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"deleted the progress saved in {settings.data_dir} (0 ranges)"
    assert second == "the table is kept; the next import reads every play again"
    assert ImportLog(settings.data_dir).read() is None
