"""Copies the readable rows of one table of a damaged database."""

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
from tautulli_pipeline.source.queries import DAMAGE_CODES, primary_code
from tautulli_pipeline.source.schema import LARGEST_ID, LOOKUPS, SMALLEST_ID

_SAMPLES: Final = 16


class _UnreadableError(Exception):
    """SQLite found a damaged page."""


@dataclass
class RescuedTable:
    """A table of a damaged database that is being copied.

    Attributes:
        portion: rows copied at once while the file is readable.
        searched_ids: the largest range of unknown ids that is searched one by one. A wider
            range is skipped if none of a few samples is readable.
    """

    connection: sqlite3.Connection
    name: str
    columns: Sequence[str]
    keyed: bool
    portion: int = 1000
    searched_ids: int = 4096
    cause: str = ""
    _unreadable_ranges: list[tuple[int, int]] = field(default_factory=list)
    _named: frozenset[int] | None = None

    def copy(self) -> None:
        """Copy the readable rows and record the unreadable ranges."""
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
        """Return the rows not copied, as known from an index or from the other tables."""
        related = [t for t in tables.values() if t.names_plays] if self.names_plays else []
        lost = sorted(
            self._unreadable_ids(self._named)
            if self._named is not None
            else set().union(*(self._unreadable_ids(table.ids()) for table in related))
        )
        return Damage(self.name, tuple(lost), tuple(self._spans(lost)), self.cause)

    @property
    def is_history(self) -> bool:
        """Whether its rows belong to plays."""
        return self.name in HISTORY_TABLES

    @property
    def names_plays(self) -> bool:
        """Whether the ids of its rows are ids of plays."""
        return self.is_history and self.keyed

    def ids(self) -> Collection[int]:
        """Return every known id of the table, copied or not."""
        copied = self.connection.execute(f"SELECT rowid FROM main.{self.name}")
        return self._named or [row_id for (row_id,) in copied]

    def _unreadable_ids(self, ids: Collection[int]) -> set[int]:
        """Return the `ids` that are in unreadable ranges."""
        starts = [low for low, _ in self._unreadable_ranges]
        ends = [high for _, high in self._unreadable_ranges]
        places = ((row_id, bisect_right(starts, row_id) - 1) for row_id in ids)
        return {row_id for row_id, place in places if place >= 0 and row_id <= ends[place]}

    def count(self) -> int:
        """Return the number of copied rows."""
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
        """Copy rows in file order; if that fails, return the first missing id and the cause."""
        first = SMALLEST_ID
        while True:
            try:
                with _detecting_damage():
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
        """Copy the rows that match `condition`: all or none."""
        names = [quote_identifier(name) for name in self.columns]
        # If a rebuilt table has an id twice, the newest row wins.
        listed = ", ".join(names if self.keyed else ["rowid", *names])
        self.connection.execute(
            f"INSERT OR IGNORE INTO main.{self.name} ({listed}) "
            f"SELECT {listed} FROM damaged.{self.name} NOT INDEXED WHERE {condition}",
            parameters,
        )

    def _try_copy(self, low: int, high: int) -> bool:
        try:
            with _detecting_damage():
                if low == high:
                    # A range would continue to the next page after the last row of a page.
                    self._copy("rowid = ?", low)
                else:
                    self._copy("rowid BETWEEN ? AND ? ORDER BY rowid", low, high)
        except _UnreadableError:
            return False
        return True

    def _rescue(self, ids: Sequence[int], low: int, high: int) -> None:
        """Copy the readable rows from `low` to `high`; `ids`, if any, starts with `low`."""
        if low > high or self._try_copy(low, high):
            return
        if len(ids) > 1:
            half = len(ids) // 2
            self._rescue(ids[:half], low, ids[half] - 1)
            self._rescue(ids[half:], ids[half], high)
        elif low == high:
            self._unreadable_ranges.append((low, high))
        elif ids:
            self._rescue(ids, low, low)
            self._rescue((), low + 1, high)
        elif self._named is None:
            self._search(low, high)

    def _search(self, low: int, high: int) -> None:
        """Copy the readable rows of a range that failed as a whole and whose ids are unknown."""
        step = (high - low) // _SAMPLES
        sampled = (*range(low, high, step), high) if high - low > self.searched_ids else ()
        if sampled and not any(self._try_copy(row_id, row_id) for row_id in sampled):
            self._unreadable_ranges.append((low, high))
            return
        middle = (low + high) // 2
        self._rescue((), low, middle)
        self._rescue((), middle + 1, high)

    def _spans(self, lost: Sequence[int]) -> Iterator[tuple[int, int]]:
        """Yield ranges of `lost` ids that have no other row between them."""
        between = f"SELECT 1 FROM main.{self.name} WHERE rowid > ? AND rowid < ? LIMIT 1"
        start = 0
        for end in range(1, len(lost) + 1):
            if end == len(lost) or (
                lost[end] > lost[end - 1] + 1 and self._one(between, lost[end - 1], lost[end])
            ):
                yield lost[start], lost[end - 1]
                start = end

    def _ids_in_index(self) -> frozenset[int] | None:
        """Return all ids of the table, from the first index that is fully readable."""
        indexes = self.connection.execute(
            "SELECT name FROM pragma_index_list(?, 'damaged') WHERE NOT partial", (self.name,)
        ).fetchall()
        for (index,) in indexes:
            sql = f"SELECT rowid FROM damaged.{self.name} INDEXED BY {quote_identifier(index)}"
            with suppress(_UnreadableError), _detecting_damage():
                return frozenset(row_id for (row_id,) in self.connection.execute(sql))
        return None

    def _one(self, sql: str, *parameters: int) -> int | None:
        row = self.connection.execute(sql, parameters).fetchone()
        return None if row is None else row[0]


@contextmanager
def _detecting_damage() -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        if primary_code(error) in DAMAGE_CODES:
            raise _UnreadableError(str(error)) from error
        raise
