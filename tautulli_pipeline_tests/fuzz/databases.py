"""Databases with damaged bytes: pages, pointers, headers, lengths, logs and the schema's text."""

from __future__ import annotations

import random
import re
import sqlite3
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

from tautulli_pipeline_tests.eras import (
    HISTORY,
    METADATA,
    make_era_database,
    make_half_migrated_database,
    make_one_jump_database,
)
from tautulli_pipeline_tests.fuzzed import TABLES, fuzz
from tautulli_pipeline_tests.pages import settle

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_ROWS = 120
_HEADER_BYTES = 100
# Page size, format versions, reserved bytes, fractions, counters, roots, encoding, version.
_HEADER_FIELDS = ((16, 2), (18, 1), (19, 1), (20, 1), (21, 3), (24, 4), (28, 4), (32, 4))
_MORE_FIELDS = ((36, 4), (40, 4), (44, 4), (48, 4), (52, 4), (56, 4), (92, 4), (96, 4))
_LEAF, _INNER = 13, 5


def _without_keys(path: Path) -> None:
    """Create tables without primary keys, with some ids twice."""
    make_era_database(path, "v2.17.2", _ROWS)
    with closing(sqlite3.connect(path)) as connection, connection:
        for table in TABLES:
            names = ", ".join(row[1] for row in connection.execute(f"PRAGMA table_info({table})"))
            connection.execute(f"CREATE TABLE rebuilt ({names})")
            connection.execute(f"INSERT INTO rebuilt SELECT * FROM {table}")
            connection.execute(f"DROP TABLE {table}")
            connection.execute(f"ALTER TABLE rebuilt RENAME TO {table}")
        connection.execute(f"UPDATE {HISTORY} SET id = id - 1 WHERE id % 40 = 0")


_SHAPES: tuple[Callable[[Path], None], ...] = (
    partial(make_era_database, tag="v2.17.2", rows=_ROWS),
    partial(make_era_database, tag="v1.0", rows=_ROWS),
    partial(make_era_database, tag="v2.17.2", rows=_ROWS, migrated_from="v1.4.25"),
    partial(make_one_jump_database, rows=_ROWS),
    partial(make_half_migrated_database, section_id_in=(HISTORY, METADATA), rows=_ROWS),
    _without_keys,
)


def damaged_database(path: Path, dice: random.Random) -> None:
    """Create a database of any version at `path` and damage it in a few places."""
    dice.choice(_SHAPES)(path)
    if dice.random() < 0.3:
        fuzz(path, _ROWS, seed=dice.randrange(1000), one_in=dice.choice((3, 20)))
    log = path.with_name(f"{path.name}-wal")
    if dice.random() < 0.2:
        _leave_log(path, log, dice)
    else:
        settle(path, page_bytes=dice.choice((512, 1024, 4096)))
    content = bytearray(path.read_bytes())
    for _ in range(dice.choice((1, 1, 1, 2, 3, 8))):
        content = dice.choice(_DAMAGES)(content, dice)
    path.write_bytes(content)
    if log.exists() or dice.random() < 0.1:
        found = bytearray(log.read_bytes() if log.exists() else dice.randbytes(3000))
        log.write_bytes(dice.choice((_flip, _cut, _nothing))(found, dice))
    if dice.random() < 0.05:
        journal = bytes.fromhex("d9d505f920a163d7") + dice.randbytes(dice.randrange(4000))
        path.with_name(f"{path.name}-journal").write_bytes(journal)


def _leave_log(path: Path, log: Path, dice: random.Random) -> None:
    """Leave changes in the log, as a killed Tautulli does."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute(f"UPDATE {HISTORY} SET player = ?", ("x" * dice.randrange(200),))
        connection.commit()
        left = log.read_bytes()
    log.write_bytes(left)


Content = bytearray


def _nothing(content: Content, _dice: random.Random) -> Content:
    return content


def _page_bytes(content: Content) -> int:
    size = int.from_bytes(content[16:18], "big")
    return size if size >= 512 and size & (size - 1) == 0 else 1024


def _a_page(content: Content, dice: random.Random) -> tuple[int, int]:
    """Return the start and the size of a page."""
    size = _page_bytes(content)
    return dice.randrange(max(len(content) // size, 1)) * size, size


def _flip(content: Content, dice: random.Random) -> Content:
    for _ in range(dice.choice((1, 4, 40, 400))):
        if content:
            content[dice.randrange(len(content))] = dice.randrange(256)
    return content


def _flip_in_schema(content: Content, dice: random.Random) -> Content:
    end = min(len(content), 6 * _page_bytes(content))
    for _ in range(dice.choice((1, 2, 20))):
        if end > _HEADER_BYTES:
            content[dice.randrange(_HEADER_BYTES, end)] = dice.randrange(256)
    return content


def _change_header(content: Content, dice: random.Random) -> Content:
    at, size = dice.choice(_HEADER_FIELDS + _MORE_FIELDS)
    value = dice.choice((0, 1, 2, 2 ** (8 * size) - 1, dice.randrange(2 ** (8 * size))))
    content[at : at + size] = value.to_bytes(size, "big")
    return content


def _overwrite(content: Content, dice: random.Random) -> Content:
    for _ in range(dice.choice((1, 1, 5))):
        at, size = _a_page(content, dice)
        content[at : at + size] = dice.choice((b"\0" * size, b"\xff" * size, dice.randbytes(size)))
    return content


def _copy_page(content: Content, dice: random.Random) -> Content:
    """Copy a page over another, which can make a tree a circle."""
    (one, size), (other, _) = _a_page(content, dice), _a_page(content, dice)
    content[one : one + size] = content[other : other + size]
    return content


def _change_tree(content: Content, dice: random.Random) -> Content:
    """Change the kind, the cell count or a pointer of a page."""
    at, size = _a_page(content, dice)
    at += _HEADER_BYTES if at == 0 else 0
    pages = len(content) // size + 2
    field, value = dice.choice(
        (
            (at, bytes([dice.choice((2, _INNER, 10, _LEAF))])),
            (at + 3, dice.randrange(2**16).to_bytes(2, "big")),
            (at + 5, dice.randrange(2**16).to_bytes(2, "big")),
            (at + 8, dice.randrange(pages).to_bytes(4, "big")),
            (at + 8 + 2 * dice.randrange(20), dice.randrange(size).to_bytes(2, "big")),
        )
    )
    content[field : field + len(value)] = value
    return content


def _cut(content: Content, dice: random.Random) -> Content:
    return content[: dice.randrange(len(content) + 1)]


def _extend(content: Content, dice: random.Random) -> Content:
    return content + dice.randbytes(dice.randrange(10_000))


def _misspell(content: Content, dice: random.Random) -> Content:
    """Change a letter of the schema's text."""
    found = list(re.finditer(rb"CREATE (TABLE|INDEX)[^\0]{20,200}", content))
    if found:
        statement = dice.choice(found)
        at = dice.randrange(*statement.span())
        content[at] = dice.choice((0x80, 0xE9, 0xFF, 0, 0x22, 0x27, 0x28, 0x2C, 0x5B, 0x3B, 0x78))
    return content


_DAMAGES = (
    *(_flip, _flip, _flip_in_schema, _flip_in_schema, _change_header, _overwrite, _overwrite),
    *(_copy_page, _change_tree, _change_tree, _cut, _extend, _misspell),
)
