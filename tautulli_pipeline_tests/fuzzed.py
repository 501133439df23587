"""Databases with odd values, which SQLite accepts in columns of any type."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

from tautulli_pipeline_tests.eras import HISTORY, MEDIA_INFO, METADATA

if TYPE_CHECKING:
    from pathlib import Path

TABLES = (HISTORY, METADATA, MEDIA_INFO)
_FIRST_ID = 1001
_IDENTITY = {"started", "user_id", "title", "media_type"}
_TEXT = (
    *("", "0", "1", "-1", "01", "1_0", "1e3", " 5", "5 x", "0x1", "nan", "inf", "-Infinity"),
    *("true", "null", "{}", "[]", '"', "\\", "'; DROP TABLE users; --", '"},{"id":1', "abc"),
    *("9" * 25, "-" + "9" * 40, "1" + "0" * 320, "1.7976931348623157e309", "9223372036854775808"),
    *("\x00", "a\x00b", "\x00\x00x", "\x01\n\t\r\x1f\x7f", "\u2028\u2029", "\ufeffx", "\uffff"),
    *("e\u0301" * 30, "\u202eabc\u202c", "👩‍👩‍👧‍👦🏳️‍🌈", "\U0010ffff", "١٢٣", "ｆｕｌｌ", "x" * 400),
    *("a.b.c", "a b", "*", ">", "playback.>", "movie\r\nNats-Msg-Id: 1", "/", "..", "%s%n"),
)
_NUMBERS = (
    *(0, 1, -1, 2, 7, 255, 2**31 - 1, 2**31, -(2**31), 2**53 + 1, 2**63 - 1, -(2**63)),
    *(253_402_300_799, 253_402_300_800, -62_135_596_800, -62_135_596_801, -1, -86_400),
    *(1.5, -0.0, 0.1, 1e20, -1e20, 1e308, float("inf"), float("-inf"), 5e-324, 1 / 3),
)
_BLOBS = (b"", b"\x00", b"abc", b"\x00\xff\x00", bytes(range(128, 160)), b"\xff" * 100)
# Invalid UTF-8 that SQLite stores as text.
_BROKEN_TEXT = (
    *(b"\xff", b"Caf\xe9", b"\xc3", b"\xe2\x82", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"),
    *(b"\xc0\x80", b"ok\xfe\x00ok", b"\x80" * 100, b"\xf0\x9f\x8e"),
)
# A 63-bit hash of row, column and seed, which makes failures reproducible.
_RANDOM = (
    "((({n} * 7919 + {column} * 104729 + {seed} * 1299709) % 2147483647) * 48271 % 2147483647)"
)


def fuzz(path: Path, rows: int, *, seed: int, one_in: int) -> None:
    """Add `rows` plays copied from those in `path`, with about one in `one_in` cells replaced.

    Some plays have no metadata or media info. Columns that identify plays are replaced less often.
    """
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TEMP TABLE odd (i INTEGER PRIMARY KEY, v)")
        odd: list[Any] = [None, *_TEXT, *_NUMBERS, *_BLOBS]
        connection.executemany("INSERT INTO odd (v) VALUES (?)", [(v,) for v in odd])
        connection.executemany(
            "INSERT INTO odd (v) VALUES (CAST(? AS TEXT))", [(v,) for v in _BROKEN_TEXT]
        )
        connection.execute("CREATE TEMP TABLE plays (n INTEGER PRIMARY KEY, like INTEGER)")
        (like,) = connection.execute(f"SELECT group_concat(id) FROM {HISTORY}").fetchone()
        ids = [int(row_id) for row_id in like.split(",")]
        connection.executemany(
            "INSERT INTO plays VALUES (?, ?)", [(n, ids[n % len(ids)]) for n in range(rows)]
        )
        for number, table in enumerate(TABLES):
            _fill(connection, table, seed=seed + number, one_in=one_in)


def _fill(connection: sqlite3.Connection, table: str, *, seed: int, one_in: int) -> None:
    names = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    cells = [
        _cell(name, column, seed=seed, one_in=one_in * (5 if name in _IDENTITY else 1))
        for column, name in enumerate(names)
    ]
    kept = _RANDOM.format(n="n", column=999, seed=seed) + " % 25 > 0"
    connection.execute(
        f"INSERT INTO {table} SELECT {', '.join(cells)} FROM plays JOIN {table} t ON t.id = like "
        f"WHERE {'true' if table == HISTORY else kept}"
    )


def _cell(name: str, column: int, *, seed: int, one_in: int) -> str:
    if name == "id":
        return f"n + {_FIRST_ID}"
    original = f't."{name}"' + (" + n * 10" if name in {"started", "stopped"} else "")
    draw = _RANDOM.format(n="n", column=column, seed=seed)
    odd = f"(SELECT v FROM odd WHERE i = 1 + {draw} / {one_in} % (SELECT max(i) FROM odd))"
    return f"CASE WHEN {draw} % {one_in} = 0 THEN {odd} ELSE {original} END"
