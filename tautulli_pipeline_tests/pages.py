"""Finds the pages of the tables in a SQLite file and damages single pages."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_INNER_TABLE, _INNER_INDEX = 5, 2


@dataclass
class Tree:
    """The page numbers of a table or index, from left to right."""

    root: int
    inner: list[int] = field(default_factory=list)
    leaves: list[int] = field(default_factory=list)


def settle(path: Path, *, page_bytes: int = 1024) -> None:
    """Rewrite the file with small pages, for deep trees with few rows, and without a WAL."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute(f"PRAGMA page_size = {page_bytes}")
        connection.execute("VACUUM")


def tree_of(path: Path, name: str) -> Tree:
    """Return the pages of the table or index `name`."""
    with closing(sqlite3.connect(path)) as connection:
        (root,) = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = ?", (name,)
        ).fetchone()
    content = path.read_bytes()
    size = int.from_bytes(content[16:18], "big")
    tree = Tree(root)
    waiting = [root]
    while waiting:
        number = waiting.pop(0)
        page = content[(number - 1) * size : number * size]
        if page[0] not in {_INNER_TABLE, _INNER_INDEX}:
            tree.leaves.append(number)
            continue
        tree.inner.append(number)
        count = int.from_bytes(page[3:5], "big")
        cells = [int.from_bytes(page[12 + 2 * i : 14 + 2 * i], "big") for i in range(count)]
        waiting += [int.from_bytes(page[at : at + 4], "big") for at in cells]
        waiting.append(int.from_bytes(page[8:12], "big"))
    return tree


def overwrite(path: Path, pages: Iterable[int], byte: bytes = b"\xff") -> None:
    """Fill entire pages with one byte."""
    content = bytearray(path.read_bytes())
    size = int.from_bytes(content[16:18], "big")
    for number in pages:
        content[(number - 1) * size : number * size] = byte * size
    path.write_bytes(content)


def swap(path: Path, one: int, other: int) -> None:
    """Swap two pages."""
    content = bytearray(path.read_bytes())
    size = int.from_bytes(content[16:18], "big")
    first, second = (slice((n - 1) * size, n * size) for n in (one, other))
    content[first], content[second] = content[second], content[first]
    path.write_bytes(content)
