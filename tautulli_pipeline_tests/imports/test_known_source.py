"""A source whose files are as they were is not copied; any other one is."""

import os
import shutil
import sqlite3
import time
from contextlib import closing

import pytest

from tautulli_pipeline.errors import SourceError
from tautulli_pipeline.imports import known_source
from tautulli_pipeline.imports.known_source import open_known_source
from tautulli_pipeline.source.partitions import Grid
from tautulli_pipeline_tests.cases import play

GRID = Grid(10)
PLAYS = [play(i) for i in range(1, 36)]


@pytest.fixture
def settled(monkeypatch):
    """Times as if everything had been written some seconds before."""
    time_ns = time.time_ns
    monkeypatch.setattr(known_source.time, "time_ns", lambda: time_ns() + 10**10)


def survey(path, *, grid=GRID, salvaging=False):
    """What the source holds, and whether it was copied for that."""
    folder = path.parent
    with open_known_source(
        path, folder / "snapshots", folder / "survey.json", salvaging=salvaging
    ) as source:
        contents = source.survey(grid, 10)
        return contents, "copied" in vars(source)


def execute(path, statement):
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)


@pytest.mark.usefixtures("settled")
def test_an_unchanged_source_is_not_copied_and_holds_the_same(database):
    first, copied_first = survey(database)
    second, copied_again = survey(database)
    assert copied_first
    assert not copied_again
    assert second == first
    assert [content.rows for content in second] == [10, 10, 10, 5]


@pytest.mark.usefixtures("settled")
def test_a_known_source_is_copied_when_its_rows_are_needed(database):
    survey(database)
    folder = database.parent
    with open_known_source(database, folder / "snapshots", folder / "survey.json") as source:
        contents = source.survey(GRID, 10)
        assert not list(folder.glob("snapshots/*"))
        assert source.path == database
        assert source.describe(contents).rows == 35
        assert list(folder.glob("snapshots/*"))
    assert not list(folder.glob("snapshots/*"))


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE session_history SET user_id = 7 WHERE id = 1",
        "DELETE FROM session_history WHERE id = 35",
        "PRAGMA user_version = 5",
    ],
)
def test_a_source_that_was_written_is_surveyed_again(database, statement):
    first, _ = survey(database)
    execute(database, statement)
    second, copied = survey(database)
    assert copied
    assert (second == first) == statement.startswith("PRAGMA")


@pytest.mark.usefixtures("settled")
def test_a_log_beside_the_source_tells_of_a_write(database):
    execute(database, "PRAGMA journal_mode = WAL")
    first, _ = survey(database)
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("DELETE FROM session_history WHERE id = 35")
        connection.commit()
        second, copied = survey(database)
    assert copied
    assert [content.rows for content in first][-1] == 5
    assert [content.rows for content in second][-1] == 4


@pytest.mark.usefixtures("settled")
def test_another_file_of_the_same_size_and_time_is_another_source(database):
    survey(database)
    times = database.stat()
    other = shutil.copy(database, database.with_name("other.db"))
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    other.replace(database)
    assert survey(database)[1]


@pytest.mark.usefixtures("settled")
def test_what_is_known_on_one_grid_is_not_known_on_another(database):
    survey(database)
    contents, copied = survey(database, grid=Grid(20))
    assert copied
    assert [content.rows for content in contents] == [20, 15]


def test_a_source_written_a_moment_ago_is_not_taken_for_known(database):
    survey(database)
    assert survey(database)[1]


@pytest.mark.usefixtures("settled")
def test_what_another_version_saw_does_not_count(database, monkeypatch):
    survey(database)
    monkeypatch.setattr(known_source, "_VERSION", "another")
    assert survey(database)[1]


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("kept", [b"", b"{", b"[]", b"null", b'{"source": 1}'])
def test_a_memory_that_cannot_be_read_is_made_anew(database, kept):
    survey(database)
    database.with_name("survey.json").write_bytes(kept)
    assert survey(database)[1]
    assert not survey(database)[1]


@pytest.mark.usefixtures("settled")
def test_salvaging_looks_at_the_file_itself(database):
    survey(database)
    assert survey(database, salvaging=True)[1]


@pytest.mark.usefixtures("settled")
def test_a_source_that_disappeared_is_missed_though_it_was_known(database):
    survey(database)
    database.unlink()
    with pytest.raises(SourceError, match="it does not exist"):
        survey(database)
