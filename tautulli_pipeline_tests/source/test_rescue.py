"""One table of a damaged file: its copied rows and its known lost rows."""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager

import pytest

from tautulli_pipeline.events.identity import quote_literal
from tautulli_pipeline.source.rescue import RescuedTable
from tautulli_pipeline_tests.pages import overwrite, settle, tree_of

HISTORY, METADATA = "session_history", "session_history_metadata"
COLUMNS = ("id", "title", "kind")
PLAIN = "id INTEGER PRIMARY KEY, title TEXT, kind TEXT"
FEW = range(1, 301)


def make(path, rows, *, table=HISTORY, columns=PLAIN, statements=()):
    """Create a table with small pages, for a deep tree with few rows."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"CREATE TABLE {table} ({columns})")
        places = ", ".join("?" * (1 + columns.count(",")))
        connection.executemany(f"INSERT INTO {table} VALUES ({places})", rows)
        for statement in statements:
            connection.execute(statement)
    settle(path, page_bytes=512)


def plays(ids):
    return [(i, f"Film {i} ".ljust(60, "x"), "odd" if i % 2 else "even") for i in ids]


@contextmanager
def attached(path):
    """Open a new database with the damaged one attached, as salvage does."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.execute(f"ATTACH {quote_literal(str(path))} AS damaged")
        yield connection


def copied(connection, table=HISTORY):
    return connection.execute(f"SELECT * FROM main.{table} ORDER BY rowid").fetchall()


def ids_of(rows):
    return {row[0] for row in rows}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "tautulli.db"


def test_every_cell_keeps_its_value_and_type(path):
    rows = [(1, "", b"\xff\0"), (2, None, ""), (-(2**63), 2.5, "12"), (2**63 - 1, 12, None)]
    columns = 'ID INTEGER PRIMARY KEY, "ti""tle; --" INTEGER, "a b" VARCHAR(20)'
    make(path, rows, columns=columns)
    with attached(path) as connection:
        table = RescuedTable(connection, HISTORY, ("ID", 'ti"tle; --', "a b"), keyed=True)
        table.copy()
        assert copied(connection) == sorted(rows)
        info = connection.execute(f"PRAGMA main.table_info({HISTORY})").fetchall()
        assert [(name, kind) for _, name, kind, *_ in info] == [
            *(("ID", "INTEGER"), ('ti"tle; --', "INTEGER"), ("a b", "VARCHAR(20)")),
        ]
        assert connection.execute(f"SELECT sum(rowid = ID) FROM main.{HISTORY}").fetchone() == (4,)
        assert (table.cause, table.count()) == ("", 4)


def test_only_the_requested_columns_are_copied(path):
    make(path, plays(FEW), statements=["CREATE INDEX by_title ON session_history (title)"])
    with attached(path) as connection:
        RescuedTable(connection, HISTORY, ("kind", "id"), keyed=True).copy()
        assert copied(connection)[:2] == [("odd", 1), ("even", 2)]


def test_duplicate_ids_without_a_key_are_both_copied_in_order(path):
    rows = [(5, "old", "a"), (None, "none", "b"), ("x", "text", "c"), (5, "new", "d")]
    make(path, rows, columns="id INTEGER, title TEXT, kind TEXT")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"UPDATE {HISTORY} SET rowid = 100 - rowid")
    with attached(path) as connection:
        table = RescuedTable(connection, HISTORY, COLUMNS, keyed=False)
        table.copy()
        assert copied(connection) == rows[::-1]
        assert table.ids() == [96, 97, 98, 99]
        assert (table.is_history, table.names_plays) == (True, False)


@pytest.mark.parametrize(
    ("name", "keyed", "history", "naming"),
    [(HISTORY, True, True, True), (METADATA, False, True, False), ("users", True, False, False)],
)
def test_only_a_keyed_history_table_names_plays(path, name, keyed, history, naming):
    with attached(path) as connection:
        table = RescuedTable(connection, name, COLUMNS, keyed=keyed)
        assert (table.is_history, table.names_plays) == (history, naming)


@pytest.mark.parametrize("portion", [1, 7, 299, 300, 301])
def test_the_portion_size_does_not_affect_the_result(path, portion):
    make(path, plays(FEW))
    with attached(path) as connection:
        table = RescuedTable(connection, HISTORY, COLUMNS, keyed=True, portion=portion)
        table.copy()
        assert copied(connection) == plays(FEW)


def copy_with_damaged_page(path, *statements, ids=FEW):
    """Return the rows copied from a file with one damaged page, and the reported damage."""
    make(path, plays(ids), statements=statements)
    overwrite(path, [tree_of(path, HISTORY).leaves[4]])
    with attached(path) as connection:
        table = RescuedTable(connection, HISTORY, COLUMNS, keyed=True)
        table.copy()
        return copied(connection), table.damage({HISTORY: table})


