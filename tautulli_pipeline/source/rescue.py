"""One table of a damaged database, copied as far as it can be read."""

from __future__ import annotations

import sqlite3
from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

from tautulli_pipeline.events.columns import HISTORY_TABLES
from tautulli_pipeline.events.identity import quote_identifier
from tautulli_pipeline.source.damage import Damage
from tautulli_pipeline.source.schema import LARGEST_ID, LOOKUPS, SMALLEST_ID

_DAMAGE_CODES: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_TOOBIG)
_SOUNDINGS: Final = 16


class _UnreadableError(Exception):
    """SQLite met a damaged page."""


@dataclass
class RescuedTable:
    """One table on its way into the copy.

    Attributes:
        portion: rows that are copied at once while the file is readable.
        searched_ids: the largest range of unnamed ids that is searched one by one; a wider
            one is given up if none of a few samples can be read.
    """

    connection: sqlite3.Connection
    name: str
    columns: Sequence[str]
    keyed: bool
    portion: int = 1000
    searched_ids: int = 4096
    cause: str = ""
    _dead: list[tuple[int, int]] = field(default_factory=list)
    _named: frozenset[int] | None = None

    def copy(self) -> None:
        """Copy what can be read, and note the ranges where nothing can."""
        self._create()
        stopped = self._copy_up_to_damage()
        if stopped is None:
            return
        first, self.cause = stopped
        self._named = self._ids_in_index() if self.names_plays or not self.is_history else None
        ids = sorted(row_id for row_id in self._named or () if row_id >= first)
        self._rescue((), first, ids[0] - 1 if ids else LARGEST_ID)
        for start in range(0, len(ids), self.portion):
            end = min(start + self.portion, len(ids))
            high = ids[end] - 1 if end < len(ids) else LARGEST_ID
            self._rescue(ids[start:end], ids[start], high)

    def damage(self, tables: Mapping[str, RescuedTable]) -> Damage:
        """What was not copied: the rows that are named by an index or by the other tables."""
        kin = [t for t in tables.values() if t.names_plays] if self.names_plays else []
        lost = sorted(
            self._ids_lost(self._named)
            if self._named is not None
            else set().union(*(self._ids_lost(table.ids()) for table in kin))
        )
        return Damage(self.name, tuple(lost), tuple(self._spans(lost)), self.cause)

    @property
    def is_history(self) -> bool:
        """Whether its rows belong to plays."""
        return self.name in HISTORY_TABLES

    @property
    def names_plays(self) -> bool:
        """Whether the ids of its rows are those of plays."""
        return self.is_history and self.keyed

    def ids(self) -> Collection[int]:
        """Every id it is known to have, copied or not."""
        copied = self.connection.execute(f"SELECT rowid FROM main.{self.name}")
        return self._named or [row_id for (row_id,) in copied]

    def _ids_lost(self, ids: Collection[int]) -> set[int]:
        """Those of `ids` that lie where nothing could be read."""
        starts = [low for low, _ in self._dead]
        ends = [high for _, high in self._dead]
        places = ((row_id, bisect_right(starts, row_id) - 1) for row_id in ids)
        return {row_id for row_id, place in places if place >= 0 and row_id <= ends[place]}

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
                    self._copy(f"rowid >= ? ORDER BY rowid LIMIT {self.portion}", first)
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
            f"ORDER BY rowid LIMIT 1 OFFSET {self.portion}",
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
        """Copy what can be read from `low` to `high`; the first of `ids` there is `low`."""
        if low > high or self._copies(low, high):
            return
        if len(ids) > 1:
            half = len(ids) // 2
            self._rescue(ids[:half], low, ids[half] - 1)
            self._rescue(ids[half:], ids[half], high)
        elif low == high:
            self._dead.append((low, high))
        elif ids:
            self._rescue(ids, low, low)
            self._rescue((), low + 1, high)
        elif self._named is None:
            self._search(low, high)

    def _search(self, low: int, high: int) -> None:
        """Copy what can be read where nothing names the rows, in a range that fails as a whole."""
        step = (high - low) // _SOUNDINGS
        sounded = (*range(low, high, step), high) if high - low > self.searched_ids else ()
        if sounded and not any(self._copies(row_id, row_id) for row_id in sounded):
            self._dead.append((low, high))
            return
        middle = (low + high) // 2
        self._rescue((), low, middle)
        self._rescue((), middle + 1, high)

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

    def _ids_in_index(self) -> frozenset[int] | None:
        """Every id of the table, from the first index that can be read to its end."""
        indexes = self.connection.execute(
            "SELECT name FROM pragma_index_list(?, 'damaged') WHERE NOT partial", (self.name,)
        ).fetchall()
        for (index,) in indexes:
            sql = f"SELECT rowid FROM damaged.{self.name} INDEXED BY {quote_identifier(index)}"
            with suppress(_UnreadableError), _noticing_damage():
                return frozenset(row_id for (row_id,) in self.connection.execute(sql))
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
