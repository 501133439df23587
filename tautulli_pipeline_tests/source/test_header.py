"""A truncated file is rejected, or its page count is adjusted to its size."""

from __future__ import annotations

import sqlite3
import struct
from contextlib import closing, suppress
from pathlib import Path

import pytest

from tautulli_pipeline.errors import SourceDamagedError
from tautulli_pipeline.source.damage import SALVAGE_HINT
from tautulli_pipeline.source.header import accept_length, require_whole
from tautulli_pipeline.source.snapshot import Snapshot

GIVEN = Path("/home/me/tautulli.db")
ROWS = 400
SIZE_AT, COUNTER_AT, PAGES_AT, COUNTED_AT = 16, 24, 28, 92


@pytest.fixture
def small_pages(tmp_path):
    return make(tmp_path / "tautulli.db", 1024)


def make(path, page_bytes):
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"PRAGMA page_size = {page_bytes}")
        connection.execute("CREATE TABLE plays (id INTEGER PRIMARY KEY, title TEXT)")
        connection.executemany("INSERT INTO plays (title) VALUES (?)", [("x" * 500,)] * ROWS)
    return path


def copy_of(path):
    return Snapshot(path=path, source=GIVEN, size_bytes=path.stat().st_size, fingerprint="")


def cut(path, size_bytes):
    with path.open("r+b") as file:
        file.truncate(size_bytes)


def write(path, at, number, form=">I"):
    with path.open("r+b") as file:
        file.seek(at)
        file.write(struct.pack(form, number))


def readable_rows(path):
    """Count the rows that SQLite can read before it reaches the end."""
    found = 0
    with closing(sqlite3.connect(path)) as connection, suppress(sqlite3.DatabaseError):
        for _ in connection.execute("SELECT title FROM plays"):
            found += 1
    return found


@pytest.mark.parametrize("page_bytes", [512, 4096, 65_536])
def test_a_complete_file_passes_with_any_page_size(tmp_path, page_bytes):
    path = make(tmp_path / "tautulli.db", page_bytes)
    before = path.read_bytes()
    require_whole(copy_of(path))
    accept_length(copy_of(path))
    assert path.read_bytes() == before


@pytest.mark.parametrize("page_bytes", [512, 4096, 65_536])
def test_a_file_without_its_last_byte_is_rejected_with_both_sizes(tmp_path, page_bytes):
    path = make(tmp_path / "tautulli.db", page_bytes)
    whole = path.stat().st_size
    cut(path, whole - 1)
    with pytest.raises(SourceDamagedError) as caught:
        require_whole(copy_of(path))
    assert caught.value.message == (
        f"cannot read all of {GIVEN}: it is truncated ({whole - 1:,} of {whole:,} bytes)"
    )
    assert caught.value.hint == SALVAGE_HINT


def test_extra_bytes_after_the_database_are_accepted(small_pages):
    with small_pages.open("ab") as file:
        file.write(b"\0" * 1024)
    before = small_pages.read_bytes()
    require_whole(copy_of(small_pages))
    accept_length(copy_of(small_pages))
    assert small_pages.read_bytes() == before
    assert readable_rows(small_pages) == ROWS


def test_a_truncated_file_is_readable_after_its_length_is_accepted(small_pages):
    whole_pages = small_pages.stat().st_size // 1024 - 20
    cut(small_pages, whole_pages * 1024 + 700)
    assert readable_rows(small_pages) == 0
    accept_length(copy_of(small_pages))
    require_whole(copy_of(small_pages))
    assert 0 < readable_rows(small_pages) < ROWS
    content = small_pages.read_bytes()
    assert struct.unpack_from(">I", content, PAGES_AT) == (whole_pages,)


def test_only_the_page_count_is_written(small_pages):
    cut(small_pages, 30 * 1024)
    before = small_pages.read_bytes()
    accept_length(copy_of(small_pages))
    after = small_pages.read_bytes()
    assert before[:PAGES_AT] + after[PAGES_AT : PAGES_AT + 4] + before[PAGES_AT + 4 :] == after


@pytest.mark.parametrize("suffix", ["-wal", "-journal"])
def test_the_header_is_ignored_if_there_is_a_log_or_journal(small_pages, suffix):
    cut(small_pages, 10 * 1024)
    before = small_pages.read_bytes()
    small_pages.with_name(small_pages.name + suffix).touch()
    require_whole(copy_of(small_pages))
    accept_length(copy_of(small_pages))
    assert small_pages.read_bytes() == before


def test_an_outdated_page_count_is_ignored(small_pages):
    """Old SQLite versions update the change counter only, so the two counters differ."""
    write(small_pages, PAGES_AT, 10**6)
    with pytest.raises(SourceDamagedError):
        require_whole(copy_of(small_pages))
    write(small_pages, COUNTED_AT, 99)
    require_whole(copy_of(small_pages))
    accept_length(copy_of(small_pages))
    assert readable_rows(small_pages) == ROWS


@pytest.mark.parametrize("size_bytes", [0, 16, 95])
def test_a_file_without_a_complete_header_is_left_to_sqlite(small_pages, size_bytes):
    cut(small_pages, size_bytes)
    require_whole(copy_of(small_pages))
    accept_length(copy_of(small_pages))
    assert small_pages.stat().st_size == size_bytes


def test_a_page_count_of_zero_is_ignored(small_pages):
    write(small_pages, PAGES_AT, 0)
    require_whole(copy_of(small_pages))
    accept_length(copy_of(small_pages))
    assert readable_rows(small_pages) == ROWS


def test_an_invalid_page_size_is_left_to_sqlite(small_pages):
    write(small_pages, SIZE_AT, 0, ">H")
    before = small_pages.read_bytes()
    require_whole(copy_of(small_pages))
    accept_length(copy_of(small_pages))
    assert small_pages.read_bytes() == before
    with (
        closing(sqlite3.connect(small_pages)) as connection,
        pytest.raises(sqlite3.DatabaseError, match="file is not a database"),
    ):
        connection.execute("SELECT * FROM plays")
