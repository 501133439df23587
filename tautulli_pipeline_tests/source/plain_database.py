"""A SQLite database with filler rows, for tests that do not depend on the content."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def make_plain_database(path: Path, rows: int = 100, mode: str = "DELETE") -> Path:
    """Create a table `plays` with `rows` rows of 2,000 characters each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"PRAGMA journal_mode = {mode}")
        connection.execute("CREATE TABLE plays (id INTEGER PRIMARY KEY, title TEXT)")
        connection.executemany("INSERT INTO plays (title) VALUES (?)", [("x" * 2000,)] * rows)
    return path
