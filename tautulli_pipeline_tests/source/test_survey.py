from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tautulli_pipeline.errors import SourceDamagedError, SourceError
from tautulli_pipeline.events.columns import HISTORY, HISTORY_TABLES, MEDIA_INFO, METADATA
from tautulli_pipeline.source.partitions import OTHER, Grid, Partition
from tautulli_pipeline.source.schema import read_schema
from tautulli_pipeline.source.survey import PartitionContent, open_survey, with_unreadable
from tautulli_pipeline_tests import tautulli_databases
from tautulli_pipeline_tests.eras import make_database, make_era_database, play
from tautulli_pipeline_tests.pages import overwrite, settle, swap, tree_of

FIRST, SECOND, FAR = "0000000001-0000000010", "0000000011-0000000020", "0000000991-0000001000"


@contextmanager
def surveying(path):
    with open_survey(path, read_schema(path, named=path), named=path) as survey:
        yield survey


def survey_of(path, width=10):
    """Return rows and digest by key, in the order of the survey."""
    with surveying(path) as survey:
        return {c.key: (c.rows, c.digest) for c in survey.partitions(Grid(width))}


def rows_of(path, width=10):
    return [(key, rows) for key, (rows, _) in survey_of(path, width).items()]


def change(path, *statements):
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


@pytest.fixture
def sparse_database(tmp_path):
    """Plays 1, 2, 3 and 12 and 999; 3 has no metadata yet and 12 no media info."""
    path = tmp_path / "tautulli.db"
    plays = [play(i) for i in (1, 2, 3, 12, 999)]
    plays[2].metadata = None
    plays[3].media_info = None
    make_database(path, plays=plays)
    return path


def test_partitions_with_rows_come_in_key_order_with_other_last(tmp_path):
    path = tmp_path / "tautulli.db"
    ids = [-3, 0, 1, 10, 11, 1500, 9_999_999_999, 10_000_000_000, 2**63 - 1]
    make_database(path, plays=[play(i, started=1_700_000_000, rating_key=1) for i in ids])
    assert rows_of(path) == [
        ("0000000001-0000000010", 2),
        ("0000000011-0000000020", 1),
        ("0000001491-0000001500", 1),
        ("9999999991-9999999999", 1),
        ("other", 4),
    ]
    assert rows_of(path, 2000)[:1] == [("0000000001-0000002000", 4)]
    with surveying(path) as survey:
        assert survey.count_rows() == 9
        assert [survey.count_ranges(width) for width in (1, 10, 2000)] == [5, 4, 2]
        for width in (1, 10, 2000, 10**10):
            surveyed = [content.partition for content in survey.partitions(Grid(width))]
            assert survey.with_rows(Grid(width)) == surveyed
            assert surveyed[-1] == OTHER


def test_a_database_without_plays_has_no_partitions(tmp_path):
    path = tmp_path / "tautulli.db"
    make_database(path)
    assert survey_of(path) == {}
    with surveying(path) as survey:
        assert survey.with_rows(Grid(10)) == []


@pytest.mark.parametrize("name", tautulli_databases.NAMES)
def test_the_partitions_of_a_real_database_contain_all_rows(tmp_path, name):
    path = tmp_path / "tautulli.db"
    tautulli_databases.build(name, path)
    with surveying(path) as survey:
        total = survey.count_rows()
    assert sum(rows for rows, _ in survey_of(path, 7).values()) == total > 100


