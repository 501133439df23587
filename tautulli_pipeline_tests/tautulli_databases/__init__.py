"""Databases written by Tautulli's own code, and the answers of its web API for them.

`NAME.json.gz` contains the tables that the pipeline reads, as written by Tautulli: statements,
rows and storage classes. Only email addresses and tokens are blanked. Titles and users are made
up. `NAME.history.json.gz` contains the answer of Tautulli v2.17.2 to `get_history`
(`grouping=0`) for a copy of that database. `NAME.graphs.json.gz` contains its answers to every
graph and home statistic, with the time zone; `demo-3000` is the demo's database of 3,000 plays.
To create `NAME.json.gz` for another database, write the bytes returned by `packed(read(path))`.
"""

from __future__ import annotations

import gzip
import json
import shutil
import sqlite3
import zipfile
from contextlib import closing
from pathlib import Path
from typing import Any

NAMES = ("v1.2.16", "v2.2.4", "v2.12.5", "v2.6.10_migrated_to_v2.17.2", "v2.17.2")
HISTORY_TABLES = ("session_history", "session_history_metadata", "session_history_media_info")
TABLES = (*HISTORY_TABLES, "users", "library_sections", "version_info")
SECRETS = frozenset({"email", "user_token", "server_token"})

FOLDER = Path(__file__).parent

# Key `tables`: by name, each with `sql` and `rows`. Key `indexes`: SQL statements.
Content = dict[str, Any]


def answers(name: str) -> list[dict[str, Any]]:
    """Return the history rows of Tautulli's API, one for each play it shows."""
    rows: list[dict[str, Any]] = _read(f"{name}.history.json.gz")["rows"]
    return rows


def graphs(name: str) -> dict[str, Any]:
    """Return `graphs` and `stats`, by call and options, and the `timezone` they were made in."""
    answered: dict[str, Any] = _read(f"{name}.graphs.json.gz")
    return answered


def content_of(name: str) -> Content:
    """Return the stored content of the database `name`."""
    content: Content = _read(f"{name}.json.gz")
    return content


def build(name: str, path: Path) -> None:
    """Write the database `name` to a new file."""
    write(content_of(name), path)


def build_in_use(name: str, path: Path, *, plays_in_log: int = 25) -> None:
    """Write the database `name` as it looks while Tautulli is writing to it.

    The last plays are only in the write-ahead log, followed by frames of an uncommitted
    transaction.
    """
    content = content_of(name)
    late: dict[str, list[list[Any]]] = {}
    for table in HISTORY_TABLES:
        rows = content["tables"][table]["rows"]
        late[table] = rows[-plays_in_log:]
        del rows[-plays_in_log:]
    live = path.with_name("live") / path.name
    live.parent.mkdir()
    write(content, live)
    with closing(sqlite3.connect(live, isolation_level=None)) as writer:
        writer.execute("PRAGMA wal_autocheckpoint = 0")
        writer.execute("PRAGMA cache_size = 5")  # writes pages to the log before the commit
        writer.execute("BEGIN")
        for table, rows in late.items():
            _insert(writer, table, rows)
        writer.execute("COMMIT")
        log = live.with_name(f"{live.name}-wal")
        committed = log.stat().st_size
        writer.execute("BEGIN")
        writer.execute("UPDATE session_history_metadata SET title = 'not committed'")
        writer.execute("DELETE FROM session_history")
        assert log.stat().st_size > committed
        for file in live.parent.iterdir():
            shutil.copyfile(file, path.with_name(file.name))
    shutil.rmtree(live.parent)


def build_backup(name: str, path: Path) -> None:
    """Write the database `name` as a zipped tautulli.db, like backups since Tautulli v2.16.1."""
    database = path.with_name("tautulli.db")
    build(name, database)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(database, database.name)
    database.unlink()


def read(path: Path) -> Content:
    """Return the content of the tables that the pipeline reads, in file order."""
    content: Content = {"tables": {}, "indexes": []}
    with closing(sqlite3.connect(path)) as connection:
        statements = connection.execute(
            "SELECT type, name, sql FROM sqlite_master "
            f"WHERE tbl_name IN {TABLES} AND sql IS NOT NULL ORDER BY rowid"
        )
        for kind, name, sql in statements.fetchall():
            if kind == "table":
                rows = _without_secrets(connection.execute(f"SELECT * FROM {name} ORDER BY rowid"))
                content["tables"][name] = {"sql": sql, "rows": rows}
            else:
                content["indexes"].append(sql)
    return content


def write(content: Content, path: Path) -> None:
    """Write a new database with this content, in Tautulli's journal mode."""
    path.touch(exist_ok=False)
    with closing(sqlite3.connect(path)) as connection:
        for name, table in content["tables"].items():
            connection.execute(table["sql"])
            _insert(connection, name, table["rows"])
        for sql in content["indexes"]:
            connection.execute(sql)
        connection.commit()
        connection.execute("PRAGMA journal_mode = WAL")


def packed(content: Content) -> bytes:
    """Return the content in its stored form: one cell per line, deterministic bytes."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, indent=0)
    return gzip.compress(text.encode(), mtime=0)


def _insert(connection: sqlite3.Connection, table: str, rows: list[list[Any]]) -> None:
    if rows:
        places = ", ".join("?" * len(rows[0]))
        connection.executemany(f"INSERT INTO {table} VALUES ({places})", rows)


def _without_secrets(cursor: sqlite3.Cursor) -> list[list[Any]]:
    names = [column[0] for column in cursor.description]
    return [
        ["" if value and name in SECRETS else value for name, value in zip(names, row, strict=True)]
        for row in cursor
    ]


def _read(name: str) -> Any:
    return json.loads(gzip.decompress((FOLDER / name).read_bytes()))
