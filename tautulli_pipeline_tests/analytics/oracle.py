"""What Tautulli's graphs and home statistics say of a database, computed from its raw rows.

It follows Tautulli's queries, and shares no code with the pipeline: Python over the rows of SQLite.
Only plays that have metadata and a stop count, as in Tautulli. Figures with grouping are those of
sound groups: plays of one user and one item.
"""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from datetime import datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from pathlib import Path

Row = dict[str, Any]
# By the values of the columns: plays, watches and seconds.
Sums = dict[tuple[Any, ...], tuple[int, int, int]]

_MEDIA = {"episode": "TV", "movie": "Movies", "track": "Music"}
_STREAMS = {"direct play": "Direct Play", "copy": "Direct Stream", "transcode": "Transcode"}
_PLATFORMS = {
    "Konvergo": "Plex Media Player",
    "Mystery 3": "Playstation 3",
    "Mystery 4": "Playstation 4",
    "Mystery 5": "Xbox 360",
    "WebMAF": "Playstation 4",
    "windows": "Windows",
    "osx": "macOS",
    "macos": "macOS",
}
_HEIGHTS = {360: "SD", 480: "480", 576: "576", 720: "720", 1080: "1080", 1440: "QHD", 2160: "4k"}
_TABLES = ("session_history_media_info", "session_history_metadata", "session_history")


class Oracle:
    """Tautulli's figures of a database in a time zone."""

    def __init__(self, database: Path, timezone: str) -> None:
        with closing(sqlite3.connect(database)) as connection:
            connection.row_factory = sqlite3.Row
            rows = _grouped(sorted(_joined(connection), key=lambda row: row["id"]))
            self._rows = [_play(row, ZoneInfo(timezone)) for row in rows]
            self._users = _user_names(connection)

    def by_media(self, column: str) -> Sums:
        """Return the points of a graph by media; `column` is one of the keys of a play."""
        return _sums((row for row in self._rows if row["media"]), column, "media")

    def by_stream_type(self, column: str) -> Sums:
        """Return the points of a graph by stream type."""
        rows = (row for row in self._rows if row["stream_type"])
        if column.endswith("resolution"):
            rows = (row for row in rows if row["media_type"] in {"movie", "episode"})
        return _sums(rows, column, "stream_type")

    def user_names(self) -> dict[int, str]:
        """Return the shown name of each user who is in the table of users."""
        return self._users

    def top(self, kind: str) -> Sums:
        """Return a home statistic: `movies`, `shows`, `artists`, `users` or `platforms`."""
        media_type, columns = {
            "movies": ("movie", ("full_title", "year")),
            "shows": ("episode", ("grandparent_title",)),
            "artists": ("track", ("artist",)),
            "users": (None, ("user_id",)),
            "platforms": (None, ("platform",)),
            "libraries": (None, ("section_id",)),
        }[kind]
        rows = (row for row in self._rows if media_type in {None, row["media_type"]})
        return _sums(rows, *columns)

    def daily_peaks(self) -> dict[tuple[str, str], int]:
        """Return the most streams at once, by day of the start and stream type (or All)."""
        days: dict[tuple[str, str], list[Row]] = defaultdict(list)
        for row in self._rows:
            if row["has_media_info"]:
                days[row["day"], "All"].append(row)
                if row["stream_type"]:
                    days[row["day"], row["stream_type"]].append(row)
        return {key: _peak(rows)[0] for key, rows in days.items()}

    def peaks(self) -> dict[str, tuple[int, int, int]]:
        """Return the most streams at once, and from when to when, by stream type (or All)."""
        kinds: dict[str, list[Row]] = defaultdict(list)
        for row in self._rows:
            if row["has_media_info"]:
                kinds["All"].append(row)
                if row["stream_type"]:
                    kinds[row["stream_type"]].append(row)
        return {kind: _peak(rows) for kind, rows in kinds.items()}

    def recently_watched(self) -> set[int]:
        """Return the row ids of films and episodes that were watched to 85 %."""
        return {
            row["id"]
            for row in self._rows
            if row["media_type"] in {"movie", "episode"}
            and (row["view_offset"] or 0.1) / (row["duration"] or 1) * 100 >= 85
        }