@pytest.mark.parametrize(
    ("statement", "touched"),
    [
        (f"UPDATE {HISTORY} SET stopped = stopped + 1 WHERE id = 2", {FIRST}),
        (f"UPDATE {HISTORY} SET reference_id = 1 WHERE id = 12", {SECOND}),
        (f"UPDATE {HISTORY} SET ip_address = NULL WHERE id = 999", {FAR}),
        (f"UPDATE {HISTORY} SET bandwidth = '' WHERE id = 1", {FIRST}),
        (f"UPDATE {HISTORY} SET id = 13 WHERE id = 12", {SECOND}),
        (f"UPDATE {METADATA} SET title = 'Fixed', rating_key = 5 WHERE id = 12", {SECOND}),
        (f"UPDATE {METADATA} SET guid = 'plex://movie/other' WHERE id = 1", {FIRST}),
        (f"INSERT INTO {METADATA} (id, title) VALUES (3, 'Late')", {FIRST}),
        (f"INSERT INTO {MEDIA_INFO} (id) VALUES (12)", {SECOND}),
        (f"DELETE FROM {METADATA} WHERE id = 2", {FIRST}),
        (f"DELETE FROM {HISTORY} WHERE id = 2", {FIRST}),
        (f"DELETE FROM {HISTORY} WHERE id = 999", {FAR}),
        (f"INSERT INTO {HISTORY} (id, started) VALUES (20, 1)", {SECOND}),
        (f"INSERT INTO {HISTORY} (id, started) VALUES (-1, 1)", {"other"}),
        (f"INSERT INTO {METADATA} (id, title) VALUES (700, 'Nobody saw it')", set()),
        ("UPDATE users SET email = 'x'", set()),
        ("CREATE INDEX later ON session_history (started)", set()),
    ],
)
def test_only_the_digest_of_the_changed_partition_changes(sparse_database, statement, touched):
    before = survey_of(sparse_database)
    change(sparse_database, statement)
    after = survey_of(sparse_database)
    assert {k for k in before.keys() | after.keys() if before.get(k) != after.get(k)} == touched


def test_the_position_of_a_row_in_the_file_does_not_matter(sparse_database):
    before = survey_of(sparse_database)
    columns = "SELECT * FROM session_history WHERE id = 1"
    change(
        sparse_database,
        f"CREATE TEMP TABLE kept AS {columns}",
        "DELETE FROM session_history WHERE id = 1",
        "INSERT INTO session_history SELECT * FROM kept",
    )
    change(sparse_database, "DROP TABLE users")
    with closing(sqlite3.connect(sparse_database)) as connection:
        connection.execute("VACUUM")
    assert survey_of(sparse_database) == before


def test_swapped_values_change_the_digest(tmp_path):
    """Digits move to the next column, and cells swap places."""
    path = tmp_path / "tautulli.db"
    make_database(path, plays=[play(1), play(2)])
    with closing(sqlite3.connect(path)) as connection:
        names = [row[1] for row in connection.execute(f"PRAGMA table_info({HISTORY})")]
    first, second = names[names.index("started") : names.index("started") + 2]
    digests = set()
    for one, other in ((1, 23), (12, 3), (123, ""), ("1", "23"), ("1','23", ""), (None, 123)):
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(
                f"UPDATE {HISTORY} SET {first} = ?, {second} = ? WHERE id = 1", (one, other)
            )
        digests.add(survey_of(path)[FIRST][1])
    # INTEGER affinity turns '1' and '23' into numbers.
    assert len(digests) == 5


def test_moving_a_row_between_the_ranges_of_other_changes_the_digest(tmp_path):
    path = tmp_path / "tautulli.db"
    make_database(path, plays=[play(-1)])
    before = survey_of(path)
    change(path, *(f"UPDATE {t} SET id = 10000000000" for t in HISTORY_TABLES))
    assert survey_of(path)["other"] != before["other"]


def test_text_that_is_not_utf8_is_surveyed(tmp_path):
    path = tmp_path / "tautulli.db"
    make_database(path, plays=[play(1, title=b"Caf\xe9", user=b"\xff\xfe"), play(11)])
    before = survey_of(path)
    assert rows_of(path) == [(FIRST, 1), (SECOND, 1)]
    change(path, f"UPDATE {HISTORY} SET user = CAST(x'fffd' AS TEXT) WHERE id = 1")
    after = survey_of(path)
    assert (after[FIRST] != before[FIRST], after[SECOND] == before[SECOND]) == (True, True)


@pytest.mark.parametrize("table", [METADATA, MEDIA_INFO])
def test_a_duplicate_id_in_a_rebuilt_table_counts_once(sparse_database, table):
    change(
        sparse_database,
        f"CREATE TABLE rebuilt AS SELECT * FROM {table}",
        f"DROP TABLE {table}",
        f"ALTER TABLE rebuilt RENAME TO {table}",
        f"INSERT INTO {table} SELECT * FROM {table} WHERE id = 2",
    )
    assert rows_of(sparse_database) == [(FIRST, 3), (SECOND, 1), (FAR, 1)]


