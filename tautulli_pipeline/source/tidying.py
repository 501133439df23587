"""Prepares a private copy for reading: without tokens, and with row numbers in every table."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Final

from tautulli_pipeline.errors import SourceError
from tautulli_pipeline.events.columns import HISTORY_TABLES
from tautulli_pipeline.events.identity import quote_identifier
from tautulli_pipeline.source.address import Named
from tautulli_pipeline.source.queries import explained, open_copy
from tautulli_pipeline.source.schema import (
    TABLES,
    SourceSchema,
    has_row_numbers,
    is_id_key,
    place_of,
)

_PRAGMAS: Final = (
    *("journal_mode = MEMORY", "synchronous = OFF", "secure_delete = ON"),
    *("legacy_alter_table = ON", "ignore_check_constraints = ON"),
)
_CHEAP_SECONDS: Final = 2.0
_SECRET_WORDS: Final = ("token", "password", "secret", "api_key", "apikey", "_config")
_TRIGGERS: Final = "SELECT name FROM sqlite_master WHERE type = 'trigger'"
_SECRETS: Final = f"""
    SELECT tables.name, columns.name
    FROM sqlite_master tables, pragma_table_info(tables.name) columns
    WHERE tables.type = 'table' AND tables.rootpage > 0
        AND lower(tables.name) NOT IN ({", ".join(f"'{table}'" for table in HISTORY_TABLES)})
        AND ({" OR ".join(f"instr(lower(columns.name), '{word}')" for word in _SECRET_WORDS)})
"""


def forget_secrets(database: Path) -> None:
    """Empty the columns with tokens and passwords, as far as that takes little time."""
    with (
        suppress(SourceError),
        open_copy(database, mode="rw", allowed_seconds=_CHEAP_SECONDS) as connection,
        explained(connection, "cannot remove tokens"),
    ):
        _prepare(connection)
        for (trigger,) in connection.execute(_TRIGGERS).fetchall():
            connection.execute(f"DROP TRIGGER {quote_identifier(trigger)}")
        for table, column in connection.execute(_SECRETS).fetchall():
            name = quote_identifier(column)
            connection.execute(
                f"UPDATE OR IGNORE {quote_identifier(table)} SET {name} = NULL "
                f"WHERE {name} IS NOT NULL"
            )


def number_rows(database: Path, *, named: Named) -> None:
    """Rebuild each table of ours that is WITHOUT ROWID, in the order of its primary key.

    Raises:
        SourceError: such a table cannot be read.
    """
    failed = f"cannot read {named}"
    with open_copy(database, mode="rw") as connection, explained(connection, failed):
        _prepare(connection)
        for table in TABLES:
            if not has_row_numbers(connection, table):
                _rebuild(connection, table)


def index_ids(database: Path, schema: SourceSchema) -> None:
    """Make an index of each history table whose `id` is not its key.

    Otherwise, SQLite would scan the table once for each partition. A file that is too damaged
    for an index is left as it is.
    """
    columns = schema.history_columns
    unkeyed = [table for table in HISTORY_TABLES if columns[table] and table not in schema.keyed]
    if not unkeyed:
        return
    with (
        suppress(SourceError),
        open_copy(database, mode="rw") as connection,
        explained(connection, "cannot index the copy"),
    ):
        _prepare(connection)
        for table in unkeyed:
            connection.execute(f"CREATE INDEX place_in_{table} ON {table} ({place_of('id')})")


def _prepare(connection: sqlite3.Connection) -> None:
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")


def _rebuild(connection: sqlite3.Connection, table: str) -> None:
    others = f"SELECT EXISTS (SELECT 1 FROM {table} WHERE typeof(id) <> 'integer')"
    keyed = is_id_key(connection, table) and not connection.execute(others).fetchone()[0]
    columns = {
        quote_identifier(name): "INTEGER PRIMARY KEY"
        if keyed and name.lower() == "id"
        else quote_identifier(kind)
        for name, kind in connection.execute(
            "SELECT name, type FROM pragma_table_info(?)", (table,)
        )
    }
    declared = ", ".join(f"{name} {kind}" for name, kind in columns.items())
    names = ", ".join(columns)
    connection.execute(f"CREATE TABLE numbered ({declared})")
    connection.execute(f"INSERT INTO numbered ({names}) SELECT {names} FROM {table}")
    connection.execute(f"DROP TABLE {table}")
    connection.execute(f"ALTER TABLE numbered RENAME TO {table}")
