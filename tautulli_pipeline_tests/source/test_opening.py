"""An open source: its contents, with and without a copy."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from tautulli_pipeline.errors import SourceError
from tautulli_pipeline.source.opening import KnownContents, OpenSource, open_source
from tautulli_pipeline.source.partitions import MAX_PARTITIONS, Grid
from tautulli_pipeline_tests.cases import make_database, play


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    plays = [play(n, user_id=n % 3) for n in (1, 2, 3, 11, 12)] + [play(13, started=0)]
    make_database(folder / "tautulli.db", plays=plays, version="v2.17.2")
    return folder


@pytest.fixture
def source(folder, tmp_path):
    with open_source(folder / "tautulli.db", tmp_path / "snapshots") as source:
        yield source


@pytest.mark.parametrize(
    ("width", "batch_size", "fits"), [(10, 10, True), (10, 20, False), (20, 10, False)]
)
def test_a_batch_size_fits_the_grid_of_the_same_width(source, width, batch_size, fits):
    assert source.fits(Grid(width), batch_size) is fits


def test_a_widened_grid_fits_its_batch_size(tmp_path):
    history = [{"id": 3 * n, "started": 1} for n in range(1, MAX_PARTITIONS + 2)]
    make_database(tmp_path / "tautulli.db", history=history)
    with open_source(tmp_path / "tautulli.db", tmp_path / "snapshots") as source:
        contents = source.survey(None, 3)
        grid = contents[0].partition.grid
        assert grid.width > 3
        assert source.fits(grid, 3)
        assert not source.fits(grid, 4)


def test_a_survey_is_reported_and_known_contents_are_not_surveyed_again(folder, tmp_path):
    surveys = []
    path = folder / "tautulli.db"
    with open_source(
        path, tmp_path / "snapshots", on_survey=lambda *survey: surveys.append(survey)
    ) as source:
        contents = source.survey(Grid(10), 999)
    ((grid, found, names),) = surveys
    assert (grid, found, len(names)) == (Grid(10), contents, 16)

    def copy():
        raise SourceError("no copy is needed")

    known = OpenSource(copy, KnownContents(path, Grid(10), tuple(contents), "names"))
    assert known.survey(Grid(10), 999) == contents
    assert (known.path, known.salvage.damages) == (path, ())
    with pytest.raises(SourceError, match="no copy"):
        known.survey(Grid(20), 999)


def test_a_file_that_is_not_a_database_is_rejected_on_open_and_leaves_nothing(tmp_path):
    (tmp_path / "notes.txt").write_text("long enough to have a header " * 9)
    with pytest.raises(SourceError), open_source(tmp_path / "notes.txt", tmp_path / "snapshots"):
        pytest.fail("it was opened")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_later_writes_do_not_affect_an_open_source(tmp_path):
    path = tmp_path / "tautulli.db"
    make_database(path, plays=[play(1)])
    with open_source(path, tmp_path / "snapshots") as source:
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("DELETE FROM session_history")
        assert [content.rows for content in source.survey(None, 10)] == [1]
