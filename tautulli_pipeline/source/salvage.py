"""A sound copy of what can be read of a damaged database, and what it lacks.

A query that meets a damaged page fails as a whole. So rows are copied in portions, and a
portion that fails is halved down to the rows that cannot be read. Those that were there are
known from an index, or from the other history tables, whose rows have the same ids.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tautulli_pipeline.errors import ConfigurationError, SourceDamagedError
from tautulli_pipeline.events.columns import HISTORY, HISTORY_TABLES, METADATA
from tautulli_pipeline.events.identity import quote_identifier, quote_literal
from tautulli_pipeline.source.damage import BACKUP_HINT, Damage
from tautulli_pipeline.source.schema import LARGEST_ID, LOOKUPS, SMALLEST_ID, SourceSchema

_DAMAGE_CODES: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_TOOBIG)
_PORTION: Final = 1000
# Ids that nothing names are tried one by one, but not over deserts between two of them.
_MOST_UNNAMED: Final = 2_000_000


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


class _UnreadableError(Exception):
    """SQLite met a damaged page."""


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
    with _room_for(target), closing(_open(database, target)) as connection:
        tables = {
            name: _Table(connection, name, columns, keyed=name in schema.keyed)
            for name, columns in _wanted(schema).items()
        }
        found = {name: table.rescue(tables) for name, table in tables.items()}
        damages = {name: damage for name, damage in found.items() if damage}
        unreadable = _drop_unreadable(connection, damages)
        if HISTORY in damages and not unreadable and not tables[HISTORY].count():
            cause = damages[HISTORY].cause
            raise SourceDamagedError(
                f"nothing can be salvaged of {named}: {HISTORY} cannot be read: {cause}",
                hint=BACKUP_HINT,
            )
    return Salvage(tuple(damages.values()), unreadable)


def _open(database: Path, target: Path) -> sqlite3.Connection:
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


@dataclass
class _Table:
    """One table on its way into the copy."""

    connection: sqlite3.Connection
    name: str
    columns: Sequence[str]
    keyed: bool
    _lost: list[int] = field(default_factory=list)

    def rescue(self, tables: Mapping[str, _Table]) -> Damage | None:
        """Copy what can be read; gives what cannot."""
        self._create()
        stopped = self._copy_up_to_damage()
        if stopped is None:
            return None
        first, cause = stopped
        named, complete = self._named(tables)
        ids = self._ids_to_try(first, named, complete=complete)
        for start in range(0, len(ids), _PORTION):
            end = min(start + _PORTION, len(ids))
            low = ids[start] if start else first
            high = ids[end] - 1 if end < len(ids) else LARGEST_ID
            self._rescue(ids[start:end], low, high)
        lost = tuple(row_id for row_id in self._lost if row_id in named)
        return Damage(self.name, lost, tuple(self._spans(lost)), cause)

    def count(self) -> int:
        """Rows that were copied."""
        return int(self._one(f"SELECT count(*) FROM main.{self.name}") or 0)

    def _create(self) -> None:
        types = dict(
            self.connection.execute(
                "SELECT name, type FROM pragma_table_info(?, 'damaged')", (self.name,)
            ).fetchall()
        )
        columns = [
            f"{quote_identifier(name)} INTEGER PRIMARY KEY"
            if self.keyed and name.lower() == "id"
            else f"{quote_identifier(name)} {quote_identifier(types[name])}"
            for name in self.columns
        ]
        self.connection.execute(f"CREATE TABLE main.{self.name} ({', '.join(columns)})")
        for key in LOOKUPS.get(self.name, ())[:1]:
            if key in self.columns:
                self.connection.execute(f"CREATE INDEX main.by_{key} ON {self.name} ({key})")

    def _copy_up_to_damage(self) -> tuple[int, str] | None:
        """Copy in the order of the file; gives the id and the cause where that ends early."""
        first = SMALLEST_ID
        while True:
            try:
                with _noticing_damage():
                    following = self._id_after_portion(first)
                    self._copy(f"rowid >= ? ORDER BY rowid LIMIT {_PORTION}", first)
            except _UnreadableError as error:
                return first, str(error)
            if following is None:
                return None
            if following <= first:
                return first, "its rows are out of order"
            first = following

    def _id_after_portion(self, first: int) -> int | None:
        return self._one(
            f"SELECT rowid FROM damaged.{self.name} NOT INDEXED WHERE rowid >= ? "
            f"ORDER BY rowid LIMIT 1 OFFSET {_PORTION}",
            first,
        )

    def _copy(self, condition: str, *parameters: int) -> None:
        """Copy the rows that meet it, all or none."""
        names = [quote_identifier(name) for name in self.columns]
        # Where a rebuilt table has an id twice, its newest row counts.
        listed = ", ".join(names if self.keyed else ["rowid", *names])
        self.connection.execute(
            f"INSERT OR IGNORE INTO main.{self.name} ({listed}) "
            f"SELECT {listed} FROM damaged.{self.name} NOT INDEXED WHERE {condition}",
            parameters,
        )

    def _copies(self, low: int, high: int) -> bool:
        try:
            with _noticing_damage():
                if low == high:
                    # Where it is the last of its page, a range would go on to the next.
                    self._copy("rowid = ?", low)
                else:
                    self._copy("rowid BETWEEN ? AND ? ORDER BY rowid", low, high)
        except _UnreadableError:
            return False
        return True

    def _rescue(self, ids: Sequence[int], low: int, high: int) -> None:
        """Copy what can be read between `low` and `high`, where `ids` may be."""
        if low > high or self._copies(low, high) or not ids:
            return
        if len(ids) > 1:
            half = len(ids) // 2
            self._rescue(ids[:half], low, ids[half] - 1)
            self._rescue(ids[half:], ids[half], high)
        elif low == high:
            self._lost.append(ids[0])
        else:
            self._rescue((), low, ids[0] - 1)
            self._rescue(ids, ids[0], ids[0])
            self._rescue((), ids[0] + 1, high)

    def _spans(self, lost: Sequence[int]) -> Iterator[tuple[int, int]]:
        """First and last of `lost` rows between which there is no other row."""
        between = f"SELECT 1 FROM main.{self.name} WHERE rowid > ? AND rowid < ? LIMIT 1"
        start = 0
        for end in range(1, len(lost) + 1):
            if end == len(lost) or (
                lost[end] > lost[end - 1] + 1 and self._one(between, lost[end - 1], lost[end])
            ):
                yield lost[start], lost[end - 1]
                start = end

    def _named(self, tables: Mapping[str, _Table]) -> tuple[set[int], bool]:
        """Ids that rows of this table have or may have, and whether an index names them all."""
        is_history = self.name in HISTORY_TABLES
        if is_history and not self.keyed:
            return set(), False
        ids = self._ids_in_index()
        if ids is not None:
            return ids, True
        kin = [t for t in tables.values() if is_history and t.keyed and t.name in HISTORY_TABLES]
        return set().union(*(table.ids_seen() for table in kin)), False

    def ids_seen(self) -> set[int]:
        """Ids as an index has them, or as they are found from either end up to the damage."""
        return self._ids_in_index() or {*self._walk("ASC"), *self._walk("DESC")}

    def _ids_in_index(self) -> set[int] | None:
        """Every id of the table, from the first index that can be read to its end."""
        indexes = self.connection.execute(
            "SELECT name FROM pragma_index_list(?, 'damaged') WHERE NOT partial", (self.name,)
        ).fetchall()
        for (index,) in indexes:
            sql = f"SELECT rowid FROM damaged.{self.name} INDEXED BY {quote_identifier(index)}"
            with suppress(_UnreadableError), _noticing_damage():
                return {row_id for (row_id,) in self.connection.execute(sql)}
        return None

    def _walk(self, direction: str) -> Iterator[int]:
        sql = f"SELECT rowid FROM damaged.{self.name} NOT INDEXED ORDER BY rowid {direction}"
        with suppress(_UnreadableError), _noticing_damage():
            for (row_id,) in self.connection.execute(sql):
                yield row_id

    def _ids_to_try(self, first: int, named: set[int], *, complete: bool) -> Sequence[int]:
        """Ids from `first` on: those that are named or, without a complete index, any."""
        ends = {*named, *(i for i in map(self._end, ("min", "max")) if i is not None)}
        low = max(first, min(ends, default=1))
        high = max(ends, default=0)
        if complete or high - low > _MOST_UNNAMED:
            return sorted(i for i in ends if i >= low)
        return range(low, high + 1)

    def _end(self, which: str) -> int | None:
        with suppress(_UnreadableError), _noticing_damage():
            return self._one(f"SELECT {which}(rowid) FROM damaged.{self.name} NOT INDEXED")
        return None

    def _one(self, sql: str, *parameters: int) -> int | None:
        row = self.connection.execute(sql, parameters).fetchone()
        return None if row is None else row[0]


@contextmanager
def _noticing_damage() -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGE_CODES:
            raise _UnreadableError(str(error)) from error
        raise


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
