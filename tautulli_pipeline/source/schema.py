"""The tables and columns of a Tautulli file, read from the file, not derived from its version."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tautulli_pipeline.errors import SourceError
from tautulli_pipeline.events.columns import COPIED, HISTORY, HISTORY_TABLES, METADATA
from tautulli_pipeline.source.address import Named
from tautulli_pipeline.source.queries import CopyConnection, explained, open_copy

_REQUIRED = {
    HISTORY: ("id", "started", "user_id"),
    METADATA: ("id", "title"),
}
SMALLEST_ID: Final = -(2**63)
LARGEST_ID: Final = 2**63 - 1
# The columns that are read from the small tables; the first column is the key.
LOOKUPS: Final[dict[str, tuple[str, ...]]] = {
    "users": ("user_id", "username", "friendly_name"),
    "library_sections": (
        *(
            "section_id",
            "section_name",
            "section_type",
            "is_active",
            "deleted_section",
            "server_id",
        ),
    ),
    "version_info": ("key", "value"),
}
TABLES: Final = (*HISTORY_TABLES, *LOOKUPS)


@dataclass(frozen=True)
class SourceSchema:
    """The relevant tables of a file, with their columns as spelled in the file.

    Attributes:
        keyed: the tables whose `id` is an integer primary key. In other tables an id can
            be any value.
    """

    tables: Mapping[str, tuple[str, ...]]
    tautulli_version: str | None
    keyed: frozenset[str] = frozenset(HISTORY_TABLES)

    @property
    def history_columns(self) -> dict[str, tuple[str, ...]]:
        """Columns of the three history tables; none for a table without an `id`."""
        return {t: self.tables[t] if self.has(t, "id") else () for t in HISTORY_TABLES}

    @property
    def missing_columns(self) -> tuple[str, ...]:
        """History columns of the newest Tautulli that are missing from this file."""
        present = {c.lower() for columns in self.history_columns.values() for c in columns}
        never = {"subtitle_decision"}
        return tuple(c.source for c in COPIED if c.source not in present | never)

    def only(self, columns: Collection[str]) -> SourceSchema:
        """Return the schema without the other columns of the history tables."""
        kept = {
            table: tuple(name for name in self.tables.get(table, ()) if name.lower() in columns)
            for table in HISTORY_TABLES
        }
        return replace(self, tables={**self.tables, **kept})

    def has(self, table: str, *columns: str) -> bool:
        """Whether `table` exists and has all of `columns`."""
        return set(columns) <= {c.lower() for c in self.tables.get(table, ())}

    def has_id_within(self, table: str, column: str) -> str:
        """Return SQL for ids from ?1 to ?2; non-integer ids count as the largest id."""
        return f"{self.place(table, column)} BETWEEN ?1 AND ?2"

    def place(self, table: str, column: str) -> str:
        """Return SQL for the id that counts, which the private copy has an index for."""
        return column if table in self.keyed else place_of(column)

    def has_integer(self, table: str, column: str) -> str:
        """Return SQL for ids that are integers."""
        return "true" if table in self.keyed else f"typeof({column}) = 'integer'"

    def join(self, table: str, alias: str) -> str:
        """Return SQL that joins at most one row of `table` to each play `h` from ?1 to ?2.

        If a rebuilt table has an id twice, the newest row wins.
        """
        if not self.has(table, "id"):
            return ""
        if table in self.keyed:
            return f"LEFT JOIN {table} {alias} ON {alias}.id = h.id"
        newest = (
            f"SELECT id, max(rowid) AS row FROM {table} "
            f"WHERE {self.has_id_within(table, 'id')} GROUP BY id"
        )
        return (
            f"LEFT JOIN ({newest}) newest_{alias} ON newest_{alias}.id = h.id "
            f"LEFT JOIN {table} {alias} ON {alias}.rowid = newest_{alias}.row"
        )


def place_of(column: str) -> str:
    """Return SQL for an id of a table without an integer key: the largest id if it is no integer.

    SQLite uses an index on this expression only if queries repeat it as it is.
    """
    return f"(CASE WHEN typeof({column}) = 'integer' THEN {column} ELSE {LARGEST_ID} END)"


def read_schema(database: Path, *, named: Named) -> SourceSchema:
    """Read the schema of a private copy; messages name `named`, the user's path.

    Raises:
        SourceError: the file is not a Tautulli database.
    """
    with open_copy(database) as connection, _explained_schema(connection, named):
        tables = {table: _columns(connection, table) for table in TABLES}
        _require_tautulli(tables, named)
        keyed = frozenset(t for t in HISTORY_TABLES if _is_keyed(connection, t))
        return SourceSchema(tables, _version(connection, tables), keyed)


def require_tables(database: Path, *, named: Named) -> None:
    """Refuse views, which can run any query for any time, and tables of SQLite's extensions.

    Raises:
        SourceError: one of our tables is something else.
    """
    names = ", ".join(f"'{table}'" for table in TABLES)
    others = (
        "SELECT name, CASE WHEN type = 'table' THEN 'virtual table' ELSE type END "
        f"FROM sqlite_master WHERE lower(name) IN ({names}) "
        "AND NOT (type = 'table' AND coalesce(rootpage, 0) > 0) ORDER BY 1"
    )
    with open_copy(database) as connection, _explained_schema(connection, named):
        for name, kind in connection.execute(others):
            raise SourceError(
                f"{named} is not a Tautulli database: {name} is a {kind} instead of a table",
                hint="give the path of Tautulli's own database, or of a backup made by it",
            )


def _explained_schema(connection: CopyConnection, named: Named) -> AbstractContextManager[None]:
    hint = "nothing can be salvaged without the schema; restore a Tautulli backup"
    return explained(connection, f"cannot read the schema of {named}", hint=hint)


def _columns(connection: sqlite3.Connection, table: str) -> tuple[str, ...]:
    rows = connection.execute("SELECT name FROM pragma_table_info(?)", (table,))
    return tuple(name for (name,) in rows)


def _is_keyed(connection: sqlite3.Connection, table: str) -> bool:
    """Whether `id` is an alias of the rowid."""
    return is_id_key(connection, table) and has_row_numbers(connection, table)


def has_row_numbers(connection: sqlite3.Connection, table: str) -> bool:
    """Whether `table` is not WITHOUT ROWID; true if there is no such table."""
    exists = "SELECT 1 FROM sqlite_master WHERE lower(name) = ?"
    if connection.execute(exists, (table,)).fetchone() is None:
        return True
    try:
        connection.execute(f"SELECT _rowid_ FROM {table} LIMIT 0")
    except sqlite3.OperationalError as error:
        return "no such column" not in str(error)
    return True


def is_id_key(connection: sqlite3.Connection, table: str) -> bool:
    """Whether `id INTEGER` alone is the primary key."""
    rows = connection.execute("SELECT name, type FROM pragma_table_info(?) WHERE pk > 0", (table,))
    return [(name.lower(), kind.upper()) for name, kind in rows] == [("id", "INTEGER")]


def _require_tautulli(tables: Mapping[str, tuple[str, ...]], named: Named) -> None:
    for table, columns in _REQUIRED.items():
        present = {c.lower() for c in tables[table]}
        missing = [c for c in columns if c not in present]
        if missing:
            what = f"column {table}.{missing[0]}" if present else f"table {table}"
            raise SourceError(
                f"{named} is not a Tautulli database: it has no {what}",
                hint="give the path of tautulli.db (plexpy.db before v2.0.21)",
            )


def _version(connection: sqlite3.Connection, tables: Mapping[str, tuple[str, ...]]) -> str | None:
    if not {"key", "value"} <= {c.lower() for c in tables["version_info"]}:
        return None
    try:
        row = connection.execute("SELECT value FROM version_info WHERE key = 'version'").fetchone()
    except sqlite3.DatabaseError:
        return None  # damaged; nothing depends on the version
    return str(row[0]) if row and row[0] else None
