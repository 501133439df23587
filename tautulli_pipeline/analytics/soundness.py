"""Checks of the tables: their sums, their keys and their times."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import duckdb

from tautulli_pipeline.analytics.catalog import Table

_TIMES: Final = frozenset(
    {"seconds", "watched_seconds", "paused_seconds", "runtime_seconds", "hours"}
    | {"busiest_day_hours", "peak", "peak_concurrent", "mean_kbps", "peak_kbps"}
)


@dataclass(frozen=True)
class Problem:
    """What is wrong with a table.

    Attributes:
        words: a short sentence.
        is_recorded: whether Tautulli recorded it so, and the table only shows it.
    """

    words: str
    is_recorded: bool = False


def problems_of(connection: duckdb.DuckDBPyConnection, table: Table) -> Iterator[Problem]:
    """Yield what is wrong with a table of the open analytics; `connection` only reads."""

    def number(sql: str) -> int:
        return int(connection.execute(sql).fetchall()[0][0] or 0)

    key = ", ".join(f'"{column}"' for column in table.key)
    twice = number(
        f"SELECT count(*) FROM (SELECT 1 FROM {table.name} GROUP BY {key} HAVING count(*) > 1)"
    )
    if twice:
        yield Problem(f"{twice:,} keys occur more than once ({key})")
    if table.counted:
        counted = number(f"SELECT sum(plays) FROM {table.name}")
        expected = number(f"SELECT count(*) FROM plays WHERE {table.counted}")
        if counted != expected:
            yield Problem(f"it counts {counted:,} plays, and there are {expected:,}")
    for column in sorted(_TIMES.intersection(table.columns)):
        negative = number(f'SELECT count(*) FROM {table.name} WHERE "{column}" < 0')
        if negative:
            words = f"{negative:,} rows have a negative value in {column}"
            yield Problem(words, is_recorded=column == "seconds")