@pytest.mark.parametrize("of", ["records", "cells"])
@pytest.mark.parametrize("tag", ["v1.0", "v2.6.10", "v2.17.2"])
def test_the_digest_query_uses_the_primary_keys(tmp_path, tag, of):
    path = tmp_path / "tautulli.db"
    make_era_database(path, tag, rows=2)
    with surveying(path) as survey, closing(sqlite3.connect(path)) as connection:
        connection.create_aggregate("content_digest", 1, Counting)
        content = survey._records_content(Grid(10)) if of == "records" else survey._cells_content()
        plan = connection.execute(f"EXPLAIN QUERY PLAN {content.query}", (1, 10)).fetchall()
    steps = [step[3] for step in plan]
    assert [s for s in steps if s.startswith("SCAN") and not s.startswith("SCAN (subquery")] == []
    assert sum("USING INTEGER PRIMARY KEY" in s for s in steps) == 3


class Counting:
    def step(self, _content):
        pass

    def finalize(self):
        return ""


def test_empty_ranges_need_no_queries(tmp_path):
    """A single query finds the next id at any distance."""
    path = tmp_path / "tautulli.db"
    make_database(path, plays=[play(i, started=1) for i in (1, 5_000_000_000, 9_000_000_000)])
    with surveying(path) as survey:
        statements = []
        survey._connection.set_trace_callback(statements.append)
        assert len(list(survey.partitions(Grid(1)))) == 3
    assert len(statements) <= 15


def test_a_damaged_file_is_reported_with_the_users_path(sparse_database):
    given = Path("/home/me/tautulli.db")
    schema = read_schema(sparse_database, named=given)
    content = bytearray(sparse_database.read_bytes())
    content[len(content) // 4 :] = b"\xff" * (len(content) - len(content) // 4)
    sparse_database.write_bytes(content)
    with (
        open_survey(sparse_database, schema, named=given) as survey,
        pytest.raises(SourceError, match=f"cannot read {given}: "),
    ):
        list(survey.partitions(Grid(10)))


def test_damage_in_cells_outside_the_digest_is_detected(sparse_database):
    """It may be in the last cell of a side table, in the small tables or in their indexes."""
    settle(sparse_database, page_bytes=512)
    content = sparse_database.read_bytes()
    for name in (MEDIA_INFO, METADATA, "users", "sqlite_autoindex_users_1", "library_sections"):
        overwrite(sparse_database, tree_of(sparse_database, name).leaves[-1:])
        with pytest.raises(SourceDamagedError, match="malformed"):
            survey_of(sparse_database)
        sparse_database.write_bytes(content)
    assert survey_of(sparse_database)


def test_a_damaged_overflow_page_of_a_side_table_is_detected(tmp_path):
    path = tmp_path / "tautulli.db"
    long = "The end is missing. " * 500
    make_database(path, plays=[play(i, media_info={"transcode_protocol": long}) for i in (1, 2)])
    settle(path)
    content = bytearray(path.read_bytes())
    page = (content.index(b"The end is missing. " * 30) // 1024 + 1) * 1024
    content[page : page + 4] = b"\xff" * 4
    path.write_bytes(content)
    with pytest.raises(SourceDamagedError, match="malformed"):
        survey_of(path)


def test_rows_that_cannot_be_found_by_id_are_reported(tmp_path):
    """Two swapped pages misdirect searches, which SQLite does not detect."""
    path = tmp_path / "tautulli.db"
    make_database(path, plays=[play(i) for i in range(1, 400)])
    settle(path)
    pages = tree_of(path, HISTORY).leaves
    swap(path, pages[1], pages[-2])
    with pytest.raises(SourceDamagedError, match=f"rows of {HISTORY} are out of order"):
        survey_of(path, 100)


def test_unreadable_plays_are_added_to_their_partitions():
    readable = PartitionContent(Partition.parse(FIRST), 3, "digest")
    grid = Grid(10)
    contents = with_unreadable([readable], [-5, 4, 5, 17, 2**40], grid)
    assert [(c.key, c.rows) for c in contents] == [(FIRST, 5), (SECOND, 1), ("other", 2)]
    assert contents[-1].partition == OTHER
    assert contents[0].digest != with_unreadable([readable], [4, 6], grid)[0].digest
    assert with_unreadable([readable], [], grid) == [readable]


def test_a_start_in_the_future_is_no_start(tmp_path):
    path = tmp_path / "tautulli.db"
    starts = (1_700_000_000, 4_000_000_000, 9_000_000_000_000, 0, -5)
    make_database(path, plays=[play(i, started=start) for i, start in enumerate(starts, 1)])
    with surveying(path) as survey:
        (content,) = survey.partitions(Grid(10))
    assert (content.rows, content.started) == (5, (1_700_000_000, 1_700_000_000))
