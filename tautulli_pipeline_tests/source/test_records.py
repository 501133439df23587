"""Digests of rows from their records, compared with what SQLite stores."""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tautulli_pipeline.source.records import RecordsUnreadableError, open_records

PAGE_SIZES = (512, 4096, 65_536)
ROWS = [
    *((row, "short", None) for row in (-(2**63), -5, 0, 1, 127, 128, 16_383, 16_384)),
    *((2_097_152 + row, row, "x" * (37 * row)) for row in range(400)),
    (2**62, "y" * 1_000_000, b"\0\xff"),
    (2**63 - 1, 0.5, ""),
]


def group_end(row):
    """Return the last number of the group of ten that a row number is in."""
    return row // 10 * 10 + 9


def make(path, page_size=4096, rows=ROWS):
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"PRAGMA page_size = {page_size}")
        connection.execute("CREATE TABLE first (id INTEGER PRIMARY KEY)")
        connection.execute("CREATE TABLE plays (id INTEGER PRIMARY KEY, a, b)")
        connection.executemany("INSERT INTO plays VALUES (?, ?, ?)", rows)
    return path


def root_of(path):
    with closing(sqlite3.connect(path)) as connection:
        root = "SELECT rootpage FROM sqlite_master WHERE name = 'plays'"
        ((page,),) = connection.execute(root).fetchall()
    return page


def digests_of(path):
    with open_records(path) as records:
        return records.digests(root_of(path), group_end)


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    return make(tmp_path_factory.mktemp("records") / "plays.db")


@pytest.fixture(scope="module")
def digests(database):
    return digests_of(database)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_pages_of_long_records_do_not_stay_in_memory(tmp_path):
    path = make(tmp_path / "plays.db", rows=[(row, "x" * 8_000_000, None) for row in range(4)])
    root = root_of(path)
    with open_records(path) as records:
        before = mapped_bytes()
        records.digests(root, group_end)
        assert mapped_bytes() - before < 8_000_000


def mapped_bytes():
    """Return the size of the pages of files that this process has in memory."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssFile:")[2].split()[0]) * 1024


def test_each_group_with_rows_has_a_digest(digests):
    ends = {group_end(row) for row, _, _ in ROWS}
    assert [end for end in digests if end >= -(2**63)] == sorted(ends)


@pytest.mark.parametrize("page_size", PAGE_SIZES)
def test_digests_do_not_depend_on_where_the_rows_are(tmp_path, digests, page_size):
    path = make(tmp_path / "plays.db", page_size, ROWS[::-1])
    assert digests_of(path) == digests
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DELETE FROM plays WHERE id % 3 = 0")
        connection.commit()
        connection.executemany("INSERT OR IGNORE INTO plays VALUES (?, ?, ?)", ROWS)
        connection.commit()
        assert digests_of(path) == digests
        connection.execute("VACUUM")
    assert digests_of(path) == digests


@pytest.mark.parametrize("page_size", PAGE_SIZES)
def test_an_edit_of_any_cell_changes_the_digest_of_its_group_only(tmp_path, digests, page_size):
    path = make(tmp_path / "plays.db", page_size)
    for row, a, b in [ROWS[0], ROWS[3], ROWS[9], ROWS[200], ROWS[-2], ROWS[-1]]:
        for column, value in (("a", f"{a}"[:-1] + "z"), ("b", f"{b or 'none'}"[:-1] + "!")):
            with closing(sqlite3.connect(path)) as connection, connection:
                edit = f"UPDATE plays SET {column} = ? WHERE id = ?"
                connection.execute(edit, (value, row))
            edited = digests_of(path)
            assert {end for end in digests if edited[end] != digests[end]} == {group_end(row)}
            with closing(sqlite3.connect(path)) as connection, connection:
                connection.execute("REPLACE INTO plays VALUES (?, ?, ?)", (row, a, b))
    assert digests_of(path) == digests


@pytest.mark.parametrize("page_size", [4096, 65_536])
def test_damaged_pages_end_in_an_error_or_in_digests(tmp_path, page_size):
    """Nothing else is raised and nothing takes long, whatever the pages say."""
    whole = make(tmp_path / "plays.db", page_size).read_bytes()
    damaged = tmp_path / "damaged.db"
    failures = 0
    for seed in range(200):
        at = (seed * 7919 * 101) % (len(whole) - 100) + 100
        content = whole[:at] + bytes([seed, 255 - seed, 255, 13]) + whole[at + 4 :]
        damaged.write_bytes(content)
        with open_records(damaged) as records:
            try:
                records.digests(3, group_end)
            except RecordsUnreadableError:
                failures += 1
    assert failures


def test_pages_in_circles_are_refused(tmp_path):
    path = make(tmp_path / "plays.db", 512)
    content = bytearray(path.read_bytes())
    root = content[2 * 512 : 3 * 512]
    assert root[0] == 5
    content[2 * 512 + 8 : 2 * 512 + 12] = (3).to_bytes(4)
    path.write_bytes(content)
    with open_records(path) as records, pytest.raises(RecordsUnreadableError):
        records.digests(3, group_end)


@pytest.mark.parametrize("content", [b"", b"SQLite format 3", bytes(5000)])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "plays.db"
    path.write_bytes(content)
    with pytest.raises(RecordsUnreadableError), open_records(path) as records:
        records.digests(2, group_end)
