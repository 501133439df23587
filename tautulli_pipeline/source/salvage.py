"""Copies the readable rows of a damaged database and reports what is missing.

A query that reads a damaged page fails as a whole. Rows are therefore copied in portions,
and a portion that fails is halved until only unreadable rows are left. Their ids are known
from an index, or from the other history tables, whose rows have the same ids.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tautulli_pipeline.errors import ConfigurationError, SourceDamagedError
from tautulli_pipeline.events.columns import HISTORY, METADATA
from tautulli_pipeline.events.identity import quote_literal
from tautulli_pipeline.source.address import Named
from tautulli_pipeline.source.damage import BACKUP_HINT, Damage
from tautulli_pipeline.source.queries import (
    CopyConnection,
    connect,
    explained,
    primary_code,
)
from tautulli_pipeline.source.rescue import RescuedTable
from tautulli_pipeline.source.schema import LOOKUPS, SourceSchema


@dataclass(frozen=True)
class Salvage:
    """The rows missing from the copy of a damaged database.

    Attributes:
        damages: the unreadable rows, by table.
        unreadable: ids of the plays that are missing from the copy, ascending. A play that
            has lost only its media info is not missing.
    """

    damages: tuple[Damage, ...]
    unreadable: tuple[int, ...]


NOTHING_LOST: Final = Salvage((), ())


def salvage(database: Path, schema: SourceSchema, target: Path, *, named: Named) -> Salvage:
    """Copy everything readable from the private copy `database` to a new file `target`.

    The copy has the tables of `schema`. Of the small tables it has only the columns in use.
    Messages name `named`, the user's path.

    Raises:
        SourceDamagedError: nothing is readable.
        ConfigurationError: there is not enough space for the copy.
    """
    with (
        closing(open_target(database, target)) as connection,
        explained(connection, f"cannot salvage {named}"),
        _reporting_full_disk(target),
    ):
        damaged = f"{database.absolute().as_uri()}?mode=ro"
        connection.execute(f"ATTACH {quote_literal(damaged)} AS damaged")
        tables = {
            name: RescuedTable(connection, name, columns, keyed=name in schema.keyed)
            for name, columns in _wanted(schema).items()
        }
        for table in tables.values():
            table.copy()
        damages = {name: t.damage(tables) for name, t in tables.items() if t.cause}
        unreadable = _drop_unreadable(connection, damages)
        if HISTORY in damages and not unreadable and not tables[HISTORY].count():
            cause = damages[HISTORY].cause
            raise SourceDamagedError(
                f"cannot salvage {named}: no row of {HISTORY} is readable: {cause}",
                hint=BACKUP_HINT,
            )
    return Salvage(tuple(damages.values()), unreadable)


def open_target(database: Path, target: Path) -> CopyConnection:
    """Open the new file `target` for what is readable in `database`."""
    connection = connect(f"{target.absolute().as_uri()}?mode=rwc")
    connection.limit(database.stat().st_size)
    for pragma in ("journal_mode = MEMORY", "synchronous = OFF", "temp_store = MEMORY"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def _wanted(schema: SourceSchema) -> dict[str, tuple[str, ...]]:
    """Return the columns to copy, by table."""
    wanted = {name: columns for name, columns in schema.history_columns.items() if columns}
    for name, needed in LOOKUPS.items():
        present = tuple(c for c in schema.tables.get(name, ()) if c.lower() in needed)
        if present:
            wanted[name] = present
    return wanted


def _drop_unreadable(
    connection: sqlite3.Connection, damages: Mapping[str, Damage]
) -> tuple[int, ...]:
    """Delete plays whose metadata is lost: they would look like plays without a title."""
    lost = set(damages[HISTORY].ids) if HISTORY in damages else set()
    for row_id in damages[METADATA].ids if METADATA in damages else ():
        done = connection.execute(f"DELETE FROM main.{HISTORY} WHERE id = ?", (row_id,))
        if done.rowcount:
            lost.add(row_id)
    return tuple(sorted(lost))


@contextmanager
def _reporting_full_disk(target: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        if primary_code(error) != sqlite3.SQLITE_FULL:
            raise
        raise ConfigurationError(
            f"cannot write the salvaged copy to {target.parent}: {error}",
            hint="free up space, or set PIPELINE_DATA_DIR to a folder on a larger disk",
        ) from error