def _joined(connection: sqlite3.Connection) -> Iterator[Row]:
    tables = {
        table: {row["id"]: dict(row) for row in connection.execute(f"SELECT * FROM {table}")}
        for table in _TABLES
    }
    for play_id, history in tables["session_history"].items():
        metadata = tables["session_history_metadata"].get(play_id)
        media_info = tables["session_history_media_info"].get(play_id)
        if metadata and history["stopped"]:
            yield {
                **(media_info or {}),
                **metadata,
                **history,
                "has_media_info": media_info is not None,
                "duration": metadata["duration"],
                "section_id": history.get("section_id") or metadata.get("section_id"),
            }


def _grouped(rows: Iterable[Row]) -> Iterator[Row]:
    """Number groups; without numbers, as Tautulli's upgrade from before v1.2.0 does."""
    last: dict[Any, Row] = {}
    for row in rows:
        group = row.get("reference_id") or row["id"]
        before = last.get(row["user_id"])
        if not row.get("reference_id") and before and before["rating_key"] == row["rating_key"]:
            group = before["group"]
        last[row["user_id"]] = row | {"group": group}
        yield last[row["user_id"]]


def _user_names(connection: sqlite3.Connection) -> dict[int, str]:
    return {
        user_id: friendly if (friendly or "").strip() else username
        for user_id, username, friendly in connection.execute(
            "SELECT user_id, username, friendly_name FROM users"
        )
    }


def _play(row: Row, zone: ZoneInfo) -> Row:
    started = datetime.fromtimestamp(row["started"], zone)
    return row | {
        "day": f"{started:%Y-%m-%d}",
        "month": f"{started:%Y-%m-01}",
        "hour": started.hour,
        "weekday": int(f"{started:%w}"),
        "media": "Live TV" if row.get("live") else _MEDIA.get(row["media_type"]),
        "stream_type": _STREAMS.get(_decision(row)),
        "platform": _PLATFORMS.get(row["platform"], row["platform"]) or None,
        "artist": row.get("original_title") or row["grandparent_title"] or None,
        "grandparent_title": row["grandparent_title"] or None,
        "full_title": row["full_title"] or None,
        "year": row["year"] or None,
        "section_id": row["section_id"] or None,
        "seconds": row["stopped"] - row["started"] - (row["paused_counter"] or 0),
        "source_resolution": _full_resolution(row, ""),
        "stream_resolution": _full_resolution(row, "stream_") or _converted(row),
    }


def _decision(row: Row) -> Any:
    """Return the decision, or what Tautulli's upgrade from before v1.3.10 puts there."""
    if row.get("transcode_decision"):
        return row["transcode_decision"]
    both = {row.get("video_decision"), row.get("audio_decision")} - {None, ""}
    return next((one for one in ("transcode", "copy") if one in both), "direct play" if both else 0)


def _full_resolution(row: Row, prefix: str) -> str | None:
    """Return the full resolution, or what Tautulli's upgrade from before v2.1.36 puts there."""
    if row.get(f"{prefix}video_full_resolution"):
        return str(row[f"{prefix}video_full_resolution"])
    plain = row.get(f"{prefix}video_resolution")
    if not plain:
        return None
    return {"sd": "SD", "SD": "SD", "4k": "4k"}.get(plain, f"{plain}p")


def _converted(row: Row) -> str | None:
    if row.get("video_decision") != "transcode":
        return _full_resolution(row, "")
    height = row.get("transcode_height")
    if not isinstance(height, int):
        return "unknown"
    return next((name for most, name in _HEIGHTS.items() if height <= most), "unknown")


def _sums(rows: Iterable[Row], *columns: str) -> Sums:
    plays: Counter[Any] = Counter()
    seconds: Counter[Any] = Counter()
    groups: dict[Any, set[Any]] = defaultdict(set)
    for row in rows:
        key = tuple(row[column] for column in columns)
        plays[key] += 1
        seconds[key] += row["seconds"]
        groups[key].add(row["group"])
    return {key: (plays[key], len(groups[key]), seconds[key]) for key in plays}


def _peak(rows: Iterable[Row]) -> tuple[int, int, int]:
    """Count up at each start and down at each stop; in one second, stops come first."""
    times = [(row[name], name == "started") for row in rows for name in ("stopped", "started")]
    running = most = last_start = 0
    found = (0, 0, 0)
    for moment, is_start in sorted(times):
        if is_start:
            running += 1
            if running >= most:
                last_start = moment
        else:
            if running >= most:
                most = running
                found = (running, last_start, moment)
            running -= 1
    return found


