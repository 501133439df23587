"""A sound copy of what can be read of a damaged database, and what it lacks.

A query that meets a damaged page fails as a whole. So rows are copied in portions, and a
portion that fails is halved down to the rows that cannot be read. Those that were there are
known from an index, or from the other history tables, whose rows have the same ids.
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
from tautulli_pipeline.source.damage import BACKUP_HINT, Damage
from tautulli_pipeline.source.rescue import RescuedTable
from tautulli_pipeline.source.schema import LOOKUPS, SourceSchema


@dataclass(frozen=True)
class Salvage:
    """What came of a damaged database.

    Attributes:
        damages: what cannot be read, by table.
        unreadable: ids of the plays that are therefore not in the copy, ascending. A play
            whose media info alone is lost is there without it.
    """

    damages: tuple[Damage, ...]
    unreadable: tuple[int, ...]


NOTHING_LOST: Final = Salvage((), ())


def salvage(database: Path, schema: SourceSchema, target: Path, *, named: Path) -> Salvage:
    """Copy all that can be read of the private copy `database` into a new file `target`.

    The copy has the tables of `schema`, with those columns of the small tables that are read.

    Args:
        database: the private copy of the damaged file.
        schema: what it holds.
        target: where the new file is made.
        named: the path the user gave, for messages.

    Raises:
        SourceDamagedError: there is nothing to be had.
        ConfigurationError: there is no room for the copy.
    """
    with _room_for(target), closing(open_copy(database, target)) as connection:
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
                f"nothing can be salvaged of {named}: {HISTORY} cannot be read: {cause}",
                hint=BACKUP_HINT,
            )
    return Salvage(tuple(damages.values()), unreadable)


def open_copy(database: Path, target: Path) -> sqlite3.Connection:
    """Open the new file `target` with `database` attached as `damaged`."""
    uri = f"{target.absolute().as_uri()}?mode=rwc"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None)
    for pragma in ("journal_mode = MEMORY", "synchronous = OFF", "temp_store = MEMORY"):
        connection.execute(f"PRAGMA {pragma}")
    damaged = f"{database.absolute().as_uri()}?mode=ro"
    connection.execute(f"ATTACH {quote_literal(damaged)} AS damaged")
    return connection


def _wanted(schema: SourceSchema) -> dict[str, tuple[str, ...]]:
    """The columns to copy of each table."""
    wanted = {name: columns for name, columns in schema.history_columns.items() if columns}
    for name, needed in LOOKUPS.items():
        present = tuple(c for c in schema.tables.get(name, ()) if c.lower() in needed)
        if present:
            wanted[name] = present
    return wanted


def _drop_unreadable(
    connection: sqlite3.Connection, damages: Mapping[str, Damage]
) -> tuple[int, ...]:
    """Leave out plays whose metadata is lost: without it they would pass for untitled."""
    lost = set(damages[HISTORY].ids) if HISTORY in damages else set()
    for row_id in damages[METADATA].ids if METADATA in damages else ():
        done = connection.execute(f"DELETE FROM main.{HISTORY} WHERE id = ?", (row_id,))
        if done.rowcount:
            lost.add(row_id)
    return tuple(sorted(lost))


@contextmanager
def _room_for(target: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_FULL:
            raise
        raise ConfigurationError(
            f"cannot write what is salvaged to {target.parent}: {error}",
            hint="make room, or set PIPELINE_DATA_DIR to a larger disk",
        ) from error
