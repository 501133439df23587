"""Queries into a private copy end, whatever is in it."""

from __future__ import annotations

import signal
import sqlite3
import threading
import time
from contextlib import closing, contextmanager

import pytest

from tautulli_pipeline.errors import SourceDamagedError, SourceError
from tautulli_pipeline.events.columns import HISTORY, MEDIA_INFO, METADATA
from tautulli_pipeline.imports.stopping import Stop
from tautulli_pipeline.source import queries
from tautulli_pipeline.source.opening import open_source
from tautulli_pipeline.source.queries import explained, open_copy
from tautulli_pipeline_tests.cases import make_database, play
from tautulli_pipeline_tests.hostile_pages import make_endless

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"


@pytest.fixture
def copy(tmp_path):
    path = tmp_path / "tautulli.db"
    make_database(path, plays=[play(n) for n in range(1, 6)])
    return path


@pytest.fixture
def _short_limit(monkeypatch):
    monkeypatch.setattr(queries, "_LEAST_CPU_SECONDS", 0.2)


@contextmanager
def interrupted_soon():
    """Send Ctrl-C to this process after a moment in the context."""
    timer = threading.Timer(0.3, signal.raise_signal, [signal.SIGINT])
    timer.start()
    yield
    timer.join()


@pytest.mark.usefixtures("_short_limit")
def test_a_query_that_never_ends_is_refused_but_not_called_damaged(copy):
    with (
        pytest.raises(SourceError, match=r"it: reading it takes more than 0 s of CPU") as caught,
        open_copy(copy) as connection,
        explained(connection, "cannot read it"),
    ):
        connection.execute(ENDLESS)
    assert not isinstance(caught.value, SourceDamagedError)


def test_a_signal_interrupts_a_query_at_once(copy):
    began_at = time.monotonic()
    with (
        pytest.raises(KeyboardInterrupt),
        open_copy(copy) as connection,
        explained(connection, "cannot read it"),
        interrupted_soon(),
    ):
        connection.execute(ENDLESS)
    assert time.monotonic() - began_at < 60


def test_a_stop_interrupts_a_query_at_once(copy):
    stop = Stop("stopped")
    with (
        pytest.raises(type(stop.error()), match="stopped"),
        stop.heard(),
        stop.interruptible(),
        open_copy(copy) as connection,
        explained(connection, "cannot read it"),
        interrupted_soon(),
    ):
        connection.execute(ENDLESS)


@pytest.mark.usefixtures("_short_limit")
@pytest.mark.parametrize("table", [HISTORY, "users", "library_sections"])
def test_a_tree_of_pages_without_end_is_refused(copy, tmp_path, table):
    make_endless(copy, table)
    with (
        pytest.raises(SourceError, match="reading it takes more than"),
        open_source(copy, tmp_path / "snapshots") as source,
        source.open_reader(),
    ):
        pass


@pytest.mark.parametrize("table", [METADATA, MEDIA_INFO])
def test_a_tree_without_end_is_harmless_where_rows_are_found_by_their_key(copy, tmp_path, table):
    make_endless(copy, table)
    with (
        open_source(copy, tmp_path / "snapshots") as source,
        source.naming_damage(),
        source.open_survey() as survey,
    ):
        assert survey.count_rows() == 5


def test_a_cell_larger_than_the_file_is_not_loaded(copy):
    with (
        pytest.raises(SourceDamagedError, match="too big"),
        open_copy(copy) as connection,
        explained(connection, "cannot read it"),
    ):
        connection.execute("SELECT length(CAST(zeroblob(50000000) AS TEXT) || 'x')").fetchall()


@pytest.mark.parametrize("offset", [0, 1, 2, 3])
def test_text_of_the_schema_that_is_not_utf8_is_refused(copy, tmp_path, offset):
    with closing(sqlite3.connect(copy)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    content = bytearray(copy.read_bytes())
    content[content.index(b"CREATE TABLE users") + 13 + offset] |= 0x80
    copy.write_bytes(content)
    for salvaging in (False, True):
        with (
            pytest.raises(SourceError, match="cannot"),
            open_source(copy, tmp_path / "snapshots", salvaging=salvaging) as source,
        ):
            source.survey(None, 1000)
