"""The tables agree with Tautulli's own graphs and home statistics for the same database."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from tautulli_pipeline.demo.database import make_demo_database
from tautulli_pipeline_tests import tautulli_databases
from tautulli_pipeline_tests.analytics.warehouses import built, opened

if TYPE_CHECKING:
    from collections.abc import Iterator

    import duckdb

Points = dict[Any, Any]

DEMO = "demo-3000"
WEEKDAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
# Tautulli's name of each graph, with our table, its column, and how Tautulli shows that column.
BY_MEDIA = {
    "get_plays_by_date": ("plays_by_day", "day", str),
    "get_plays_by_dayofweek": ("plays_by_weekday", "weekday", WEEKDAYS.__getitem__),
    "get_plays_by_hourofday": ("plays_by_hour", "hour", "{:02d}".format),
    "get_plays_per_month": ("plays_by_month", "month", "{:%b %Y}".format),
    "get_plays_by_top_10_platforms": ("plays_by_platform", "platform", str),
    "get_plays_by_top_10_users": ("plays_by_user", "user_name", str),
}
BY_STREAM_TYPE = {
    "get_plays_by_stream_type": ("streams_by_day", "day", str),
    "get_stream_type_by_top_10_platforms": ("streams_by_platform", "platform", str),
    "get_stream_type_by_top_10_users": ("streams_by_user", "user_name", str),
    "get_plays_by_source_resolution": ("streams_by_source_resolution", "resolution", str),
    "get_plays_by_stream_resolution": ("streams_by_stream_resolution", "resolution", str),
}
# Which row of a group lends its platform or stream type is arbitrary in Tautulli.
ALSO_GROUPED = {*list(BY_MEDIA)[:4], "get_plays_by_top_10_users"}
TOP = {
    "movies": ("top_movies", "title", "year"),
    "tv": ("top_shows", "title"),
    "music": ("top_artists", "title"),
    "users": ("top_users", "user_id"),
    "platforms": ("top_platforms", "platform"),
    "libraries": ("top_libraries", "section_id"),
}
STREAM_TYPES = {
    "Concurrent Streams": "All",
    "Concurrent Direct Plays": "Direct Play",
    "Concurrent Direct Streams": "Direct Stream",
    "Concurrent Transcodes": "Transcode",
}


@pytest.fixture(scope="module", params=[DEMO, "v2.17.2", "v2.6.10_migrated_to_v2.17.2"])
def compared(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[dict[str, Any], duckdb.DuckDBPyConnection]]:
    """Yield Tautulli's answers for a database, and the analytics of the same database."""
    folder, name = tmp_path_factory.mktemp("graphs"), request.param
    answers = tautulli_databases.graphs(name)
    if name == DEMO:
        make_demo_database(folder / "tautulli.db", 3000)
    else:
        tautulli_databases.build(name, folder / "tautulli.db")
    with opened(built(folder / "tautulli.db", folder / "data", answers["timezone"])) as connection:
        yield answers, connection


def parsed(call: str) -> tuple[str, bool, str]:
    """Return the name of a graph or statistic, whether it is grouped, and what it measures."""
    name, *options = call.split()
    given = dict(option.split("=") for option in options)
    measure = given.get("y_axis", "")
    return name, given.get("grouping") == "1", measure


def graph(
    connection: duckdb.DuckDBPyConnection, name: str, series: str, measure: str, *, total: bool
) -> Points:
    table, column, shown = (BY_MEDIA | BY_STREAM_TYPE)[name]
    rows = connection.execute(
        f"SELECT {series}, {column}, sum({measure})::BIGINT FROM {table} "
        f"WHERE {series} NOT IN ('All', 'Other') GROUP BY ALL"
    ).fetchall()
    points: Counter[Any] = Counter()
    for one, value, number in rows:
        points[one, shown(value)] += number
        if total:
            points["Total", shown(value)] += number
    return points


