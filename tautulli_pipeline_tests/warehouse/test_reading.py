"""Reading the warehouse changes nothing, pages are complete, and id prefixes are enough."""

from __future__ import annotations

from datetime import datetime

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tautulli_pipeline.errors import ConfigurationError, WarehouseError
from tautulli_pipeline.warehouse.reading import (
    Page,
    fetch_dicts,
    find_row,
    list_page,
    no_such,
    open_to_read,
    parsed,
)
from tautulli_pipeline.warehouse.schema import connect
from tautulli_pipeline_tests.folders import content_of
from tautulli_pipeline_tests.holding import held_by_another_process

WHOLE = Page(10)
# Newest first; sorting by id would give a different order.
IDS = [
    "b0000000-0000-0000-0000-000000000005",
    "aaaaaaab-0000-0000-0000-000000000004",
    "aaaaaaaa-1000-0000-0000-000000000003",
    "aaaaaaaa-0000-0000-0000-000000000001",
    "aaaaaaaa-0000-0000-0000-000000000002",
]


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "folder" / 'it\'s; a "warehouse".duckdb'
    connect(file, {}).close()
    return file


@pytest.fixture(scope="module")
def plays():
    """Yield a table whose rows each differ in one sort column."""
    with duckdb.connect() as connection:
        connection.execute(
            "CREATE TABLE plays (id UUID, created_at TIMESTAMP, stream_sequence BIGINT, "
            'source_row_id BIGINT, layer VARCHAR, "odd ""name" VARCHAR)'
        )
        rows = [
            (IDS[0], datetime(2026, 1, 2), 1, 1, "cache", "x"),
            (IDS[1], datetime(2026, 1, 1), 9, 1, "cache", None),
            (IDS[2], datetime(2026, 1, 1), 8, 7, "database", "x"),
            (IDS[3], datetime(2026, 1, 1), 8, 6, "cache", "x"),
            (IDS[4], datetime(2026, 1, 1), 8, 6, "it's", "y"),
        ]
        connection.executemany("INSERT INTO plays VALUES (?, ?, ?, ?, ?, ?)", reversed(rows))
        yield connection


def listed(plays, page=WHOLE, conditions=(), **filters):
    found = list_page(plays, "plays", "id::VARCHAR AS id", filters, page, conditions=conditions)
    return found.total, [IDS.index(row["id"]) for row in found.rows]


def found_id(plays, prefix, kind):
    return find_row(plays, "plays", "id::VARCHAR AS id", prefix, kind)["id"]


def test_reading_changes_nothing(path):
    before = content_of(path.parent)
    with open_to_read(path) as connection:
        assert connection.execute("SELECT count(*) FROM playback_events").fetchone() == (0,)
        with pytest.raises(duckdb.InvalidInputException, match="read-only"):
            connection.execute("DELETE FROM dead_letters")
    assert content_of(path.parent) == before


def test_several_readers_can_open_the_file(path):
    with open_to_read(path) as one, open_to_read(path) as another:
        for connection in (one, another):
            assert connection.execute("FROM dead_letters").fetchall() == []


@pytest.mark.parametrize("sql", ["FROM plays_of_tomorrow", "SELECT colour FROM playback_events"])
def test_an_outdated_warehouse_is_refused_with_a_hint(path, sql):
    def ask():
        with open_to_read(path) as connection:
            connection.execute(sql)

    with pytest.raises(WarehouseError) as caught:
        ask()
    assert str(path) in caught.value.message
    assert "lacks a table or column" in caught.value.message
    assert caught.value.hint.startswith("run an import")


def test_the_error_names_the_process_that_has_the_warehouse_open(path):
    with (
        held_by_another_process(path) as process_id,
        pytest.raises(WarehouseError, match=rf"cannot read the warehouse .*: process {process_id}"),
        open_to_read(path),
    ):
        pass


def test_a_missing_file_is_not_created(tmp_path):
    with pytest.raises(WarehouseError, match="cannot read the warehouse"):
        open_to_read(tmp_path / "none.duckdb").__enter__()
    assert list(tmp_path.iterdir()) == []


def test_rows_are_returned_by_column_name():
    with duckdb.connect() as connection:
        sql = 'SELECT $n + i AS "a b", NULL AS none FROM range(2) t(i)'
        assert fetch_dicts(connection, sql, {"n": 5}) == [
            {"a b": 5, "none": None},
            {"a b": 6, "none": None},
        ]
        assert fetch_dicts(connection, "SELECT 1 AS one WHERE false", {}) == []


def test_json_that_cannot_be_parsed_stays_text():
    assert parsed('{"a": [1, null, "ü"]}') == {"a": [1, None, "ü"]}
    deep = "[" * 2000 + "]" * 2000
    assert parsed(deep) == deep
    assert parsed("no JSON") == "no JSON"


def test_the_newest_rows_come_first_and_the_order_is_stable(plays):
    assert listed(plays) == (5, [0, 1, 2, 3, 4])


def test_filters_are_plain_values_and_none_matches_any(plays):
    assert listed(plays, layer="cache") == (3, [0, 1, 3])
    assert listed(plays, layer="cache", stream_sequence=8) == (1, [3])
    assert listed(plays, layer=None, source_row_id=6) == (2, [3, 4])
    assert listed(plays, layer="it's") == (1, [4])
    assert listed(plays, layer="x' OR true --") == (0, [])
    assert listed(plays, conditions=["source_row_id < 7", "layer <> 'cache'"]) == (1, [4])
    assert listed(plays, conditions=["source_row_id < 7"], layer="cache") == (3, [0, 1, 3])


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 7), st.integers(0, 7))
def test_a_page_is_a_slice_of_the_list_with_its_total(plays, limit, offset):
    assert listed(plays, Page(limit, offset)) == (5, [0, 1, 2, 3, 4][offset : offset + limit])
    rest = [0, 1, 3][offset : offset + limit]
    assert listed(plays, Page(limit, offset), layer="cache") == (3, rest)


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(IDS), st.integers(1, 36))
def test_a_unique_id_prefix_is_enough(plays, row_id, length):
    prefix = row_id[:length]
    matching = sorted(i for i in IDS if i.startswith(prefix))
    if len(matching) == 1:
        assert found_id(plays, f" {prefix.upper()}\n", "duplicate") == row_id
        return
    with pytest.raises(ConfigurationError) as caught:
        found_id(plays, prefix, "duplicate")
    more = ", ..." if len(matching) > 3 else ""
    named = ", ".join(matching[:3]) + more
    assert caught.value.message == f"{prefix!r} matches several ids: {named}"
    assert "more of the id" in caught.value.hint


@pytest.mark.parametrize("given", ["", "c", "%", "_", "a' OR true", "aaaaaaaa%", "zz", "b0_", "ａ"])
def test_an_unknown_prefix_is_reported_with_the_command_that_lists_ids(plays, given):
    with pytest.raises(ConfigurationError) as caught:
        found_id(plays, given, "dead letter")
    assert caught.value.message == f"there is no dead letter with the id {given!r}"
    assert "`tautulli-pipeline dead-letters list`" in caught.value.hint


def test_the_hint_names_the_list_command_of_the_kind():
    assert "`tautulli-pipeline duplicates list`" in no_such("duplicate", "x").hint
