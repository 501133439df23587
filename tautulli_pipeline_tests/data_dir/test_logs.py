"""Log files: private, rotated, and no reason for work to fail."""

from __future__ import annotations

import logging

from tautulli_pipeline.data_dir import logs
from tautulli_pipeline.data_dir.logs import log_to, log_to_stderr

LOG = logging.getLogger("tautulli_pipeline.some.module")


def test_records_go_to_the_file_while_the_context_is_open(tmp_path):
    file = tmp_path / "log" / "import.log"
    LOG.warning("before")
    with log_to(file):
        LOG.info("stored %d rows", 7)
        LOG.debug("details")
    LOG.warning("after")
    (line,) = file.read_text().splitlines()
    time, level, process, name, *message = line.split()
    assert time.endswith("Z")
    assert (level, name) == ("INFO", "tautulli_pipeline.some.module:")
    assert process.strip("[]").isdigit()
    assert " ".join(message) == "stored 7 rows"
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_without_a_record_there_is_no_file(tmp_path):
    with log_to(tmp_path / "log" / "import.log"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_large_file_is_rotated_and_old_ones_are_dropped(tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "_MAX_BYTES", 1000)
    file = tmp_path / "log" / "import.log"
    with log_to(file):
        for number in range(100):
            LOG.info("record %d of many", number)
    kept = sorted(path.name for path in file.parent.iterdir())
    assert kept == ["import.log", "import.log.1", "import.log.2", "import.log.3"]
    assert all(path.stat().st_size <= 1000 for path in file.parent.iterdir())
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in file.parent.iterdir())
    assert "record 99 of many" in file.read_text()


def test_a_log_that_cannot_be_written_is_no_error(tmp_path, capsys):
    (tmp_path / "log").write_text("a file where the folder should be")
    with log_to(tmp_path / "log" / "import.log"):
        LOG.warning("lost")
    assert capsys.readouterr() == ("", "")


def test_debug_shows_every_record_on_standard_error(capsys):
    with log_to_stderr(enabled=True):
        LOG.debug("details")
    LOG.debug("after")
    with log_to_stderr(enabled=False):
        LOG.warning("not shown")
    (line,) = capsys.readouterr().err.splitlines()
    assert " DEBUG [" in line
    assert line.endswith("details")
