"""After changes to the source, exactly the affected ranges are due again."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing

import pytest

from tautulli_pipeline.demo.database import make_demo_database
from tautulli_pipeline.imports.plan import Destination, Finished, make_plan
from tautulli_pipeline.source.opening import open_source
from tautulli_pipeline.source.partitions import Grid
from tautulli_pipeline_tests.cases import make_database, play

HERE = Destination("default", "warehouse", "stream")
GRID = Grid(10)
# Ids 1 to 95 in ranges of ten, without 41 to 50.
IDS = [*range(1, 41), *range(51, 96)]
PLAYS = [play(i) for i in IDS]
KEYS = sorted({GRID.partition_of(i).key for i in IDS})
TABLES = ("session_history", "session_history_metadata", "session_history_media_info")


def plan_of(path, finished, destination=HERE):
    with open_source(path, path.parent / "snapshots") as source:
        contents = source.survey(GRID, 10)
    return make_plan(contents, finished, destination, "now", fresh=False)


def finish(plan):
    return {key: Finished("before", version) for key, version in plan.versions.items()}


def due(path, finished, **options):
    return [part.key for part in plan_of(path, finished, **options).work]


def change(path, *statements):
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def in_all_tables(statement):
    return [statement.format(table) for table in TABLES]


def keys_of(*ids):
    return sorted({GRID.partition_of(i).key for i in ids})


def test_nothing_is_due_when_nothing_changed(database):
    first = plan_of(database, {})
    assert [part.key for part in first.work] == KEYS
    assert due(database, finish(first)) == []


# What Tautulli does to a history, as SQL, and the keys of the affected ranges.
CHANGES = {
    "one row changes": (
        ["UPDATE session_history SET stopped = stopped + 1 WHERE id = 33"],
        keys_of(33),
    ),
    "three rows are deleted": (
        in_all_tables("DELETE FROM {} WHERE id IN (5, 6, 77)"),
        keys_of(5, 77),
    ),
    "metadata is fixed": (
        ["UPDATE session_history_metadata SET title = 'Fixed', rating_key = 7 WHERE id = 60"],
        keys_of(60),
    ),
    "plays are regrouped": (
        ["UPDATE session_history SET reference_id = 11 WHERE id IN (12, 22)"],
        keys_of(12, 22),
    ),
    "all plays are renumbered": (
        in_all_tables("UPDATE {} SET id = -id - 1000"),
        ["other"],
    ),
    "a merge moves the first plays up": (
        in_all_tables("UPDATE {} SET id = id + 200 WHERE id <= 10"),
        keys_of(201, 210),
    ),
}


@pytest.mark.parametrize("named", CHANGES)
def test_exactly_the_affected_ranges_are_due(database, named):
    finished = finish(plan_of(database, {}))
    statements, touched = CHANGES[named]
    change(database, *statements)
    assert due(database, finished) == touched


def test_new_rows_make_the_last_range_and_the_next_one_due(database, tmp_path):
    finished = finish(plan_of(database, {}))
    grown = tmp_path / "grown.db"
    make_database(grown, plays=[play(i) for i in [*IDS, 98, 99, 100, 101, 102]])
    assert due(grown, finished) == keys_of(95, 101)


def test_adding_rows_to_an_empty_range_makes_only_that_range_due(database, tmp_path):
    finished = finish(plan_of(database, {}))
    filled = tmp_path / "filled.db"
    make_database(filled, plays=[play(i) for i in [*IDS, 45]])
    assert due(filled, finished) == keys_of(45)


def test_all_ranges_of_another_file_at_the_same_path_are_due(database):
    finished = finish(plan_of(database, {}))
    database.unlink()
    make_demo_database(database, 40)
    plan = plan_of(database, finished)
    assert [part.key for part in plan.work] == list(plan.contents)
    assert plan.total_records == sum(content.rows for content in plan.contents.values())
    assert (plan.unchanged, plan.pending) == (0, 0)


def test_after_restoring_an_older_file_only_the_ranges_that_differ_are_due(database, tmp_path):
    newer = tmp_path / "newer.db"
    make_database(newer, plays=[play(i) for i in IDS if i != 71])
    finished = finish(plan_of(newer, {}))
    shutil.copy(database, newer)
    assert due(newer, finished) == keys_of(71)


@pytest.mark.parametrize(
    "destination",
    [
        Destination("other", "warehouse", "stream"),
        Destination("default", "other", "stream"),
        Destination("default", "warehouse", "other"),
    ],
    ids=["server", "warehouse", "stream"],
)
def test_ranges_finished_for_one_destination_are_due_for_another(database, destination):
    finished = finish(plan_of(database, {}))
    assert due(database, finished, destination=destination) == KEYS
