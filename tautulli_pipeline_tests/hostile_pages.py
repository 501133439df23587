"""Damages the pages of a database so that reading a table never ends."""

from __future__ import annotations

import sqlite3
import struct
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Final

_INTERIOR: Final = 5
_CHILDREN: Final = 400
_LEVELS: Final = 17


def make_endless(path: Path, table: str) -> None:
    """Let each page of a tree of `table` refer 400 times to the page below it.

    The tree is 17 levels deep, and SQLite allows 20: it has 400**17 times its rows.
    """
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        root, size = connection.execute(
            "SELECT rootpage, page_size FROM sqlite_master, pragma_page_size WHERE name = ?",
            (table,),
        ).fetchone()
        connection.execute("CREATE TABLE filler (x)")
        connection.execute("INSERT INTO filler VALUES (zeroblob(?))", (2 * _LEVELS * size,))
        connection.execute("DROP TABLE filler")
        ((last,),) = connection.execute("PRAGMA page_count").fetchall()
    data = bytearray(path.read_bytes())
    leaf = data[(root - 1) * size : root * size]
    numbers = [root, *range(last - _LEVELS + 1, last + 1)]
    for number, child in pairwise(numbers):
        data[(number - 1) * size : number * size] = _page(child, size)
    data[(last - 1) * size : last * size] = leaf
    struct.pack_into(">II", data, 32, 0, 0)  # no free pages
    path.write_bytes(data)


def _page(child: int, size: int) -> bytes:
    cell = struct.pack(">I", child) + b"\1"
    start = size - _CHILDREN * len(cell)
    head = struct.pack(">BHHHBI", _INTERIOR, 0, _CHILDREN, start, 0, child)
    places = (start + len(cell) * number for number in range(_CHILDREN))
    pointers = b"".join(struct.pack(">H", place) for place in places)
    return (head + pointers).ljust(start, b"\0") + cell * _CHILDREN
