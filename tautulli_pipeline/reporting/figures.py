"""The figures of a report, by SQL on `analytics.duckdb`. Every result is small."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final

import duckdb

from tautulli_pipeline.events.identity import quote_literal
from tautulli_pipeline.reporting.access import open_to_read

_SHOWN: Final = 10


@dataclass(frozen=True)
class Scope:
    """The plays that a part of a report is about.

    Attributes:
        year: only plays that started in this local year.
        person: only plays of this person.
    """

    year: int | None = None
    person: str | None = None


@dataclass(frozen=True)
class Totals:
    """Sums over the plays of a scope; there is at least one play."""

    plays: int
    seconds: int
    people: int
    titles: int
    days: int
    first_day: date
    last_day: date


@dataclass(frozen=True)
class Rank:
    """A line of a list of the most watched."""

    name: str | None
    plays: int
    seconds: int


@dataclass(frozen=True)
class Binge:
    """The binge with the most episodes."""

    show: str | None
    person: str
    day: date
    episodes: int


@dataclass(frozen=True)
class Year:
    """A line of the list of years."""

    year: int
    plays: int
    seconds: int
    people: int
    title: str | None


@dataclass(frozen=True)
class Streams:
    """How the plays of a platform were streamed; the platform None is all of them."""

    platform: str | None
    direct_play: int
    direct_stream: int
    transcode: int

    @property
    def plays(self) -> int:
        """All of them."""
        return self.direct_play + self.direct_stream + self.transcode


@dataclass(frozen=True)
class Point:
    """A value at the start of a day, week, month or year; `kind` tells stacked values apart."""

    day: date
    kind: str
    value: float


_MOST_YEARS: Final = 50
_RANKED: Final = {
    "shows": ('"show"', "media = 'TV'"),
    "films": ("full_title || coalesce(' (' || year || ')', '')", "media = 'Movies'"),
    "artists": ("artist", "media = 'Music'"),
    "programmes": ('coalesce("show", full_title)', "media = 'Live TV'"),
    "people": ("person", "true"),
    "platforms": ("platform", "true"),
}
_MEASURES: Final = {"plays": "count(*)", "hours": "sum(watched_seconds) / 3600"}


@contextmanager
def open_figures(file: Path) -> Iterator[Figures]:
    """Open the analytics, read-only."""
    with open_to_read(file) as connection:
        yield Figures(connection)


class Figures:
    """Asks the open analytics."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def timezone(self) -> str:
        """Return the time zone of all days and hours."""
        return str(self._rows("SELECT timezone FROM about")[0][0])

    def years(self, person: str | None) -> list[int]:
        """Return the years with plays, in order."""
        where = _where(Scope(None, person))
        return [
            year
            for (year,) in self._rows(
                f'SELECT DISTINCT year("day") FROM plays WHERE {where} ORDER BY 1'
            )
        ]

    def people(self, name: str) -> list[str]:
        """Return the person with this name, or else those with it in another case.

        If nobody is shown by this name, return those who log in with it.
        """
        for condition in (
            "person = $name",
            "lower(trim($name)) IN (lower(person), lower(trim(user_name)))",
            "(server_id, user_id) IN (SELECT (server_id, user_id) FROM top_users "
            "WHERE lower(username) = lower(trim($name)))",
        ):
            sql = f"SELECT DISTINCT person FROM plays WHERE {condition} ORDER BY person"
            if found := self._rows(sql, name=name):
                return [person for (person,) in found]
        return []

    def all_people(self) -> list[str]:
        """Return everybody with plays, the most active first."""
        return [
            person
            for (person,) in self._rows(
                "SELECT person FROM plays GROUP BY person ORDER BY count(*) DESC, person"
            )
        ]

    def totals(self, scope: Scope) -> Totals:
        """Return the sums over the plays of a scope."""
        return Totals(
            *self._rows(f"""
                SELECT count(*), sum(watched_seconds)::BIGINT, count(DISTINCT person),
                    count(DISTINCT item_id), count(DISTINCT "day"), min("day"), max("day")
                FROM plays WHERE {_where(scope)}
            """)[0]
        )

    def busiest_day(self, scope: Scope) -> tuple[date, int] | None:
        """Return the day with the most watched time, and its seconds; None if several have it."""
        (day, seconds), *others = self._rows(f"""
            SELECT "day", sum(watched_seconds)::BIGINT AS seconds FROM plays
            WHERE {_where(scope)} GROUP BY "day" ORDER BY seconds DESC, "day" LIMIT 2
        """)
        return None if others and others[0][1] == seconds else (day, seconds)

    def longest_binge(self, scope: Scope) -> Binge | None:
        """Return the binge with the most episodes, if there is any."""
        found = self._rows(f"""
            SELECT "show", person, started_at::DATE, episodes FROM binges
            WHERE {_where(scope, "started_at")}
            ORDER BY episodes DESC, watched_seconds DESC, started_at LIMIT 1
        """)
        return Binge(*found[0]) if found else None

    def ranks(self, what: str, scope: Scope, limit: int = _SHOWN) -> list[Rank]:
        """Return the most watched of what `_RANKED` knows, such as `shows`."""
        name, condition = _RANKED[what]
        return [
            Rank(*row)
            for row in self._rows(f"""
                SELECT {name} AS name, count(*) AS plays,
                    sum(watched_seconds)::BIGINT AS seconds
                FROM plays WHERE {condition} AND {_where(scope)}
                GROUP BY name ORDER BY seconds DESC, plays DESC, name LIMIT {limit:d}
            """)
        ]

    def by_year(self, scope: Scope) -> list[Year]:
        """Return each year with plays, and what was watched the longest in it."""
        return [
            Year(*row)
            for row in self._rows(f"""
                WITH chosen AS (
                    SELECT year("day") AS "year", person, watched_seconds,
                        coalesce("show", artist, full_title) AS title
                    FROM plays WHERE {_where(scope)}
                ),
                titles AS (
                    SELECT "year", title, sum(watched_seconds) AS seconds, count(*) AS plays
                    FROM chosen GROUP BY ALL
                ),
                favourites AS (
                    SELECT "year", arg_max(title, (seconds, plays, title)) AS title
                    FROM titles GROUP BY ALL
                )
                SELECT "year", count(*), sum(watched_seconds)::BIGINT, count(DISTINCT person),
                    any_value(favourites.title)
                FROM chosen JOIN favourites USING ("year")
                GROUP BY "year" ORDER BY "year" DESC
            """)
        ]

    def over_time(self, scope: Scope, unit: str, measure: str) -> list[Point]:
        """Return `plays` or `hours` by media and `day`, `week`, `month` or `year`."""
        return self._points(f"""
            SELECT date_trunc('{unit}', "day")::DATE, media, {_MEASURES[measure]}::DOUBLE
            FROM plays WHERE {_where(scope)} GROUP BY ALL ORDER BY ALL
        """)

    def heatmap(self, scope: Scope) -> list[tuple[int, int, int]]:
        """Return weekday, hour and number of plays that start then."""
        return self._rows(f"""
            SELECT weekday, "hour", count(*) FROM plays
            WHERE {_where(scope)} GROUP BY ALL ORDER BY count(*) DESC, weekday, "hour"
        """)

    def streams(self, scope: Scope, limit: int = 6) -> list[Streams]:
        """Return how all plays were streamed, and those of the platforms with the most plays."""
        kinds = ", ".join(
            f"count(*) FILTER (stream_type = '{kind}')"
            for kind in ("Direct Play", "Direct Stream", "Transcode")
        )
        return [
            Streams(platform, *counts)
            for platform, _is_all, *counts in self._rows(f"""
                SELECT coalesce(platform, 'unknown') AS name, grouping(name) AS is_all, {kinds}
                FROM plays WHERE stream_type IS NOT NULL AND {_where(scope)}
                GROUP BY ROLLUP (name)
                ORDER BY is_all DESC, count(*) DESC, name LIMIT {limit + 1:d}
            """)
        ]

    def transcode_reasons(self, scope: Scope) -> dict[str, int]:
        """Return how many transcoded plays had their video, audio, ... changed."""
        columns = ("video_changed", "audio_changed", "subtitle_changed", "container_changed")
        counts = ", ".join(f"count(*) FILTER ({column})" for column in columns)
        found = self._rows(
            f"SELECT {counts} FROM plays WHERE stream_type = 'Transcode' AND {_where(scope)}"
        )
        return dict(zip(columns, found[0], strict=True))

    def conversions(self, scope: Scope, limit: int = 6) -> list[tuple[str, str, int]]:
        """Return resolutions of files, what they were converted to, and the number of plays."""
        return self._rows(f"""
            SELECT source_resolution, stream_resolution, count(*) FROM plays
            WHERE video_changed AND source_resolution <> stream_resolution
                AND stream_resolution <> 'unknown' AND {_where(scope)}
            GROUP BY ALL ORDER BY count(*) DESC, 1, 2 LIMIT {limit:d}
        """)

    def peaks(self, year: int | None, unit: str) -> list[Point]:
        """Return the most streams at the same time, by day, week, month or year."""
        return self._points(f"""
            SELECT date_trunc('{unit}', "day")::DATE, 'All', max(peak_concurrent)::DOUBLE
            FROM streams_by_day WHERE stream_type = 'All' AND {_where(Scope(year))}
            GROUP BY ALL ORDER BY ALL
        """)

    def day_of_peak(self, year: int | None) -> date:
        """Return the last day with the most streams at the same time."""
        day: date = self._rows(f"""
            SELECT "day" FROM streams_by_day WHERE stream_type = 'All' AND {_where(Scope(year))}
            ORDER BY peak_concurrent DESC, "day" DESC LIMIT 1
        """)[0][0]
        return day

    def bandwidth(self, year: int | None, unit: str) -> list[Point]:
        """Return the highest bandwidth of all streams together, in Mbit/s."""
        return self._points(f"""
            SELECT date_trunc('{unit}', "day")::DATE, 'All', max(peak_kbps) / 1000
            FROM bandwidth_by_hour WHERE {_where(Scope(year))} GROUP BY ALL ORDER BY ALL
        """)

    def _points(self, sql: str) -> list[Point]:
        points = [Point(*row) for row in self._rows(sql)]
        # A clock that was wrong once must not stretch a chart over centuries.
        newest = max((point.day.year for point in points), default=0)
        return [point for point in points if point.day.year > newest - _MOST_YEARS]

    def _rows(self, sql: str, **parameters: object) -> list[Any]:
        return self._connection.execute(sql, parameters).fetchall()


def _where(scope: Scope, moment: str = "day") -> str:
    """Return the condition for the rows of a scope."""
    conditions = ["true"]
    if scope.year is not None:
        conditions.append(f'year("{moment}") = {scope.year:d}')
    if scope.person is not None:
        conditions.append(f"person = {quote_literal(scope.person)}")
    return " AND ".join(conditions)
