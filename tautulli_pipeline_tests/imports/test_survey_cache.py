"""The survey cache: an unchanged source is not copied, a changed one is."""

import os
import shutil
import sqlite3
import time
from contextlib import closing

import orjson
import pytest

from tautulli_pipeline.data_dir.layout import DataDir
from tautulli_pipeline.errors import SourceError
from tautulli_pipeline.imports import survey_cache
from tautulli_pipeline.imports.survey_cache import open_with_survey_cache
from tautulli_pipeline.source.partitions import OTHER, Grid
from tautulli_pipeline_tests.cases import make_database, play

GRID = Grid(10)
PLAYS = [play(i) for i in range(1, 36)]


@pytest.fixture
def settled(monkeypatch):
    """Shift the clock as if all files had been written some seconds ago."""
    time_ns = time.time_ns
    monkeypatch.setattr(survey_cache.time, "time_ns", lambda: time_ns() + 10**10)


def survey(path, *, grid=GRID, salvaging=False):
    """Return the contents of the source, and whether it was copied."""
    with open_with_survey_cache(path, DataDir(path.parent), salvaging=salvaging) as source:
        contents = source.survey(grid, 10)
        return contents, "copied" in vars(source)


def execute(path, statement):
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)


@pytest.mark.usefixtures("settled")
def test_an_unchanged_source_is_not_copied_and_has_the_same_contents(database):
    first, copied_first = survey(database)
    second, copied_again = survey(database)
    assert copied_first
    assert not copied_again
    assert second == first
    assert [content.rows for content in second] == [10, 10, 10, 5]


@pytest.mark.usefixtures("settled")
def test_a_cached_source_is_copied_when_its_rows_are_needed(database):
    survey(database)
    folder = database.parent
    with open_with_survey_cache(database, DataDir(folder)) as source:
        source.survey(GRID, 10)
        assert not list(folder.glob("snapshots/*"))
        assert source.path == database
        with source.open_survey() as opened:
            assert opened.count_rows() == 35
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
def test_a_write_to_the_write_ahead_log_is_noticed(database):
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
def test_a_survey_on_another_grid_is_not_reused(database):
    survey(database)
    contents, copied = survey(database, grid=Grid(20))
    assert copied
    assert [content.rows for content in contents] == [20, 15]


def test_a_source_written_a_moment_ago_is_surveyed_again(database):
    survey(database)
    assert survey(database)[1]


@pytest.mark.usefixtures("settled")
def test_a_survey_by_another_version_is_not_reused(database, monkeypatch):
    survey(database)
    monkeypatch.setattr(survey_cache, "SURVEY_VERSION", "another")
    assert survey(database)[1]


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("kept", [b"", b"{", b"[]", b"null", b"\xff", b'{"source": 1}'])
def test_an_unreadable_cache_is_replaced(database, kept):
    survey(database)
    database.with_name("survey.json").write_bytes(kept)
    assert survey(database)[1]
    assert not survey(database)[1]


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize(
    "content",
    [
        {"key": "0000000001-0000000010", "rows": 10, "digest": "d", "started": None},  # as in 0.1.0
        ["0000000001-0000000010", 10, "d", None],
        {"partition": {"ranges": [{"first": 1}]}, "rows": 10, "digest": "d", "started": None},
        {"partition": {"ranges": []}, "rows": "many", "digest": "d", "started": None},
        {
            "partition": {"ranges": [{"first": 1, "last": 10}]},
            "rows": 10,
            "digest": "d",
            "started": 7,
        },
        None,
    ],
)
def test_a_cache_with_another_structure_is_replaced(database, content):
    first, _ = survey(database)
    cache = database.with_name("survey.json")
    *look, kept = orjson.loads(cache.read_bytes())
    kept["contents"][0] = content
    cache.write_bytes(orjson.dumps([*look, kept]))
    assert survey(database) == (first, True)
    assert survey(database) == (first, False)


@pytest.mark.usefixtures("settled")
def test_plays_without_a_start_or_beyond_the_grid_are_cached_too(tmp_path):
    path = tmp_path / "tautulli.db"
    make_database(path, plays=[play(1), play(2), play(11, started=0), play(10**10, started=1)])
    first, copied_first = survey(path)
    assert [content.started is None for content in first] == [False, True, False]
    assert [content.partition for content in first] == [*map(GRID.partition_of, (1, 11)), OTHER]
    assert copied_first
    assert survey(path) == (first, False)


@pytest.mark.usefixtures("settled")
def test_salvaging_ignores_the_cache(database):
    survey(database)
    assert survey(database, salvaging=True)[1]


@pytest.mark.usefixtures("settled")
def test_a_cached_source_that_disappeared_is_reported(database):
    survey(database)
    database.unlink()
    with pytest.raises(SourceError, match="it does not exist"):
        survey(database)
