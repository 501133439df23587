"""Which plays would be new: their keys against the present table and among themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa

from tautulli_pipeline.errors import WarehouseError
from tautulli_pipeline.events.identity import quote_literal
from tautulli_pipeline.warehouse.schema import explained

# The keys of layer 3, in the order in which they are tried.
KEYS: Final = ("event_id", "correlation_key", "rating_key_user_started")

_ROWS_AT_A_TIME: Final = 10_000

_CANDIDATES: Final = """
    CREATE TABLE candidates (
        position BIGINT, event_id UUID, correlation_key VARCHAR, rating_key_user_started VARCHAR
    )
"""
_PLAY: Final = "concat_ws('|', user_id, epoch(started_at)::BIGINT, rating_key)"
_ADD: Final = f"""
    INSERT INTO candidates
    SELECT position, event_id::UUID, correlation_key,
        CASE WHEN rating_key IS NOT NULL THEN {_PLAY} END
    FROM rows WHERE reason IS NULL
"""
# Rows that a person restored stand outside the two indexes.
_STORED: Final = f"""
    SELECT id AS event_id,
        CASE WHEN restored_at IS NULL THEN correlation_key END AS correlation_key,
        CASE WHEN restored_at IS NULL AND rating_key IS NOT NULL THEN {_PLAY} END
            AS rating_key_user_started
    FROM warehouse.playback_events
"""
# By key: the candidates that the table has, and the first of those that share it.
_KNOWN: Final = (
    "CREATE TABLE known_{0} AS SELECT position FROM candidates SEMI JOIN ({1}) USING ({0})"
)
_SHARED: Final = """
    CREATE TABLE shared_{0} AS
    SELECT {0}, min(position) AS first FROM candidates
    WHERE {0} IS NOT NULL GROUP BY {0} HAVING count(*) > 1
"""


@dataclass(frozen=True)
class Comparison:
    """What the present table was compared with, or why it was not."""

    path: Path
    compared: bool
    reason: str

    def facts(self) -> dict[str, Any]:
        """As JSON gives it."""
        return {"path": str(self.path), "compared": self.compared, "reason": self.reason}


@dataclass(frozen=True)
class Outcome:
    """How many plays are new and how many repeat an earlier one, by the first key that says so."""

    new: int
    duplicates: dict[str, int]


class Candidates:
    """The keys of the plays that could be imported, in the order an import takes them."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._count = 0
        connection.execute(_CANDIDATES)

    def add(self, rows: pa.Table) -> None:
        """Take in mapped rows; those with a `reason` are no candidates."""
        positions = pa.array(range(self._count, self._count + rows.num_rows), pa.int64())
        self._count += rows.num_rows
        self._connection.register("rows", rows.append_column("position", positions))
        self._connection.execute(_ADD)
        self._connection.unregister("rows")

    def compare(self, warehouse: Path) -> Comparison:
        """Look for the keys in the table at `warehouse`, which is only read and soon let go."""
        nothing = "SELECT * EXCLUDE (position) FROM candidates LIMIT 0"
        if not warehouse.exists():
            self._look_up(nothing)
            return Comparison(warehouse, True, "there is no table yet")
        try:
            with explained(warehouse, "read"):
                self._connection.execute(
                    f"ATTACH {quote_literal(str(warehouse))} AS warehouse (READ_ONLY)"
                )
        except WarehouseError as error:
            self._look_up(nothing)
            return Comparison(warehouse, False, error.message)
        try:
            self._look_up(_STORED)
        except (duckdb.CatalogException, duckdb.BinderException):
            self._look_up(nothing)
            return Comparison(warehouse, False, f"{warehouse} has no table playback_events")
        finally:
            self._connection.execute("DETACH warehouse")
        return Comparison(warehouse, True, "")

    def _look_up(self, stored: str) -> None:
        for key in KEYS:
            self._connection.execute(_KNOWN.format(key, stored))

    def judge(self) -> Outcome:
        """Decide each play as if those before it were stored already."""
        for key in KEYS:
            self._connection.execute(_SHARED.format(key))
        counts = dict.fromkeys(("new", *KEYS), 0)
        for verdict, plays in self._alone():
            counts[verdict] += plays
        for verdict, plays in self._in_company().items():
            counts[verdict] += plays
        return Outcome(counts.pop("new"), counts)

    def _alone(self) -> list[tuple[str, int]]:
        """Verdicts on the plays that share no key with another one, counted."""
        cases = " ".join(f"WHEN known_{key} THEN '{key}'" for key in KEYS)
        alone = " AND ".join(f"first_{key} IS NULL" for key in KEYS)
        return self._connection.execute(
            f"SELECT CASE {cases} ELSE 'new' END AS verdict, count(*) "
            f"FROM ({self._evidence()}) WHERE {alone} GROUP BY verdict"
        ).fetchall()

    def _in_company(self) -> Counter[str]:
        """Verdicts on the others, counted; of plays with one key, the first that is new counts."""
        shared = " OR ".join(f"first_{key} IS NOT NULL" for key in KEYS)
        rows = self._connection.execute(
            f"SELECT * EXCLUDE (position) FROM ({self._evidence()}) "
            f"WHERE {shared} ORDER BY position"
        )
        stored = [bytearray(self._count) for _ in KEYS]
        counts: Counter[str] = Counter()
        while chunk := rows.fetchmany(_ROWS_AT_A_TIME):
            for evidence in chunk:
                counts[_verdict(evidence[: len(KEYS)], evidence[len(KEYS) :], stored)] += 1
        return counts

    def _evidence(self) -> str:
        """By position, for each key: whether the table has it, and which plays share it."""
        known = ", ".join(f"known_{key}.position IS NOT NULL AS known_{key}" for key in KEYS)
        first = ", ".join(f"shared_{key}.first AS first_{key}" for key in KEYS)
        joins = " ".join(
            f"LEFT JOIN known_{key} ON known_{key}.position = candidates.position "
            f"LEFT JOIN shared_{key} USING ({key})"
            for key in KEYS
        )
        return f"SELECT candidates.position, {known}, {first} FROM candidates {joins}"


def _verdict(
    known: Sequence[bool], shared: Sequence[int | None], stored: Sequence[bytearray]
) -> str:
    """`new` or the first key by which a play is there already; notes the keys of a new one."""
    for key, in_table, first, taken in zip(KEYS, known, shared, stored, strict=True):
        if in_table or (first is not None and taken[first]):
            return key
    for first, taken in zip(shared, stored, strict=True):
        if first is not None:
            taken[first] = True
    return "new"
