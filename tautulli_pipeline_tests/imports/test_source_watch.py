"""Detecting new plays in a database."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tautulli_pipeline.errors import SourceError
from tautulli_pipeline.imports.fingerprints import fingerprint
from tautulli_pipeline.imports.source_watch import SourceState, read_source_state
from tautulli_pipeline.source.partitions import MAX_PARTITIONS, Grid
from tautulli_pipeline_tests.cases import make_database, play

PLAYS = [play(n) for n in (1, 2, 11, 35)]


def check(database, grid=None, batch_size=10):
    return read_source_state(database, database.parent / "snapshots", "files-1", grid, batch_size)


def test_a_check_counts_the_plays_and_returns_their_partitions(database, tmp_path):
    state, keys = check(database)
    assert state == SourceState("files-1", rows=4, last_id=35)
    assert keys == [Grid(10).partition_of(n).key for n in (1, 11, 35)]
    assert not list(tmp_path.glob("snapshots/*"))


def test_the_grid_of_the_data_directory_overrides_the_batch_size(database):
    assert check(database, Grid(20))[1] == [Grid(20).partition_of(n).key for n in (1, 35)]


def test_without_a_grid_the_number_of_partitions_is_limited(tmp_path):
    path = tmp_path / "tautulli.db"
    history = [{"id": n, "started": 1} for n in range(1, MAX_PARTITIONS + 2)]
    make_database(path, history=history)
    assert len(check(path, batch_size=1)[1]) <= MAX_PARTITIONS
    assert len(check(path, Grid(1))[1]) == MAX_PARTITIONS + 1


def test_a_database_without_plays_can_be_checked(tmp_path):
    path = tmp_path / "tautulli.db"
    make_database(path)
    state, keys = check(path)
    assert (state.rows, state.last_id, keys) == (0, 0, [])
    assert not state.has_new_plays_since(None)


@pytest.mark.parametrize(
    ("rows", "last_id", "new"),
    [(4, 35, False), (5, 36, True), (5, 35, True), (4, 36, True), (3, 35, True)],
)
def test_plays_are_new_if_their_number_or_the_last_id_changed(rows, last_id, new):
    earlier = SourceState("before", 4, 35)
    assert SourceState("after", rows, last_id).has_new_plays_since(earlier) is new


def test_after_a_failed_check_all_plays_count_as_new():
    assert SourceState("after", 4, 35).has_new_plays_since(SourceState("before"))
    assert SourceState("after", 4, 35).has_new_plays_since(None)


def test_the_fingerprint_changes_with_every_write_but_not_with_reads(database):
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
    assert fingerprint(other) != fingerprint(database)  # its log file would have another name


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