def unreadable_ids(path, ids=FEW):
    """Return the ids whose rows SQLite cannot read one by one."""
    failing = []
    with closing(sqlite3.connect(path)) as connection:
        for row_id in ids:
            try:
                connection.execute(f"SELECT * FROM {HISTORY} WHERE id = {row_id}").fetchall()
            except sqlite3.DatabaseError:
                failing.append(row_id)
    return failing


def test_an_index_identifies_lost_rows_and_all_others_are_copied(path):
    rows, damage = copy_with_damaged_page(path, "CREATE INDEX by_kind ON session_history (kind)")
    assert list(damage.ids) == unreadable_ids(path)
    assert ids_of(rows) | set(damage.ids) == set(FEW)
    assert not ids_of(rows) & set(damage.ids)
    assert rows == plays(sorted(ids_of(rows)))
    assert damage.spans == ((damage.ids[0], damage.ids[-1]),)
    assert damage.cause == "database disk image is malformed"


def test_a_partial_index_is_not_used_to_list_all_rows(path):
    rows, damage = copy_with_damaged_page(
        path, "CREATE INDEX odd ON session_history (title) WHERE kind = 'odd' AND id < 5"
    )
    assert 280 < len(rows) < 300
    assert damage.ids == ()


def test_lost_ids_with_no_row_between_them_form_one_span(path):
    ids = [i * 10**9 for i in FEW]
    rows, damage = copy_with_damaged_page(
        path, "CREATE INDEX by_kind ON session_history (kind)", ids=ids
    )
    assert 0 < len(damage.ids) < 20
    assert damage.spans == ((damage.ids[0], damage.ids[-1]),)
    assert ids_of(rows) | set(damage.ids) == set(ids)


def test_a_readable_row_between_lost_ones_splits_the_span(path):
    make(path, plays(FEW), statements=["CREATE INDEX by_kind ON session_history (kind)"])
    leaves = tree_of(path, HISTORY).leaves
    overwrite(path, [leaves[2], leaves[6], leaves[7]])
    with attached(path) as connection:
        table = RescuedTable(connection, HISTORY, COLUMNS, keyed=True)
        table.copy()
        damage = table.damage({HISTORY: table})
        readable = ids_of(copied(connection))
    assert len(damage.spans) == 2
    within = [i for first, last in damage.spans for i in range(first, last + 1)]
    assert within == list(damage.ids)
    assert readable == set(FEW) - set(within)


def test_without_an_index_the_other_tables_identify_lost_rows(path):
    make(path, plays(FEW))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"CREATE TABLE {METADATA} ({PLAIN})")
        connection.executemany(f"INSERT INTO {METADATA} VALUES (?, ?, ?)", plays(range(1, 301, 2)))
    overwrite(path, [tree_of(path, HISTORY).leaves[4]])
    with attached(path) as connection:
        names = (HISTORY, METADATA)
        tables = {name: RescuedTable(connection, name, COLUMNS, keyed=True) for name in names}
        for table in tables.values():
            table.copy()
        damage = tables[HISTORY].damage(tables)
        readable = ids_of(copied(connection))
        assert tables[METADATA].cause == ""
    assert damage.ids
    assert set(damage.ids) == {i for i in range(1, 301, 2) if i not in readable}


@pytest.mark.parametrize("searched", [16, 10**6])
def test_rows_with_unknown_ids_after_the_damage_are_found(path, searched):
    """This holds whether the range is sampled first or searched completely."""
    make(path, plays(FEW), table="users")
    overwrite(path, [tree_of(path, "users").leaves[1]])
    with attached(path) as connection:
        table = RescuedTable(connection, "users", COLUMNS, keyed=True, searched_ids=searched)
        table._create()
        table._rescue((), 1, 300)
        readable = ids_of(copied(connection, "users"))
    assert {1, 2, 299, 300} <= readable
    assert 280 < len(readable) < 300


def test_an_error_other_than_damage_is_raised(path):
    make(path, plays(FEW))
    with attached(path) as connection:
        table = RescuedTable(connection, HISTORY, COLUMNS, keyed=True)
        table._create()
        connection.set_progress_handler(lambda: 1, 1)
        with pytest.raises(sqlite3.OperationalError, match="interrupted"):
            table._try_copy(1, 300)


def test_a_fully_damaged_table_loses_every_known_row(path):
    make(path, plays(FEW), statements=["CREATE INDEX by_kind ON session_history (kind)"])
    overwrite(path, tree_of(path, HISTORY).leaves)
    with attached(path) as connection:
        table = RescuedTable(connection, HISTORY, COLUMNS, keyed=True)
        table.copy()
        assert table.count() == 0
        assert table.ids() == set(FEW)
        assert table.damage({HISTORY: table}).spans == ((1, 300),)
