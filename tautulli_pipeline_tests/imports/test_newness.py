"""Whether a database holds plays that were not seen before."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tautulli_pipeline.errors import SourceError
from tautulli_pipeline.imports.newness import Glance, fingerprint, look_into
from tautulli_pipeline.source.partitions import MAX_PARTITIONS, Grid
from tautulli_pipeline_tests.cases import make_database, play

PLAYS = [play(n) for n in (1, 2, 11, 35)]


def look(database, grid=None, batch_size=10):
    return look_into(database, database.parent / "snapshots", "files-1", grid, batch_size)


def test_a_look_counts_the_plays_and_names_their_ranges(database, tmp_path):
    glance, keys = look(database)
    assert glance == Glance("files-1", rows=4, last_id=35)
    assert keys == [Grid(10).partition_of(n).key for n in (1, 11, 35)]
    assert not list(tmp_path.glob("snapshots/*"))


def test_the_grid_of_the_data_directory_counts_more_than_the_size_of_a_batch(database):
    assert look(database, Grid(20))[1] == [Grid(20).partition_of(n).key for n in (1, 35)]


def test_without_a_grid_there_are_not_too_many_ranges(tmp_path):
    path = tmp_path / "tautulli.db"
    history = [{"id": n, "started": 1} for n in range(1, MAX_PARTITIONS + 2)]
    make_database(path, history=history)
    assert len(look(path, batch_size=1)[1]) <= MAX_PARTITIONS
    assert len(look(path, Grid(1))[1]) == MAX_PARTITIONS + 1


def test_a_database_without_plays_can_be_looked_into_too(tmp_path):
    path = tmp_path / "tautulli.db"
    make_database(path)
    glance, keys = look(path)
    assert (glance.rows, glance.last_id, keys) == (0, 0, [])
    assert not glance.shows_new_plays(None)


@pytest.mark.parametrize(
    ("rows", "last_id", "new"),
    [(4, 35, False), (5, 36, True), (5, 35, True), (4, 36, True), (3, 35, True)],
)
def test_plays_are_new_where_their_number_or_the_last_one_changed(rows, last_id, new):
    earlier = Glance("before", 4, 35)
    assert Glance("after", rows, last_id).shows_new_plays(earlier) is new


def test_after_a_look_that_failed_all_plays_count_as_new():
    assert Glance("after", 4, 35).shows_new_plays(Glance("before"))
    assert Glance("after", 4, 35).shows_new_plays(None)


def test_every_write_shows_in_the_files_and_reading_does_not(database):
    first = fingerprint(database)
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        connection.execute("SELECT count(*) FROM session_history").fetchone()
        before = fingerprint(database)
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("UPDATE session_history SET user_id = 3")
        connection.commit()
        in_the_log = fingerprint(database)
    assert len({before, in_the_log, fingerprint(database)}) == 3
    assert fingerprint(database) == fingerprint(database)
    assert first != in_the_log


def test_a_link_has_the_fingerprint_of_its_file(database):
    link = database.with_name("link.db")
    link.symlink_to(database)
    assert fingerprint(link) == fingerprint(database)
    other = database.with_name("other.db")
    os.link(database, other)
    assert fingerprint(other) != fingerprint(database)  # its log would have another name


def test_names_that_are_not_utf8_have_different_fingerprints(database):
    seen = set()
    for odd in (b"\xff.db", b"\xfe.db"):
        renamed = Path(os.fsdecode(os.fsencode(database.parent) + b"/" + odd))
        database = database.rename(renamed)
        seen.add(fingerprint(renamed))
    assert len(seen) == 2


def test_a_missing_database_is_reported(tmp_path):
    with pytest.raises(SourceError, match="it does not exist"):
        fingerprint(tmp_path / "none.db")