def test_every_point_of_every_graph_equals_tautullis(compared):
    answers, connection = compared
    differences: list[Any] = []
    points = 0
    for call, series in answers["graphs"].items():
        name, grouped, measure = parsed(call)
        theirs = {(one, key): n for one, found in series.items() for key, n in found.items()}
        if name == "get_concurrent_streams_by_stream_type":
            ours = concurrent(connection)
        elif grouped and name not in ALSO_GROUPED:
            continue
        else:
            kind = "media" if name in BY_MEDIA else "stream_type"
            column = "seconds" if measure == "duration" else "watches" if grouped else "plays"
            ours = graph(connection, name, kind, column, total="Total" in series)
            if "top_10" in name:
                shown = {key for _, key in theirs}
                ours = {key: number for key, number in ours.items() if key[1] in shown}
        points += len(theirs)
        ours = {key: number for key, number in ours.items() if number}
        differences += [(call, *one) for one in theirs.items() ^ ours.items()]
    assert differences == []
    assert points > 900


def concurrent(connection: duckdb.DuckDBPyConnection) -> Points:
    rows = connection.execute("SELECT stream_type, day, peak_concurrent FROM streams_by_day")
    return {
        (kind.replace("All", "Max. Concurrent Streams"), str(day)): peak
        for kind, day, peak in rows.fetchall()
    }


def test_every_home_statistic_equals_tautullis(compared):
    answers, connection = compared
    differences: list[Any] = []
    for call, rows in answers["stats"].items():
        name, grouped, _ = parsed(call)
        kind = name.partition("_")[2]
        if kind not in TOP or (grouped and kind == "platforms"):
            continue
        ours = statistics(connection, answers["timezone"], kind)
        assert len(rows) == min(len(ours), 100)
        for row in rows:
            plays, watches, seconds, users, last_play = ours[key_of(row, kind)]
            expected = {
                "total_plays": watches if grouped else plays,
                "total_duration": seconds,
                "users_watched": users,
                "last_play": row.get("last_play") if grouped else last_play,
            }
            found = {field: value for field, value in row.items() if field in expected}
            differences += [(call, *one) for one in found.items() - expected.items()]
    assert differences == []


def key_of(row: dict[str, Any], kind: str) -> tuple[Any, ...]:
    return tuple(row.get(column) or None for column in TOP[kind][1:])


def statistics(connection: duckdb.DuckDBPyConnection, timezone: str, kind: str) -> Points:
    table, *columns = TOP[kind]
    rows = connection.execute(
        f"SELECT {', '.join(columns)}, plays, watches, seconds, users, "
        f"epoch(timezone('{timezone}', last_played_at))::BIGINT FROM {table}"
    ).fetchall()
    return {tuple(v or None for v in row[: len(columns)]): row[len(columns) :] for row in rows}


def test_most_concurrent_streams_equal_tautullis(compared):
    answers, connection = compared
    zone = answers["timezone"]
    rows = connection.execute(
        f"SELECT stream_type, peak, epoch(timezone('{zone}', started_at))::BIGINT, "
        f"epoch(timezone('{zone}', stopped_at))::BIGINT FROM concurrency"
    ).fetchall()
    (theirs,) = {
        tuple(
            (STREAM_TYPES[r["title"]], r["count"], int(r["started"]), int(r["stopped"]))
            for r in found
        )
        for call, found in answers["stats"].items()
        if call.startswith("most_concurrent")
    }
    assert sorted(theirs) == sorted(rows)


@pytest.mark.parametrize("grouped", [False, True])
def test_recently_watched_items_equal_tautullis(compared, grouped):
    answers, connection = compared
    condition = "WHERE ends_watch" if grouped else ""
    rows = connection.execute(
        f"SELECT row_id FROM recently_watched {condition} "
        "ORDER BY started_at DESC, row_id DESC LIMIT 100"
    ).fetchall()
    theirs = answers["stats"][f"last_watched grouping={grouped:d} stats_type=plays"]
    assert {row["row_id"] for row in theirs} == {row_id for (row_id,) in rows}