Query = Callable[[str], list[tuple[Any, ...]]]


def compare(oracle: Oracle, query: Query, zone: str) -> Iterator[tuple[Any, ...]]:
    """Yield each figure that differs: what it is of, Tautulli's and ours.

    `query` runs SQL on the analytics of the same database. All plays of it must have a stop and
    media info: without, Tautulli leaves them out, or counts them in peaks alone.
    """
    yield from _graphs(oracle, query)
    yield from _home_statistics(oracle, query)
    names = dict(query("SELECT DISTINCT user_id, user_name FROM plays"))
    known = {one: name for one, name in oracle.user_names().items() if one in names}
    yield from _differing("names", known, {one: names[one] for one in known})
    daily = query("SELECT day::VARCHAR, stream_type, peak_concurrent FROM streams_by_day")
    yield from _differing("daily peaks", oracle.daily_peaks(), {row[:2]: row[2] for row in daily})
    times = [f"epoch(timezone('{zone}', {name}))::BIGINT" for name in ("started_at", "stopped_at")]
    peaks = query(f"SELECT stream_type, peak, {', '.join(times)} FROM concurrency")
    yield from _differing("peaks", oracle.peaks(), {kind: tuple(rest) for kind, *rest in peaks})
    recent = {row_id for (row_id,) in query("SELECT row_id FROM recently_watched")}
    if recent != oracle.recently_watched():
        yield "recently watched", oracle.recently_watched() ^ recent


def _graphs(oracle: Oracle, query: Query) -> Iterator[tuple[Any, ...]]:
    for column, table in {
        "day": "plays_by_day",
        "month": "plays_by_month",
        "hour": "plays_by_hour",
        "weekday": "plays_by_weekday",
        "platform": "plays_by_platform",
        "user_id": "plays_by_user",
    }.items():
        shown = f"{column}::VARCHAR" if column in {"day", "month"} else column
        ours = _read(query, f"{shown}, media", table, "media <> 'Other'")
        theirs = oracle.by_media(column)
        # Which play of a group lends its platform depends on chance.
        shorten = _ungrouped if column == "platform" else dict
        yield from _differing(table, shorten(theirs), shorten(ours))
    for column, shown in {
        "day": "day::VARCHAR",
        "platform": "platform",
        "user_id": "user_id",
        "source_resolution": "resolution",
        "stream_resolution": "resolution",
    }.items():
        table = f"streams_by_{column.removesuffix('_id')}"
        sql = f"SELECT {shown}, stream_type, sum(plays)::BIGINT, sum(seconds)::BIGINT FROM {table}"
        rows = query(f"{sql} WHERE stream_type <> 'All' GROUP BY ALL")
        theirs = _ungrouped(oracle.by_stream_type(column))
        yield from _differing(table, theirs, {row[:2]: row[2:] for row in rows})


def _home_statistics(oracle: Oracle, query: Query) -> Iterator[tuple[Any, ...]]:
    for kind, columns in {
        "movies": "title, year",
        "shows": "title",
        "artists": "title",
        "users": "user_id",
        "platforms": "platform",
        "libraries": "section_id",
    }.items():
        shorten = _ungrouped if kind == "platforms" else dict
        ours = _read(query, columns, f"top_{kind}")
        yield from _differing(f"top_{kind}", shorten(oracle.top(kind)), shorten(ours))


def _read(query: Query, columns: str, table: str, where: str = "true") -> Sums:
    sums = "sum(plays)::BIGINT, sum(watches)::BIGINT, sum(seconds)::BIGINT"
    rows = query(f"SELECT {columns}, {sums} FROM {table} WHERE {where} GROUP BY ALL")
    return {row[:-3]: row[-3:] for row in rows}


def _ungrouped(sums: Sums) -> dict[Any, Any]:
    return {key: (plays, seconds) for key, (plays, _watches, seconds) in sums.items()}


def _differing(what: str, theirs: dict[Any, Any], ours: dict[Any, Any]) -> Iterator[Any]:
    for key in theirs.keys() | ours.keys():
        if theirs.get(key) != ours.get(key):
            yield what, key, theirs.get(key), ours.get(key)
